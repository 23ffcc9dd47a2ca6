"""JSON Lines files: one JSON object per line."""

from __future__ import annotations

import codecs
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from identity_cli.errors import InputUnreadableError, InvalidRequestError
from identity_cli.importer.formats.json_objects import JsonObjects
from identity_cli.importer.formats.rows import Layout, Row
from identity_cli.importer.formats.text import BOM, LINE_MAX, open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from identity_cli.importer.formats.rows import ColumnReport, InputOptions
    from identity_cli.importer.source import Source

# Lines between the objects of an array that was written one object a line.
_FRAMES = frozenset({b"[", b"]", b",", b"],"})
_FRAME_BYTES = 16
_MOST_UNTAKEN = 4096


class JsonLinesReader:
    """A reader of one JSON object per line; a comma may follow it."""

    def __init__(self, source: Source, options: InputOptions) -> None:
        self.line = 0
        self.characters = 0
        self.layout = Layout("jsonl", options.encoding or "utf-8")
        self.notes: Sequence[str] = ()
        self._name = source.name
        self._source = source
        self._encoding = options.encoding or "utf-8"
        self._objects = JsonObjects(options)
        self._untaken: list[bytes] = []
        self._complete = 0

    @property
    def unseen_keys(self) -> list[str]:
        return self._objects.unseen_keys

    @property
    def column_report(self) -> ColumnReport:
        return self._objects.column_report

    def take_digest_input(self) -> bytes:
        data = b"".join(self._untaken[: self._complete])
        del self._untaken[: self._complete]
        self._complete = 0
        return data

    def rows(self) -> Iterator[Row]:
        row = self._objects.row
        try:
            for data in self._lines():
                self.line += 1
                self.characters += len(data)
                if data.isspace() or (len(data) <= _FRAME_BYTES and data.strip() in _FRAMES):
                    if len(self._untaken) - self._complete >= _MOST_UNTAKEN:
                        blank = b"".join(self._untaken[self._complete :])
                        self._untaken[self._complete :] = [sha256(blank).digest()]
                    continue
                self._complete = len(self._untaken)
                if len(data) >= LINE_MAX:
                    problem = InvalidRequestError("too_long", f"a line of over {LINE_MAX} bytes")
                    yield Row(self.line, (), (), b"", problem)
                else:
                    yield row(self.line, data)
        except UnicodeError as error:
            raise InputUnreadableError(
                f"{self._name}:{self.line + 1}",
                "the text is not in the expected encoding",
                hint="use --encoding",
                is_midway=True,
            ) from error

    def _lines(self) -> Iterator[bytes]:
        readline, keep = self._readline(), self._untaken.append
        data = readline().removeprefix(BOM.encode())
        while data:
            keep(data)
            yield data
            if len(data) >= LINE_MAX and data[-1] != 0x0A:
                keep(_digest_of_rest(readline))
            data = readline()

    def _readline(self) -> Callable[[], bytes]:
        if codecs.lookup(self._encoding).name in {"utf-8", "utf-8-sig", "ascii"}:
            return partial(self._source.stream().readline, LINE_MAX)
        text = open_text(self._source, self._encoding)
        # A byte that was not text must not become a part of the JSON.
        return lambda: text.readline(LINE_MAX).encode("utf-8", "surrogatepass")


def _digest_of_rest(readline: Callable[[], bytes]) -> bytes:
    """Read the rest of an overlong line, which may be too long to keep, and return its digest."""
    digest = sha256()
    while data := readline():
        digest.update(data)
        if data[-1] == 0x0A:
            break
    return digest.digest()
