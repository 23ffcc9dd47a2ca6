"""What a person or a pipe sees: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from identity_cli.errors import IdentityError
    from identity_cli.service import ConsolidatedContact

# Set by --debug: errors keep their traceback.
debug = False


def line(text: str) -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def document(value: Any) -> None:
    """One JSON document."""
    line(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """A line for the person at the terminal."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def error(failure: IdentityError) -> None:
    """An error with its hint; for a place in a file `PATH:LINE: error: …`."""
    location = getattr(failure, "location", None)
    note(f"{f'{location}: ' if location else ''}error: {failure}")
    if failure.hint:
        note(f"\nhint: {failure.hint}")


def printable(text: str) -> str:
    """The text with what a terminal would obey made visible: paths and words may hold anything."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def consolidated(contact: ConsolidatedContact, *, as_json: bool) -> None:
    """A consolidated contact: JSON, a table on a terminal, plain lines into a pipe."""
    if as_json:
        document(contact.as_json())
        return
    fields = {
        "primary": [str(contact.primary_id)],
        "emails": contact.emails,
        "phone numbers": contact.phone_numbers,
        "secondaries": [str(contact_id) for contact_id in contact.secondary_ids],
    }
    if sys.stdout.isatty():
        table([(name, "\n".join(values)) for name, values in fields.items()])
    else:
        for name, values in fields.items():
            line(f"{name}: {', '.join(values)}")


def table(
    rows: list[tuple[str, ...]], header: tuple[str, ...] = (), *, to_stderr: bool = False
) -> None:
    """A small table for a terminal; the cells are text, never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE, show_header=bool(header))
    for title in header:
        drawn.add_column(title)
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    Console(stderr=to_stderr, highlight=False, soft_wrap=False).print(drawn)
