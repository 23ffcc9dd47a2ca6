"""Who did what when: runs, merges and commands, by their ids alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from identity_cli.errors import ContactNotFoundError, InvalidRequestError
from identity_cli.graph.references import read_reference
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg

EventName = Literal["run", "merge", "command", "stored", "moved"]

# Each query returns the parts of an event in their order, at the end the status of a run or the id
# of a command. The newest of each kind are enough for the newest of all.
_RUNS = """
    SELECT started_at, 'run', NULL, id, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
           NULL::bigint, NULL, NULL, NULL, status
    FROM import_run ORDER BY id DESC LIMIT %(limit)s
"""
_MERGES = """
    SELECT created_at, 'merge', NULL, run_id, line, merged_id, merged_id, primary_id,
           NULL::bigint, NULL, NULL, NULL, NULL
    FROM link_evidence WHERE merged_id IS NOT NULL ORDER BY id DESC LIMIT %(limit)s
"""
# A merge whose evidence was taken back is kept as a move without a command.
_FORMER_MERGES = """
    SELECT moved_at, 'merge', NULL, NULL::bigint, NULL::bigint, contact_id, from_primary_id,
           to_primary_id, NULL::bigint, NULL, NULL, NULL, NULL
    FROM contact_move WHERE command_id IS NULL ORDER BY id DESC LIMIT %(limit)s
"""
_COMMANDS = """
    SELECT ran_at, 'command', verb, run_id, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
           (SELECT count(DISTINCT contact_id) FROM contact_move WHERE command_id = s.id),
           role_name, detail, reason, id::text
    FROM steering_command AS s ORDER BY s.id DESC LIMIT %(limit)s
"""
_STORED = """
    SELECT created_at, 'stored', NULL, run_id, line, id, NULL::bigint, initial_linked_id,
           NULL::bigint, NULL, NULL, NULL, NULL
    FROM (SELECT id, created_at, run_id, line, initial_linked_id FROM contact
          WHERE id = ANY (%(ids)s)
          UNION
          SELECT id, created_at, run_id, line, initial_linked_id FROM set_aside_contact
          WHERE id = ANY (%(ids)s)) AS contacts
    ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
_MERGES_OF = """
    SELECT created_at, 'merge', NULL, run_id, line, merged_id, merged_id, primary_id,
           NULL::bigint, NULL, NULL, NULL, NULL
    FROM link_evidence WHERE merged_id = ANY (%(members)s) ORDER BY id DESC LIMIT %(limit)s
"""
_MOVES_OF = """
    SELECT m.moved_at, CASE WHEN m.command_id IS NULL THEN 'merge' ELSE 'moved' END, s.verb,
           s.run_id, NULL::bigint, m.contact_id, m.from_primary_id, m.to_primary_id, NULL::bigint,
           s.role_name, s.detail, s.reason, m.command_id::text
    FROM contact_move AS m LEFT JOIN steering_command AS s ON s.id = m.command_id
    WHERE m.contact_id = ANY (%(ids)s) ORDER BY m.id DESC LIMIT %(limit)s
"""
# Rules that name the value, which may have moved no contact.
_COMMANDS_OF = """
    SELECT ran_at, 'command', verb, run_id, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
           (SELECT count(DISTINCT contact_id) FROM contact_move WHERE command_id = s.id),
           role_name, detail, reason, id::text
    FROM steering_command AS s
    WHERE id IN (
        SELECT command_id FROM blocked_value WHERE value = %(value)s
        UNION ALL
        SELECT p.command_id FROM blocked_value AS b JOIN block_pattern AS p ON p.id = b.pattern_id
        WHERE b.value = %(value)s
        UNION ALL
        SELECT command_id FROM unlinked_pair WHERE value = %(value)s
        UNION ALL
        SELECT command_id FROM unlinked_pair WHERE other_value = %(value)s
        UNION ALL
        SELECT command_id FROM hub_exemption WHERE value = %(value)s
    )
    ORDER BY s.id DESC LIMIT %(limit)s
"""
# The contacts whose own history is shown: all with this id or value that were ever stored.
_IDS_BY_ID = """
    SELECT id FROM contact WHERE id = %(id)s AND id > 0
    UNION
    SELECT id FROM set_aside_contact WHERE id = %(id)s
    UNION
    SELECT contact_id FROM contact_move WHERE contact_id = %(id)s
"""
_IDS_BY_VALUE = """
    SELECT id FROM contact WHERE email = %(value)s AND anchors_email AND id > 0
    UNION
    SELECT id FROM contact WHERE phone_number = %(value)s AND anchors_phone AND id > 0
    UNION
    SELECT id FROM set_aside_contact WHERE email = %(value)s
    UNION
    SELECT id FROM set_aside_contact WHERE phone_number = %(value)s
"""
_VALUES_OF = """
    SELECT value FROM contact,
        LATERAL (VALUES (email, anchors_email), (phone_number, anchors_phone)) AS shown (value, own)
    WHERE id = %(id)s AND id > 0 AND own AND value IS NOT NULL
    UNION
    SELECT value FROM set_aside_contact, LATERAL (VALUES (email), (phone_number)) AS kept (value)
    WHERE id = %(id)s AND value IS NOT NULL
"""
# All contacts of their identities.
_MEMBERS = """
    WITH root AS (
        SELECT DISTINCT coalesce(linked_id, id) AS id FROM contact WHERE id = ANY (%(ids)s)
    )
    SELECT id FROM root
    UNION
    SELECT contact.id FROM root JOIN contact ON linked_id = root.id
    UNION
    SELECT unnest(%(ids)s)
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; parts that its kind does not have are None.

    A `merge` and a `moved` contact lead from one primary to another; None is no identity. A
    `stored` contact leads to the primary that it was linked to, None if it was one itself.
    """

    at: datetime
    event: EventName
    command: str | None = None
    run_id: int | None = None
    line: int | None = None
    contact_id: int | None = None
    from_primary_id: int | None = None
    to_primary_id: int | None = None
    contacts: int | None = None
    role: str | None = None
    detail: str | None = None
    reason: str | None = None
    status: str | None = None
    command_id: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the document of the event, with the parts that its kind has."""
        document: dict[str, Any] = {"at": self.at.isoformat(), "event": self.event}
        for name in _PARTS[self.event]:
            document[_JSON_NAMES.get(name, name)] = getattr(self, name)
        return document


_MADE_BY = ("command_id", "command", "role", "detail", "reason", "run_id")
_PARTS: dict[EventName, tuple[str, ...]] = {
    "run": ("run_id", "status"),
    "merge": ("from_primary_id", "to_primary_id", "run_id", "line"),
    "command": (*_MADE_BY, "contacts"),
    "stored": ("contact_id", "to_primary_id", "run_id", "line"),
    "moved": ("contact_id", "from_primary_id", "to_primary_id", *_MADE_BY),
}
_JSON_NAMES = {
    "contact_id": "contactId",
    "from_primary_id": "fromPrimaryContactId",
    "to_primary_id": "toPrimaryContactId",
}


def read_history(connection: psycopg.Connection[Any], *, limit: int) -> list[Event]:
    """Return the newest runs, merges and commands, newest first."""
    return _events(connection, (_RUNS, _MERGES, _FORMER_MERGES, _COMMANDS), {"limit": limit})


def read_history_of(
    connection: psycopg.Connection[Any], subject: str, *, region: str | None, limit: int
) -> list[Event]:
    """Return the newest events of a contact, by its id or by a value, and its identity's merges.

    A number is an id first, and a phone number if there is no such contact. Raises
    `ContactNotFoundError`, `InvalidRequestError`.
    """
    try:
        references = read_reference(subject, region)
    except InvalidRequestError as error:
        error.hint = "name the id of a contact, an email or a phone number"
        raise
    value = None
    ids: list[int] = []
    for reference in references:
        is_id = reference.kind == "id"
        value = None if is_id else reference.value
        query = _IDS_BY_ID if is_id else _IDS_BY_VALUE
        ids = _ids(connection, query, {"id" if is_id else "value": reference.value})
        if ids:
            break
    members = _ids(connection, _MEMBERS, {"ids": ids})
    named = {"ids": ids, "members": members, "value": value, "limit": limit}
    found = _events(connection, (_STORED, _MERGES_OF, _MOVES_OF, _COMMANDS_OF), named)
    if not found:
        raise ContactNotFoundError(hint="run identity history to list all events")
    return found


def read_history_of_contact(
    connection: psycopg.Connection[Any], contact_id: int, *, limit: int
) -> list[Event]:
    """Return the newest events of a contact and its values, and its identity's merges.

    Raises `ContactNotFoundError`.
    """
    ids = _ids(connection, _IDS_BY_ID, {"id": contact_id})
    if not ids:
        raise ContactNotFoundError
    members = _ids(connection, _MEMBERS, {"ids": ids})
    named: dict[str, Any] = {"ids": ids, "members": members, "limit": limit}
    found = _events(connection, (_STORED, _MERGES_OF, _MOVES_OF), named)
    with translated():
        values = [row[0] for row in connection.execute(_VALUES_OF, {"id": contact_id})]
    for value in values:
        found += _events(connection, (_COMMANDS_OF,), {"value": value, "limit": limit})
    # A command may name both values.
    return _newest(list(dict.fromkeys(found)), limit)


def _ids(connection: psycopg.Connection[Any], query: Any, named: dict[str, Any]) -> list[int]:
    with translated():
        return [row[0] for row in connection.execute(query, named)]


def _events(
    connection: psycopg.Connection[Any], queries: Sequence[Any], named: dict[str, Any]
) -> list[Event]:
    with translated():
        rows = [row for query in queries for row in connection.execute(query, named)]
    return _newest([_event(row) for row in rows], named["limit"])


def _newest(events: list[Event], limit: int) -> list[Event]:
    return sorted(events, key=lambda one: one.at, reverse=True)[:limit]


def _event(row: Sequence[Any]) -> Event:
    event = Event(*row[:-1])
    if event.event == "run":
        return replace(event, status=row[-1])
    return replace(event, command_id=None if row[-1] is None else int(row[-1]))
