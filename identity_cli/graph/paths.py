"""What joins two values of one identity, and the fewest pairs that separate them."""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.errors import ContactNotFoundError, UsageError
from identity_cli.graph.chains import links_of, shortest_chain
from identity_cli.graph.evidence import read_evidence
from identity_cli.postgres.database import translated
from identity_cli.postgres.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from identity_cli.graph.evidence import Evidence

_PRIMARY = "SELECT (primaries_of(ARRAY[%s]))[1]"


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


def joining_path(connection: psycopg.Connection[Any], value: str, other_value: str) -> list[Pair]:
    """Return the shortest path that joins two values, none if they are in two identities.

    Raises driver errors as they are.
    """
    primary, other_primary = _primaries(connection, (value, other_value))
    if primary is None or primary != other_primary:
        return []
    links = links_of(_statements(connection, primary))
    return [_pair(hop.row) for hop in shortest_chain(links, [value], [other_value]) or ()]


def propose_cut(connection: psycopg.Connection[Any], value: str, other_value: str) -> list[Pair]:
    """Return the fewest pairs to unlink so that two values are in two identities.

    None if they are already. Raises `ContactNotFoundError` if one of them is in no identity, and
    `UsageError` if they are the same value.
    """
    if value == other_value:
        raise UsageError(
            "both values are the same after normalisation", hint="name two different values"
        )
    # One transaction: the identity may become another one between two queries.
    with translated(), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        primaries = _primaries(connection, (value, other_value))
        if None in primaries:
            raise ContactNotFoundError(
                f"no identity has value {primaries.index(None) + 1}",
                hint="identity show prints the identity of a value, or whether it is blocked",
            )
        primary, other_primary = primaries
        if primary is None or primary != other_primary:
            return []
        pairs = [_pair(row) for row in _statements(connection, primary)]
    return fewest_pairs(pairs, value, other_value)


def _primaries(connection: psycopg.Connection[Any], values: Sequence[str]) -> list[int | None]:
    rows = [connection.execute(_PRIMARY, (value,)).fetchone() for value in values]
    return [row[0] for row in rows if row is not None]


def _statements(connection: psycopg.Connection[Any], primary_id: int) -> list[Evidence]:
    """Return the rows of an identity that show two values."""
    rows = read_evidence(Snapshot(connection), primary_id).rows()
    return [row for row in rows if row.other_value is not None]


def _pair(row: Evidence) -> Pair:
    return Pair(row.value, str(row.other_value), row.contact_id, row.run_id, row.line)


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
    while end in (near := _distances(capacity, start, end)):
        _saturate(capacity, near, start, end)
    return [pair for (value, other), pair in distinct.items() if (value in near) != (other in near)]


def _distances(capacity: dict[str, dict[str, int]], start: str, end: str) -> dict[str, int]:
    """Return how far the values are from the first: up to the last, or all that can be reached."""
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
    return distances


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
