"""Look up to which identities the values of many requests lead, without writing anything."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.postgres.snapshot import Snapshot

# One id for each value, in order, NULL for one that is unknown or blocked. A sub-select for each
# value is a look-up in a unique index, whatever the planner believes about the number of values.
_PRIMARIES = """
    SELECT ARRAY(SELECT (SELECT coalesce(linked_id, id) FROM contact
                         WHERE email = value AND anchors_email AND id > 0)
                 FROM unnest(%b::text[]) AS wanted (value)),
           ARRAY(SELECT (SELECT coalesce(linked_id, id) FROM contact
                         WHERE phone_number = value AND anchors_phone AND id > 0)
                 FROM unnest(%b::text[]) AS wanted (value))
"""


def find_primaries(graph: Snapshot, requests: Sequence[ContactRequest]) -> list[set[int]]:
    """Return for each request the primaries of the identities that have one of its values."""
    emails = [email for request in requests for email in request.emails]
    phones = [phone for request in requests for phone in request.phones]
    row = graph.connection.execute(_PRIMARIES, (emails, phones), binary=True).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
    by_email, by_phone = map(iter, row)
    found = [
        {*islice(by_email, len(request.emails)), *islice(by_phone, len(request.phones))}
        for request in requests
    ]
    for primaries in found:
        primaries.discard(None)
    return found
