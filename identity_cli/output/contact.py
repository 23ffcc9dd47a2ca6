"""Print a consolidated contact of any size while it is read."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from identity_cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.graph.service import ContactStream

_ITEMS_PER_WRITE = 1_000


def print_contact(contact: ContactStream, *, as_json: bool) -> None:
    """Print JSON, a table on a terminal, or plain lines into a pipe."""
    if as_json:
        _print_json(contact)
    elif sys.stdout.isatty():
        output.fields(
            {
                "primary": str(contact.primary_id),
                "emails": "\n".join(contact.emails),
                "phone numbers": "\n".join(contact.phone_numbers),
                "secondaries": "\n".join(map(str, contact.secondary_ids)),
            }
        )
    else:
        _print_lines(contact)
    sys.stdout.flush()


def _print_json(contact: ContactStream) -> None:
    # Piece by piece what json.dumps writes for the whole document.
    sys.stdout.write(f'{{"contact": {{"primaryContatctId": {contact.primary_id}, "emails": [')
    _write_joined(map(_json, contact.emails))
    sys.stdout.write('], "phoneNumbers": [')
    _write_joined(map(_json, contact.phone_numbers))
    sys.stdout.write('], "secondaryContactIds": [')
    _write_joined(map(_json, contact.secondary_ids))
    sys.stdout.write("]}}\n")


def _print_lines(contact: ContactStream) -> None:
    sys.stdout.write(f"primary: {contact.primary_id}\nemails: ")
    _write_joined(contact.emails)
    sys.stdout.write("\nphone numbers: ")
    _write_joined(contact.phone_numbers)
    sys.stdout.write("\nsecondaries: ")
    _write_joined(map(str, contact.secondary_ids))
    sys.stdout.write("\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_joined(items: Iterator[str]) -> None:
    separator = ""
    pending: list[str] = []
    for item in items:
        pending.append(item)
        if len(pending) == _ITEMS_PER_WRITE:
            sys.stdout.write(separator + ", ".join(pending))
            separator = ", "
            pending.clear()
    if pending:
        sys.stdout.write(separator + ", ".join(pending))
