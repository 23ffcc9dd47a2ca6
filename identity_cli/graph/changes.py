"""What has changed in the graph since the run before the newest one ended."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from identity_cli.graph.run_list import Run
    from identity_cli.postgres.snapshot import Snapshot

# Smaller identities double every night without anything being wrong.
DOUBLED_AT_LEAST = 10

# By run: contacts that were primaries when they were stored, other contacts, and merges.
_ADDED = """
    WITH beginning AS (SELECT coalesce(%(since)s::timestamptz, '-infinity') AS since)
    SELECT run_id, count(*) FILTER (WHERE initial_linked_id IS NULL),
           count(*) FILTER (WHERE initial_linked_id IS NOT NULL), 0::bigint
    FROM contact, beginning WHERE id > 0 AND created_at > since GROUP BY run_id
    UNION ALL
    SELECT run_id, 0, 0, count(*)
    FROM link_evidence, beginning WHERE merged_id IS NOT NULL AND created_at > since
    GROUP BY run_id
"""

# Of what rules have done: primaries that became secondaries, and secondaries that became primaries.
_MOVED_BY_RULES = """
    SELECT count(*) FILTER (WHERE contact_id = from_primary_id),
           count(*) FILTER (WHERE contact_id = to_primary_id)
    FROM contact_move WHERE command_id IS NOT NULL AND from_primary_id <> to_primary_id
        AND moved_at > coalesce(%(since)s::timestamptz, '-infinity')
"""

# The contacts of each large identity that has changed, by the last primary that is known of them
# before, and since when: how many there are, and how many there were before. Without rules, the
# time does not matter: no primary was merged twice.
_CHANGED = """
    WITH changed AS (
        SELECT coalesce(linked_id, id) AS primary_id FROM contact
        WHERE id > 0 AND created_at > %(since)s
        UNION
        SELECT coalesce(c.linked_id, c.id)
        FROM link_evidence e JOIN contact c ON c.id = e.merged_id WHERE e.created_at > %(since)s
        UNION
        SELECT coalesce(c.linked_id, c.id)
        FROM contact_move m JOIN contact c ON c.id = m.contact_id WHERE m.moved_at > %(since)s
    ),
    large AS MATERIALIZED (
        SELECT primary_id FROM changed
        WHERE EXISTS (SELECT FROM contact WHERE linked_id = primary_id OFFSET %(at_least)s - 2)
    ),
    member AS (
        SELECT primary_id, id, initial_linked_id, created_at
        FROM large JOIN contact ON id = primary_id
        UNION ALL
        SELECT primary_id, id, initial_linked_id, created_at
        FROM large JOIN contact ON linked_id = primary_id WHERE id > 0
    ),
    moved AS (
        SELECT member.*, last_move.*, next_move.*
        FROM member
        LEFT JOIN LATERAL (
            SELECT to_primary_id AS moved_to, moved_at FROM contact_move
            WHERE contact_id = member.id AND command_id IS NOT NULL AND moved_at <= %(since)s
            ORDER BY contact_move.id DESC LIMIT 1
        ) AS last_move ON (SELECT true FROM contact_move LIMIT 1)
        LEFT JOIN LATERAL (
            SELECT from_primary_id IS NULL AS has_come FROM contact_move
            WHERE contact_id = member.id AND command_id IS NOT NULL AND moved_at > %(since)s
            ORDER BY contact_move.id LIMIT 1
        ) AS next_move ON (SELECT true FROM contact_move LIMIT 1)
    )
    SELECT primary_id, coalesce(moved_to, initial_linked_id, id),
           CASE WHEN EXISTS (SELECT FROM contact_move) THEN coalesce(moved_at, created_at) END,
           count(*), count(*) FILTER (WHERE created_at <= %(since)s AND has_come IS NOT TRUE)
    FROM moved GROUP BY 1, 2, 3
"""
# Those of evidence that was taken back are in contact_move.
_MERGES_BEFORE = """
    SELECT merged_id, primary_id, created_at, id FROM link_evidence
    WHERE merged_id = ANY(%(merged)s::bigint[]) AND created_at <= %(since)s
    UNION ALL
    SELECT contact_id, to_primary_id, moved_at, id FROM contact_move
    WHERE contact_id = ANY(%(merged)s::bigint[]) AND command_id IS NULL AND moved_at <= %(since)s
"""


@dataclass(frozen=True, slots=True)
class Added:
    """What a run has added since; `run_id` is None for requests outside of runs."""

    run_id: int | None
    new_identities: int
    linked_contacts: int
    merges: int


class MovedByRules(NamedTuple):
    """How many identities rules have merged and split, those of `identity undo` included."""

    merges: int
    splits: int


class DoubledIdentity(NamedTuple):
    """An identity with at least twice as many contacts as the largest of its parts had before."""

    primary_id: int
    contacts: int
    contacts_before: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since the run `previous_run_id` ended.

    Both are None if there is no such run: everything is new, and nothing can double. `added` is in
    the order of runs, `doubled` has the largest identities first.
    """

    previous_run_id: int | None
    since: datetime | None
    added: tuple[Added, ...]
    moved_by_rules: MovedByRules
    doubled: tuple[DoubledIdentity, ...]


def beginning_of_changes(runs: Sequence[Run]) -> datetime | None:
    """Return when the run before the newest one ended, None if there is none; newest run first.

    If it has not ended, or only after the newest one had begun, that is the beginning.
    """
    if len(runs) < 2:
        return None
    newest, previous = runs[:2]
    return min(previous.finished_at or previous.started_at, newest.started_at)


def find_changes(graph: Snapshot, runs: Sequence[Run]) -> Changes:
    """Return what has changed since the run before the newest one; the newest run comes first."""
    since = beginning_of_changes(runs)
    previous = runs[1].id if since is not None else None
    return Changes(
        previous,
        since,
        tuple(_added(graph, since)),
        _moved_by_rules(graph, since),
        () if since is None else tuple(_doubled(graph, since)),
    )


def _added(graph: Snapshot, since: datetime | None) -> list[Added]:
    numbers: defaultdict[int | None, list[int]] = defaultdict(lambda: [0, 0, 0])
    with translated():
        for run_id, *found in graph.connection.execute(_ADDED, {"since": since}):
            numbers[run_id] = [sum(pair) for pair in zip(numbers[run_id], found, strict=True)]
    # Requests outside of runs come last.
    by_run = sorted(numbers.items(), key=lambda item: (item[0] is None, item[0] or 0))
    return [Added(run_id, *found) for run_id, found in by_run]


def _moved_by_rules(graph: Snapshot, since: datetime | None) -> MovedByRules:
    with translated():
        row = graph.connection.execute(_MOVED_BY_RULES, {"since": since}).fetchone()
    assert row is not None  # noqa: S101 - an aggregate returns one row
    return MovedByRules(*row)


def _doubled(graph: Snapshot, since: datetime) -> list[DoubledIdentity]:
    parameters = {"since": since, "at_least": DOUBLED_AT_LEAST}
    with translated():
        members = graph.connection.execute(_CHANGED, parameters).fetchall()
    history = _Merges(_merges_before(graph, since, {before for _, before, *_ in members}))
    contacts: Counter[int] = Counter()
    parts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for primary_id, primary_before, known_at, count, count_before in members:
        contacts[primary_id] += count
        if count_before:
            parts[primary_id][history.follow(primary_before, known_at)] += count_before
    doubled = (
        DoubledIdentity(primary_id, contacts[primary_id], max(counts.values()))
        for primary_id, counts in parts.items()
    )
    return sorted(
        (one for one in doubled if one.contacts >= 2 * one.contacts_before),
        key=lambda one: (-one.contacts, one.primary_id),
    )


def _merges_before(
    graph: Snapshot, since: datetime, primaries: set[int]
) -> list[tuple[int, int, datetime]]:
    """Return the merges of these primaries, and of those that they were merged into."""
    merges: list[tuple[int, int, datetime, int]] = []
    asked: set[int] = set()
    # Without rules every primary of an identity is among its contacts: one query finds all.
    while wanted := primaries - asked:
        with translated():
            found = graph.connection.execute(
                _MERGES_BEFORE, {"since": since, "merged": list(wanted)}
            ).fetchall()
        merges += found
        asked |= wanted
        primaries = {winner for _, winner, *_ in found}
    merges.sort(key=itemgetter(2, 3))
    return [(merged, winner, moment) for merged, winner, moment, _ in merges]


class _Merges:
    """Merges in the order of their times: a primary became a secondary of another one.

    A primary that a rule has split off again may be merged again.
    """

    def __init__(self, merges: Sequence[tuple[int, int, datetime]]) -> None:
        self._winners = [winner for _, winner, _ in merges]
        self._times = [time for _, _, time in merges]
        self._by_merged: defaultdict[int, list[int]] = defaultdict(list)
        for place, (merged, _, _) in enumerate(merges):
            self._by_merged[merged].append(place)
        # By the place of a merge, the primary that it has led to in the end.
        self._last_primaries: dict[int, int] = {}

    def follow(self, primary_id: int, known_at: datetime | None) -> int:
        """Return what has become of a primary after a time, None: from the beginning."""
        first = 0 if known_at is None else bisect_left(self._times, known_at)
        path: list[int] = []
        while (place := self._next(primary_id, first)) is not None:
            if place in self._last_primaries:
                primary_id = self._last_primaries[place]
                break
            path.append(place)
            primary_id, first = self._winners[place], place + 1
        self._last_primaries.update(dict.fromkeys(path, primary_id))
        return primary_id

    def _next(self, primary_id: int, first: int) -> int | None:
        places = self._by_merged.get(primary_id, [])
        index = bisect_left(places, first)
        return places[index] if index < len(places) else None
