"""The rejects file: rows that were not imported, ready to be corrected and imported again."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from identity_cli.importer.formats import REJECT_COLUMNS
from identity_cli.importer.formats.text import KEEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.importer.formats import Layout, Row
    from identity_cli.importer.results import ResultFile


Verdict: TypeAlias = tuple[int, str, str]

_VERDICT_LINE = re.compile(r"X-(?:LINE|CODE|REASON):", re.IGNORECASE)


class RejectsWriter:
    """A writer of rejected rows in the layout of their input, with `REJECT_COLUMNS` added.

    Excel and Parquet become CSV, a JSON document becomes JSON Lines.
    """

    def __init__(self, file: ResultFile, layout: Layout) -> None:
        self.file = file
        self._layout = layout
        self._encoding = layout.encoding
        self._is_unicode = codecs.lookup(layout.encoding).name.startswith("utf-")
        self._encoder: codecs.IncrementalEncoder | None = None
        columns = list(layout.columns)
        # A rejects file that is imported again does not get the columns twice.
        self._grown = tuple(columns[-3:]) == REJECT_COLUMNS
        self._columns = columns[:-3] if self._grown else columns

    def write(self, row: Row, code: str, reason: str) -> None:
        verdict = (row.line, code, reason)
        begun = bool(self.file.size)
        match self._layout.input_format:
            case "csv" | "excel" | "parquet":
                text = self._record(row.content, verdict)
                if not begun:
                    text = self._csv_line([*self._columns, *REJECT_COLUMNS]) + text
            case "jsonl" | "json":
                text = _json_line(row.content, verdict, as_ascii=not self._is_unicode)
            case "vcard":
                text = _card(row.content, verdict)
            case _:
                assert_never(self._layout.input_format)
        self.file.write(self._encode(text, begun=begun))

    def _record(self, content: Sequence[object], verdict: Verdict) -> str:
        cells = ["" if cell is None else str(cell) for cell in content]
        width = len(self._columns)
        own = cells[:width] + [""] * (width - len(cells))
        # Cells beyond the header come last, so that the columns keep their places.
        over = cells[width + 3 * self._grown :]
        return self._csv_line([*own, *map(str, verdict), *over])

    def _csv_line(self, cells: list[str]) -> str:
        line = io.StringIO()
        escape = self._layout.escape
        # Of the characters of a line end, csv quotes those that are its own.
        csv.writer(
            line,
            delimiter=self._layout.delimiter,
            doublequote=escape is None,
            escapechar=escape,
            lineterminator="\r\n",
        ).writerow(cells)
        return line.getvalue().removesuffix("\r\n") + "\n"

    def _encode(self, text: str, *, begun: bool) -> bytes:
        """Encode the text as the input is encoded, with a BOM only at the beginning."""
        if self._encoder is None or not begun:
            self._encoder = codecs.getincrementalencoder(self._encoding)(KEEP_BYTES)
            if begun:
                self._encoder.encode("")
        return self._encoder.encode(text)


def _json_line(content: object, verdict: Verdict, *, as_ascii: bool) -> str:
    found: dict[str, Any] = dict(zip(REJECT_COLUMNS, verdict, strict=True))
    raw = content if isinstance(content, bytes) else str(content).encode("utf-8", "surrogatepass")
    try:
        if found["_code"] == "bad_json":
            raise ValueError
        value = json.loads(raw)
        document = {key: item for key, item in value.items() if key not in REJECT_COLUMNS}
        if not document:
            raise ValueError
        text = json.dumps(document | found, ensure_ascii=as_ascii)
        text.encode()  # a lone surrogate has no encoding
    except (ValueError, RecursionError):
        # No object can hold the same: the line is kept as it is, for a person to correct.
        line = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
        text = json.dumps({"_raw": line} | found, ensure_ascii=as_ascii)
    return f"{text}\n"


def _card(content: object, verdict: Verdict) -> str:
    """Return a card with this verdict before its end, without that of an earlier run."""
    text = content.decode("utf-8", KEEP_BYTES) if isinstance(content, bytes) else str(content)
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if not _VERDICT_LINE.match(line)]
    while lines and not lines[-1].strip():
        lines.pop()
    # A card that is cut off has no end of its own, and would swallow the next one.
    if lines and lines[-1].strip().upper() == "END:VCARD":
        lines.pop()
    names = (name.replace("_", "X-").upper() for name in REJECT_COLUMNS)
    added = (f"{name}:{_escaped(str(value))}" for name, value in zip(names, verdict, strict=True))
    return "\r\n".join([*lines, *added, "END:VCARD", ""])


def _escaped(value: str) -> str:
    return re.sub(r"([\\,;])", r"\\\1", value.replace("\r", " ").replace("\n", " "))
