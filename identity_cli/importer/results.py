"""The files that an import writes beside the graph: rejects, outcomes, the summary.

They hold contact data, so nobody else may read them. A resumed run cuts them back to its last
checkpoint and goes on writing.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from identity_cli.errors import OutputError, ResumeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.graph.service import Outcome

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
        """Bytes written, None if the file was not begun."""
        return self._size if self.used else None

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
            self.remove()
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

    def remove(self) -> None:
        """Remove the file of a former try; what is no regular file stays."""
        self.close()
        with _writing(self.path), suppress(FileNotFoundError):
            if stat.S_ISREG(os.stat(self.path).st_mode):
                os.unlink(self.path)

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


def remove_old_summary(path: str) -> None:
    """Remove the summary of an earlier run, so that nobody takes it for this one's."""
    with suppress(OSError):
        if stat.S_ISREG(os.stat(path).st_mode):
            os.unlink(path)


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
