"""The files that an import writes beside the graph: rejects, outcomes, the summary.

They hold contact data, so nobody else may read them. A resumed run cuts them back to its last
checkpoint and goes on writing.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from identity_cli.errors import OutputError, ResumeError
from identity_cli.importer.formats import REJECT_COLUMNS
from identity_cli.importer.formats.text import KEEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.graph.service import Outcome
    from identity_cli.importer.formats import InputFormat, Row

_PRIVATE = 0o600


class ResultFile:
    """A file that grows, made with the first write or by `open`.

    Raises `OutputError` when it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.used = False
        self._file: IO[bytes] | None = None
        self._size = 0  # counted: a pipe does not tell

    @property
    def size(self) -> int | None:
        """Bytes written, None while there is no file."""
        return None if self._file is None else self._size

    def open(self) -> IO[bytes]:
        """Begin a new file in the place of one that may be there."""
        with _writing(self.path):
            self._file = open(self.path, "wb", opener=_private)  # noqa: SIM115 - kept open
        self._size = 0
        self.used = True
        return self._file

    def write(self, data: bytes) -> None:
        file = self._file or self.open()
        with _writing(self.path):
            file.write(data)
        self._size += len(data)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._file is not None:
            with _writing(self.path):
                self._file.flush()
                if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                    os.fsync(self._file.fileno())

    def cut_back(self, size: int | None) -> None:
        """Make the file what it was at a checkpoint; None: there was none.

        Raises `ResumeError` when less of it is there.
        """
        self.close()
        if size is None:
            return
        with _writing(self.path):
            try:
                file = open(self.path, "r+b")  # noqa: SIM115 - kept open
            except FileNotFoundError:
                raise self._missing() from None
            if file.seek(0, os.SEEK_END) < size:
                file.close()
                raise self._missing()
            file.truncate(size)
            file.seek(size)
        self._file = file
        self._size = size
        self.used = True

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with _writing(self.path):
                file.close()

    def _missing(self) -> ResumeError:
        return ResumeError(
            f"{self.path} is not as the interrupted run left it",
            hint="put it back, or read from the top with --restart",
        )


class RejectsWriter:
    """Rejected rows in the input's format: its columns, then `_line`, `_code`, `_reason`."""

    def __init__(
        self,
        file: ResultFile,
        input_format: InputFormat,
        *,
        columns: list[str],
        delimiter: str,
        encoding: str,
    ) -> None:
        self.file = file
        self._format = input_format
        self._encoding = encoding
        self._delimiter = delimiter
        self._is_unicode = codecs.lookup(encoding).name.startswith("utf-")
        self._encoder: codecs.IncrementalEncoder | None = None
        # A rejects file that is imported again does not grow the columns twice.
        self._grown = tuple(columns[-3:]) == REJECT_COLUMNS
        self._columns = columns[:-3] if self._grown else columns

    def write(self, row: Row, code: str, reason: str) -> None:
        verdict = (row.line, code, reason)
        begun = self.file.size is not None
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
        # What is over comes last, so that the columns keep their places and nothing is lost.
        over = cells[width + 3 * self._grown :]
        self.file.write(self._encode(self._csv_line([*own, *map(str, verdict), *over]), begun=True))

    def _csv_line(self, cells: list[str]) -> str:
        line = io.StringIO()
        # Of the characters of a line end, csv quotes those that are its own.
        csv.writer(line, delimiter=self._delimiter, lineterminator="\r\n").writerow(cells)
        return line.getvalue().removesuffix("\r\n") + "\n"

    def _encode(self, text: str, *, begun: bool) -> bytes:
        """The text in the input's encoding, a BOM at the beginning of the file only."""
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
        # Not an object that says the same: the line goes along as it is, for a person to mend.
        raw = content.decode("utf-8", "backslashreplace").rstrip("\r\n")
        text = json.dumps({"_raw": raw} | verdict, ensure_ascii=as_ascii)
    return f"{text}\n"


def outcome_line(line: int, outcome: Outcome, path: str | None) -> bytes:
    """A line of an outcomes file; `path` is given where a run has several inputs."""
    contact_id = "null" if outcome.contact_id is None else outcome.contact_id
    where = "" if path is None else f', "input": {json.dumps(path)}'
    return (
        f'{{"line": {line}, "outcome": "{outcome.name}", '
        f'"primaryContactId": {outcome.primary_id}, "contactId": {contact_id}{where}}}\n'
    ).encode()


def write_summary(path: str, summary: dict[str, Any]) -> None:
    """Write the summary beside its place and rename it: a reader sees a whole one or none."""
    data = f"{json.dumps(summary)}\n".encode()  # in ASCII: a path may be no text
    with _writing(path):
        target = Path(path)
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # renaming over /dev/null would take it away from everybody
            return
        target = target.resolve()  # a symbolic link stays one
        beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            with open(beside, "wb", opener=_private) as file:
                file.write(data)
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _private(path: str | Path, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}",
            hint="see that its folder is there, is yours and has room",
        ) from error
