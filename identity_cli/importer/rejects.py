"""The rejects file: rows that were not imported, ready to be corrected and imported again."""

from __future__ import annotations

import codecs
import csv
import io
import json
from typing import TYPE_CHECKING, Any

from identity_cli.importer.formats import REJECT_COLUMNS
from identity_cli.importer.formats.text import KEEP_BYTES

if TYPE_CHECKING:
    from identity_cli.importer.formats import Layout, Row
    from identity_cli.importer.results import ResultFile


class RejectsWriter:
    """A writer of rejected rows in the input's format: its columns, then `REJECT_COLUMNS`."""

    def __init__(
        self,
        file: ResultFile,
        layout: Layout,
    ) -> None:
        self.file = file
        self._format = layout.input_format
        self._encoding = layout.encoding
        self._delimiter = layout.delimiter
        self._is_unicode = codecs.lookup(layout.encoding).name.startswith("utf-")
        columns = list(layout.columns)
        self._encoder: codecs.IncrementalEncoder | None = None
        # A rejects file that is imported again does not get the columns twice.
        self._grown = tuple(columns[-3:]) == REJECT_COLUMNS
        self._columns = columns[:-3] if self._grown else columns

    def write(self, row: Row, code: str, reason: str) -> None:
        verdict = (row.line, code, reason)
        begun = bool(self.file.size)
        if self._format == "jsonl":
            found = dict(zip(REJECT_COLUMNS, verdict, strict=True))
            line = _reject_line(row.content, found, as_ascii=not self._is_unicode)
            self.file.write(self._encode(line, begun=begun))
            return
        if not begun:
            header = self._csv_line([*self._columns, *REJECT_COLUMNS])
            self.file.write(self._encode(header, begun=False))
        width = len(self._columns)
        cells: list[str] = row.content
        own = cells[:width] + [""] * (width - len(cells))
        # Cells beyond the header come last, so that the columns keep their places.
        over = cells[width + 3 * self._grown :]
        self.file.write(self._encode(self._csv_line([*own, *map(str, verdict), *over]), begun=True))

    def _csv_line(self, cells: list[str]) -> str:
        line = io.StringIO()
        # Of the characters of a line end, csv quotes those that are its own.
        csv.writer(line, delimiter=self._delimiter, lineterminator="\r\n").writerow(cells)
        return line.getvalue().removesuffix("\r\n") + "\n"

    def _encode(self, text: str, *, begun: bool) -> bytes:
        """Encode the text as the input is encoded, with a BOM only at the beginning."""
        if self._encoder is None or not begun:
            self._encoder = codecs.getincrementalencoder(self._encoding)(KEEP_BYTES)
            if begun:
                self._encoder.encode("")
        return self._encoder.encode(text)


def _reject_line(content: bytes, verdict: dict[str, Any], *, as_ascii: bool) -> str:
    try:
        if verdict["_code"] == "bad_json":
            raise ValueError
        value = json.loads(content)
        document = {key: item for key, item in value.items() if key not in REJECT_COLUMNS}
        if not document:
            raise ValueError
        text = json.dumps(document | verdict, ensure_ascii=as_ascii)
        text.encode()  # a lone surrogate has no encoding
    except (ValueError, RecursionError):
        # No object can hold the same: the line is kept as it is, for a person to correct.
        raw = content.decode("utf-8", "backslashreplace").rstrip("\r\n")
        text = json.dumps({"_raw": raw} | verdict, ensure_ascii=as_ascii)
    return f"{text}\n"
