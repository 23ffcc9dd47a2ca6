"""Look up to which identities the values of many requests lead, without writing anything."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from identity_cli.graph.effects import find_blocked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.postgres.snapshot import Snapshot

# One id for each value, in order, NULL for an unknown one. A sub-select for each value is a look-up
# in a unique index, whatever the planner believes about the number of values. The last column is
# whether a value without a contact may be blocked all the same: by a pattern.
_PRIMARIES = """
    SELECT ARRAY(SELECT (SELECT coalesce(linked_id, id) FROM contact
                         WHERE email = value AND anchors_email)
                 FROM unnest(%b::text[]) AS wanted (value)),
           ARRAY(SELECT (SELECT coalesce(linked_id, id) FROM contact
                         WHERE phone_number = value AND anchors_phone)
                 FROM unnest(%b::text[]) AS wanted (value)),
           EXISTS (SELECT FROM block_pattern)
"""


def find_primaries(graph: Snapshot, requests: Sequence[ContactRequest]) -> list[set[int] | None]:
    """Return for each request the primaries of the identities that have one of its values.

    None if all of its values are blocked.
    """
    emails = [email for request in requests for email in request.emails]
    phones = [phone for request in requests for phone in request.phones]
    row = graph.connection.execute(_PRIMARIES, (emails, phones), binary=True).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
    email_ids, phone_ids, has_patterns = row
    by_email, by_phone = iter(email_ids), iter(phone_ids)
    found: list[set[int] | None] = []
    for request in requests:
        primaries = {
            *islice(by_email, len(request.emails)),
            *islice(by_phone, len(request.phones)),
        }
        primaries.discard(None)
        found.append(primaries)
    # A placeholder, of which the id is negative, holds the place of a value that links nobody.
    if has_patterns or min(filter(None, chain(email_ids, phone_ids)), default=0) < 0:
        suspects = [
            value
            for value, id_ in zip(chain(emails, phones), chain(email_ids, phone_ids), strict=True)
            if id_ is None or id_ < 0
        ]
        blocked = find_blocked(graph.connection, suspects)
        for i, request in enumerate(requests):
            found[i] = _without_blocked(request, found[i] or set(), blocked)
    return found


def _without_blocked(
    request: ContactRequest, primaries: set[int], blocked: set[str]
) -> set[int] | None:
    linking = {primary for primary in primaries if primary > 0}
    if not linking and blocked.issuperset((*request.emails, *request.phones)):
        return None
    return linking
