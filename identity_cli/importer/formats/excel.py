"""Sheets of workbooks: .xlsx, .xls, .xlsb and .ods; needs the extra `excel`.

The whole sheet is held in memory, as these formats can hardly be read otherwise.
"""

from __future__ import annotations

import datetime
import re
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, BinaryIO

import python_calamine as calamine

from identity_cli.errors import InputUnreadableError, UsageError
from identity_cli.importer.formats.columns import (
    HEADER_LINES,
    choose,
    has_mapped,
    holds_value,
    kind_of,
    none_recognised,
)
from identity_cli.importer.formats.rows import Layout, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.importer.formats.rows import ColumnReport, InputOptions
    from identity_cli.importer.source import Source

# A sheet takes memory for every cell of the rectangle that it fills. A single value in the last
# corner would make that 17 thousand million cells, and the library ends the process.
_MOST_CELLS = 1 << 26
_MOST_UNPACKED = 1 << 32
_BLOCK = 1 << 20
_SHEET_FILE = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_filled_cells = re.compile(
    rb'<(?:\w{1,20}:)?c\s(?:[^<>]{0,200}\s)?r="([A-Za-z]{1,3})([0-9]{1,7})"[^<>]{0,200}(?<!/)>'
).finditer
_LONGEST_CELL_TAG = 512
# What an empty cell takes in memory.
_CELL_CHARACTERS = 8
_WHOLE_FLOATS = 1 << 53


class ExcelReader:
    """A reader of one sheet of a workbook. A row's line is its number in the sheet."""

    def __init__(self, source: Source, options: InputOptions) -> None:
        self.line = 0
        self.characters = 0
        self.notes: Sequence[str] = ()
        self._name = source.name
        self._untaken: list[str] = []
        file = source.seekable()
        self._check_size(file)
        self._sheet_rows = self._open(file, options)
        # The rows that were read while the header was looked for, with their numbers.
        self._first_rows: list[tuple[int, list[str]]] = []
        columns = self._read_columns(options)
        self.layout = Layout("excel", "utf-8", columns)
        self._choice = choose(columns, options)
        if not self._choice.emails and not self._choice.phones:
            raise none_recognised(f"{self._name}:{self.line}", columns)

    @property
    def column_report(self) -> ColumnReport:
        return self._choice.report

    @property
    def unseen_keys(self) -> list[str]:
        """Always empty: a mapped column that is missing is an error of the header."""
        return []

    def take_digest_input(self) -> bytes:
        text = "".join(self._untaken)
        self._untaken.clear()
        return text.encode("utf-8", "surrogatepass")

    def rows(self) -> Iterator[Row]:
        choice = self._choice
        for line, cells in self._remaining_rows():
            self.line = line
            self.characters += sum(map(len, cells)) + _CELL_CHARACTERS * len(cells)
            self._untaken.append("\t".join(cells) + "\n")
            yield Row(
                line,
                [cells[at] for at in choice.emails],
                [cells[at] for at in choice.phones],
                cells,
                None,
                None if choice.region is None else cells[choice.region],
                None if choice.key is None else cells[choice.key],
            )

    def _remaining_rows(self) -> Iterator[tuple[int, list[str]]]:
        yield from self._first_rows
        self._first_rows.clear()
        yield from self._sheet_rows

    def _open(self, file: BinaryIO, options: InputOptions) -> Iterator[tuple[int, list[str]]]:
        """Return the rows of the sheet, those that are empty left out."""
        try:
            workbook = calamine.load_workbook(file)
            sheet = self._sheet(workbook, options.sheet)
        except calamine.PasswordError as error:
            raise InputUnreadableError(
                self._name,
                "the workbook is encrypted",
                hint="save it without a password, then import it",
            ) from error
        except calamine.CalamineError as error:
            raise self._broken(str(error)) from error
        # They are the numbers of the last row and column, from 0.
        self._check_cells((sheet.total_height + 1) * (sheet.total_width + 1))
        return (
            (line, cells)
            for line, values in enumerate(sheet.iter_rows(), 1)
            if any(cells := [cell if type(cell) is str else _text(cell) for cell in values])
        )

    def _sheet(
        self, workbook: calamine.CalamineWorkbook, wanted: str | None
    ) -> calamine.CalamineSheet:
        names = workbook.sheet_names
        if wanted is not None:
            return workbook.get_sheet_by_index(_sheet_index(names, wanted))
        first: calamine.CalamineSheet | None = None
        for index, sheet_data in enumerate(workbook.sheets_metadata):
            if (
                sheet_data.visible is not calamine.SheetVisibleEnum.Visible
                or sheet_data.typ is not calamine.SheetTypeEnum.WorkSheet
            ):
                continue
            sheet = workbook.get_sheet_by_index(index)
            if any(any(cell != "" for cell in row) for row in sheet.iter_rows()):
                if len(names) > 1:
                    self.notes = (
                        *self.notes,
                        f"{self._name}: reading the sheet {sheet.name!r}, the first of"
                        f" {len(names)} that is not empty; to read another one, use --sheet",
                    )
                return sheet
            first = first or sheet
        if first is None:
            raise InputUnreadableError(
                self._name,
                "there is no visible sheet",
                hint=f"use --sheet NAME; the sheets are {_listed(names)}",
            )
        return first

    def _read_columns(self, options: InputOptions) -> list[str]:
        rows = self._sheet_rows
        skipped = options.skip_lines or 0
        for line, cells in rows:
            if line > skipped:
                self._first_rows.append((line, cells))
            if len(self._first_rows) == HEADER_LINES or line >= skipped + HEADER_LINES:
                break
        if not self._first_rows:
            raise InputUnreadableError(
                self._name,
                "the sheet is empty" if not skipped else f"no row comes after row {skipped}",
                hint="name another sheet with --sheet, or check --skip-lines",
            )
        if not options.header:
            return [str(number) for number in range(1, len(self._first_rows[0][1]) + 1)]
        found = 0 if options.skip_lines is not None else self._find_header(options)
        if found:
            self.notes = (
                *self.notes,
                f"{self._name}: the header is row {self._first_rows[found][0]}; the rows before it"
                " are skipped",
            )
        self.line, columns = self._first_rows[found]
        self._untaken.append("\t".join(columns) + "\n")
        del self._first_rows[: found + 1]
        return columns

    def _find_header(self, options: InputOptions) -> int:
        """Return the index of the first row that has columns that are used, and no values.

        A row that follows one as wide as itself is a row of data.
        """
        widest = 0
        for index, (_, cells) in enumerate(self._first_rows):
            width = sum(map(bool, cells))
            if width > widest and _is_recognised(cells, options):
                return index if index == 0 or not holds_value(cells) else 0
            widest = max(widest, width)
        return 0

    def _check_size(self, file: BinaryIO) -> None:
        """Refuse a workbook that would take more memory than there is."""
        is_archive = file.read(2) == b"PK"  # .xls is none
        file.seek(0)
        if not is_archive:
            return
        try:
            with zipfile.ZipFile(file) as archive:
                self._check_archive(archive)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise self._broken(str(error)) from error
        file.seek(0)

    def _check_archive(self, archive: zipfile.ZipFile) -> None:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > _MOST_UNPACKED:
            raise self._too_large("more than 4 GiB of data")
        for entry in entries:
            if _SHEET_FILE.fullmatch(entry.filename):
                with archive.open(entry) as sheet:
                    self._check_cells(_cells_of(sheet))

    def _check_cells(self, cells: int) -> None:
        if cells > _MOST_CELLS:
            raise self._too_large(f"values as far apart as {cells} cells")

    def _too_large(self, held: str) -> InputUnreadableError:
        return InputUnreadableError(
            self._name,
            f"the workbook is too large: {held}",
            hint="delete what is far away from the table, or save the sheet as CSV",
        )

    def _broken(self, problem: str) -> InputUnreadableError:
        return InputUnreadableError(
            self._name,
            f"the workbook cannot be read: {problem}",
            hint="open it with a spreadsheet program and save it again, or save the sheet as CSV",
        )


def _cells_of(sheet: IO[bytes]) -> int:
    """Return the size of the rectangle around all cells that have a value."""
    rows, columns = {1}, {b"A"}
    rest = b""
    while block := sheet.read(_BLOCK):
        text = rest + block
        for match in _filled_cells(text):
            columns.add(match[1])
            rows.add(int(match[2]))
        rows = {min(rows), max(rows)}
        rest = text[-_LONGEST_CELL_TAG:]
    numbers = [_column_number(letters) for letters in columns]
    return (max(rows) - min(rows) + 1) * (max(numbers) - min(numbers) + 1)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - 64
    return number


def _sheet_index(names: Sequence[str], wanted: str) -> int:
    if wanted in names:
        return names.index(wanted)
    alike = [index for index, name in enumerate(names) if name.casefold() == wanted.casefold()]
    if len(alike) == 1:
        return alike[0]
    if wanted.isdecimal() and 0 < int(wanted) <= len(names):
        return int(wanted) - 1
    raise UsageError(
        f"--sheet {wanted}: there is no such sheet", hint=f"the sheets are {_listed(names)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:20])


def _is_recognised(cells: Sequence[str], options: InputOptions) -> bool:
    return has_mapped(cells, options) and (
        bool(options.mapping) or any(kind_of(cell) is not None for cell in cells)
    )


def _text(value: object) -> str:
    """Return the text of a cell. A date must not look like a phone number, so it has a time."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_FLOATS:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date):
        return f"{value.isoformat()} 00:00:00"
    return str(value)
