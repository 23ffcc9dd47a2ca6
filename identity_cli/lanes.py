"""Lanes: connections that work side by side, each through its batches in the order they were given.

Requests that share an identifier go down one lane in file order, so whatever the number of lanes
the same contact comes first and is the primary.
"""

from __future__ import annotations

from collections import ChainMap
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from identity_cli.service import IdentityService, Outcome, Refusal, RunRequest

BATCH = 500

Results = list["Outcome | Refusal"]


class LaneBrokenError(Exception):
    """A batch before this one failed: it must not overtake it."""


class Lane:
    """One connection and the thread that waits for it."""

    def __init__(self, service: IdentityService, *, run_id: int | None, commit_each: bool) -> None:
        self.service = service
        self._run_id = run_id
        self._commit_each = commit_each
        self._broken = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lane")

    def submit(self, batch: Sequence[RunRequest]) -> Future[Results]:
        return self._thread.submit(self._call, batch)

    def _call(self, batch: Sequence[RunRequest]) -> Results:
        if self._broken:
            raise LaneBrokenError
        try:
            return self.service.call(batch, self._run_id, commit_each=self._commit_each)
        except BaseException:
            self._broken = True
            raise

    def close(self) -> None:
        """Wait for the batch at work, leave out those that wait, close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.service.connection.close()


@dataclass(slots=True)
class Ticket:
    """Requests on their way: which of them went in which batch, and which lane has a value."""

    size: int
    parts: list[tuple[Sequence[int], Future[Results]]] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)

    def done(self) -> bool:
        return all(future.done() for _, future in self.parts)

    def wait(self) -> None:
        for _, future in self.parts:
            future.exception()

    def results(self) -> Results:
        """The results in the order of the requests. Raises what a lane raised."""
        results: dict[int, Outcome | Refusal] = {}
        for indexes, future in self.parts:
            results.update(zip(indexes, future.result(), strict=True))
        return [results[i] for i in range(self.size)]


def submit(
    lanes: Sequence[Lane], requests: Sequence[RunRequest], ahead: Iterable[Ticket]
) -> Ticket:
    """Send the requests down the lanes, behind the tickets that are still on their way."""
    ticket = Ticket(len(requests))
    if len(lanes) == 1:
        shares: list[Sequence[int]] = [range(len(requests))]
    else:
        ahead = [other for other in ahead if not other.done()]
        spread_out = spread(requests, len(lanes), ChainMap(*(other.taken for other in ahead)))
        if spread_out is None:
            for other in ahead:
                other.wait()
            spread_out = spread(requests, len(lanes), {})
            assert spread_out is not None  # noqa: S101 - with nothing taken every group is free
        shares = [*spread_out]
        for number, indexes in enumerate(spread_out):
            for i in indexes:
                for value in _identifiers(requests[i]):
                    ticket.taken[value] = number
    for lane, share in zip(lanes, shares, strict=True):
        for start in range(0, len(share), BATCH):
            part = share[start : start + BATCH]
            ticket.parts.append((part, lane.submit([requests[i] for i in part])))
    return ticket


def spread(
    requests: Sequence[RunRequest], lanes: int, taken: Mapping[str, int]
) -> list[list[int]] | None:
    """The indexes of the requests for each lane, in order; the requests of one group stay together.

    A group is what shared identifiers connect. `taken` names the lane that still works on an
    identifier; a group goes there. None when a group would have to go down two lanes.
    """
    loads = [0] * lanes
    result: list[list[int]] = [[] for _ in range(lanes)]
    free: list[list[int]] = []
    for group in _groups(requests):
        wanted = {
            taken[value] for i in group for value in _identifiers(requests[i]) if value in taken
        }
        if len(wanted) > 1:
            return None
        if wanted:
            lane = wanted.pop()
            loads[lane] += len(group)
            result[lane] += group
        else:
            free.append(group)
    for group in sorted(free, key=len, reverse=True):
        lane = loads.index(min(loads))
        loads[lane] += len(group)
        result[lane] += group
    for indexes in result:
        indexes.sort()
    return result


def _identifiers(item: RunRequest) -> Iterable[str]:
    # An email has an @, a phone number has none: they need no mark to be told apart.
    request = item.request
    return [value for value in (request.email, request.phone) if value is not None]


def _groups(requests: Sequence[RunRequest]) -> Iterable[list[int]]:
    """Indexes of the requests that shared identifiers connect: union-find with path halving."""
    parent = list(range(len(requests)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, item in enumerate(requests):
        for value in _identifiers(item):
            other = first.setdefault(value, i)
            if other != i:
                a, b = find(i), find(other)
                parent[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for i in range(len(requests)):
        groups.setdefault(find(i), []).append(i)
    return groups.values()
