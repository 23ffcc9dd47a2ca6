"""Search in evidence: the shortest chain between values, and the tree of what linked first.

Values are the nodes, rows that show two values are the edges. Nothing here needs a database.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from identity_cli.graph.evidence import Evidence

# The neighbours of each value, with the rows that show them, in the order of the rows.
Links: TypeAlias = "Mapping[str, list[tuple[str, Evidence]]]"


class Hop(NamedTuple):
    """A step from a value to another one, and the row that shows both."""

    value: str
    other_value: str
    row: Evidence


class Branch(NamedTuple):
    """A value in the tree of an identity: `link` is the row that linked it with its parent.

    `origin` is the contact that brought the value in. The root has no parent and no link.
    """

    value: str
    depth: int
    parent: str | None
    link: Evidence | None
    origin: Evidence | None


def links_of(rows: Iterable[Evidence]) -> Links:
    """Return the neighbours of each value that the rows show."""
    links: dict[str, list[tuple[str, Evidence]]] = {}
    for row in rows:
        value, other = row.value, row.other_value
        if other is None:
            links.setdefault(value, [])
        else:
            links.setdefault(value, []).append((other, row))
            links.setdefault(other, []).append((value, row))
    return links


def shortest_chain(links: Links, starts: Iterable[str], goals: Collection[str]) -> list[Hop] | None:
    """Return a shortest chain from one of the starts to one of the goals, None if there is none.

    Among chains of the same length, the one whose rows come first is preferred.
    """
    reached: dict[str, Hop | None] = dict.fromkeys(starts)
    waiting = deque(reached)
    while waiting:
        value = waiting.popleft()
        if value in goals:
            return _hops_to(value, reached)
        for other, row in links.get(value, ()):
            if other not in reached:
                reached[other] = Hop(value, other, row)
                waiting.append(other)
    return None


def _hops_to(value: str, reached: Mapping[str, Hop | None]) -> list[Hop]:
    hops = []
    while (hop := reached[value]) is not None:
        hops.append(hop)
        value = hop.value
    return hops[::-1]


def first_links(rows: Iterable[Evidence], root: str) -> list[Branch]:
    """Return the tree of the rows that joined the identity, depth first, children in order.

    A row is part of it if its two values were not joined by the rows before it. Values that no row
    joins with the root come last, as roots of trees of their own.
    """
    components = _Components()
    joining: dict[str, list[tuple[str, Evidence]]] = {}
    origins: dict[str, Evidence] = {}
    for row in rows:
        value, other = row.value, row.other_value
        if row.is_first:
            origins.setdefault(value, row)
        if other is None:
            joining.setdefault(value, [])
            continue
        if row.is_other_first:
            origins.setdefault(other, row)
        if components.join(value, other):
            joining.setdefault(value, []).append((other, row))
            joining.setdefault(other, []).append((value, row))
    branches: list[Branch] = []
    seen: set[str] = set()
    for start in (root, *joining):
        if start not in seen:
            branches += _tree_of(start, joining, origins, seen)
    return branches


def _tree_of(
    start: str, joining: Links, origins: Mapping[str, Evidence], seen: set[str]
) -> Iterator[Branch]:
    # A stack: a tree may be as deep as the identity is large.
    waiting = [Branch(start, 0, None, None, origins.get(start))]
    while waiting:
        branch = waiting.pop()
        yield branch
        value, depth = branch.value, branch.depth + 1
        seen.add(value)
        for other, row in reversed(joining.get(value, ())):
            if other not in seen:
                waiting.append(Branch(other, depth, value, row, origins.get(other)))


class _Components:
    """A union-find over values. Sizes leave out the values that came alone."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def join(self, left: str, right: str) -> bool:
        """Join the components of two values; return whether they were two."""
        sizes = self._sizes
        # Most rows bring in a value: nothing has to be searched for it.
        if left not in sizes:
            left, right = right, left
        if right not in sizes:
            sizes.setdefault(left, 1)
            sizes[right] = 1
            self._parents[right] = left
            return True
        left, right = self._of(left), self._of(right)
        if left == right:
            return False
        if sizes[left] < sizes[right]:
            left, right = right, left
        self._parents[right] = left
        sizes[left] += sizes[right]
        return True

    def _of(self, value: str) -> str:
        parents = self._parents
        while (parent := parents.get(value)) is not None:
            grandparent = parents.get(parent)
            if grandparent is None:
                return parent
            parents[value] = value = grandparent
        return value


def nearest(links: Links, starts: Iterable[str], *, limit: int, breadth: int) -> list[str]:
    """Return the starts and the values that are nearest to them, ordered by the distance.

    They are at most `limit`, except that all starts are among them, and none of them leads to more
    than `breadth` others: a value that thousands share would crowd out everything else.
    """
    found = dict.fromkeys(starts)
    waiting = deque(found)
    while waiting and len(found) < limit:
        fresh = (other for other, _ in links.get(waiting.popleft(), ()) if other not in found)
        added = dict.fromkeys(islice(fresh, min(breadth, limit - len(found))))
        found |= added
        waiting += added
    return list(found)
