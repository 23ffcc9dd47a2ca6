"""Standard output and standard error: data on the one, everything else on the other.

Data that cannot be written is an error; a message that cannot be written is dropped.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from identity_cli.files import writing

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from identity_cli.errors import IdentityError

# Of a bare number that is also a phone number.
AMBIGUOUS = "the number was read as the id of a contact; use --phone for the phone number"

_STDOUT, _STDERR = 1, 2
_BUFFER = 1 << 16


class _Descriptor(io.RawIOBase):
    """A descriptor that is written to until that fails; whatever comes after it is discarded.

    Python would write what is left in its buffers once more at exit, and fail with noise.
    """

    def __init__(self, number: int, place: str | None) -> None:
        """`place` names it in an `OutputError`; None: failures are not reported."""
        self._number = number
        self._place = place
        self._has_failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Buffer) -> int:
        size = memoryview(data).nbytes
        if self._has_failed:
            return size
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # another process has made it non-blocking
                select.select([], [self._number], [])
            except OSError:
                self._has_failed = True
                if self._place is None:
                    return size
                with writing(
                    self._place, hint="check what it is redirected to: the disk may be full"
                ):
                    raise


def install() -> None:
    """Replace standard output and standard error by streams of ours.

    Data is UTF-8, whatever the locale and PYTHONIOENCODING are. What standard error cannot encode
    is escaped.
    """
    for number in (0, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            # Closed: a file or socket that got its number would be written to.
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    encoding = sys.stderr.encoding if sys.stderr is not None else "utf-8"
    stdout = io.BufferedWriter(_Descriptor(_STDOUT, "standard output"), _BUFFER)
    stderr = io.BufferedWriter(_Descriptor(_STDERR, None))
    sys.stdout = io.TextIOWrapper(stdout, "utf-8", "backslashreplace", line_buffering=True)
    sys.stderr = io.TextIOWrapper(stderr, encoding, "backslashreplace", line_buffering=True)


def line(text: str) -> None:
    """Write a line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def document(value: Any) -> None:
    """Write one JSON document."""
    # A path need not be text, but standard output is.
    line(json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode())


def note(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def remark(text: str) -> None:
    """Write a note, which is not an error."""
    note(f"note: {text}")


def is_confirmed(question: str) -> bool:
    """Ask on standard error and return whether the answer is yes; the default is no.

    Typer's own question writes to standard output, too.
    """
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def error(failure: IdentityError) -> None:
    """Write an error and its hint; for a place in a file `PATH:LINE: error: …`."""
    location = getattr(failure, "location", None)
    note(f"{f'{location}: ' if location else ''}error: {failure}")
    if failure.hint:
        note(f"\nhint: {failure.hint}")


def printable(text: str) -> str:
    """Return the text with control characters escaped: a terminal would obey them."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )
