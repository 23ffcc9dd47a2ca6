"""CSV files with a header line."""

from __future__ import annotations

import codecs
import csv
from hashlib import sha256
from typing import TYPE_CHECKING

from identity_cli.errors import InputUnreadableError, InvalidRequestError
from identity_cli.importer.formats.columns import choose
from identity_cli.importer.formats.rows import Layout, Row
from identity_cli.importer.formats.text import BOM, LINE_MAX, open_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.importer.formats.rows import ColumnReport, InputOptions
    from identity_cli.importer.source import Source

# What an empty cell takes in memory, for a line that is all commas.
_CELL_CHARACTERS = 8
_MOST_UNTAKEN = 4096


class _LineTooLongError(Exception):
    """A line without an end, which is no line of a CSV file."""


class CsvReader:
    """A reader of CSV with a header line and strict quoting."""

    def __init__(self, source: Source, options: InputOptions, delimiter: str) -> None:
        self.line = 0
        self.characters = 0
        self.notes: Sequence[str] = ()
        self._name = source.name
        encoding = options.encoding or "utf-8"
        self._text = open_text(source, encoding)
        # The lines that were read, those up to the last row, and those behind it.
        self._untaken: list[str] = []
        self._complete = 0
        csv.field_size_limit(LINE_MAX)
        # Spaces before a quoted cell are not part of it: else its quotes would be.
        self._records = csv.reader(
            self._lines(), delimiter=delimiter, strict=True, skipinitialspace=delimiter != " "
        )
        columns = self._header(encoding)
        self.layout = Layout("csv", encoding, columns, delimiter)
        self._choice = choose(columns, options)
        if not self._choice.emails and not self._choice.phones:
            raise self._bad_header("no column is an email or a phone number")

    @property
    def column_report(self) -> ColumnReport:
        return self._choice.report

    @property
    def unseen_keys(self) -> list[str]:
        """Always empty: a mapped column that is missing is an error of the header."""
        return []

    def take_digest_input(self) -> bytes:
        text = "".join(self._untaken[: self._complete])
        del self._untaken[: self._complete]
        self._complete = 0
        return text.encode("utf-8", "surrogatepass")

    def _fold_blank_lines(self) -> None:
        # Between two rows there may be any number of them.
        if len(self._untaken) - self._complete >= _MOST_UNTAKEN:
            text = "".join(self._untaken[self._complete :])
            digest = sha256(text.encode("utf-8", "surrogatepass"))
            self._untaken[self._complete :] = [digest.hexdigest()]

    def rows(self) -> Iterator[Row]:
        records, width = self._records, len(self.layout.columns)
        choice = self._choice
        before = records.line_num
        try:
            for cells in records:
                line, before = before + 1, records.line_num
                if len(cells) == 1 and self._is_blank(cells[0]):
                    self._fold_blank_lines()
                elif len(cells) == width:
                    emails = [cells[at] for at in choice.emails]
                    phones = [cells[at] for at in choice.phones]
                    self._complete = len(self._untaken)
                    yield Row(line, emails, phones, cells)
                elif cells:
                    self.characters += _CELL_CHARACTERS * len(cells)
                    self._complete = len(self._untaken)
                    yield Row(line, (), (), cells, _wrong_width(len(cells), width))
                else:
                    self._fold_blank_lines()
                self.line = before
        except (csv.Error, UnicodeError, _LineTooLongError) as error:
            raise self._unreadable(before + 1, error) from error

    def _is_blank(self, cell: str) -> bool:
        # Spaces are skipped before they are a cell; a line of "" is a row with an empty cell.
        return cell.isspace() or (not cell and self._untaken[-1].isspace())

    def _lines(self) -> Iterator[str]:
        readline, keep = self._text.readline, self._untaken.append
        # A BOM belongs to the file, not to the first column's name.
        line = readline(LINE_MAX).removeprefix(BOM)
        while line:
            keep(line)
            if len(line) == LINE_MAX and line[-1] not in "\r\n":
                raise _LineTooLongError
            self.characters += len(line)
            yield line
            line = readline(LINE_MAX)

    def _header(self, encoding: str) -> list[str]:
        try:
            for cells in self._records:
                self.line = self._records.line_num
                if any(map(str.strip, cells)):
                    break
            else:
                raise InputUnreadableError(
                    self._name,
                    "the file is empty",
                    hint="the first line must name the columns, for example email,phone",
                )
        except (csv.Error, UnicodeError, _LineTooLongError) as error:
            raise self._unreadable(self.line + 1, error) from error
        if any("\0" in cell for cell in cells) and codecs.lookup(encoding).name == "utf-8":
            raise InputUnreadableError(
                f"{self._name}:1",
                "the header contains NUL characters",
                hint="this looks like UTF-16: use --encoding utf-16",
            )
        return cells

    def _bad_header(self, problem: str) -> InputUnreadableError:
        columns = ", ".join(repr(name[:40]) for name in self.layout.columns[:20])
        return InputUnreadableError(
            f"{self._name}:{self.line}",
            problem,
            hint=f"the columns are {columns}: use --map email=COLUMN or --map phone=COLUMN",
        )

    def _unreadable(self, line: int, error: Exception) -> InputUnreadableError:
        location = f"{self._name}:{line}"
        if isinstance(error, UnicodeError):
            return InputUnreadableError(
                location,
                "the text is not in the expected encoding",
                hint="use --encoding; the rows before this place are imported",
            )
        if isinstance(error, _LineTooLongError):
            return InputUnreadableError(
                location,
                f"a line of more than {LINE_MAX} characters, without a line end",
                hint="check that this is a CSV file; the rows before this line are imported",
            )
        return InputUnreadableError(
            location,
            f"broken quoting in the record that begins here ({error})",
            hint='close the quote, and double a quote inside a quoted cell (""); '
            "the rows before this line are imported",
        )


def _wrong_width(cells: int, width: int) -> InvalidRequestError:
    return InvalidRequestError("bad_row", f"{cells} cells, the header has {width}")
