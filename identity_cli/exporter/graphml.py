"""Export to GraphML: contacts and their links, or identities and their values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.graph.service import ConsolidatedContact

# Most values need no escaping; testing is cheaper than replacing.
_is_plain = re.compile("[\x20-%'-;=?-~]*").fullmatch
# Characters that XML cannot contain, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_CONTACT_KEYS = (
    "email",
    "phone_number",
    "link_precedence",
    "created_at",
    "updated_at",
    "deleted_at",
)
_IDENTITY_KEYS = ("kind", "value")


def write_contacts(
    stream: BinaryIO, contacts: Iterable[Sequence[Any]], links: Iterable[Sequence[Any]]
) -> None:
    """Write a node per contact and an edge from each secondary to its primary."""
    _begin(stream, "contacts", _CONTACT_KEYS)
    for contact_id, email, phone_number, _, precedence, *moments in contacts:
        times = (moment and moment.isoformat() for moment in moments)
        data = zip(_CONTACT_KEYS, (email, phone_number, precedence, *times), strict=True)
        stream.write(_node(contact_id, dict(data)))
    for contact_id, linked_id in links:
        stream.write(_edge(contact_id, linked_id))
    _end(stream)


def write_identities(stream: BinaryIO, identities: Iterable[ConsolidatedContact]) -> None:
    """Write a node per identity and per value, and an edge from the identity to each value."""
    _begin(stream, "identities", _IDENTITY_KEYS)
    for identity in identities:
        stream.write(_node(identity.primary_id, {"kind": "identity"}))
        for kind, values in (("email", identity.emails), ("phone", identity.phone_numbers)):
            for number, value in enumerate(values, 1):
                name = f"{identity.primary_id}.{kind}.{number}"
                stream.write(_node(name, {"kind": kind, "value": value}))
                stream.write(_edge(identity.primary_id, name))
    _end(stream)


def _begin(stream: BinaryIO, name: str, keys: Sequence[str]) -> None:
    stream.write(b'<?xml version="1.0" encoding="UTF-8"?>\n')
    stream.write(b'<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for key in keys:
        text = f'<key id="{key}" for="node" attr.name="{key}" attr.type="string"/>\n'
        stream.write(text.encode())
    stream.write(f'<graph id="{name}" edgedefault="directed">\n'.encode())


def _node(name: object, data: dict[str, str | None]) -> bytes:
    cells = "".join(
        f'<data key="{key}">{_text(value)}</data>' for key, value in data.items() if value
    )
    return f'<node id="{name}">{cells}</node>\n'.encode()


def _edge(source: object, target: object) -> bytes:
    return f'<edge source="{source}" target="{target}"/>\n'.encode()


def _text(value: str) -> str:
    if _is_plain(value):
        return value
    return escape(_NOT_XML.sub("\ufffd", value), {"\r": "&#13;"})


def _end(stream: BinaryIO) -> None:
    stream.write(b"</graph>\n</graphml>\n")
