"""Many lines of CSV at once, for those who can read them faster than row by row."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from identity_cli.importer.formats.rows import Row
from identity_cli.importer.formats.text import LINE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

_CHARACTERS = 1 << 20
# Between cells from which the quotes were removed.
_UNIT_SEPARATOR = b"\x1f"


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that are one record each: no cell contains a line end or what separates the cells.

    `text` is UTF-8 with all quotes removed, and a line feed between two lines and at the end.
    `first_line` is the number of the first line, `count` that of all. `width` is how many cells the
    header has; a line may have more or fewer. `email` and `phone` are the places of the cells that
    are used.
    """

    text: bytes
    separator: bytes
    is_quoted: bool
    first_line: int
    count: int
    width: int
    email: int | None
    phone: int | None

    def rows(self, places: Iterable[int]) -> Iterator[Row]:
        """Yield the rows at these places, from 0; they have as many cells as the header."""
        lines = self.text.split(b"\n")
        separator = self.separator.decode()
        for place in places:
            cells = lines[place].decode().split(separator)
            if not self.is_quoted and separator != " ":
                cells = [cell.lstrip(" ") for cell in cells]
            yield Row(
                self.first_line + place,
                () if self.email is None else (cells[self.email],),
                () if self.phone is None else (cells[self.phone],),
                cells,
            )


class LinesAhead:
    """Text of a file up to the end of a line, which can also be read line by line.

    Behind its last line follow those of the file.
    """

    def __init__(self, file: TextIO) -> None:
        text = file.read(_CHARACTERS)
        self.text = text + file.readline(LINE_MAX) if text else ""
        self._file = file
        self._lines: io.StringIO | None = None
        self._unread = len(self.text)

    @property
    def is_read(self) -> bool:
        """Whether all of the text was read line by line."""
        return self._unread == 0

    def readline(self, limit: int) -> str:
        """Return the next line, or the beginning of it."""
        if self.is_read:
            return self._file.readline(limit)
        if self._lines is None:
            self._lines = io.StringIO(self.text, newline="")
        line = self._lines.readline(limit)
        self._unread -= len(line)
        if self._unread or line[-1] in "\r\n":
            return line
        # The line is longer, or the last one of the file.
        return line + self._file.readline(limit - len(line))


def split_cells(text: str, delimiter: str) -> tuple[bytes, bytes] | None:
    """Return lines in UTF-8 without quotes, and what separates their cells.

    None if this cannot be done without reading each line: if some but not all cells are quoted, a
    quoted cell contains a quote or a line end, a line is blank or ends with a carriage return
    alone, or it may be longer than `LINE_MAX`; also if there are bytes that are not text.
    """
    if len(text) >= LINE_MAX:
        return None
    try:
        lines, separator = text.encode(), delimiter.encode()
    except UnicodeEncodeError:
        return None
    if b"\r" in lines:
        with_returns, lines = lines, lines.translate(None, b"\r")
        if len(with_returns) - len(lines) != with_returns.count(b"\r\n"):
            return None
    lines = lines.removesuffix(b"\n")
    if b'"' in lines:
        if not lines.startswith(b'"') or _UNIT_SEPARATOR in lines:
            return None
        ends = lines.count(b"\n")
        unquoted = lines[1:].replace(b'"\n"', b"\n")
        if not unquoted.endswith(b'"') or len(lines) - len(unquoted) != 2 * ends + 1:
            return None
        lines = unquoted[:-1].replace(b'"%b"' % separator, _UNIT_SEPARATOR)
        # Without any other quote, each cell begins with one and ends at the next one.
        if b'"' in lines:
            return None
        separator = _UNIT_SEPARATOR
    if not lines or lines.startswith(b"\n") or lines.endswith(b"\n") or b"\n\n" in lines:
        return None
    return lines + b"\n", separator
