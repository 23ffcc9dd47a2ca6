"""The bytes of an input as they come, counted and, if it is a pipe, kept."""

from __future__ import annotations

import errno
import io
import os
import select
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from identity_cli.errors import InputUnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

BLOCK = 1 << 16
# How long a pipe may be silent before the rows read so far are handed on, and how often a reader
# that waits for more looks up from it.
_IDLE_MILLISECONDS = 50
_LINE_ENDS = (b"\n", b"\r")


class PeekableBytes(io.RawIOBase):
    """A raw stream whose next bytes can be looked at without taking them."""

    def __init__(self) -> None:
        self._peeked = b""

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them; fewer only at the end."""
        while len(self._peeked) < size and (data := self._next(BLOCK)):
            self._peeked += data
        return self._peeked[:size]

    def peek_line(self) -> bytes:
        """Return the next bytes, with a line end or a whole block among them if there is one.

        More is not waited for: a slow pipe brings its rows one by one.
        """
        while not self._has_line():
            data = self._next(BLOCK)
            if not data:
                break
            self._peeked += data
        return self._peeked[:BLOCK]

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._peeked or self._next(len(view))
        data, self._peeked = data[: len(view)], data[len(view) :]
        view[: len(data)] = data
        return len(data)

    def _has_line(self) -> bool:
        return len(self._peeked) >= BLOCK or any(end in self._peeked for end in _LINE_ENDS)

    def _next(self, wanted: int) -> bytes:
        """Return some of the bytes that follow, at most `wanted`; none at the end."""
        raise NotImplementedError


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise `InputUnreadableError` for an error of the operating system."""
    try:
        yield
    except OSError as error:
        raise InputUnreadableError(
            name,
            f"it cannot be read any further: {error.strerror}",
            hint="check the disk or the network that it is on",
            is_midway=True,
        ) from error


class _RandomAccess(io.RawIOBase):
    """What is read from a position of its own; `_end` returns the last one."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        position = (self._end() if base is None else base) + offset
        if position < 0:
            # The error of a file: zipfile looks for records that may not be there.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def _end(self) -> int:
        raise NotImplementedError


class PositionedFile(_RandomAccess):
    """A file without a descriptor, such as an object in object storage.

    `read_at` fills some of a buffer from a position, and leaves the own position of the file.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def _end(self) -> int:
        return self.size

    def readinto(self, buffer: Buffer) -> int:
        count = self.read_at(memoryview(buffer), self._position)
        self._position += count
        return count

    def read_at(self, buffer: memoryview, position: int) -> int:
        """Return how many bytes were read; 0 at the end. Raises `InputUnreadableError`."""
        raise NotImplementedError


def _size(file: IO[bytes] | PositionedFile) -> int:
    return file.size if isinstance(file, PositionedFile) else os.fstat(file.fileno()).st_size


class PipeNotKeptError(InputUnreadableError):
    """The beginning of a pipe could not be kept; nothing that was read from it is lost."""


class Kept:
    """What was read from a pipe, in a temporary file that goes with the process."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(  # noqa: SIM115 - kept open
            prefix="identity-pipe-", buffering=0
        )
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Append the data. An `OSError` loses none of it: `read` returns it all the same."""
        self._rest = data
        while self._rest:
            self._rest = self._rest[self._file.write(self._rest) :]

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if not data:
            data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def rewind(self) -> None:
        self._file.seek(0)

    def close(self) -> None:
        self._file.close()


class RawInput(PeekableBytes):
    """The bytes of a file or a pipe as they come, counted."""

    def __init__(
        self,
        file: BinaryIO | PositionedFile,
        name: str,
        size: int | None,
        while_reading: AbstractContextManager[Any],
        while_idle: Callable[[bool], None],
    ) -> None:
        super().__init__()
        self.offset = 0
        self.kept: Kept | None = None
        self._replaying = False
        self._file = file
        self._name = name
        self._size = size
        self._while_reading = while_reading
        self._while_idle = while_idle
        self._poll = select.poll()
        if size is None:
            self._poll.register(file, select.POLLIN)

    def readinto(self, buffer: Buffer) -> int:
        count = super().readinto(buffer)
        self.offset += count
        return count

    def advance_to(self, offset: int) -> None:
        """Count what was read from the file at random places."""
        self.offset = max(self.offset, offset)

    def rewind(self) -> None:
        self.offset = 0
        self._peeked = b""
        if self._size is not None:
            self._file.seek(0)
        elif self.kept is not None:
            self.kept.rewind()
            self._replaying = True

    def release(self) -> None:
        # What is being replayed is still needed; it is dropped at its end.
        if not self._replaying:
            self.drop()

    def close(self) -> None:
        """Do nothing: a reader that is thrown away must not close what a second one reads."""

    def drop(self) -> None:
        if self.kept is not None:
            self.kept.close()
            self.kept = None

    def _next(self, wanted: int) -> bytes:
        if self._replaying and self.kept is not None:
            data = self.kept.read(wanted)
            if data:
                return data
            self._replaying = False
            self.release()
        with reading(self._name):
            data = self._read_some(wanted)
        if not data and self._size is not None:
            self._check_whole(self._size)
        if self.kept is not None:
            try:
                self.kept.add(data)
            except OSError as error:
                raise PipeNotKeptError(
                    self._name,
                    f"its beginning cannot be kept in {tempfile.gettempdir()}: {error.strerror}",
                    hint="set TMPDIR to a folder with more room",
                ) from error
        return data

    def _check_whole(self, size: int) -> None:
        if min(self._file.tell(), _size(self._file)) < size:
            raise InputUnreadableError(
                self._name,
                f"it became shorter while it was read: {self._file.tell()} of {size} bytes",
                hint="run the same command again when nothing writes to it",
                is_midway=True,
            )

    def _read_some(self, wanted: int) -> bytes:
        read: Callable[[int], bytes | None] = self._file.read
        if self._size is not None:
            with self._while_reading:
                return read(wanted) or b""
        while True:
            if not self._is_ready():
                self._while_idle(True)
                while not self._is_ready():
                    self._while_idle(True)
                self._while_idle(False)
            with self._while_reading:
                part = read(wanted)
            if part is not None:  # None: it does not block, and another reader was faster
                return part

    def _is_ready(self) -> bool:
        with self._while_reading:
            return bool(self._poll.poll(_IDLE_MILLISECONDS))


class SeekableInput(_RandomAccess):
    """A file with random access and a position of its own, whoever else reads from it.

    `on_read` is called with the position after every read.
    """

    def __init__(
        self,
        file: IO[bytes] | PositionedFile,
        name: str,
        while_reading: AbstractContextManager[Any],
        on_read: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._file = file
        self._name = name
        self._while_reading = while_reading
        self._on_read = on_read

    def _end(self) -> int:
        return _size(self._file)

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        with reading(self._name), self._while_reading:
            if isinstance(self._file, PositionedFile):
                count = self._file.read_at(view, self._position)
            else:
                count = os.preadv(self._file.fileno(), [view], self._position)
        self._position += count
        self._on_read(self._position)
        return count


def spool(content: io.RawIOBase, name: str) -> IO[bytes]:
    """Copy the rest of the content into a temporary file that goes with the process."""
    file: IO[bytes] = tempfile.TemporaryFile(  # noqa: SIM115 - kept open
        prefix="identity-input-", buffering=0
    )
    try:
        while data := content.read(BLOCK):
            while data:
                data = data[file.write(data) :]
    except OSError as error:
        file.close()
        raise InputUnreadableError(
            name,
            f"it cannot be kept in {tempfile.gettempdir()}: {error.strerror}",
            hint="set TMPDIR to a folder with more room",
        ) from error
    return file
