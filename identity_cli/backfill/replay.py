"""What only the history decides: which primary is linked to, and which one gives way.

Events are replayed in the order of their turns. Nodes number the contacts by age, so the smaller of
two primaries is the older. Nothing is imported but what Python has: the same functions run inside
the workers of a cluster.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Nodes(Protocol):
    """A number for each node, in an array or, for some of the nodes, in a dictionary."""

    def __getitem__(self, node: int, /) -> int:
        """Return the number of a node."""

    def __setitem__(self, node: int, number: int, /) -> None:
        """Change the number of a node."""


def replay(
    left_nodes: Iterable[int],
    right_nodes: Iterable[int],
    new_nodes: Iterable[int],
    parents: Nodes,
) -> tuple[array[int], array[int]]:
    """Replay events, which follow those that were replayed before with the same `parents`.

    An event is a new contact, which is linked through the left one, or, if the new node is 0,
    evidence that joins the left and the right one. `parents` has each node as its own parent at
    first. Returns for each event the primary, and the one that gave way to it, or 0.
    """
    primaries, merged = array("q"), array("q")
    lead, give_way = primaries.append, merged.append
    for node, other, new in zip(left_nodes, right_nodes, new_nodes, strict=True):
        # The path to the primary is halved, so that later ones are short.
        while (parent := parents[node]) != node:
            parents[node] = node = parents[parent]
        if new:
            parents[new] = node
            lead(node)
            give_way(0)
            continue
        while (parent := parents[other]) != other:
            parents[other] = other = parents[parent]
        if node == other:
            lead(node)
            give_way(0)
        elif node < other:
            parents[other] = node
            lead(node)
            give_way(other)
        else:
            parents[node] = other
            lead(other)
            give_way(node)
    return primaries, merged


def settle(
    turns: Iterable[int], primaries: Iterable[int], merged: Iterable[int], moved: Nodes
) -> array[int]:
    """Return for each merge when the contacts of the identity that gave way were moved last.

    The merges come from the latest to the earliest, in as many calls as it takes. `moved` has 0 for
    each node at first, and keeps what is returned.
    """
    settled = array("q")
    for turn, primary, loser in zip(turns, primaries, merged, strict=True):
        # They were moved with those of the primary if it gave way later.
        moved[loser] = last = moved[primary] or turn
        settled.append(last)
    return settled
