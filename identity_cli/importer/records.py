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
# stored is there. Its first move tells where it was: nowhere if no request was answered with it.
_CONTACTS = """
    SELECT line, stored.id, coalesce(initial_linked_id, stored.id), email, phone_number, is_aside,
           CASE WHEN move.id IS NULL
                THEN NOT is_aside OR EXISTS (SELECT FROM contact WHERE contact.id = stored.id)
                ELSE move.from_primary_id IS NOT NULL END,
           move.id IS NOT NULL
    FROM (
        SELECT id, line, initial_linked_id, email, phone_number, false AS is_aside FROM contact
        WHERE run_id = %(run)s AND id > %(contact_mark)s
            AND NOT EXISTS (SELECT FROM set_aside_contact AS s WHERE s.id = contact.id)
        UNION ALL
        SELECT id, line, initial_linked_id, email, phone_number, true
        FROM set_aside_contact WHERE run_id = %(run)s AND id > %(contact_mark)s
    ) AS stored
    LEFT JOIN LATERAL (
        SELECT * FROM contact_move WHERE contact_id = stored.id ORDER BY contact_move.id LIMIT 1
    ) AS move ON true
    ORDER BY stored.id
"""
_EVIDENCE = """
    SELECT line, primary_id, merged_id IS NOT NULL, is_held, value, other_value
    FROM link_evidence WHERE run_id = %(run)s AND id > %(evidence_mark)s ORDER BY id
"""
# How many partners a hub has now, how many it may have, and whether something else blocks it too.
_HUBS = """
    SELECT value, partners, CASE WHEN strpos(value, '@') > 0 THEN email_limit ELSE phone_limit END,
           num_nonnulls(command_id, pattern_id) > 0
    FROM blocked_value JOIN partner_count USING (value), link_policy
    WHERE is_hub
"""
_PRIMARY_AT = """
    SELECT primary_id
    FROM unnest(%(values)s::text[]) WITH ORDINALITY AS own (value, place),
    LATERAL (
        SELECT 0 AS rank, primary_at(contact.id, %(run)s, %(line)s) AS primary_id FROM contact
        WHERE (email = own.value AND anchors_email OR phone_number = own.value AND anchors_phone)
            AND id > 0
        UNION ALL
        -- It has become a hub since: where a contact that showed it was before.
        SELECT id, coalesce(
            (SELECT from_primary_id FROM contact_move WHERE contact_id = s.id ORDER BY id LIMIT 1),
            (SELECT coalesce(linked_id, id) FROM contact WHERE contact.id = s.id)
        )
        FROM set_aside_contact AS s WHERE email = own.value OR phone_number = own.value
    ) AS anchor
    WHERE primary_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM blocked_value AS b WHERE b.value = own.value
            AND (num_nonnulls(command_id, pattern_id) > 0 OR own.value = ANY (%(hubs)s))
    )
    ORDER BY place, rank LIMIT 1
"""


class StoredContact(NamedTuple):
    """A contact that a line of a run has stored, and its primary at that time.

    `is_held` is whether it shows less than was stated because of a rule, `was_shown` whether it
    showed anything when the request was answered, `has_moved` whether a rule has moved it since.
    `made_hub` is whether one of its values has become a hub by it: the new value links alone then.
    """

    contact_id: int
    primary_id: int
    values: frozenset[str]
    is_held: bool = False
    was_shown: bool = True
    has_moved: bool = False
    made_hub: bool = False


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

    `until` is the last of these lines, -1 if there is none. `hubs` are the values that had become
    hubs when this was read, each with the line that made it one, -1 for those of before the
    checkpoint.
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
        values = (*request.emails, *request.phones)
        return any(self._hubs.get(value, -1) > run_line for value in values)

    def hubs_at(self, run_line: int, request: ContactRequest) -> list[str]:
        """Return the values of the request that were hubs when the line's request came.

        What has become one since this was read, by a later line, was none then.
        """
        values = (*request.emails, *request.phones)
        return [value for value in values if self._hubs.get(value, run_line + 1) <= run_line]

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
        is_apart = len(first.values) == 1 and second.contact_id == second.primary_id
        if is_apart and first.values | second.values in held_pairs:
            ordered[i - 1], ordered[i] = second, first
    return ordered


def _first_answer(contacts: list[StoredContact], linked: list[StoredEvidence]) -> Outcome:
    """Return the outcome of a request that has stored these: the strongest of its pairs."""
    merges = [one for one in linked if one.is_merge]
    name: OutcomeName = "unchanged"
    if any(one.made_hub or one.contact_id == one.primary_id for one in contacts):
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
        primaries.append(None if is_apart else one.contact_id if one.made_hub else one.primary_id)
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
    for line, contact_id, primary_id, email, phone, *state in connection.execute(
        _CONTACTS, parameters
    ):
        values = frozenset(value for value in (email, phone) if value is not None)
        records[line].contacts.append(StoredContact(contact_id, primary_id, values, *state))
    for line, linked_id, is_merge, is_held, *pair in connection.execute(_EVIDENCE, parameters):
        stored = StoredEvidence(linked_id, is_merge, frozenset(pair), is_held)
        records[line].evidence.append(stored)
    hubs = _hubs(connection, records)
    made_by = {pair for _, pair, _ in hubs.values()}
    for record in records.values():
        record.contacts = [
            one._replace(made_hub=True) if one.values in made_by else one for one in record.contacts
        ]
    # What was blocked already has not linked before either.
    lines = {value: line if was_linked else -1 for value, (line, _, was_linked) in hubs.items()}
    return Records(records, lines)


def _hubs(
    connection: psycopg.Connection[Any], records: Mapping[int, LineRecord]
) -> dict[str, tuple[int, frozenset[str] | None, bool]]:
    """Return the hubs: the line and the pair that made each one, and whether it linked before.

    The line of those from before the checkpoint is -1, and they have no pair. Each pair is stored
    once, so a value had as many partners at a line as it has now without those of the pairs stored
    since.
    """
    pairs: defaultdict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for line, record in sorted(records.items()):
        stored = [one.values for one in record.contacts if len(one.values) > 1]
        stored += [one.values for one in record.evidence]
        # Emails with phone numbers come first.
        stored.sort(key=lambda pair: sum("@" in value for value in pair) != 1)
        for pair in stored:
            for value in pair:
                pairs[value].append((line, pair))
    hubs: dict[str, tuple[int, frozenset[str] | None, bool]] = {}
    for value, partners, limit, is_blocked in connection.execute(_HUBS):
        stored_since = pairs.get(value, [])
        place = limit - (partners - len(stored_since))
        made_by = stored_since[place] if 0 <= place < len(stored_since) else (-1, None)
        hubs[value] = (*made_by, not is_blocked)
    return hubs


def primary_at(
    connection: psycopg.Connection[Any],
    run_id: int,
    run_line: int,
    values: Sequence[str],
    hubs: Sequence[str],
) -> int | None:
    """Return the primary that a request which stored nothing was first answered.

    That of the first value that linked then, as those in `hubs` did not; None if none is known.
    Raises driver errors.
    """
    row = connection.execute(
        _PRIMARY_AT,
        {"values": list(values), "hubs": list(hubs), "run": run_id, "line": run_line},
    ).fetchone()
    return None if row is None else row[0]


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
