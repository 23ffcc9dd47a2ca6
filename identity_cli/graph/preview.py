"""What an import would change, read from the transaction of a dry run before it is rolled back."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from heapq import heappush, heappushpop
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.graph.core import MEMBERS
from identity_cli.graph.masking import masked
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import psycopg

# The run of a dry run's rows: newer than any other, so that nothing is taken for an older run's.
DRY_RUN_ID = 2**63 - 1

_LISTED = 10
_SHOWN_MEMBERS = 3
_ROWS_PER_FETCH = 10_000

# The session of an import avoids sequential scans, which are right for whole tables.
_PLAN_FOR_WHOLE_TABLES = "SET LOCAL enable_seqscan = on"

# Merges, and the contacts that were stored into one of their identities, in the order of the rows.
# The contacts of a row come after its merges: the sizes are those before the row.
_EVENTS = """
    WITH merge AS MATERIALIZED (
        SELECT line, primary_id, merged_id FROM link_evidence
        WHERE id > %(evidence_id)s AND run_id = %(run)s AND merged_id IS NOT NULL AND NOT is_held
    ),
    root AS (SELECT primary_id AS id FROM merge UNION SELECT merged_id FROM merge)
    SELECT line, primary_id, merged_id FROM merge
    UNION ALL
    SELECT line, coalesce(initial_linked_id, id), NULL FROM contact
    WHERE id > %(contact_id)s AND run_id = %(run)s
        AND coalesce(initial_linked_id, id) IN (SELECT id FROM root)
    ORDER BY line, merged_id NULLS LAST
"""
# After the rollback: identities as they are without the import.
_SIZES = """
    SELECT id, 1 + (SELECT count(*) FROM contact AS member WHERE member.linked_id = contact.id)
    FROM contact WHERE id = ANY(%s) AND linked_id IS NULL AND id > 0
"""
_LARGEST = """
    WITH grown AS (
        SELECT coalesce(linked_id, id) AS root FROM contact
        WHERE id > %(contact_id)s AND run_id = %(run)s
        UNION
        SELECT coalesce(c.linked_id, c.id)
        FROM link_evidence e JOIN contact c ON c.id = e.merged_id
        WHERE e.id > %(evidence_id)s AND e.run_id = %(run)s AND NOT e.is_held
    )
    SELECT linked_id, 1 + count(*) FROM contact
    WHERE linked_id IN (SELECT root FROM grown)
    GROUP BY linked_id ORDER BY 2 DESC, 1 LIMIT 1
"""
# Each pair is stored once, so every row with two values is a partner gained by both. Hubs have an
# exact count of their partners.
_GAINS = """
    WITH pair AS (
        SELECT email AS value, phone_number AS partner FROM contact
        WHERE id > %(contact_id)s AND run_id = %(run)s
            AND email IS NOT NULL AND phone_number IS NOT NULL
        UNION ALL
        SELECT email, phone_number FROM set_aside_contact
        WHERE id > %(contact_id)s AND run_id = %(run)s
            AND email IS NOT NULL AND phone_number IS NOT NULL
        UNION ALL
        SELECT value, other_value FROM link_evidence
        WHERE id > %(evidence_id)s AND run_id = %(run)s
    ),
    gain AS MATERIALIZED (
        SELECT value, count(*) AS gained
        FROM (SELECT value FROM pair UNION ALL SELECT partner FROM pair) AS side
        GROUP BY value
    ),
    hub AS (
        SELECT value, gained, partners
        FROM blocked_value JOIN gain USING (value) JOIN partner_count USING (value) WHERE is_hub
    )
    SELECT * FROM hub
    UNION ALL (
        SELECT value, gained, NULL FROM gain
        WHERE gained > 1 AND NOT EXISTS (SELECT FROM hub WHERE hub.value = gain.value)
        ORDER BY gained DESC, value LIMIT %(listed)s
    )
"""
# What shows a pair that links is in the identity of its values, and evidence is found by the first
# of them.
_PARTNERS = """
    WITH member AS MATERIALIZED (
        SELECT email, phone_number
        FROM (
            SELECT coalesce(linked_id, id) AS id FROM contact
            WHERE email = ANY(%(values)s) AND anchors_email
            UNION
            SELECT coalesce(linked_id, id) FROM contact
            WHERE phone_number = ANY(%(values)s) AND anchors_phone
        ) AS root
        JOIN contact ON contact.id = root.id OR contact.linked_id = root.id
        WHERE root.id > 0
    ),
    pair AS (
        SELECT email AS value, phone_number AS partner FROM member
        WHERE email IS NOT NULL AND phone_number IS NOT NULL
        UNION ALL
        SELECT email, phone_number FROM set_aside_contact
        WHERE (email = ANY(%(values)s) OR phone_number = ANY(%(values)s))
            AND email IS NOT NULL AND phone_number IS NOT NULL
        UNION ALL
        SELECT e.value, e.other_value
        FROM (SELECT email AS value FROM member UNION SELECT phone_number FROM member) AS own
        JOIN link_evidence e USING (value)
        WHERE NOT e.is_held
        UNION ALL
        SELECT value, other_value FROM link_evidence
        WHERE (value = ANY(%(values)s) OR other_value = ANY(%(values)s)) AND is_held
    )
    SELECT value, count(*)
    FROM (SELECT value FROM pair UNION ALL SELECT partner FROM pair) AS side
    WHERE value = ANY(%(values)s) GROUP BY value
"""
_LIMITS = "SELECT email_limit, phone_limit FROM link_policy"
_BLOCKED = "SELECT value FROM blocked_value WHERE value = ANY(%s)"


class Bridge(NamedTuple):
    """A row that would join identities, and how many contacts these have before it."""

    path: str
    line: int
    sizes: tuple[int, ...]


class MergeSizes(NamedTuple):
    """Rows that would make an identity of `least` to `most` contacts."""

    least: int
    most: int
    rows: int


class LargestIdentity(NamedTuple):
    """The largest identity that would grow; `primary_id` is null if its primary would be new.

    `contacts_before` is the size of the largest part that it would be made of.
    """

    primary_id: int | None
    contacts: int
    contacts_before: int
    members: tuple[str, ...]


class GrowingValue(NamedTuple):
    """A value that would occur with more others; as a hub it would stop linking."""

    value: str
    partners: int
    partners_before: int
    stops_linking: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What an import would do.

    `bridges` are the rows that join the most, `values` those that would stop linking, then those
    that gain the most others; of each kind, the first ten.
    """

    merging_rows: int
    merge_sizes: tuple[MergeSizes, ...]
    bridges: tuple[Bridge, ...]
    largest_identity: LargestIdentity | None
    hub_limit_email: int | None
    hub_limit_phone: int | None
    new_hubs: int
    values: tuple[GrowingValue, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the document of the summary's `preview`."""
        largest = self.largest_identity
        return {
            "merges": {
                "rows": self.merging_rows,
                "sizes": [size._asdict() for size in self.merge_sizes],
            },
            "bridges": [
                {"input": path, "line": line, "sizes": list(sizes)}
                for path, line, sizes in self.bridges
            ],
            "largest_identity": None
            if largest is None
            else largest._asdict() | {"members": list(largest.members)},
            "hubs": {
                "limit_email": self.hub_limit_email,
                "limit_phone": self.hub_limit_phone,
                "count": self.new_hubs,
            },
            "values": [value._asdict() for value in self.values],
        }


def take_preview(
    connection: psycopg.Connection[Any],
    marks: tuple[int, int],
    place: Callable[[int], tuple[str, int]],
    check: Callable[[], None],
    *,
    with_values: bool = False,
) -> Preview:
    """Return what the open transaction of a dry run would change, and roll it back.

    `marks` are the last ids of contacts and of evidence before it, `place` returns the file and
    the line of a line of the run, and `check` raises if the run has to stop. Values are masked
    without `with_values`.

    Takes about 500 bytes for each merge, and 24 for each contact that a merged identity gained.
    """
    contact_id, evidence_id = marks
    changes = {"run": DRY_RUN_ID, "contact_id": contact_id, "evidence_id": evidence_id}
    with translated():
        connection.execute(_PLAN_FOR_WHOLE_TABLES)
        events = _Events(connection, changes, check)
        check()
        largest = connection.execute(_LARGEST, changes).fetchone()
        members = () if largest is None else _members(connection, largest[0])
        check()
        gains = connection.execute(_GAINS, changes | {"listed": _LISTED}).fetchall()
        check()
        most_gained = [value for value, _, partners in gains if partners is None]
        partners_of = dict(connection.execute(_PARTNERS, {"values": most_gained}).fetchall())
        limits = connection.execute(_LIMITS).fetchone()
        connection.execute("ROLLBACK")
        hubs = {value for value, _, partners in gains if partners is not None}
        hubs -= {value for (value,) in connection.execute(_BLOCKED, (list(hubs),))}
        roots = events.roots if largest is None else events.roots | {largest[0]}
        old_roots = [root for root in roots if root <= contact_id]
        joins = _Joins(dict(connection.execute(_SIZES, (old_roots,)).fetchall()))
    joins.replay(events)
    growing = [
        GrowingValue(value, partners, partners - gained, stops_linking=value in hubs)
        for value, gained, counted in gains
        # A command may have changed what other writers had stored: then these are the least.
        for partners in [partners_of.get(value, gained) if counted is None else counted]
        if counted is None or value in hubs
    ]
    growing.sort(
        key=lambda one: (not one.stops_linking, one.partners_before - one.partners, one.value)
    )
    assert limits is not None  # noqa: S101 - the table has one row

    def shown(value: str) -> str:
        return value if with_values else masked(value)

    return Preview(
        merging_rows=sum(joins.rows_by_bits.values()),
        merge_sizes=tuple(
            MergeSizes(2 ** (bits - 1), 2**bits - 1, rows)
            for bits, rows in sorted(joins.rows_by_bits.items())
        ),
        bridges=tuple(Bridge(*place(run_line), sizes) for run_line, sizes in joins.strongest()),
        largest_identity=None
        if largest is None
        else LargestIdentity(
            primary_id=largest[0] if largest[0] <= contact_id else None,
            contacts=largest[1],
            contacts_before=joins.largest_part(largest[0]),
            members=tuple(map(shown, members)),
        ),
        hub_limit_email=limits[0],
        hub_limit_phone=limits[1],
        new_hubs=len(hubs),
        values=tuple(one._replace(value=shown(one.value)) for one in growing[:_LISTED]),
    )


def _members(connection: psycopg.Connection[Any], primary_id: int) -> tuple[str, ...]:
    rows = connection.execute(MEMBERS, (primary_id, _SHOWN_MEMBERS)).fetchall()
    return tuple(dict.fromkeys(value for row in rows for value in row[1:3] if value is not None))


class _Events:
    """Merges and stored contacts in the order of their rows, a few bytes for each."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        changes: Mapping[str, int],
        check: Callable[[], None],
    ) -> None:
        self.roots: set[int] = set()
        self._run_lines = array("q")
        self._primaries = array("q")
        self._merged = array("q")  # 0 for a stored contact: no contact has this id
        with connection.cursor(name="events") as cursor:
            cursor.itersize = _ROWS_PER_FETCH
            cursor.execute(_EVENTS, changes)
            for number, (run_line, primary_id, merged_id) in enumerate(cursor):
                if number % _ROWS_PER_FETCH == 0:
                    check()
                self._run_lines.append(run_line)
                self._primaries.append(primary_id)
                self._merged.append(merged_id or 0)
                if merged_id is not None:
                    self.roots |= {primary_id, merged_id}

    def by_row(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Yield the line of each row with its events: a primary, and what it merges or 0."""
        events = zip(self._run_lines, self._primaries, self._merged, strict=True)
        for run_line, of_row in groupby(events, itemgetter(0)):
            yield run_line, [event[1:] for event in of_row]


class _Joins:
    """Identities that are joined row by row, beginning with their sizes before the import."""

    def __init__(self, sizes: dict[int, int]) -> None:
        # By the number of bits of the size that a row has made.
        self.rows_by_bits: Counter[int] = Counter()
        self._sizes = sizes
        self._sizes_before = dict(sizes)
        self._joined: dict[int, int] = {}
        self._strongest: list[tuple[int, int, int, tuple[int, ...]]] = []

    def replay(self, events: _Events) -> None:
        """Join what the rows have joined."""
        for run_line, of_row in events.by_row():
            parts: dict[int, int] = {}
            for primary_id, merged_id in of_row:
                if not merged_id:
                    root = self._root(primary_id)
                    self._sizes[root] = self._sizes.get(root, 0) + 1
                    continue
                for root in (self._root(primary_id), self._root(merged_id)):
                    # What the row itself has stored or joined is no part of its own.
                    parts.setdefault(root, self._sizes.get(root, 0))
                self._join(primary_id, merged_id)
            if parts:
                self._note(run_line, of_row[0][0], parts)

    def _note(self, run_line: int, primary_id: int, parts: dict[int, int]) -> None:
        sizes = tuple(sorted(filter(None, parts.values()), reverse=True))
        if len(sizes) < 2:
            return
        self.rows_by_bits[self._sizes[self._root(primary_id)].bit_length()] += 1
        entry = (sum(sizes[1:]), sizes[0], -run_line, sizes)
        if len(self._strongest) < _LISTED:
            heappush(self._strongest, entry)
        else:
            heappushpop(self._strongest, entry)

    def strongest(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return line and sizes of the rows that join the most contacts to a larger identity."""
        found = sorted(self._strongest, reverse=True)
        return [(-negative_line, sizes) for _, _, negative_line, sizes in found]

    def largest_part(self, primary_id: int) -> int:
        """Return the size of the largest identity before the import that is in this one."""
        root = self._root(primary_id)
        return max(
            (size for part, size in self._sizes_before.items() if self._root(part) == root),
            default=0,
        )

    def _join(self, primary_id: int, merged_id: int) -> None:
        root, merged = self._root(primary_id), self._root(merged_id)
        if root != merged:
            self._joined[merged] = root
            self._sizes[root] = self._sizes.get(root, 0) + self._sizes.pop(merged, 0)

    def _root(self, contact_id: int) -> int:
        joined = self._joined
        root = contact_id
        while root in joined:
            root = joined[root]
        while contact_id != root:
            joined[contact_id], contact_id = root, joined[contact_id]
        return root
