"""Nodes and their connected components, a few bytes for each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from identity_cli.postgres.snapshot import Snapshot

# A placeholder has a negative id and is no contact.
_CONTACTS = "SELECT id, linked_id FROM contact WHERE id >= 0 ORDER BY id"
_EVIDENCE = "SELECT id FROM link_evidence ORDER BY id"
_NOT_SHOWN = """
    SELECT id FROM set_aside_contact
    WHERE NOT EXISTS (SELECT FROM contact WHERE contact.id = set_aside_contact.id)
    ORDER BY id
"""
# Facts whose two values are kept apart: a node for each of them. A contact's own node stands for
# the value that it shows, so the other one gets the second node.
_UNLINKED_FACTS = """
    SELECT contact.id, false AS is_evidence, true AS is_second_apart
    FROM contact JOIN unlinked_pair ON email = value AND phone_number = other_value
    WHERE contact.id >= 0
    UNION ALL
    SELECT s.id, false, contact.email IS NOT NULL OR contact.phone_number IS NULL
    FROM set_aside_contact AS s
    JOIN unlinked_pair ON s.email = value AND s.phone_number = other_value
    LEFT JOIN contact ON contact.id = s.id
    UNION ALL
    SELECT id, true, true
    FROM link_evidence JOIN unlinked_pair USING (value, other_value)
"""


class Places:
    """The places of ids in an ascending list of them."""

    def __init__(self, ids: array[int]) -> None:
        self.ids = ids
        self._first = ids[0] if ids else 0
        self._span = ids[-1] - self._first + 1 if ids else 0
        self._gaps = self._span - len(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, wanted: int) -> int | None:
        # At most where it would be without gaps, at least the number of gaps before that.
        guess = wanted - self._first
        if not 0 <= guess < self._span:
            return None
        ids = self.ids
        low = guess - self._gaps if guess > self._gaps else 0
        high = guess if guess < len(ids) else len(ids) - 1
        place = bisect_left(ids, wanted, low, high)
        return place if ids[place] == wanted else None


class Components:
    """A union-find over the nodes 0 … size - 1."""

    def __init__(self, size: int) -> None:
        self._parents = array("q", range(size))

    def __len__(self) -> int:
        return len(self._parents)

    def of(self, node: int) -> int:
        """Return the node that represents the component."""
        parents = self._parents
        while (parent := parents[node]) != node:
            parents[node] = node = parents[parent]
        return node

    def join(self, left: int, right: int) -> None:
        left, right = self.of(left), self.of(right)
        self._parents[max(left, right)] = min(left, right)


class StoredGraph:
    """Facts as nodes: contacts by id, evidence by id, contacts that show nothing, second nodes.

    `roots` holds each contact's stored identity as the node of its primary; a contact whose link
    leads nowhere is an identity of its own. `components` are computed from values and rules alone.
    """

    def __init__(self, graph: Snapshot) -> None:
        ids, links = array("q"), array("q")
        for contact_id, linked_id in graph.rows(_CONTACTS):
            ids.append(contact_id)
            links.append(contact_id if linked_id is None else linked_id)
        self.ids = ids
        self._contacts = Places(ids)
        # Returns the node of a contact, None if there is no such contact.
        self.contact = self._contacts.of
        self._evidence = Places(array("q", map(itemgetter(0), graph.rows(_EVIDENCE))))
        self._not_shown = Places(array("q", map(itemgetter(0), graph.rows(_NOT_SHOWN))))
        self.roots = links  # overwritten in place: the links are not needed any more
        for node, link in enumerate(links):
            place = self._contacts.of(link)
            self.roots[node] = node if place is None else place
        size = len(ids) + len(self._evidence) + len(self._not_shown)
        # For a fact whose values are kept apart: which of them has the second node, and this node.
        self._second_nodes: dict[int, tuple[bool, int]] = {}
        # By place of the evidence: whether a rule keeps its pair from linking.
        self.held = bytearray(len(self._evidence))
        for fact_id, is_evidence, is_second_apart in graph.rows(_UNLINKED_FACTS):
            if is_evidence:
                self.hold(fact_id)
            node = self.evidence(fact_id) if is_evidence else self.fact(fact_id)
            self._second_nodes.setdefault(node, (is_second_apart, size + len(self._second_nodes)))
        self.has_sides = bool(self._second_nodes)
        self.components = Components(size + len(self._second_nodes))

    def fact(self, contact_id: int) -> int:
        """Return the node of a contact, also of one that shows nothing."""
        node = self._contacts.of(contact_id)
        if node is None:
            node = len(self.ids) + len(self._evidence) + known(self._not_shown.of(contact_id))
        return node

    def is_set_aside(self, contact_id: int) -> bool:
        """Return whether it is the id of a contact that shows nothing."""
        return self._not_shown.of(contact_id) is not None

    def evidence(self, evidence_id: int) -> int:
        """Return the node of a piece of evidence."""
        return len(self.ids) + known(self._evidence.of(evidence_id))

    def hold(self, evidence_id: int) -> None:
        """Note that a rule keeps the evidence from linking."""
        self.held[known(self._evidence.of(evidence_id))] = True

    def side(self, node: int, *, is_second: bool) -> int:
        """Return the node of the first, or the second value of a fact."""
        if node not in self._second_nodes:
            return node
        is_second_apart, second_node = self._second_nodes[node]
        return second_node if is_second == is_second_apart else node


def known(place: int | None) -> int:
    assert place is not None  # noqa: S101 - the same snapshot has listed every id before
    return place
