"""What a run has stored beyond its checkpoint: the answers that an interruption took away.

The requests are sent again, which changes nothing, and most of them are then `unchanged`. What each
was answered at first follows from what it stored, and from what the rules have moved since.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.graph.core import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psycopg

    from identity_cli.graph.core import OutcomeName
    from identity_cli.graph.normalize import ContactRequest

# A rule may have set a contact aside since, whole or one of its values: then the contact as it was
# stored is there. The first move tells where it was: nowhere if no request was answered with it,
# and the transaction whether this request made a hub of one of its values.
_CONTACTS = """
    SELECT line, stored.id, coalesce(initial_linked_id, stored.id), email, phone_number, is_aside,
           CASE WHEN move.id IS NULL
                THEN NOT is_aside OR EXISTS (SELECT FROM contact WHERE contact.id = stored.id)
                ELSE move.from_primary_id IS NOT NULL END,
           move.id IS NOT NULL, move.to_primary_id,
           transaction_id IN (SELECT transaction_id FROM hub)
    FROM (
        SELECT id, line, initial_linked_id, email, phone_number, false AS is_aside,
               xmin::text AS transaction_id
        FROM contact
        WHERE run_id = %(run)s AND id > %(contact_mark)s
            AND NOT EXISTS (SELECT FROM set_aside_contact AS s WHERE s.id = contact.id)
        UNION ALL
        SELECT id, line, initial_linked_id, email, phone_number, true, xmin::text
        FROM set_aside_contact WHERE run_id = %(run)s AND id > %(contact_mark)s
    ) AS stored
    LEFT JOIN LATERAL (
        SELECT * FROM contact_move WHERE contact_id = stored.id ORDER BY contact_move.id LIMIT 1
    ) AS move ON true
    ORDER BY stored.id
"""
_EVIDENCE = """
    SELECT line, primary_id, merged_id IS NOT NULL, is_held, value, other_value,
           xmin::text IN (SELECT transaction_id FROM hub)
    FROM link_evidence WHERE run_id = %(run)s AND id > %(evidence_mark)s ORDER BY id
"""
_HUBS = """
    WITH hub AS (
        SELECT xmin::text AS transaction_id
        FROM steering_command WHERE verb = 'hub' AND run_id = %(run)s
    )
"""
_STOPPED = "SELECT value FROM blocked_value WHERE is_hub AND value = ANY (%s)"


class StoredContact(NamedTuple):
    """A contact that a line of a run has stored, and its primary at that time.

    `is_held` is whether it shows less than was stated because of a rule, `was_shown` whether it
    showed anything when the request was answered. `hub_primary_id` is the primary that it got when
    the same request made a hub of one of its values, `has_moved` whether any rule has moved it.
    """

    contact_id: int
    primary_id: int
    values: frozenset[str]
    is_held: bool = False
    was_shown: bool = True
    has_moved: bool = False
    hub_primary_id: int | None = None


class StoredEvidence(NamedTuple):
    """A pair of values that a line of a run has stored, and whether it merged two identities.

    `primary_id` is None if the pair has never linked.
    """

    primary_id: int | None
    is_merge: bool
    values: frozenset[str]
    is_held: bool = False


@dataclass(slots=True)
class LineRecord:
    """What one line of a run has stored, in the order in which it was stored."""

    contacts: list[StoredContact] = field(default_factory=list)
    evidence: list[StoredEvidence] = field(default_factory=list)


class Records:
    """What a run has stored beyond its checkpoint, by run line.

    `until` is the last of these lines, -1 if there is none. `hubs` are values that have stopped
    linking, each with the line of the run that made it a hub.
    """

    def __init__(
        self,
        records: Mapping[int, LineRecord] | None = None,
        hubs: Mapping[str, int] | None = None,
    ) -> None:
        self._records = records or {}
        self._hubs = hubs or {}
        self.until = max(self._records, default=-1)

    def has_hub_since(self, run_line: int, request: ContactRequest) -> bool:
        """Return whether a value of the request has become a hub after the line."""
        return any(
            self._hubs.get(value, -1) > run_line for value in (*request.emails, *request.phones)
        )

    def outcome(
        self, run_line: int, request: ContactRequest, are_unknown: Callable[[list[str]], bool]
    ) -> Outcome | None:
        """Return what the line's request was answered when it was stored; None if it was not.

        Its `primary_id` is None if it has to be looked up. `are_unknown` is asked whether the
        database knows none of some values: forgotten ones are not stored.

        The line may have been another request's at that time: only what is made of this request's
        values counts.
        """
        record = self._records.get(run_line)
        if record is None:
            return None
        values = {*request.emails, *request.phones}
        evidence = [one for one in record.evidence if one.values <= values]
        contacts = [one for one in record.contacts if one.values <= values]
        # Contacts show a pair, or one value if there is no other of another kind; less only if a
        # rule keeps the values apart.
        held_pairs = {one.values for one in contacts if one.is_held}
        held_pairs |= {one.values for one in evidence if one.is_held}
        width = bool(request.emails) + bool(request.phones)
        contacts = [
            one
            for one in contacts
            if held_pairs or len(one.values) == width or are_unknown(sorted(values - one.values))
        ]
        contacts = [one for one in contacts if one.was_shown]
        linked = [one for one in evidence if one.primary_id is not None]
        if not contacts and not linked:
            return None
        return _first_answer(_in_order(contacts, held_pairs), linked)


def _in_order(
    contacts: list[StoredContact], held_pairs: set[frozenset[str]]
) -> list[StoredContact]:
    """Return contacts in the order of the answer.

    Of two values that are kept apart, the second one is stored first.
    """
    ordered = list(contacts)
    for i in range(1, len(ordered)):
        first, second = ordered[i - 1], ordered[i]
        if len(first.values) == 1 and first.values | second.values in held_pairs:
            ordered[i - 1], ordered[i] = second, first
    return ordered


def _first_answer(contacts: list[StoredContact], linked: list[StoredEvidence]) -> Outcome:
    """Return the outcome of a request that has stored these: the strongest of its pairs."""
    merges = [one for one in linked if one.is_merge]
    name: OutcomeName = "unchanged"
    if any(one.contact_id in (one.primary_id, one.hub_primary_id) for one in contacts):
        name = "created"
    elif merges:
        name = "merged"
    elif contacts:
        name = "linked"
    # All of its values are in one identity in the end: its last merge has made that.
    primaries = [one.primary_id for one in merges[::-1]]
    for one in contacts:
        # Kept apart: the answer is the identity of the first value, which may have been known.
        is_apart = one.is_held and not one.has_moved
        primaries.append(None if is_apart else one.hub_primary_id or one.primary_id)
    primaries += [one.primary_id for one in linked]
    stored = tuple(one.contact_id for one in contacts)
    return Outcome(
        name,
        primaries[0],
        stored[0] if stored else None,
        stored if len(stored) > 1 else (),
    )


def read_records(
    connection: psycopg.Connection[Any], run_id: int, marks: tuple[int, int]
) -> Records:
    """Return what a run has stored since the ids of contacts and evidence were those of `marks`.

    Raises driver errors.
    """
    parameters = {"run": run_id, "contact_mark": marks[0], "evidence_mark": marks[1]}
    records: defaultdict[int, LineRecord] = defaultdict(LineRecord)
    hub_lines: dict[str, int] = {}
    for line, contact_id, primary_id, email, phone, *state in connection.execute(
        _HUBS + _CONTACTS, parameters
    ):
        is_held, was_shown, has_moved, moved_to, made_a_hub = state
        values = frozenset(value for value in (email, phone) if value is not None)
        if made_a_hub:
            hub_lines |= dict.fromkeys(values, line)
        records[line].contacts.append(
            StoredContact(
                contact_id,
                primary_id,
                values,
                is_held,
                # What the request's own hub has set aside is not part of the answer.
                was_shown and not (made_a_hub and moved_to is None),
                has_moved,
                moved_to if made_a_hub else None,
            )
        )
    for line, primary_id, is_merge, is_held, *pair, made_a_hub in connection.execute(
        _HUBS + _EVIDENCE, parameters
    ):
        if made_a_hub:
            hub_lines |= dict.fromkeys(pair, line)
        records[line].evidence.append(
            StoredEvidence(primary_id, is_merge, frozenset(pair), is_held)
        )
    return Records(records, _hubs(connection, hub_lines))


def _hubs(connection: psycopg.Connection[Any], lines: Mapping[str, int]) -> dict[str, int]:
    """Return those of the values that are hubs."""
    if not lines:
        return {}
    return {value: lines[value] for (value,) in connection.execute(_STOPPED, (list(lines),))}


def primary_at(
    connection: psycopg.Connection[Any], run_id: int, run_line: int, values: Sequence[str]
) -> int | None:
    """Return the primary that a request which stored nothing was first answered.

    That of the first value that links; None if none does. Raises driver errors.
    """
    row = connection.execute(_PRIMARY_AT, (run_id, run_line, list(values))).fetchone()
    return None if row is None else row[0]


_PRIMARY_AT = """
    SELECT primary_at(contact.id, %s, %s)
    FROM unnest(%s::text[]) WITH ORDINALITY AS own (value, place)
    JOIN contact ON email = own.value AND anchors_email
        OR phone_number = own.value AND anchors_phone
    WHERE contact.id > 0
    ORDER BY place LIMIT 1
"""


def are_unknown(connection: psycopg.Connection[Any], values: Sequence[str]) -> bool:
    """Return whether no contact was ever stored with one of the values. Raises driver errors."""
    row = connection.execute(
        "SELECT FROM unnest(%s::text[]) AS own (value) WHERE is_stored(own.value)"
        " OR EXISTS (SELECT FROM contact WHERE email = own.value AND anchors_email)"
        " OR EXISTS (SELECT FROM contact WHERE phone_number = own.value AND anchors_phone)"
        " LIMIT 1",
        (list(values),),
    ).fetchone()
    return row is None
