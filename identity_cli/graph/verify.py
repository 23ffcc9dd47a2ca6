"""The stored graph, proven right or wrong: components computed again from what was requested.

Contacts and evidence are the nodes, a value is what joins those that carry it. Neither links nor
anchors have a say in it; they are what is compared with the outcome.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from identity_cli.postgres.snapshot import Snapshot, snapshot

if TYPE_CHECKING:
    from typing import LiteralString

    import psycopg

# So many violations of each code are listed, all are counted.
LISTED = 100

# What a contact `c` and the contact `p` that its link names show by themselves: code, condition,
# message. They hold where the schema's constraints do; a dump, a replica or a superuser may not.
_ROW_CHECKS: tuple[tuple[LiteralString, LiteralString, str], ...] = (
    (
        "dangling_link",
        "c.linked_id IS NOT NULL AND p.id IS NULL",
        "it is linked to a contact that does not exist",
    ),
    ("self_link", "c.linked_id = c.id", "it is linked to itself"),
    (
        "link_to_secondary",
        "p.id <> c.id AND p.link_precedence = 'secondary'",
        "it is linked to a secondary",
    ),
    (
        "primary_with_link",
        "c.link_precedence = 'primary' AND c.linked_id IS NOT NULL",
        "it is a primary and has a link",
    ),
    (
        "secondary_without_link",
        "c.link_precedence = 'secondary' AND c.linked_id IS NULL",
        "it is a secondary and has no link",
    ),
    (
        "wrong_linked_precedence",
        "c.linked_precedence IS DISTINCT FROM"
        " CASE WHEN c.linked_id IS NOT NULL THEN 'primary'::link_precedence END",
        "its linked_precedence does not go with its link",
    ),
    (
        "primary_not_oldest",
        "(c.created_at, c.id) < (p.created_at, p.id)",
        "it is older than the primary that it is linked to",
    ),
    (
        "no_identifier",
        "c.email IS NULL AND c.phone_number IS NULL",
        "it has neither an email nor a phone number",
    ),
    (
        "empty_identifier",
        "c.email = '' OR c.phone_number = ''",
        "its email or its phone number is empty",
    ),
)
_CASES: LiteralString = ", ".join(
    f"CASE WHEN {condition} THEN '{code}' END" for code, condition, _ in _ROW_CHECKS
)
_BAD_ROWS: LiteralString = f"""
    SELECT id, codes FROM (
        SELECT c.id, array_remove(ARRAY[{_CASES}], NULL) AS codes
        FROM contact c LEFT JOIN contact p ON p.id = c.linked_id
    ) AS checked
    WHERE codes <> '{{}}' ORDER BY id
"""  # noqa: S608 - made of constants

_CONTACTS = "SELECT id, linked_id FROM contact ORDER BY id"
_EVIDENCE = "SELECT id, primary_id, merged_id FROM link_evidence ORDER BY id"

# Who carries a value: contacts first. Sorted by the server, which has a disk to do it on.
_EMAILS = """
    SELECT email COLLATE "C" AS value, id AS contact_id, NULL::bigint AS evidence_id, anchors_email
    FROM contact WHERE email <> ''
    UNION ALL SELECT email COLLATE "C", NULL, id, false FROM link_evidence
    ORDER BY value, contact_id, evidence_id
"""
_PHONE_NUMBERS = """
    SELECT phone_number COLLATE "C" AS value, id AS contact_id, NULL::bigint AS evidence_id,
           anchors_phone
    FROM contact WHERE phone_number <> ''
    UNION ALL SELECT phone_number COLLATE "C", NULL, id, false FROM link_evidence
    ORDER BY value, contact_id, evidence_id
"""

_LINES = """
    SELECT coalesce(linked_id, id) AS identity, 'email:' || email COLLATE "C" AS line
    FROM contact WHERE email <> ''
    UNION ALL SELECT coalesce(linked_id, id), 'phone:' || phone_number COLLATE "C"
    FROM contact WHERE phone_number <> ''
    ORDER BY identity, line
"""


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, by a stable code; `contact_id` is None when it is not about one contact.

    The message holds ids, never a value.
    """

    code: str
    contact_id: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """`violations` holds the first `LISTED` of each code, `counts` tells how many there are.

    `identities` and `digest` are those of the links as they are stored.
    """

    contacts: int
    identities: int
    digest: str
    violations: tuple[Violation, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        return not self.counts

    @property
    def is_cut(self) -> bool:
        """Whether there are more violations than are listed."""
        return sum(self.counts.values()) > len(self.violations)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "contacts": self.contacts,
            "identities": self.identities,
            "digest": self.digest,
            "violations": [
                {"code": found.code, "contactId": found.contact_id, "message": found.message}
                for found in self.violations
            ],
        } | ({"violationCounts": self.counts} if self.is_cut else {})


def verify(connection: psycopg.Connection[Any]) -> Verification:
    """Recompute the graph in one snapshot and compare it with what is stored.

    Takes some 50 bytes a contact or piece of evidence, then some 80 an identity.
    """
    violations = _Violations()
    with snapshot(connection) as graph:
        messages = {code: message for code, _, message in _ROW_CHECKS}
        for contact_id, codes in graph.rows(_BAD_ROWS):
            for code in codes:
                violations.add(code, contact_id, messages[code])
        contacts, identities = _compare(graph, violations)
        digest = _digest(graph)
    return Verification(
        contacts, identities, digest, tuple(violations.listed), dict(violations.counts)
    )


class _Violations:
    def __init__(self) -> None:
        self.listed: list[Violation] = []
        self.counts: Counter[str] = Counter()

    def add(self, code: str, contact_id: int | None, message: str) -> None:
        self.counts[code] += 1
        if self.counts[code] <= LISTED:
            self.listed.append(Violation(code, contact_id, message))


class _Places:
    """Where an id stands in a rising list of them."""

    def __init__(self, ids: array[int]) -> None:
        self.ids = ids
        self._first = ids[0] if ids else 0
        self._span = ids[-1] - self._first + 1 if ids else 0
        self._gaps = self._span - len(ids)

    def of(self, wanted: int) -> int | None:
        # At most where it would stand without gaps, and at least so many gaps before that.
        guess = wanted - self._first
        if not 0 <= guess < self._span:
            return None
        ids = self.ids
        low = guess - self._gaps if guess > self._gaps else 0
        high = guess if guess < len(ids) else len(ids) - 1
        place = bisect_left(ids, wanted, low, high)
        return place if ids[place] == wanted else None


class _Components:
    """Union-find over the nodes 0 … size - 1."""

    def __init__(self, size: int) -> None:
        self._parents = array("q", range(size))

    def of(self, node: int) -> int:
        """The node that stands for the component."""
        parents = self._parents
        while (parent := parents[node]) != node:
            parents[node] = node = parents[parent]
        return node

    def join(self, one: int, other: int) -> None:
        one, other = self.of(one), self.of(other)
        self._parents[max(one, other)] = min(one, other)


def _compare(graph: Snapshot, violations: _Violations) -> tuple[int, int]:
    """Compare links and anchors with the components; the numbers of contacts and identities."""
    ids, links = array("q"), array("q")
    for contact_id, linked_id in graph.rows(_CONTACTS):
        ids.append(contact_id)
        links.append(contact_id if linked_id is None else linked_id)
    contacts = _Places(ids)
    evidence = _Places(array("q", map(itemgetter(0), graph.rows(_EVIDENCE))))
    # The stored identity of each contact; one whose link leads nowhere is on its own.
    roots = links
    for node, link in enumerate(links):
        place = contacts.of(link)
        roots[node] = node if place is None else place

    components = _Components(len(ids) + len(evidence.ids))

    def join_carriers(field: str, query: LiteralString) -> None:
        for _, carriers in groupby(graph.rows(query), itemgetter(0)):
            first: int | None = None
            owner: int | None = None
            split = False
            anchors = 0
            for _, contact_id, evidence_id, anchored in carriers:
                if contact_id is None:
                    node = len(ids) + _known(evidence.of(evidence_id))
                    if owner is None:
                        violations.add(
                            "evidence_of_unknown_value",
                            None,
                            f"evidence {evidence_id} names {field} that no contact has",
                        )
                else:
                    node = _known(contacts.of(contact_id))
                    anchors += bool(anchored)
                    if owner is None:
                        owner = node
                    elif roots[node] != roots[owner] and not split:
                        split = True
                        violations.add(
                            "identifier_in_two_identities",
                            contact_id,
                            f"it shares {field} with contact {ids[owner]} of another identity",
                        )
                if first is None:
                    first = node
                else:
                    components.join(first, node)
            if owner is not None and anchors == 0:
                violations.add("value_without_anchor", ids[owner], f"no contact anchors {field}")
            elif owner is not None and anchors > 1:
                violations.add(
                    "value_anchored_twice", ids[owner], f"{anchors} contacts anchor {field}"
                )

    join_carriers("an email", _EMAILS)
    join_carriers("a phone number", _PHONE_NUMBERS)

    # By component, the first of its contacts.
    firsts = array("q", [-1]) * len(ids)
    identities = 0
    for node, root in enumerate(roots):
        component = components.of(node)
        is_joined = root == node or components.of(root) == component
        identities += root == node
        if not is_joined:
            violations.add(
                "link_without_evidence",
                ids[node],
                f"it is linked to contact {ids[root]}, no evidence joins them",
            )
        # A contact is the lowest node of its component: evidence alone joins no two of them.
        first = firsts[component]
        if first < 0:
            firsts[component] = node
        elif root != roots[first] and (root == node or not is_joined):
            # Said once an identity, not for each secondary that stands with its primary.
            violations.add(
                "unmerged",
                ids[node],
                f"evidence joins it with contact {ids[first]}, the links keep them apart",
            )

    for evidence_id, *named in graph.rows(_EVIDENCE):
        component = components.of(len(ids) + _known(evidence.of(evidence_id)))
        for contact_id in named:
            if contact_id is None:
                continue
            place = contacts.of(contact_id)
            if place is None:
                violations.add(
                    "evidence_of_unknown_contact",
                    None,
                    f"evidence {evidence_id} names contact {contact_id}, which does not exist",
                )
            elif components.of(place) != component:
                violations.add(
                    "evidence_in_another_identity",
                    contact_id,
                    f"evidence {evidence_id} names it, but has the values of another identity",
                )
    return len(ids), identities


def _known(place: int | None) -> int:
    assert place is not None  # noqa: S101 - the same snapshot has listed every id before
    return place


def _digest(graph: Snapshot) -> str:
    """The digest of who is who: nothing but the values of each identity goes in."""
    digests = []
    current = previous = None
    one = sha256()
    for identity, line in graph.rows(_LINES):
        if identity != current:
            if current is not None:
                digests.append(one.digest())
            one = sha256(line.encode())
        elif line != previous:
            one.update(b"\n" + line.encode())
        current, previous = identity, line
    if current is not None:
        digests.append(one.digest())
    # The order of the digests is that of their hex forms.
    digests.sort()
    whole = sha256()
    for place, digest in enumerate(digests):
        whole.update((b"\n" if place else b"") + digest.hex().encode())
    return f"sha256:{whole.hexdigest()}"
