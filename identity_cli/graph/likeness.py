"""Find identities by a pattern that one of their values is like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.errors import ContactNotFoundError, UsageError

if TYPE_CHECKING:
    from identity_cli.postgres.snapshot import Snapshot

IDENTITIES_LISTED = 10
_VALUES_LISTED = 5

# A pattern that begins with text is looked up in the index, whose order is that of bytes. Contacts
# with a negative id hold a place for a value; they are not part of any identity.
_LIKE = """
    WITH matching AS (
        SELECT coalesce(linked_id, id) AS root FROM contact
        WHERE email LIKE %(pattern)s AND anchors_email AND id > 0
        UNION
        SELECT coalesce(linked_id, id) FROM contact
        WHERE phone_number LIKE %(pattern)s AND anchors_phone AND id > 0
        ORDER BY root LIMIT %(identities)s
    )
    SELECT root, count(*),
           array_agg(email ORDER BY created_at, id)
               FILTER (WHERE email LIKE %(pattern)s AND anchors_email),
           array_agg(phone_number ORDER BY created_at, id)
               FILTER (WHERE phone_number LIKE %(pattern)s AND anchors_phone)
    FROM matching JOIN contact ON (id = root OR linked_id = root) AND id > 0
    GROUP BY root ORDER BY root
"""


class Match(NamedTuple):
    """An identity, and the first values like the pattern of `total` ones."""

    primary_id: int
    contacts: int
    values: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Matches:
    """The first identities with a value that is like the pattern; `is_cut` if there are more."""

    identities: tuple[Match, ...]
    is_cut: bool


def find_like(graph: Snapshot, pattern: str) -> Matches:
    """Return some identities that have a value that is like an SQL pattern, in any case.

    `%` stands for any text, `_` for one character, and a backslash takes the next one literally.
    Raises `ContactNotFoundError`, and `UsageError` if the pattern ends with a backslash.
    """
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        raise UsageError(
            "the pattern ends with a backslash",
            hint="write \\\\ for a backslash, \\% for a % and \\_ for a _",
        )
    parameters = {"pattern": pattern.lower(), "identities": IDENTITIES_LISTED + 1}
    found = [
        Match(root, contacts, tuple(values[:_VALUES_LISTED]), len(values))
        for root, contacts, emails, phones in graph.rows(_LIKE, parameters)
        for values in [[*(emails or ()), *(phones or ())]]
    ]
    if not found:
        raise ContactNotFoundError(
            "no email and no phone number is like the pattern",
            hint="% stands for any text: 'tina%' finds every email that begins with tina",
        )
    return Matches(tuple(found[:IDENTITIES_LISTED]), len(found) > IDENTITIES_LISTED)
