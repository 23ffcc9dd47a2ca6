"""Verify the stored graph: compute the components again from what was requested, and compare.

Contacts and evidence are the nodes; a value joins all that carry it. Links and anchors take no part
in this: they are compared with the result.
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

# How many violations of each code are listed; all are counted.
LISTED = 100

# What can be seen from a contact `c` and the contact `p` that its link names: code, condition and
# message. The schema's constraints forbid these, but a superuser or a damaged disk can cause them.
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

# What carries each value, contacts first. The server sorts: it has a disk to do it on. Evidence
# holds two values of any kind; only an email has an @.
_EMAILS = """
    SELECT email COLLATE "C" AS value, id AS contact_id, NULL::bigint AS evidence_id, anchors_email
    FROM contact WHERE email <> ''
    UNION ALL SELECT value COLLATE "C", NULL, id, false FROM link_evidence
    WHERE strpos(value, '@') > 0
    UNION ALL SELECT other_value COLLATE "C", NULL, id, false FROM link_evidence
    WHERE strpos(other_value, '@') > 0
    ORDER BY value, contact_id, evidence_id
"""
_PHONE_NUMBERS = """
    SELECT phone_number COLLATE "C" AS value, id AS contact_id, NULL::bigint AS evidence_id,
           anchors_phone
    FROM contact WHERE phone_number <> ''
    UNION ALL SELECT value COLLATE "C", NULL, id, false FROM link_evidence
    WHERE strpos(value, '@') = 0
    UNION ALL SELECT other_value COLLATE "C", NULL, id, false FROM link_evidence
    WHERE strpos(other_value, '@') = 0
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
    """A violation, by a stable code; `contact_id` is None if it is not about one contact.

    The message contains ids, never a value.
    """

    code: str
    contact_id: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result. `violations` holds the first `LISTED` of each code, `counts` how many there are.

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

    Takes about 50 bytes per contact and piece of evidence, then about 80 per identity.
    """
    with snapshot(connection) as graph:
        return verify_snapshot(graph)


def verify_snapshot(graph: Snapshot) -> Verification:
    """Recompute the graph as `verify` does, in a snapshot that others read too."""
    violations = _Violations()
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
    """The places of ids in an ascending list of them."""

    def __init__(self, ids: array[int]) -> None:
        self.ids = ids
        self._first = ids[0] if ids else 0
        self._span = ids[-1] - self._first + 1 if ids else 0
        self._gaps = self._span - len(ids)

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


class _Components:
    """A union-find over the nodes 0 … size - 1."""

    def __init__(self, size: int) -> None:
        self._parents = array("q", range(size))

    def of(self, node: int) -> int:
        """Return the node that represents the component."""
        parents = self._parents
        while (parent := parents[node]) != node:
            parents[node] = node = parents[parent]
        return node

    def join(self, left: int, right: int) -> None:
        left, right = self.of(left), self.of(right)
        self._parents[max(left, right)] = min(left, right)


class _StoredGraph:
    """Contacts and evidence as nodes: the contacts by id, then the evidence by id.

    `roots` holds each contact's stored identity as the node of its primary; a contact whose link
    leads nowhere is an identity of its own. `components` are computed from values alone.
    """

    def __init__(self, graph: Snapshot) -> None:
        ids, links = array("q"), array("q")
        for contact_id, linked_id in graph.rows(_CONTACTS):
            ids.append(contact_id)
            links.append(contact_id if linked_id is None else linked_id)
        self.ids = ids
        self._contacts = _Places(ids)
        self._evidence = _Places(array("q", map(itemgetter(0), graph.rows(_EVIDENCE))))
        self.roots = links  # overwritten in place: the links are not needed any more
        for node, link in enumerate(links):
            place = self._contacts.of(link)
            self.roots[node] = node if place is None else place
        self.components = _Components(len(ids) + len(self._evidence.ids))

    def contact(self, contact_id: int) -> int | None:
        """Return the node of a contact, None if there is no such contact."""
        return self._contacts.of(contact_id)

    def evidence(self, evidence_id: int) -> int:
        """Return the node of a piece of evidence."""
        return len(self.ids) + _known(self._evidence.of(evidence_id))


class _Value:
    """The carriers of one value, taken one at a time: first its contacts, then its evidence.

    Whatever carries the value is joined into one component.
    """

    __slots__ = ("_anchors", "_field", "_first", "_is_split", "_owner", "_stored", "_violations")

    def __init__(self, field: str, stored: _StoredGraph, violations: _Violations) -> None:
        self._field = field
        self._stored = stored
        self._violations = violations
        self._first: int | None = None
        self._owner: int | None = None
        self._is_split = False
        self._anchors = 0

    def take_contact(self, contact_id: int, *, is_anchor: bool) -> None:
        """Law: a value leads to one identity. Reported once per value."""
        node = _known(self._stored.contact(contact_id))
        self._join(node)
        self._anchors += is_anchor
        if self._owner is None:
            self._owner = node
            return
        roots = self._stored.roots
        if roots[node] != roots[self._owner] and not self._is_split:
            self._is_split = True
            self._violations.add(
                "identifier_in_two_identities",
                contact_id,
                f"it shares {self._field} with contact {self._stored.ids[self._owner]}"
                " of another identity",
            )

    def take_evidence(self, evidence_id: int) -> None:
        """Law: a value of the evidence is a contact's."""
        self._join(self._stored.evidence(evidence_id))
        if self._owner is None:
            self._violations.add(
                "evidence_of_unknown_value",
                None,
                f"evidence {evidence_id} names {self._field} that no contact has",
            )

    def check_anchor(self) -> None:
        """Law: of the contacts that carry a value, exactly one anchors it."""
        if self._owner is None or self._anchors == 1:
            return
        owner = self._stored.ids[self._owner]
        if self._anchors == 0:
            message = f"no contact anchors {self._field}"
            self._violations.add("value_without_anchor", owner, message)
        else:
            message = f"{self._anchors} contacts anchor {self._field}"
            self._violations.add("value_anchored_twice", owner, message)

    def _join(self, node: int) -> None:
        if self._first is None:
            self._first = node
        else:
            self._stored.components.join(self._first, node)


def _compare(graph: Snapshot, violations: _Violations) -> tuple[int, int]:
    """Compare links and anchors with the components; return how many contacts and identities."""
    stored = _StoredGraph(graph)
    _check_values(graph, "an email", _EMAILS, stored, violations)
    _check_values(graph, "a phone number", _PHONE_NUMBERS, stored, violations)
    _check_links(stored, violations)
    _check_evidence(graph, stored, violations)
    identities = sum(node == root for node, root in enumerate(stored.roots))
    return len(stored.ids), identities


def _check_values(
    graph: Snapshot,
    field: str,
    query: LiteralString,
    stored: _StoredGraph,
    violations: _Violations,
) -> None:
    for _, carriers in groupby(graph.rows(query), itemgetter(0)):
        value = _Value(field, stored, violations)
        for _, contact_id, evidence_id, is_anchor in carriers:
            if contact_id is None:
                value.take_evidence(evidence_id)
            else:
                value.take_contact(contact_id, is_anchor=bool(is_anchor))
        value.check_anchor()


def _check_links(stored: _StoredGraph, violations: _Violations) -> None:
    """Laws: evidence joins what a link joins, and links join what evidence joins."""
    ids, roots, components = stored.ids, stored.roots, stored.components
    # By component, its lowest contact: evidence without a contact has no part in it.
    first_contacts = array("q", [-1]) * len(ids)
    for node, root in enumerate(roots):
        component = components.of(node)
        is_joined = root == node or components.of(root) == component
        if not is_joined:
            violations.add(
                "link_without_evidence",
                ids[node],
                f"it is linked to contact {ids[root]}, no evidence joins them",
            )
        # A contact is the lowest node of its component: evidence alone joins no two of them.
        first = first_contacts[component]
        if first < 0:
            first_contacts[component] = node
        elif root != roots[first] and (root == node or not is_joined):
            # Reported once per identity, not for each secondary that is with its primary.
            violations.add(
                "unmerged",
                ids[node],
                f"evidence joins it with contact {ids[first]}, the links keep them apart",
            )


def _check_evidence(graph: Snapshot, stored: _StoredGraph, violations: _Violations) -> None:
    """Law: the contacts that evidence names have its values, directly or through others."""
    components = stored.components
    for evidence_id, *named in graph.rows(_EVIDENCE):
        component = components.of(stored.evidence(evidence_id))
        for contact_id in named:
            if contact_id is None:
                continue
            node = stored.contact(contact_id)
            if node is None:
                violations.add(
                    "evidence_of_unknown_contact",
                    None,
                    f"evidence {evidence_id} names contact {contact_id}, which does not exist",
                )
            elif components.of(node) != component:
                violations.add(
                    "evidence_in_another_identity",
                    contact_id,
                    f"evidence {evidence_id} names it, but has the values of another identity",
                )


def _known(place: int | None) -> int:
    assert place is not None  # noqa: S101 - the same snapshot has listed every id before
    return place


def _digest(graph: Snapshot) -> str:
    """Return the digest of who is who, made of the values of each identity alone."""
    digests = []
    current = previous = None
    values = sha256()
    for identity, line in graph.rows(_LINES):
        if identity != current:
            if current is not None:
                digests.append(values.digest())
            values = sha256(line.encode())
        elif line != previous:
            values.update(b"\n" + line.encode())
        current, previous = identity, line
    if current is not None:
        digests.append(values.digest())
    # The order of the digests is that of their hex forms.
    digests.sort()
    whole = sha256()
    for place, digest in enumerate(digests):
        whole.update((b"\n" if place else b"") + digest.hex().encode())
    return f"sha256:{whole.hexdigest()}"
