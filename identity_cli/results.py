"""The files that an import writes beside the graph: rejects, outcomes, the summary.

They hold contact data, so nobody else may read them. A resumed run cuts them back to its last
checkpoint and goes on writing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from identity_cli.errors import OutputError, ResumeError
from identity_cli.readers import REJECT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.readers import InputFormat, Row
    from identity_cli.service import Outcome

_PRIVATE = 0o600


class ResultFile:
    """A file that grows, made with the first write or by `open`.

    Raises `OutputError` when it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.used = False
        self._file: IO[bytes] | None = None

    @property
    def size(self) -> int | None:
        """Bytes written, None while there is no file."""
        return None if self._file is None else self._file.tell()

    def open(self) -> IO[bytes]:
        """Begin a new file in the place of one that may be there."""
        with _writing(self.path):
            self._file = open(self.path, "wb", opener=_private)
        self.used = True
        return self._file

    def write(self, data: bytes) -> None:
        file = self._file or self.open()
        with _writing(self.path):
            file.write(data)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._file is not None:
            with _writing(self.path):
                self._file.flush()
                if self._file.seekable():
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
        # A rejects file that is imported again does not grow the columns twice.
        self._grown = tuple(columns[-3:]) == REJECT_COLUMNS
        self._columns = columns[:-3] if self._grown else columns

    def write(self, row: Row, code: str, reason: str) -> None:
        verdict = (row.line, code, reason)
        if self._format == "jsonl":
            self.file.write(
                _reject_line(row.content, dict(zip(REJECT_COLUMNS, verdict, strict=True)))
            )
            return
        if self.file.size is None:
            self.file.write(self._csv_line([*self._columns, *REJECT_COLUMNS]))
        width = len(self._columns)
        cells: list[str] = row.content
        own = cells[:width] + [""] * (width - len(cells))
        # What is over comes last, so that the columns keep their places and nothing is lost.
        over = cells[width + 3 * self._grown :]
        self.file.write(self._csv_line([*own, *map(str, verdict), *over]))

    def _csv_line(self, cells: list[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=self._delimiter, lineterminator="\n").writerow(cells)
        return line.getvalue().encode(self._encoding, "surrogateescape")


def _reject_line(content: bytes, verdict: dict[str, Any]) -> bytes:
    try:
        value = json.loads(content)
        if not isinstance(value, dict) or len(value) == 0:
            raise ValueError
        document = {key: item for key, item in value.items() if key not in REJECT_COLUMNS}
        text = json.dumps(document | verdict, ensure_ascii=False)
        return text.encode() + b"\n"
    except (ValueError, RecursionError):
        # Not an object: the line goes along as it is, for a person to mend.
        raw = content.decode("utf-8", "backslashreplace").rstrip("\r\n")
        return json.dumps({"_raw": raw} | verdict, ensure_ascii=False).encode() + b"\n"


def outcome_line(line: int, outcome: Outcome, path: str | None) -> bytes:
    """A line of an outcomes file; `path` is given where a run has several inputs."""
    contact_id = "null" if outcome.contact_id is None else outcome.contact_id
    where = "" if path is None else f', "input": {json.dumps(path, ensure_ascii=False)}'
    return (
        f'{{"line": {line}, "outcome": "{outcome.name}", '
        f'"primaryContactId": {outcome.primary_id}, "contactId": {contact_id}{where}}}\n'
    ).encode()


def write_summary(path: str, summary: dict[str, Any]) -> None:
    """Write the summary beside its place and rename it: a reader sees a whole one or none."""
    beside = f"{path}.{os.getpid()}.tmp"
    with _writing(path):
        try:
            with open(beside, "w", encoding="utf-8", opener=_private) as file:
                json.dump(summary, file, ensure_ascii=False)
                file.write("\n")
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise


def _private(path: str, flags: int) -> int:
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
