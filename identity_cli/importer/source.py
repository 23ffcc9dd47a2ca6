"""The bytes of an input: opened, counted and decompressed as they are read."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import sys
from contextlib import contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from identity_cli.errors import InputNotFoundError
from identity_cli.importer.archive import ZIP_MAGICS, open_only_file
from identity_cli.importer.compression import GZIP_MAGIC, Unpacked, unpack
from identity_cli.importer.raw import BLOCK, Kept, RawInput, SeekableInput, spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from identity_cli.importer.raw import PeekableBytes, PositionedFile

STDIN = "-"
_is_object = re.compile(r"(s3|gs|gcs|abfss?)://", re.IGNORECASE).match

# A fingerprint reads at most so many blocks of a file, spread evenly over it.
_FINGERPRINT_BLOCKS = 1024


def _do_nothing(_is_idle: bool) -> None:
    pass


class Source:
    """An open input. `size` is None if it is not known in advance (standard input, a pipe).

    With `file`, that is read, and `path` only names it.

    `while_reading` is entered around every read that may block. While a pipe has nothing to read,
    `while_idle` is called with True every few hundredths of a second, and with False when it has.

    Raises `InputNotFoundError` if it cannot be opened and `InputUnreadableError` from any read,
    also if a file has become shorter than it was when it was opened.
    """

    def __init__(
        self,
        path: str,
        *,
        file: PositionedFile | None = None,
        while_reading: AbstractContextManager[Any] | None = None,
        while_idle: Callable[[bool], None] = _do_nothing,
    ) -> None:
        self.path = path
        self.name = "standard input" if path == STDIN else path
        self._waiting = while_reading or nullcontext()
        self._file: BinaryIO | PositionedFile
        self.size: int | None
        with self._waiting:  # opening a named pipe waits for its writer
            self._file, self.size = _open(path) if file is None else (file, file.size)
        self._raw = RawInput(self._file, self.name, self.size, self._waiting, while_idle)
        self._content: PeekableBytes | None = None
        self._stream: io.BufferedReader | None = None
        self._is_document = False
        # "gzip", "zstd", "zip" or None; known after `stream`.
        self.compression: str | None = None
        self._spooled: IO[bytes] | None = None
        self._spooled_pipe: IO[bytes] | None = None

    @property
    def offset(self) -> int:
        """The number of bytes read so far, as they are on disk."""
        return self._raw.offset

    def keep(self) -> None:
        """From now on keep what is read from a pipe, so that `rewind` can return to its beginning.

        Call it before the first read. A file needs nothing kept.
        """
        if self.size is None:
            self._raw.kept = Kept()

    def release(self) -> None:
        """Drop what was kept: `rewind` is not going to be called."""
        self._raw.release()

    def rewind(self) -> None:
        """Return to the beginning. A pipe must have been kept since its first read."""
        self._raw.rewind()
        self._content = None
        self._stream = None

    def peek(self) -> bytes:
        """Return the beginning of the content, decompressed, without taking it.

        It has a whole line or 64 KiB if there is so much, and not much more of a slow pipe.
        """
        return self._opened().peek_line()

    def stream(self) -> BinaryIO:
        """Return the content, decompressed. Broken compression raises `InputUnreadableError`."""
        if self._stream is None:
            self._stream = io.BufferedReader(self._opened(), BLOCK)
        return self._stream

    def seekable(self) -> BinaryIO:
        """Return the content, decompressed, as a file with random access, from its beginning.

        It is the file itself if that is plain, else a temporary file. Call this instead of
        `stream`, never after it.
        """
        content = self._opened()
        if self._is_document or (content is self._raw and self.size is not None):
            return self._file_with_random_access()
        if self._spooled is None:
            self._spooled = spool(content, self.name)
        return self._random_access(self._spooled, lambda _position: None)

    def close(self) -> None:
        self._raw.drop()
        for file in (self._spooled, self._spooled_pipe, self._file):
            if file is not None:
                file.close()

    def _opened(self) -> PeekableBytes:
        if self._content is None:
            beginning = self._raw.peek(4)
            if beginning.startswith(ZIP_MAGICS):
                self._content = self._opened_archive()
            else:
                buffered = io.BufferedReader(self._raw, BLOCK)
                unpacked = unpack(buffered, beginning, self.name)
                self._content = unpacked or self._raw
                if unpacked is not None:
                    self.compression = "gzip" if beginning.startswith(GZIP_MAGIC) else "zstd"
        return self._content

    def _opened_archive(self) -> PeekableBytes:
        file = self._file_with_random_access()
        unpacked = open_only_file(file, self.name)
        self._is_document = unpacked is None
        if unpacked is not None:
            self.compression = "zip"
            return unpacked
        file.seek(0)
        return Unpacked(file.read1, self.name)

    def _file_with_random_access(self) -> io.BufferedReader:
        if self.size is not None:
            return self._random_access(self._file, self._raw.advance_to)
        # The directory of a zip file is at its end.
        if self._spooled_pipe is None:
            self._spooled_pipe = spool(self._raw, self.name)
        return self._random_access(self._spooled_pipe, lambda _position: None)

    def _random_access(
        self, file: IO[bytes] | PositionedFile, on_read: Callable[[int], None]
    ) -> io.BufferedReader:
        return io.BufferedReader(SeekableInput(file, self.name, self._waiting, on_read), BLOCK)


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


def is_object(path: str) -> bool:
    """Return whether this is the URL of an object in object storage."""
    return _is_object(path) is not None


def read_input(path: str) -> bytes:
    """Return the content of a small input. Raises `InputNotFoundError`."""
    file, _ = _open(path)
    with file, _opening(path):
        return file.read()


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
        if is_object(path):
            hint = "use identity backfill, which reads from object storage, or download it first"
        raise InputNotFoundError(f"{path}: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL in the path
        raise InputNotFoundError("a path with a NUL character", hint="check the path") from error
