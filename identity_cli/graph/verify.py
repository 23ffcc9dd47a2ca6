"""Verify the stored graph: compute the identities again from what was stated, and compare.

At any time the identities are the connected components of all evidence except what the rules
exclude. Facts are the nodes: contacts as they were stored, and evidence. A value joins all facts
that state it, unless a rule keeps it from linking. Links, anchors and marks take no part in this:
they are compared with the result.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from identity_cli.graph.components import Places, StoredGraph
from identity_cli.graph.digest import digest
from identity_cli.graph.row_checks import check_rows
from identity_cli.graph.value_checks import check_values
from identity_cli.graph.violations import LISTED, Violation, Violations
from identity_cli.meter import SILENT
from identity_cli.postgres.database import translated
from identity_cli.postgres.snapshot import Snapshot, snapshot

if TYPE_CHECKING:
    import psycopg

    from identity_cli.meter import Meter

__all__ = ["LISTED", "Verification", "Violation", "verify"]

_EVIDENCE = "SELECT id, is_held, primary_id, merged_id FROM link_evidence ORDER BY id"
# Where the same rows are read twice, the steps below count them twice.
_COUNTS = """
    SELECT contact.facts, contact.shown, aside.facts, aside.stated, evidence.facts
    FROM (SELECT count(*) AS facts, count(email) + count(phone_number) AS shown
          FROM contact WHERE id >= 0) AS contact,
         (SELECT count(*) AS facts, count(email) + count(phone_number) AS stated
          FROM set_aside_contact) AS aside,
         (SELECT count(*) AS facts FROM link_evidence) AS evidence
"""
_MOVED = "SELECT DISTINCT contact_id FROM contact_move ORDER BY contact_id"


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


def verify(connection: psycopg.Connection[Any], meter: Meter = SILENT) -> Verification:
    """Recompute the graph in one snapshot and compare it with what is stored.

    Takes about 50 bytes per contact and piece of evidence, then about 80 per identity.
    """
    with snapshot(connection) as graph:
        return verify_snapshot(graph, meter)


def verify_snapshot(graph: Snapshot, meter: Meter = SILENT) -> Verification:
    """Recompute the graph as `verify` does, in a snapshot that others read too."""
    violations = Violations()
    contacts = 0
    if meter.is_shown:
        contacts = _expect_rows(graph, meter)
        graph.on_rows = meter.advance
    meter.begin("contacts")
    check_rows(graph, violations)
    meter.advance(contacts)  # the server has read them
    contacts, identities = _compare(graph, violations, meter)
    meter.begin("digest")
    digest_of_links = digest(graph)
    return Verification(
        contacts, identities, digest_of_links, tuple(violations.listed), dict(violations.counts)
    )


def _expect_rows(graph: Snapshot, meter: Meter) -> int:
    """Tell the meter how many rows there are to read; return how many contacts."""
    meter.expect(None, "rows")
    meter.begin("counting")
    with translated():
        row = graph.connection.execute(_COUNTS).fetchone()
    assert row is not None  # noqa: S101 - aggregates return one row
    contacts, shown, aside, stated, evidence = row
    # Contacts are checked, read and compared with their links; evidence is read, checked for both
    # of its values, and compared. Values are checked, and the shown ones are in the digest.
    meter.expect(3 * contacts + aside + 4 * evidence + stated + 2 * shown, "rows")
    return int(contacts)


def _compare(graph: Snapshot, violations: Violations, meter: Meter) -> tuple[int, int]:
    """Compare links and anchors with the components; return how many contacts and identities."""
    meter.begin("graph")
    stored = StoredGraph(graph)
    meter.begin("values")
    check_values(graph, stored, violations)
    meter.begin("links")
    _check_links(stored, violations)
    meter.advance(len(stored.ids))
    meter.begin("evidence")
    _check_evidence(graph, stored, violations)
    identities = sum(node == root for node, root in enumerate(stored.roots))
    return len(stored.ids), identities


def _check_links(stored: StoredGraph, violations: Violations) -> None:
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


def _check_evidence(graph: Snapshot, stored: StoredGraph, violations: Violations) -> None:
    """Laws: evidence is held if a rule keeps it from linking; else it names its own identity.

    The contacts that it names have its values, directly or through others. Where a command has
    moved contacts since, they only have to be contacts, or to have been.
    """
    components = stored.components
    moved = Places(array("q", (contact_id for (contact_id,) in graph.rows(_MOVED))))
    split = _split_components(stored, moved)
    for place, (evidence_id, is_held, *named) in enumerate(graph.rows(_EVIDENCE)):
        has_to_be_held = stored.held[place]
        if is_held != has_to_be_held:
            violations.add(
                "wrongly_held_evidence",
                None,
                f"evidence {evidence_id} is not marked as held, but a rule keeps it from linking"
                if has_to_be_held
                else f"evidence {evidence_id} is marked as held, but no rule keeps it from linking",
            )
        if named[0] is None and not has_to_be_held:
            violations.add(
                "evidence_without_primary",
                None,
                f"evidence {evidence_id} links, but names no primary",
            )
        component = components.of(len(stored.ids) + place)
        for contact_id in named:
            if contact_id is None:
                continue
            node = stored.contact(contact_id)
            if node is None:
                if not stored.is_set_aside(contact_id) and moved.of(contact_id) is None:
                    violations.add(
                        "evidence_of_unknown_contact",
                        None,
                        f"evidence {evidence_id} names contact {contact_id}, which does not exist",
                    )
                continue
            own = components.of(node)
            if own != component and not (has_to_be_held or split[own] or split[component]):
                violations.add(
                    "evidence_in_another_identity",
                    contact_id,
                    f"evidence {evidence_id} names it, but has the values of another identity",
                )


def _split_components(stored: StoredGraph, moved: Places) -> bytearray:
    """Return for each component whether a command has moved one of its contacts.

    Of the parts of a split, all but one consist of contacts that were moved.
    """
    split = bytearray(len(stored.components))
    for contact_id in moved.ids:
        node = stored.contact(contact_id)
        if node is not None:
            split[stored.components.of(node)] = True
    return split
