"""The text of an input. A bad byte is kept, so that it spoils one row and not the file."""

from __future__ import annotations

import codecs
import io
import sys
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
    """Return the text of the source."""
    # One bad byte is one bad row; the text after it can be read.
    return io.TextIOWrapper(source.stream(), encoding=encoding, errors=KEEP_BYTES, newline="")


def _keep_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Decode and encode as "surrogateescape" does, but also for bytes below 128."""
    if isinstance(error, UnicodeDecodeError):
        bad = error.object[error.start : error.end]
        return "".join([chr(0xDC00 + byte) for byte in bad]), error.end
    if not isinstance(error, UnicodeEncodeError):
        raise error
    kept = [ord(character) - 0xDC00 for character in error.object[error.start : error.end]]
    # A single byte does not fit between the wide units of UTF-16 and UTF-32.
    if error.encoding.startswith(("utf-16", "utf-32")):
        family, _, order = error.encoding.partition("-")[2].partition("-")
        order = order or ("le" if sys.byteorder == "little" else "be")
        # These encoders take bytes, but no text that is not ASCII.
        return ("\ufffd" * len(kept)).encode(f"utf-{family}-{order}"), error.end
    if not all(0 <= byte < 256 for byte in kept):
        return "\ufffd" * len(kept), error.end
    return bytes(kept), error.end


codecs.register_error(KEEP_BYTES, _keep_bytes)
