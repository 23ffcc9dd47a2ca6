"""The files that an import writes beside the graph: outcomes, rejects, the summary.

A resumed run cuts its files back to the last checkpoint and appends to them.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from identity_cli.errors import OutputError
from identity_cli.files import is_regular, open_private, open_special, replaced_file, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from identity_cli.graph.service import Outcome


class ResultFile:
    """A file that grows, created by the first write or by `open`.

    What is not a regular file (`-`, /dev/stdout, a pipe) is only ever appended to.
    Raises `OutputError` if it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._size = 0  # counted, because a pipe has no size
        self.used = False  # whether a reader finds something in it

    @property
    def size(self) -> int | None:
        """Bytes written, None while there is no file."""
        return None if self._file is None else self._size

    def open(self) -> IO[bytes]:
        """Create the file anew; a special file is opened as it is."""
        with writing(self.path):
            if is_regular(self.path):
                self.close()  # what it has buffered must not be written into the new one
                self._file = open(self.path, "wb", opener=open_private)  # noqa: SIM115 - kept open
            elif self._file is None:
                self._file = open_special(self.path)
        self._size = 0
        self.used = True
        return self._file

    def write(self, data: bytes) -> None:
        file = self._file or self.open()
        with self._writing():
            file.write(data)
        self._size += len(data)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._file is not None:
            with self._writing():
                self._file.flush()
                if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                    os.fsync(self._file.fileno())

    def cut_back(self, size: int | None) -> None:
        """Bring the file back to its size at a checkpoint; None: there was no file.

        A special file cannot be cut back: what follows is appended.
        Raises `OutputError` if the file is shorter, or missing.
        """
        if not is_regular(self.path):
            if size is not None:
                if self._file is None:
                    self.open()
                self._size = size
            return
        self.close()
        if size is None:
            self.remove()
            return
        with writing(self.path):
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
            with self._writing():
                file.close()

    def remove(self) -> None:
        """Remove the file that an earlier try left; a special file stays."""
        self.close()
        self.used = False
        _remove_regular(self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except OutputError:
            # What was buffered is lost; nobody is sent to an empty file.
            self.used = os.path.isfile(self.path) and os.path.getsize(self.path) > 0
            raise

    def _missing(self) -> OutputError:
        return OutputError(
            f"{self.path} is not as the interrupted run left it",
            hint="put it back, or start over with --restart",
        )


def open_rejects(paths: Iterable[str]) -> ResultFile:
    """Create the rejects file at the first of these paths that allows it. Raises `OutputError`."""
    failure: OutputError | None = None
    for path in paths:
        file = ResultFile(path)
        try:
            file.open()
        except OutputError as error:
            failure = failure or error
        else:
            return file
    raise OutputError(
        str(failure), hint="use --rejects PATH to write the rejected rows somewhere else"
    )


def as_text(path: str) -> str:
    """Return a path for a JSON document, which does not take every name."""
    return path.encode(errors="backslashreplace").decode()


def outcome_line(
    line: int, outcome: Outcome, path: str | None, key: tuple[object] | None = None
) -> bytes:
    """Return a line of an outcomes file.

    `path` is passed if a run has several inputs, `key` holds the row's key if the rows have one.
    """
    primary_id = "null" if outcome.primary_id is None else outcome.primary_id
    contact_id = "null" if outcome.contact_id is None else outcome.contact_id
    several = f', "contactIds": {list(outcome.contact_ids)}' if outcome.contact_ids else ""
    where = "" if path is None else f', "input": {json.dumps(path)}'
    if key is not None:
        where += f', "key": {json.dumps(key[0], default=str)}'
    return (
        f'{{"line": {line}, "outcome": "{outcome.name}", '
        f'"primaryContactId": {primary_id}, "contactId": {contact_id}{several}{where}}}\n'
    ).encode()


def write_summary(path: str, summary: dict[str, Any]) -> None:
    """Write the summary; a reader sees a whole one or none."""
    data = f"{json.dumps(summary)}\n".encode()  # in ASCII: a path need not be text
    with replaced_file(Path(path), force=True) as file:
        file.write(data)


def remove_old_summary(path: str) -> None:
    """Remove the summary of an earlier run, so that nobody takes it for this run's."""
    _remove_regular(path)


def _remove_regular(path: str) -> None:
    with writing(path):
        target = Path(path).resolve()  # a symbolic link stays one
        if is_regular(path) and target.is_file():
            target.unlink()
