"""The bytes of an input: opened, counted, hashed as they are read, decompressed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import select
import stat
import sys
import zlib
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from identity_cli.errors import InputNotFoundError, InputUnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

STDIN = "-"

# Whole blocks, also from a pipe: the same input gives the same positions, which a resumed run
# compares.
BLOCK = 1 << 16
# Of compressed bytes at a time: Zstandard grows 4 bytes to 128 KiB at most, so a bomb stays
# small.
_ZSTD_FEED = 128

_GZIP_MAGIC = b"\x1f\x8b"
# pzstd begins with a frame that is to be skipped.
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16)))


class Position(NamedTuple):
    """How far an input was read: bytes as they are on disk, and their SHA-256."""

    offset: int
    sha256: str


class Source:
    """An open input. `size` is None where it is not known (standard input, a pipe).

    `while_reading` is entered around every read that may block.
    Raises `InputNotFoundError` when it cannot be opened, `InputUnreadableError` from any read.
    """

    def __init__(
        self, path: str, *, while_reading: AbstractContextManager[Any] | None = None
    ) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else path
        waiting = while_reading or nullcontext()
        with waiting:  # for who writes to a named pipe
            self._file, self.size = _open(path)
        self._raw = _Raw(self._file, self.name, waiting)
        try:
            self.beginning = self._raw.peek_block()
        except BaseException:
            self.close()
            raise

    @property
    def offset(self) -> int:
        return self._raw.offset

    @property
    def position(self) -> Position:
        return Position(self._raw.offset, self._raw.digest.hexdigest())

    def read_to(self, offset: int) -> Position:
        """Read on to `offset` or the end for the position there; `rewind` after it."""
        while self._raw.offset < offset and self._raw.readinto(
            memoryview(bytearray(min(BLOCK, offset - self._raw.offset)))
        ):
            pass
        return self.position

    def rewind(self) -> None:
        self._file.seek(0)
        self._raw.reset()

    def stream(self) -> BinaryIO:
        """The bytes, decompressed. Broken compression raises `InputUnreadableError`."""
        buffered = io.BufferedReader(self._raw, BLOCK)
        unpacked: Callable[[int], bytes]
        if self.beginning.startswith(_GZIP_MAGIC):
            # What comes before a broken place counts: no more at a time than is there.
            unpacked = gzip.GzipFile(fileobj=buffered, mode="rb").read1
        elif self.beginning.startswith(_ZSTD_MAGICS):
            unpacked = _Zstandard(buffered).read
        else:
            return buffered
        return io.BufferedReader(_Unpacked(unpacked, self.name), BLOCK)

    def close(self) -> None:
        if self.path != STDIN:
            self._file.close()


def _open(path: str) -> tuple[BinaryIO, int | None]:
    if path == STDIN:
        if sys.stdin is None:
            raise InputNotFoundError(
                "standard input is closed", hint="give it an input with < FILE"
            )
        return sys.stdin.buffer, None
    with _opening(path):
        status = _stat(path)
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by Source.close
    return file, status.st_size if stat.S_ISREG(status.st_mode) else None


def check_input(path: str) -> None:
    """Raise `InputNotFoundError` when there is no such input; opens nothing."""
    if path != STDIN:
        with _opening(path):
            _stat(path)


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
            FileNotFoundError: "see the path for a typing error",
            PermissionError: "give yourself permission to read it",
        }.get(type(error), "see that it can be read")
        raise InputNotFoundError(f"{path}: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL in the path
        raise InputNotFoundError("a path with a NUL character", hint="see the path") from error


class _Raw(io.RawIOBase):
    """Hands the bytes on in whole blocks and hashes them."""

    def __init__(
        self, file: BinaryIO, name: str, while_reading: AbstractContextManager[Any]
    ) -> None:
        self._file = file
        self._name = name
        self._while_reading = while_reading
        self.reset()

    def reset(self) -> None:
        self.offset = 0
        self.digest = hashlib.sha256()
        self._peeked = b""

    def readable(self) -> bool:
        return True

    def peek_block(self) -> bytes:
        if not self._peeked:
            self._peeked = self._read(BLOCK)
        return self._peeked

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        if self._peeked:
            data, self._peeked = self._peeked[: len(view)], self._peeked[len(view) :]
        else:
            data = self._read(len(view))
        view[: len(data)] = data
        self.offset += len(data)
        self.digest.update(data)
        return len(data)

    def _read(self, wanted: int) -> bytes:
        parts: list[bytes] = []
        while wanted:
            with self._while_reading:
                part = self._read_some(wanted)
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _read_some(self, wanted: int) -> bytes:
        read: Callable[[int], bytes | None] = self._file.read
        try:
            while (part := read(wanted)) is None:  # not blocking, and nothing there yet
                select.select([self._file], [], [])
        except OSError as error:
            raise InputUnreadableError(
                self._name,
                f"it cannot be read further: {error.strerror}",
                hint="see to the disk or the network that it is on; the rows before are imported",
            ) from error
        return part


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


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both paths lead to one file; two that are not there are compared by name."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return Path(one).absolute() == Path(other).absolute()
