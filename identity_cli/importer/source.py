"""The bytes of an input: opened, counted and decompressed as they are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import select
import stat
import sys
import tempfile
import zlib
from contextlib import contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from identity_cli.errors import InputNotFoundError, InputUnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

STDIN = "-"

BLOCK = 1 << 16
# Zstandard turns 4 bytes into 128 KiB at most, so a decompression bomb stays small.
_ZSTD_FEED = 128
# How long a pipe may be silent before the rows read so far are handed on, and how often a reader
# that waits for more looks up from it.
_IDLE_MILLISECONDS = 50
# A fingerprint reads at most so many blocks of a file, spread evenly over it.
_FINGERPRINT_BLOCKS = 1024

_GZIP_MAGIC = b"\x1f\x8b"
# pzstd begins with a frame that is to be skipped.
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16)))


def _do_nothing(_is_idle: bool) -> None:
    pass


class Source:
    """An open input. `size` is None if it is not known in advance (standard input, a pipe).

    `compression` is "gzip" or "zstd", or None if there is none; it is known after `stream`.

    `while_reading` is entered around every read that may block. While a pipe has nothing to read,
    `while_idle` is called with True every few hundredths of a second, and with False when it has.

    Raises `InputNotFoundError` if it cannot be opened and `InputUnreadableError` from any read,
    also if a file has become shorter than it was when it was opened.
    """

    def __init__(
        self,
        path: str,
        *,
        while_reading: AbstractContextManager[Any] | None = None,
        while_idle: Callable[[bool], None] = _do_nothing,
    ) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else path
        waiting = while_reading or nullcontext()
        with waiting:  # opening a named pipe waits for its writer
            self._file, self.size = _open(path)
        self._raw = _Raw(self._file, self.name, self.size, waiting, while_idle)
        self.compression: str | None = None

    @property
    def offset(self) -> int:
        """The number of bytes read so far, as they are on disk."""
        return self._raw.offset

    def keep(self) -> None:
        """From now on keep what is read from a pipe, so that `rewind` can return to its beginning.

        Call it before the first read. A file needs nothing kept.
        """
        if self.size is None:
            self._raw.kept = _Kept()

    def release(self) -> None:
        """Drop what was kept: `rewind` is not going to be called."""
        self._raw.release()

    def rewind(self) -> None:
        """Return to the beginning. A pipe must have been kept since its first read."""
        self._raw.rewind()

    def stream(self) -> BinaryIO:
        """Return the bytes, decompressed. Broken compression raises `InputUnreadableError`."""
        beginning = self._raw.peek(4)
        buffered = io.BufferedReader(self._raw, BLOCK)
        unpacked: Callable[[int], bytes]
        if beginning.startswith(_GZIP_MAGIC):
            # The rows before a broken place count, so no more is unpacked than is there.
            self.compression = "gzip"
            unpacked = gzip.GzipFile(fileobj=buffered, mode="rb").read1
        elif beginning.startswith(_ZSTD_MAGICS):
            self.compression = "zstd"
            unpacked = _Zstandard(buffered).read
        else:
            return buffered
        return io.BufferedReader(_Unpacked(unpacked, self.name), BLOCK)

    def close(self) -> None:
        self._raw.drop()
        self._file.close()


def _open(path: str) -> tuple[BinaryIO, int | None]:
    if path == STDIN:
        if sys.stdin is None:
            raise InputNotFoundError(
                "standard input is closed", hint="redirect a file or a pipe to it: < FILE"
            )
        # Unbuffered, so that rows are read as they come.
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False), None
    with _opening(path):
        status = _stat(path)
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by Source.close
    return file, status.st_size if stat.S_ISREG(status.st_mode) else None


def check_input(path: str) -> None:
    """Raise `InputNotFoundError` if there is no such input; opens nothing."""
    if path != STDIN:
        with _opening(path):
            _stat(path)


def is_file(path: str) -> bool:
    """Return whether the input is a regular file, which can be read again from the beginning."""
    if path == STDIN:
        return False
    with _opening(path):
        return stat.S_ISREG(_stat(path).st_mode)


def file_size(path: str) -> int:
    """Return the size of a regular file in bytes."""
    with _opening(path):
        return _stat(path).st_size


def fingerprint(path: str) -> str:
    """Return a SHA-256 that finds a file again: over its size and its content.

    Of a file larger than 64 MiB only 1,024 blocks of 64 KiB are read, the first and the last
    among them. What a run continues from is therefore never decided by a fingerprint alone.
    """
    with _opening(path), open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size}\n".encode())
        if size <= _FINGERPRINT_BLOCKS * BLOCK:
            while block := file.read(BLOCK):
                digest.update(block)
        else:
            for number in range(_FINGERPRINT_BLOCKS):
                file.seek((size - BLOCK) * number // (_FINGERPRINT_BLOCKS - 1))
                digest.update(file.read(BLOCK))
        return digest.hexdigest()


def _stat(path: str) -> os.stat_result:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise InputNotFoundError(f"{path} is a directory", hint="name the files in it")
    return status


@contextmanager
def _opening(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = {
            FileNotFoundError: "check the path for a typing error",
            PermissionError: "give yourself permission to read it",
        }.get(type(error), "check that it can be read")
        raise InputNotFoundError(f"{path}: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL in the path
        raise InputNotFoundError("a path with a NUL character", hint="check the path") from error


class PipeNotKeptError(InputUnreadableError):
    """The beginning of a pipe could not be kept; nothing that was read from it is lost."""


class _Kept:
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


class _Raw(io.RawIOBase):
    """The bytes of a file or a pipe as they come, counted."""

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        size: int | None,
        while_reading: AbstractContextManager[Any],
        while_idle: Callable[[bool], None],
    ) -> None:
        self.offset = 0
        self.kept: _Kept | None = None
        self._replaying = False
        self._peeked = b""
        self._file = file
        self._name = name
        self._size = size
        self._while_reading = while_reading
        self._while_idle = while_idle
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them; fewer only at the end."""
        while len(self._peeked) < size and (data := self._next(BLOCK)):
            self._peeked += data
        return self._peeked[:size]

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._peeked or self._next(len(view))
        data, self._peeked = data[: len(view)], data[len(view) :]
        view[: len(data)] = data
        self.offset += len(data)
        return len(data)

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
        with self._reading():
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
        if min(self._file.tell(), os.fstat(self._file.fileno()).st_size) < size:
            raise InputUnreadableError(
                self._name,
                f"it became shorter while it was read: {self._file.tell()} of {size} bytes",
                hint="run the same command again when nothing writes to it; the rows before this"
                " place are imported",
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputUnreadableError(
                self._name,
                f"it cannot be read any further: {error.strerror}",
                hint="check the disk or the network that it is on; the rows before this place are"
                " imported",
            ) from error

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


class _Zstandard:
    """Zstandard frames one after the other; unlike the library's reader it sees a cut-off end."""

    def __init__(self, compressed: BinaryIO) -> None:
        import zstandard

        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._compressed = compressed
        self._rest = b""
        self._begun = False

    def read(self, _wanted: int) -> bytes:
        while True:
            data = self._rest or self._compressed.read(_ZSTD_FEED)
            self._rest = b""
            if not data:
                if self._begun and not self._frame.eof:
                    raise EOFError
                return b""
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            self._begun = True
            out = self._frame.decompress(data)
            if self._frame.eof:
                self._rest = self._frame.unused_data
            if out:
                return out


class _Unpacked(io.RawIOBase):
    """A decompressor as a raw stream, its errors turned into ours."""

    def __init__(self, unpacked: Callable[[int], bytes], name: str) -> None:
        self._unpacked = unpacked
        self._name = name
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._rest or self._read(len(view))
        self._rest = data[len(view) :]
        data = data[: len(view)]
        view[: len(data)] = data
        return len(data)

    def _read(self, wanted: int) -> bytes:
        try:
            data = self._unpacked(wanted)
        except InputUnreadableError:
            raise
        except (EOFError, OSError, zlib.error) as error:
            reason = "ends too early" if isinstance(error, EOFError) else "is broken"
            raise self._broken(reason) from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise self._broken("is broken") from error
        return data

    def _broken(self, reason: str) -> InputUnreadableError:
        return InputUnreadableError(
            self._name,
            f"the compressed data {reason}",
            hint="make the file again; the rows before this place are imported",
        )
