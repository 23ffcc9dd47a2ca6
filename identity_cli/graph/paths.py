"""Paths between two values of one identity, and the fewest pairs that separate them."""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

# The pairs that link inside an identity: its contacts with two values, and its evidence, which is
# found by its values.
_PAIRS = """
    WITH member AS MATERIALIZED (
        SELECT * FROM contact WHERE id = %(root)s AND id > 0
        UNION ALL
        SELECT * FROM contact WHERE linked_id = %(root)s
    )
    SELECT email, phone_number, id, run_id, line FROM member
    WHERE email IS NOT NULL AND phone_number IS NOT NULL
    UNION ALL
    SELECT e.value, e.other_value, NULL, e.run_id, e.line
    FROM (SELECT email AS value FROM member WHERE anchors_email AND email IS NOT NULL
          UNION ALL
          SELECT phone_number FROM member WHERE anchors_phone AND phone_number IS NOT NULL) AS own
    JOIN link_evidence AS e USING (value)
    WHERE NOT e.is_held
    ORDER BY 1, 2
"""
_ROOT = "SELECT primaries_of(%s::text[])"


class Pair(NamedTuple):
    """Two values that link, and where they were stated together.

    `contact_id` is the contact that shows both, None if it is evidence of its own.
    """

    value: str
    other_value: str
    contact_id: int | None = None
    run_id: int | None = None
    line: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the document of the pair."""
        return {
            "value": self.value,
            "other_value": self.other_value,
            "contactId": self.contact_id,
            "run_id": self.run_id,
            "line": self.line,
        }


def joining_pairs(connection: psycopg.Connection[Any], value: str, other_value: str) -> list[Pair]:
    """Return the pairs of the identity that has both values; none if they are in two identities.

    Raises driver errors as they are.
    """
    row = connection.execute(_ROOT, ([value, other_value],)).fetchone()
    roots = row[0] if row is not None else []
    own = [connection.execute(_ROOT, ([one],)).fetchone() for one in (value, other_value)]
    if len(roots) != 1 or any(found is None or not found[0] for found in own):
        return []
    rows = connection.execute(_PAIRS, {"root": roots[0]}).fetchall()
    return [Pair(*row) for row in rows]


def propose_cut(connection: psycopg.Connection[Any], value: str, other_value: str) -> list[Pair]:
    """Return the fewest pairs to unlink so that two values are in two identities."""
    with translated():
        pairs = joining_pairs(connection, value, other_value)
    return fewest_pairs(pairs, value, other_value) if value != other_value else []


def shortest_path(pairs: Iterable[Pair], start: str, end: str) -> list[Pair]:
    """Return the fewest pairs that lead from one value to the other; none if nothing does."""
    ways: dict[str, list[tuple[str, Pair]]] = defaultdict(list)
    for pair in pairs:
        ways[pair.value].append((pair.other_value, pair))
        ways[pair.other_value].append((pair.value, pair))
    came_by: dict[str, tuple[str, Pair]] = {}
    waiting = deque([start])
    while waiting and end not in came_by:
        value = waiting.popleft()
        for neighbour, pair in ways[value]:
            if neighbour != start and neighbour not in came_by:
                came_by[neighbour] = (value, pair)
                waiting.append(neighbour)
    path: list[Pair] = []
    while end in came_by:
        end, pair = came_by[end]
        path.append(pair)
    return path[::-1]


def fewest_pairs(pairs: Iterable[Pair], start: str, end: str) -> list[Pair]:
    """Return the fewest pairs without which no path leads from one value to the other.

    Of several such sets it is the one nearest to `start`.
    """
    distinct = {pair[:2]: pair for pair in pairs}
    # A pair is a way in both directions, for one unit of flow at most: what flows one way may be
    # taken back, which is the residual capacity of the other.
    capacity: dict[str, dict[str, int]] = defaultdict(dict)
    for value, other_value in distinct:
        capacity[value][other_value] = capacity[other_value][value] = 1
    while distances := _distances(capacity, start, end):
        _saturate(capacity, distances, start, end)
    near = _reachable(capacity, start)
    return [pair for (value, other), pair in distinct.items() if (value in near) != (other in near)]


def _distances(capacity: dict[str, dict[str, int]], start: str, end: str) -> dict[str, int]:
    """Return how far the values are from the first, up to the last; empty if it is unreachable."""
    distances = {start: 0}
    waiting = deque([start])
    while waiting:
        value = waiting.popleft()
        for neighbour, remaining in capacity[value].items():
            if remaining and neighbour not in distances:
                distances[neighbour] = distances[value] + 1
                if neighbour == end:
                    return distances
                waiting.append(neighbour)
    return {}


def _saturate(
    capacity: dict[str, dict[str, int]], distances: dict[str, int], start: str, end: str
) -> None:
    """Send a unit along each shortest path that is left (a blocking flow, as Dinic's has it)."""
    remaining_ways = {value: iter(list(capacity[value])) for value in distances}
    path = [start]
    while path:
        value = path[-1]
        if value == end:
            for left, right in pairwise(path):
                capacity[left][right] -= 1
                capacity[right][left] += 1
            path = [start]
            continue
        for neighbour in remaining_ways[value]:
            if capacity[value][neighbour] and distances.get(neighbour, -1) == distances[value] + 1:
                path.append(neighbour)
                break
        else:
            path.pop()


def _reachable(capacity: dict[str, dict[str, int]], start: str) -> set[str]:
    found = {start}
    waiting = deque([start])
    while waiting:
        for neighbour, remaining in capacity[waiting.popleft()].items():
            if remaining and neighbour not in found:
                found.add(neighbour)
                waiting.append(neighbour)
    return found
