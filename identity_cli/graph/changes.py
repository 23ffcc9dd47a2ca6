"""What has changed in the graph since the run before the newest one ended."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
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

# The contacts of each large identity that has changed, by the primary that they were first linked
# to: how many there are, and how many there were before.
_CHANGED = """
    WITH changed AS (
        SELECT coalesce(linked_id, id) AS primary_id FROM contact
        WHERE id > 0 AND created_at > %(since)s
        UNION
        SELECT coalesce(c.linked_id, c.id)
        FROM link_evidence e JOIN contact c ON c.id = e.merged_id WHERE e.created_at > %(since)s
    ),
    large AS MATERIALIZED (
        SELECT primary_id FROM changed
        WHERE EXISTS (SELECT FROM contact WHERE linked_id = primary_id OFFSET %(at_least)s - 2)
    ),
    member AS (
        SELECT primary_id, coalesce(initial_linked_id, id) AS first_primary_id, created_at
        FROM large JOIN contact ON id = primary_id
        UNION ALL
        SELECT primary_id, coalesce(initial_linked_id, id), created_at
        FROM large JOIN contact ON linked_id = primary_id WHERE id > 0
    )
    SELECT primary_id, first_primary_id, count(*), count(*) FILTER (WHERE created_at <= %(since)s)
    FROM member GROUP BY 1, 2
"""
_MERGES_BEFORE = """
    SELECT merged_id, primary_id FROM link_evidence
    WHERE merged_id = ANY(%(merged)s::bigint[]) AND created_at <= %(since)s
"""


@dataclass(frozen=True, slots=True)
class Added:
    """What a run has added since; `run_id` is None for requests outside of runs."""

    run_id: int | None
    new_identities: int
    linked_contacts: int
    merges: int


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


def _doubled(graph: Snapshot, since: datetime) -> list[DoubledIdentity]:
    parameters = {"since": since, "at_least": DOUBLED_AT_LEAST}
    with translated():
        members = graph.connection.execute(_CHANGED, parameters).fetchall()
        first_primaries = [first_primary_id for _, first_primary_id, *_ in members]
        merges = graph.connection.execute(
            _MERGES_BEFORE, {"since": since, "merged": first_primaries}
        ).fetchall()
    primary_before = _Primaries(merges)
    contacts: Counter[int] = Counter()
    parts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for primary_id, first_primary_id, count, count_before in members:
        contacts[primary_id] += count
        parts[primary_id][primary_before.of(first_primary_id)] += count_before
    doubled = (
        DoubledIdentity(primary_id, count, max(parts[primary_id].values()))
        for primary_id, count in contacts.items()
    )
    return sorted(
        (one for one in doubled if one.contacts >= 2 * one.contacts_before > 0),
        key=lambda one: (-one.contacts, one.primary_id),
    )


class _Primaries:
    """The primaries that others had been merged into by a time."""

    def __init__(self, merges: Sequence[tuple[int, int]]) -> None:
        self._merged_into = dict(merges)

    def of(self, primary_id: int) -> int:
        """Return the primary that this one had been merged into, directly or through others."""
        merged_into = self._merged_into
        path = []
        while (above := merged_into.get(primary_id)) is not None:
            path.append(primary_id)
            primary_id = above
        for passed in path:
            merged_into[passed] = primary_id
        return primary_id
