"""The text of an input: a bad byte is kept, so that it spoils one row and not the file."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from identity_cli.importer.source import Source

# The longest line and the longest field, in characters. More is a missing line end or quote, and
# would take many times its size in memory when it is all commas or brackets.
LINE_MAX = 1 << 22
# Bytes that are not text become lone surrogates, one each; encoded again, they are those bytes.
KEEP_BYTES = "identity-keep-bytes"
BOM = "\ufeff"


def open_text(source: Source, encoding: str) -> io.TextIOWrapper:
    # One bad byte is one bad row: the encoding goes on after it.
    return io.TextIOWrapper(source.stream(), encoding=encoding, errors=KEEP_BYTES, newline="")


def _keep_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Like Python's "surrogateescape", which does so from byte 128 on only."""
    if isinstance(error, UnicodeDecodeError):
        bad = error.object[error.start : error.end]
        return "".join([chr(0xDC00 + byte) for byte in bad]), error.end
    if not isinstance(error, UnicodeEncodeError):
        raise error
    kept = [ord(character) - 0xDC00 for character in error.object[error.start : error.end]]
    # A single byte has no place between the wide units of UTF-16 and UTF-32.
    if error.encoding.startswith(("utf-16", "utf-32")) or not all(0 <= one < 256 for one in kept):
        return "\ufffd" * len(kept), error.end
    return bytes(kept), error.end


codecs.register_error(KEEP_BYTES, _keep_bytes)
