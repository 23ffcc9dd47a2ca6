"""The delimiter of a CSV file and the place of its header, by its first lines."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from identity_cli.importer.formats.columns import (
    HEADER_LINES,
    has_mapped,
    holds_value,
    kind_of,
)
from identity_cli.importer.formats.rows import REJECT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.importer.formats.rows import InputOptions

_DELIMITERS = (",", ";", "\t", "|")
# Excel obeys such a line, and does not show it.
_SEP_LINE = re.compile(r'"?sep=([^\r\n"])"?[ ,;\t|]*$', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written.

    `skipped` is the number of lines before the header, or before the first row if there is none;
    `preamble` is how many of them nobody asked to skip.
    """

    delimiter: str
    skipped: int = 0
    preamble: int = 0


def find_dialect(beginning: str, options: InputOptions) -> Dialect:
    """Find the delimiter by which columns are recognised, and the header among the first lines.

    `beginning` is the text of the file, up to any place. A header that is not the first line must
    have columns that are recognised, and more cells than any line before it.
    """
    lines = list(_lines(beginning))
    skipped = options.skip_lines or 0
    delimiters: Sequence[str] = _DELIMITERS if options.delimiter is None else (options.delimiter,)
    match = _SEP_LINE.match(lines[skipped].rstrip("\r\n")) if len(lines) > skipped else None
    if match is not None:
        skipped += 1
        if options.delimiter is None:
            delimiters = (match[1],)
    rest = lines[skipped:]
    if not options.header:
        return Dialect(_most_regular(rest, delimiters, options), skipped)
    most_lines = HEADER_LINES if options.skip_lines is None else 1
    for number in range(min(len(rest), most_lines)):
        delimiter = _recognised_by(rest, number, delimiters, options)
        if delimiter is not None:
            before = sum(not line.isspace() for line in rest[:number])
            return Dialect(delimiter, skipped + number, number if before else 0)
    return Dialect(_most_regular(rest, delimiters, options), skipped)


def is_header_of_rejects(cells: Sequence[str]) -> bool:
    """Return whether a record is the header that every rejects file has."""
    return tuple(cells[-len(REJECT_COLUMNS) :]) == REJECT_COLUMNS


def _lines(text: str) -> Iterator[str]:
    """Yield the lines, with all three line ends; the last one may be incomplete."""
    return iter(io.StringIO(text, newline=""))


def _recognised_by(
    lines: Sequence[str], number: int, delimiters: Sequence[str], options: InputOptions
) -> str | None:
    """Return the delimiter by which the most columns of a header are recognised, if any are."""
    best: tuple[int, int] = (0, 0)
    found: str | None = None
    for delimiter in delimiters:
        cells = _record(lines[number:], delimiter, options)
        others = "".join(other for other in delimiters if other != delimiter)
        rank = (_recognised(cells, options, others), len(cells))
        if (
            rank[0]
            and rank > best
            and (number == 0 or _is_header(cells, lines[:number], delimiter))
        ):
            best, found = rank, delimiter
    return found


def _recognised(cells: Sequence[str], options: InputOptions, others: str) -> int:
    """Return how many columns are used; a cell with another delimiter is likely two names."""
    count = sum(
        kind_of(cell) is not None and not any(other in cell for other in others) for cell in cells
    )
    return count + len(options.mapping) if has_mapped(cells, options) else 0


def _is_header(cells: Sequence[str], before: Sequence[str], delimiter: str) -> bool:
    """Return whether a record can be a header, and the lines before it are not rows or a header.

    A row that has the name of a column in one of its cells must not be taken for a header.
    """
    if holds_value(cells):
        return False
    width = _filled(cells)
    return all(
        _filled(row) < width for row in csv.reader(before, delimiter=delimiter, strict=False)
    )


def _filled(cells: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in cells)


def _record(lines: Sequence[str], delimiter: str, options: InputOptions) -> list[str]:
    return next(_records(lines, delimiter, options), [])


def _records(lines: Sequence[str], delimiter: str, options: InputOptions) -> Iterator[list[str]]:
    """Yield the records up to one that is broken, or is cut off at the end."""
    try:
        yield from csv.reader(
            lines,
            delimiter=delimiter,
            escapechar=options.escape,
            skipinitialspace=delimiter != " ",
        )
    except csv.Error:
        return


def _most_regular(lines: Sequence[str], delimiters: Sequence[str], options: InputOptions) -> str:
    """Return the delimiter by which the most records have as many cells as the first one."""
    best, found = (0, 0), delimiters[0]
    for delimiter in delimiters:
        records = [
            record for record in _records(lines[:HEADER_LINES], delimiter, options) if record
        ]
        width = len(records[0]) if records else 0
        rank = (sum(len(record) == width for record in records), width)
        if width > 1 and rank > best:
            best, found = rank, delimiter
    return found
