"""Lanes: connections that work side by side, each through its batches in the order they were given.

Requests that share an identifier go down one lane in file order, so whatever the number of lanes
the same contact comes first and is the primary.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.graph.service import IdentityService, Outcome, Refusal, RunRequest

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

    def submit(
        self, batch: Sequence[RunRequest], after: Sequence[Future[Results]] = ()
    ) -> Future[Results]:
        """Send the batch when those before it are done, and those of other lanes in `after`."""
        return self._thread.submit(self._call, batch, after)

    def _call(self, batch: Sequence[RunRequest], after: Sequence[Future[Results]]) -> Results:
        if self._broken or any(map(_failed, after)):
            self._broken = True
            raise LaneBrokenError
        try:
            return self.service.reconcile_batch(batch, self._run_id, commit_each=self._commit_each)
        except BaseException:
            self._broken = True
            raise

    def close(self) -> None:
        """Wait for the batch at work, leave out those that wait, close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.service.connection.close()


def _failed(future: Future[Results]) -> bool:
    """Wait for a batch; whether it did not come to its end."""
    try:
        return future.exception() is not None
    except CancelledError:
        return True


@dataclass(slots=True)
class Ticket:
    """Requests on their way: which of them went in which batch, and which lane has a value."""

    size: int
    parts: list[tuple[Sequence[int], Future[Results]]] = field(default_factory=list)
    groups: Groups | None = None

    def done(self) -> bool:
        return all(future.done() for _, future in self.parts)

    def wait(self) -> None:
        for _, future in self.parts:
            future.exception()

    def results(self) -> Results:
        """The results in the order of the requests. Raises what a lane raised."""
        if self.groups is None:
            return [result for _, future in self.parts for result in future.result()]
        results: dict[int, Outcome | Refusal] = {}
        for indexes, future in self.parts:
            results.update(zip(indexes, future.result(), strict=True))
        return [results[i] for i in range(self.size)]


class Groups:
    """Requests by what shared identifiers connect: `members` has the indexes of each group.

    `of_value` has the group of an identifier; a group that was joined to an older one is empty and
    has its number in `root`. `lane` is where each group went.
    """

    __slots__ = ("lane", "members", "of_value", "root")

    def __init__(self, requests: Sequence[RunRequest]) -> None:
        members: list[list[int]] = []
        root: list[int] = []
        of_value: dict[str | None, int] = {}
        known = of_value.get
        for i, item in enumerate(requests):
            request = item.request
            # An email has an @, a phone number has none: they need no mark to be told apart.
            email, phone = request.email, request.phone
            by_email, by_phone = known(email), known(phone)
            if by_email is None and by_phone is None:
                group = len(members)
                members.append([i])
                root.append(group)
            else:
                group = self._join(members, root, by_email, by_phone)
                members[group].append(i)
            if by_email is None and email is not None:
                of_value[email] = group
            if by_phone is None and phone is not None:
                of_value[phone] = group
        self.members = members
        self.root = root
        self.of_value = of_value
        self.lane: list[int] = []

    @staticmethod
    def _join(members: list[list[int]], root: list[int], one: int | None, other: int | None) -> int:
        found = []
        for group in (one, other):
            if group is not None:
                while root[group] != group:
                    root[group] = group = root[root[group]]
                found.append(group)
        kept, gone = min(found), max(found)
        if kept != gone:
            members[kept] += members[gone]
            members[gone] = []
            root[gone] = kept
        return kept

    def roots(self) -> list[int]:
        """For each group the one that it was joined to in the end."""
        root = self.root
        for group, above in enumerate(root):
            root[group] = root[above]  # the older ones stand before it
        return root


def submit(
    lanes: Sequence[Lane], requests: Sequence[RunRequest], ahead: Iterable[Ticket]
) -> Ticket:
    """Send the requests down the lanes, behind the tickets that are still on their way."""
    ticket = Ticket(len(requests))
    if len(lanes) == 1:
        shares: list[Sequence[int]] = [range(len(requests))]
        crossing: list[list[int]] = [[]]
    else:
        ahead = [other for other in ahead if not other.done()]
        ticket.groups = Groups(requests)
        before = [other.groups for other in ahead if other.groups is not None]
        spread_out, crossing = spread(ticket.groups, len(lanes), before)
        shares = [*spread_out]
    for lane, share in zip(lanes, shares, strict=True):
        for start in range(0, len(share), BATCH):
            part = share[start : start + BATCH]
            ticket.parts.append((part, lane.submit([requests[i] for i in part])))
    if any(crossing):
        after = [future for other in ahead for _, future in other.parts]
        for lane, indexes in zip(lanes, crossing, strict=True):
            for start in range(0, len(indexes), BATCH):
                part = indexes[start : start + BATCH]
                ticket.parts.append((part, lane.submit([requests[i] for i in part], after)))
    return ticket


def spread(
    groups: Groups, lanes: int, before: Sequence[Groups]
) -> tuple[list[list[int]], list[list[int]]]:
    """Two lists of indexes for each lane, in order; the requests of one group stay together.

    A group goes where its identifiers were sent last by those `before` it. One that would have to
    follow several lanes is in the second lists: it has to wait for all of them.
    """
    loads = [0] * lanes
    shares: list[list[int]] = [[] for _ in range(lanes)]
    crossing: list[list[int]] = [[] for _ in range(lanes)]
    roots = groups.roots()
    lane_of = groups.lane = [-1] * len(roots)
    of_value = groups.of_value
    seen: dict[str | None, int] = {}
    for earlier in before:
        there = earlier.of_value
        for value in of_value.keys() & there.keys():
            seen[value] = earlier.lane[there[value]]
    crossed: set[int] = set()
    for value, lane in seen.items():
        group = roots[of_value[value]]
        if lane_of[group] not in {-1, lane}:
            crossed.add(group)
        lane_of[group] = lane
    free: list[int] = []
    for group, indexes in enumerate(groups.members):
        lane = lane_of[group]
        if lane >= 0:
            loads[lane] += len(indexes)
            (crossing if group in crossed else shares)[lane].extend(indexes)
        elif indexes:
            free.append(group)
    members = groups.members
    free.sort(key=lambda group: len(members[group]), reverse=True)
    for group in free:
        lane = lane_of[group] = loads.index(min(loads))
        loads[lane] += len(members[group])
        shares[lane] += members[group]
    for group, root in enumerate(roots):
        lane_of[group] = lane_of[root]
    for indexes in (*shares, *crossing):
        indexes.sort()
    return shares, crossing
