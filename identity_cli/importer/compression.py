"""Decompression of an input while it is read."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO

from identity_cli.errors import InputUnreadableError
from identity_cli.importer.raw import PeekableBytes

if TYPE_CHECKING:
    from collections.abc import Callable

# Zstandard turns 4 bytes into 128 KiB at most, so a decompression bomb stays small.
_ZSTD_FEED = 128

GZIP_MAGIC = b"\x1f\x8b"
# pzstd begins with a frame that is to be skipped.
ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16)))


def unpack(compressed: BinaryIO, beginning: bytes, name: str) -> Unpacked | None:
    """Return the decompressed bytes; None if the beginning is not that of gzip or Zstandard."""
    if beginning.startswith(GZIP_MAGIC):
        # The rows before a broken place count, so no more is unpacked than is there.
        return Unpacked(gzip.GzipFile(fileobj=compressed, mode="rb").read1, name)
    if beginning.startswith(ZSTD_MAGICS):
        return Unpacked(_Zstandard(compressed).read, name)
    return None


class Unpacked(PeekableBytes):
    """A decompressor as a raw stream, its errors turned into ours."""

    def __init__(self, unpacked: Callable[[int], bytes], name: str) -> None:
        super().__init__()
        self._unpacked = unpacked
        self._name = name
        self._rest = b""

    def _next(self, wanted: int) -> bytes:
        data = self._rest or self._unpack(wanted)
        self._rest = data[wanted:]
        return data[:wanted]

    def _unpack(self, wanted: int) -> bytes:
        try:
            return self._unpacked(wanted)
        except InputUnreadableError:
            raise
        except (EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            reason = "ends too early" if isinstance(error, EOFError) else "is broken"
            raise self._broken(reason) from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise self._broken("is broken") from error

    def _broken(self, reason: str) -> InputUnreadableError:
        return InputUnreadableError(
            self._name,
            f"the compressed data {reason}",
            hint="make the file again",
            is_midway=True,
        )


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
