"""Print a consolidated contact of any size while it is read."""

from __future__ import annotations

import json
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from identity_cli.output.streams import AMBIGUOUS, remark
from identity_cli.output.tables import fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.graph.service import ContactStream

_ITEMS_PER_WRITE = 1_000

_T = TypeVar("_T")


def print_contact(contact: ContactStream, *, as_json: bool) -> None:
    """Print JSON, a table on a terminal, or plain lines into a pipe."""
    if as_json:
        _print_json(contact)
    elif sys.stdout.isatty():
        fields(
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
    if contact.is_ambiguous:
        remark(AMBIGUOUS)


def _print_json(contact: ContactStream) -> None:
    # Piece by piece what json.dumps writes for the whole document.
    sys.stdout.write(f'{{"contact": {{"primaryContatctId": {contact.primary_id}, "emails": [')
    _write_joined(contact.emails, _json_items)
    sys.stdout.write('], "phoneNumbers": [')
    _write_joined(contact.phone_numbers, _json_items)
    sys.stdout.write('], "secondaryContactIds": [')
    _write_joined(contact.secondary_ids, _json_items)
    sys.stdout.write("]}}\n")


def _print_lines(contact: ContactStream) -> None:
    sys.stdout.write(f"primary: {contact.primary_id}\nemails: ")
    _write_joined(contact.emails, ", ".join)
    sys.stdout.write("\nphone numbers: ")
    _write_joined(contact.phone_numbers, ", ".join)
    sys.stdout.write("\nsecondaries: ")
    _write_joined(map(str, contact.secondary_ids), ", ".join)
    sys.stdout.write("\n")


def _json_items(items: list[Any]) -> str:
    return json.dumps(items, ensure_ascii=False)[1:-1]


def _write_joined(items: Iterator[_T], join: Callable[[list[_T]], str]) -> None:
    separator = ""
    while part := list(islice(items, _ITEMS_PER_WRITE)):
        sys.stdout.write(separator + join(part))
        separator = ", "
