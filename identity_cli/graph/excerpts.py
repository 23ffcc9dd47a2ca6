"""The part of an identity's evidence that a person can look at, around one of its contacts."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.graph.chains import Hop
from identity_cli.graph.explanation import (
    branch_document,
    explain_chain,
    explain_identity,
    hop_document,
    resolved,
)
from identity_cli.graph.references import Reference

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from identity_cli.graph.chains import Branch
    from identity_cli.graph.explanation import ChainExplanation, IdentityExplanation, Separation
    from identity_cli.postgres.snapshot import Snapshot

# A value that thousands share would crowd out everything else.
_BREADTH = 12
_OTHER_HOPS = 90
# Evidence is some hundred bytes per pair, and an identity may have a pair for every two values.
_PAIRS_PER_CONTACT = 10

_ANCHORS = {
    "email": "SELECT id FROM contact WHERE email = %s AND anchors_email AND id > 0",
    "phone": "SELECT id FROM contact WHERE phone_number = %s AND anchors_phone AND id > 0",
}
_SIZE = """
    WITH member AS MATERIALIZED (
        SELECT email, phone_number FROM contact
        WHERE (id = %(primary)s OR linked_id = %(primary)s) AND id > 0
        LIMIT %(contacts)s
    ),
    own AS (
        SELECT email AS value FROM member WHERE email IS NOT NULL
        UNION
        SELECT phone_number FROM member WHERE phone_number IS NOT NULL
    )
    SELECT (SELECT count(*) FROM member),
           (SELECT count(*)
            FROM (SELECT FROM own JOIN link_evidence USING (value) LIMIT %(pairs)s) AS pair)
"""


class Location(NamedTuple):
    """Where a reference leads: its identity, and the contact that it names or that brought it."""

    reference: Reference
    primary_id: int
    contact_id: int
    is_ambiguous: bool

    def as_json(self) -> dict[str, Any]:
        """Return the document of the location."""
        return {
            "schema_version": 1,
            "kind": self.reference.kind,
            "value": self.reference.value,
            "primary_id": self.primary_id,
            "contact_id": self.contact_id,
            "is_ambiguous": self.is_ambiguous,
        }


@dataclass(frozen=True)
class Excerpt:
    """Branches of the tree of one identity, in its order, and the other rows between them.

    `offset` is where they begin in the tree if they are a page of it, else None: then they are
    what is nearest to one contact, with the way to the primary.
    """

    explained: IdentityExplanation
    branches: Sequence[Branch]
    other_hops: Sequence[Hop]
    offset: int | None

    def as_json(self) -> dict[str, Any]:
        """Return a document like that of the whole tree, with the number of what is left out."""
        evidence, tree = self.explained.evidence, self.explained.tree
        children = Counter(branch.parent for branch in tree)
        return {
            "schema_version": 1,
            "primary_id": evidence.primary_id,
            "contacts": len(evidence.contacts),
            "pairs": len(evidence.pairs),
            "values": len(tree),
            "offset": self.offset,
            "is_pruned": len(self.branches) < len(tree),
            "tree": [
                {
                    **branch_document(branch, evidence.sources),
                    "children": children[branch.value],
                }
                for branch in self.branches
            ],
            "other_hops": [hop_document(hop, evidence.sources) for hop in self.other_hops],
        }


def locate(graph: Snapshot, references: Sequence[Reference]) -> Location:
    """Find the identity that a text stands for. Raises `ContactNotFoundError`."""
    found = resolved(graph, references)
    kind, value = found.reference
    contact_id = value
    if kind != "id":
        row = graph.connection.execute(_ANCHORS[kind], (value,)).fetchone()
        assert row is not None  # noqa: S101 - what led to the identity in this snapshot
        contact_id = row[0]
    return Location(found.reference, found.primary_id, int(contact_id), found.is_ambiguous)


def read_excerpt(
    graph: Snapshot, contact_id: int, *, limit: int, offset: int | None, at_most: int
) -> Excerpt | None:
    """Read the part of the evidence that is nearest to a contact, or a page of its identity's tree.

    Returns None if the identity has more than `at_most` contacts, or too many pairs of values.
    Raises `ContactNotFoundError`.
    """
    reference = Reference("id", contact_id)
    if is_too_large(graph, [reference], at_most=at_most):
        return None
    explained = explain_identity(graph, [reference])
    if offset is not None:
        return Excerpt(explained, explained.tree[offset : offset + limit], (), offset)
    named = explained.evidence.contact(contact_id)
    starts = [value for value in (named.value, named.other_value) if value is not None]
    shown = nearest_branches(explained.tree, starts, limit=limit)
    branches = [branch for branch in explained.tree if branch.value in shown]
    return Excerpt(explained, branches, _other_hops(explained, branches, shown), None)


def read_chain(
    graph: Snapshot, contact_id: int, other: Sequence[Reference], *, at_most: int
) -> ChainExplanation | Separation | None:
    """Read the shortest chain from a contact to a value or another contact.

    Returns None if an identity has more than `at_most` contacts, or too many pairs of values.
    Raises `ContactNotFoundError`.
    """
    start = [Reference("id", contact_id)]
    if is_too_large(graph, start, at_most=at_most) or is_too_large(
        graph, other, at_most=at_most, which=" in the parameter to"
    ):
        return None
    return explain_chain(graph, start, other)


def is_too_large(
    graph: Snapshot, references: Sequence[Reference], *, at_most: int, which: str = ""
) -> bool:
    """Return whether reading all evidence of an identity would take too long.

    `which` names the references in a message. Raises `ContactNotFoundError`.
    """
    most_pairs = at_most * _PAIRS_PER_CONTACT
    [(contacts, pairs)] = graph.connection.execute(
        _SIZE,
        {
            "primary": resolved(graph, references, which).primary_id,
            "contacts": at_most + 1,
            "pairs": most_pairs + 1,
        },
    ).fetchall()
    return bool(contacts > at_most or pairs > most_pairs)


def nearest_branches(
    tree: Sequence[Branch], starts: Iterable[str], *, limit: int
) -> Container[str]:
    """Return the values of a tree that are nearest to some of them, and those up to the root.

    They are at most `limit`, except that the starts and the root are always among them. If the
    values in between are more than half of that, those next to the root are left out. If all
    values fit, all are returned; otherwise none of them leads to more than a few others.
    """
    if len(tree) <= limit:
        return {branch.value for branch in tree}
    parents = {branch.value: branch.parent for branch in tree}
    children: dict[str | None, list[str]] = defaultdict(list)
    for branch in tree:
        children[branch.parent].append(branch.value)
    shown = dict.fromkeys(starts)
    for start in tuple(shown):
        shown |= dict.fromkeys(islice(_ancestors(start, parents), limit // 2))
    waiting = deque(shown)
    shown[tree[0].value] = None
    while waiting and len(shown) < limit:
        fresh = (child for child in children[waiting.popleft()] if child not in shown)
        added = dict.fromkeys(islice(fresh, min(_BREADTH, limit - len(shown))))
        shown |= added
        waiting += added
    return shown


def _ancestors(value: str, parents: dict[str, str | None]) -> Iterator[str]:
    while (parent := parents[value]) is not None:
        yield parent
        value = parent


def _other_hops(
    explained: IdentityExplanation, branches: Sequence[Branch], shown: Container[str]
) -> list[Hop]:
    """Return the rows between shown values that are not part of the tree, one for each pair."""
    pairs = {frozenset((branch.value, branch.parent)) for branch in branches}
    hops = []
    for row in explained.evidence.rows():
        pair = frozenset((row.value, row.other_value))
        if row.value in shown and row.other_value in shown and pair not in pairs:
            pairs.add(pair)
            hops.append(Hop(row.value, str(row.other_value), row))
    return hops[:_OTHER_HOPS]
