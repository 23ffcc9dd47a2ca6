"""CSV files of every dialect."""

from __future__ import annotations

import codecs
import csv
import re
from functools import partial
from hashlib import sha256
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from identity_cli.errors import InputUnreadableError, InvalidRequestError
from identity_cli.importer.formats.blocks import Block, LinesAhead, split_cells
from identity_cli.importer.formats.columns import choose, kind_of, none_recognised
from identity_cli.importer.formats.detection import likely_encoding
from identity_cli.importer.formats.dialect import find_dialect, is_header_of_rejects
from identity_cli.importer.formats.rows import Layout, Row
from identity_cli.importer.formats.text import BOM, LINE_MAX, open_text

if TYPE_CHECKING:
    from _csv import Reader as Records
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from identity_cli.importer.formats.detection import Detected
    from identity_cli.importer.formats.rows import ColumnReport, InputOptions
    from identity_cli.importer.source import Source

# What an empty cell takes in memory, for a line that is all commas.
_CELL_CHARACTERS = 8
_MOST_UNTAKEN = 4096
# A byte that is not text, as `open_text` keeps it.
_KEPT_BYTE = re.compile("[\udc00-\udcff]")


class _LineTooLongError(Exception):
    """A line without an end, which is no line of a CSV file."""


class CsvReader:
    """A reader of CSV with strict quoting, by the dialect that its first lines show."""

    def __init__(self, source: Source, options: InputOptions, detected: Detected) -> None:
        self.line = 0
        self.characters = 0
        self._name = source.name
        self._escape = options.escape
        self._dialect = find_dialect(detected.beginning, options)
        self.notes = (*detected.notes, *self._preamble_note())
        is_utf_8 = codecs.lookup(detected.encoding).name == "utf-8-sig"
        self._text = open_text(source, "utf-8" if is_utf_8 else detected.encoding)
        # The lines that were read, those up to the last row, and those behind it.
        self._untaken: list[str] = []
        self._complete = 0
        csv.field_size_limit(LINE_MAX)
        self._records = self._records_of(self._lines())
        # Without a header, the first row is read before its columns can be numbered.
        self._first_rows: list[list[str]] = []
        columns = self._read_columns(options, detected.encoding)
        self.layout = Layout(
            "csv", detected.encoding, columns, self._dialect.delimiter, options.escape
        )
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

    def rows(self, take: Callable[[Block], bool] | None = None) -> Iterator[Row]:
        """Yield the rows, without those of the blocks that were taken.

        `take` is called with blocks of lines where this is possible, and returns whether it has
        taken all of them. With it, an error may be raised before the last rows in front of it.
        """
        if take is None or not self._may_have_blocks():
            yield from self._rows(chain(self._first_rows, self._records), self._records, 0)
            return
        yield from self._rows(self._first_rows, self._records, 0)
        while (ahead := self._lines_ahead()).text:
            block = self._block(ahead.text)
            if block is not None and take(block):
                self._untaken.append(ahead.text)
                self._complete = len(self._untaken)
                self.characters += len(ahead.text)
                self.line += block.count
                continue
            records = self._records_of(self._kept(ahead.readline))
            yield from self._rows(_until_read(records, ahead), records, self.line)

    def _lines_ahead(self) -> LinesAhead:
        try:
            return LinesAhead(self._text)
        except UnicodeError as error:
            raise self._unreadable(self.line + 1, error) from error

    def _may_have_blocks(self) -> bool:
        choice = self._choice
        return (
            self._escape is None
            and choice.region is None
            and len(choice.emails) <= 1
            and len(choice.phones) <= 1
            # A line of spaces is blank, or a row, if there is one column.
            and len(self.layout.columns) > 1
            and self._dialect.delimiter.isascii()
        )

    def _block(self, text: str) -> Block | None:
        """Return lines as a block; None if they cannot be read as one."""
        emails, phones = self._choice.emails, self._choice.phones
        split = split_cells(text, self._dialect.delimiter)
        if split is None:
            return None
        lines, separator = split
        return Block(
            lines,
            separator,
            separator != self._dialect.delimiter.encode(),
            self.line + 1,
            lines.count(b"\n"),
            len(self.layout.columns),
            emails[0] if emails else None,
            phones[0] if phones else None,
        )

    def _records_of(self, lines: Iterator[str]) -> Records:
        delimiter = self._dialect.delimiter
        return csv.reader(
            lines,
            delimiter=delimiter,
            escapechar=self._escape,
            strict=True,
            # Spaces before a quoted cell are not part of it: else its quotes would be.
            skipinitialspace=delimiter != " ",
        )

    def _rows(
        self, found: Iterable[list[str]], records: Records, lines_before: int
    ) -> Iterator[Row]:
        """Yield the rows of records that were found; `lines_before` are those before `records`."""
        width = len(self.layout.columns)
        choice = self._choice
        emails_of, phones_of = _picker(choice.emails), _picker(choice.phones)
        region, key = choice.region, choice.key
        # One email and one phone number: most files, and the fastest.
        is_plain = len(choice.emails) == len(choice.phones) == 1 and region is key is None
        (email,), (phone,) = choice.emails[:1] or (0,), choice.phones[:1] or (0,)
        # The constructor of a named tuple takes nearly twice the time.
        new = partial(tuple.__new__, Row)
        before = self.line
        try:
            for cells in found:
                line, before = before + 1, lines_before + records.line_num
                problem = None
                if len(cells) != width or width == 1:
                    if not cells or (len(cells) == 1 and self._is_blank(cells[0])):
                        self._fold_blank_lines()
                        self.line = before
                        continue
                    self.characters += _CELL_CHARACTERS * len(cells)
                    problem = _fit(cells, width)
                self._complete = len(self._untaken)
                if problem is not None:
                    yield Row(line, (), (), cells, problem)
                elif is_plain:
                    yield new((line, (cells[email],), (cells[phone],), cells, None, None, None))
                else:
                    yield new(
                        (
                            line,
                            emails_of(cells),
                            phones_of(cells),
                            cells,
                            None,
                            None if region is None else cells[region],
                            None if key is None else cells[key],
                        )
                    )
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
        skipped = self._dialect.skipped
        null = None if self._escape is None else _null(self._escape, self._dialect.delimiter)
        while line:
            keep(line)
            if len(line) == LINE_MAX and line[-1] not in "\r\n":
                raise _LineTooLongError
            self.characters += len(line)
            if skipped > 0:
                # An empty line in its place is no record, and is counted.
                skipped -= 1
                line = "\n"
            elif null is not None:
                line = null.sub("", line)
            yield line
            line = readline(LINE_MAX)

    def _kept(self, readline: Callable[[int], str]) -> Iterator[str]:
        """Yield lines behind the header of a file without an escape."""
        while line := readline(LINE_MAX):
            self._untaken.append(line)
            if len(line) == LINE_MAX and line[-1] not in "\r\n":
                raise _LineTooLongError
            self.characters += len(line)
            yield line

    def _read_columns(self, options: InputOptions, encoding: str) -> list[str]:
        cells = self._first_record()
        if codecs.lookup(encoding).name == "utf-8" and any("\0" in cell for cell in cells):
            raise InputUnreadableError(
                f"{self._name}:{self._records.line_num}",
                "the header contains NUL characters",
                hint="this looks like UTF-16: use --encoding utf-16",
            )
        # The rejects of a file without a header have one.
        if not options.header and not is_header_of_rejects(cells):
            self._first_rows = [cells]
            return [str(number) for number in range(1, len(cells) + 1)]
        self.line = self._records.line_num
        self._check_encoding(cells, encoding)
        return cells

    def _first_record(self) -> list[str]:
        try:
            for cells in self._records:
                if any(map(str.strip, cells)):
                    return cells
                self.line = self._records.line_num
        except (csv.Error, UnicodeError, _LineTooLongError) as error:
            raise self._unreadable(self.line + 1, error) from error
        raise InputUnreadableError(
            self._name,
            "the file is empty",
            hint="the first line must name the columns, for example email,phone",
        )

    def _check_encoding(self, names: Sequence[str], encoding: str) -> None:
        """Refuse a name with bytes that are not text, if a column of this name would be used."""
        for name in names:
            kept = bytes(ord(character) - 0xDC00 for character in _KEPT_BYTE.findall(name))
            if not kept:
                continue
            likely = likely_encoding(kept)
            guess = _KEPT_BYTE.sub(partial(_decode_kept, likely), name)
            if kind_of(guess) is not None:
                raise InputUnreadableError(
                    f"{self._name}:{self.line}",
                    f"the name of a column is not {encoding.upper()}",
                    hint=f"use --encoding {likely}, or the encoding that the file was saved in",
                )

    def _preamble_note(self) -> Iterator[str]:
        count = self._dialect.preamble
        if count:
            lines = "1 line" if count == 1 else f"{count} lines"
            yield f"{self._name}: skipped {lines} before the header"

    def _unreadable(self, line: int, error: Exception) -> InputUnreadableError:
        location = f"{self._name}:{line}"
        if isinstance(error, UnicodeError):
            return InputUnreadableError(
                location,
                "the text is not in the expected encoding",
                hint="use --encoding",
                is_midway=True,
            )
        if isinstance(error, _LineTooLongError):
            return InputUnreadableError(
                location,
                f"a line of more than {LINE_MAX} characters, without a line end",
                hint="check that this is a CSV file",
                is_midway=True,
            )
        return InputUnreadableError(
            location,
            f"broken quoting in the record that begins here ({error})",
            hint='close the quote, and double a quote inside a quoted cell ("")',
            is_midway=True,
        )


def _picker(indexes: Sequence[int]) -> Callable[[list[str]], Sequence[str]]:
    """Return what takes these cells of a row: fast, as it is called for every row."""
    if len(indexes) > 1:
        return itemgetter(*indexes)
    return itemgetter(slice(indexes[0], indexes[0] + 1) if indexes else slice(0))


def _until_read(records: Records, ahead: LinesAhead) -> Iterator[list[str]]:
    """Yield the records of lines, the last of which may continue behind them."""
    while not ahead.is_read:
        cells = next(records, None)
        if cells is None:
            return
        yield cells


def _decode_kept(encoding: str, match: re.Match[str]) -> str:
    return bytes([ord(match[0]) - 0xDC00]).decode(encoding)


def _fit(cells: list[str], width: int) -> InvalidRequestError | None:
    """Give a row as many cells as the header has, if only empty ones are missing or too many."""
    if len(cells) > width:
        if any(map(str.strip, cells[width:])):
            return InvalidRequestError("bad_row", f"{len(cells)} cells, the header has {width}")
        del cells[width:]
    cells += [""] * (width - len(cells))
    return None


def _null(escape: str, delimiter: str) -> re.Pattern[str]:
    r"""Return a pattern for cells that are \N, which would be an N without its escape."""
    end = f"[{re.escape(delimiter)}\r\n]"
    return re.compile(f"(?:^|(?<={end})){re.escape(escape)}N(?={end}|$)")
