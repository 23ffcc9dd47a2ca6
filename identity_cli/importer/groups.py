"""Which connection a request goes down: those that share an identifier stay together, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.batches import RequestColumns


class Groups:
    """Requests grouped by the identifiers that connect them.

    `members` has the indexes of each group's requests, `of_value` the group of an identifier. A
    group that was joined to an older one is empty; `root` has the number of the older one.
    """

    __slots__ = ("members", "of_value", "root")

    def __init__(self, requests: RequestColumns) -> None:
        members: list[list[int]] = []
        root: list[int] = []
        of_value: dict[str, int] = {}
        group_of = of_value.get
        for i in range(len(requests)):
            # An email has an @, a phone number has none: they need no mark to be told apart.
            emails, phones = requests.values(i)
            values = emails + phones
            group = -1
            has_new = False
            for value in values:
                found = group_of(value)
                if found is None:
                    has_new = True
                elif group < 0:
                    group = _find(root, found)
                else:
                    group = self._join(members, root, group, _find(root, found))
            if group < 0:
                group = len(members)
                members.append([i])
                root.append(group)
            else:
                members[group].append(i)
            if has_new:
                for value in values:
                    of_value.setdefault(value, group)
        self.members = members
        self.root = root
        self.of_value = of_value

    @staticmethod
    def _join(members: list[list[int]], root: list[int], one: int, other: int) -> int:
        kept, joined = min(one, other), max(one, other)
        if kept != joined:
            members[kept] += members[joined]
            members[joined] = []
            root[joined] = kept
        return kept

    def roots(self) -> list[int]:
        """Return for each group the one that it was joined to in the end."""
        root = self.root
        for group, above in enumerate(root):
            root[group] = root[above]  # the older ones come before it
        return root


def _find(root: list[int], group: int) -> int:
    while root[group] != group:
        root[group] = group = root[root[group]]
    return group


@dataclass(frozen=True, slots=True)
class Assignment:
    """Requests assigned to lanes: two lists of indexes for each lane, in order.

    Those in `crossing` would have to follow several lanes, so they wait for all of them.
    `lane_of_group` is where each group went.
    """

    groups: Groups
    shares: list[list[int]]
    crossing: list[list[int]]
    lane_of_group: list[int]


def assign(groups: Groups, lanes: int, before: Sequence[Assignment]) -> Assignment:
    """Assign the requests of one group to one lane.

    A group goes where its identifiers were sent last by the assignments `before` it.
    """
    loads = [0] * lanes
    shares: list[list[int]] = [[] for _ in range(lanes)]
    crossing: list[list[int]] = [[] for _ in range(lanes)]
    roots = groups.roots()
    lane_of = [-1] * len(roots)
    of_value = groups.of_value
    last_lane: dict[str, int] = {}
    for earlier in before:
        earlier_groups = earlier.groups.of_value
        for value in of_value.keys() & earlier_groups.keys():
            last_lane[value] = earlier.lane_of_group[earlier_groups[value]]
    crossed: set[int] = set()
    for value, lane in last_lane.items():
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
    return Assignment(groups, shares, crossing, lane_of)
