"""Explain why values are one identity: the chain between two of them, or the whole tree.

Every fact is a stored row, with the run, the file and the line that it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from identity_cli.errors import ContactNotFoundError, NotOneIdentityError
from identity_cli.graph import core
from identity_cli.graph.chains import Branch, Hop, first_links, links_of, shortest_chain
from identity_cli.graph.evidence import read_evidence
from identity_cli.graph.past_identity import find_past_roots, read_past_evidence, resolve_past
from identity_cli.graph.separation import blocking_rule, separating_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.chains import Links
    from identity_cli.graph.core import Found, Steps
    from identity_cli.graph.evidence import Evidence, IdentityEvidence, Sources
    from identity_cli.graph.moments import Moment
    from identity_cli.graph.references import Reference
    from identity_cli.graph.separation import Rule
    from identity_cli.postgres.snapshot import Snapshot

SCHEMA_VERSION = 1

_T = TypeVar("_T")


@dataclass(frozen=True)
class ChainExplanation:
    """The shortest chain of evidence between two values or contacts of one identity.

    A contact of two values is joined with the chain by its own row. There is no hop if both are
    the same value, or the same contact.
    """

    start: Found
    end: Found
    evidence: IdentityEvidence
    links: Links
    hops: tuple[Hop, ...]

    @property
    def is_ambiguous(self) -> bool:
        """Whether an end may mean another identity, too."""
        return self.start.is_ambiguous or self.end.is_ambiguous

    @property
    def values(self) -> list[str]:
        """The values along the chain; without hops, the values that both stand for."""
        if self.hops:
            return [self.hops[0].value, *(hop.other_value for hop in self.hops)]
        return list(_values(self.start, self.evidence))

    def as_json(self) -> dict[str, Any]:
        sources = self.evidence.sources
        return {
            "schema_version": SCHEMA_VERSION,
            "primary_id": self.evidence.primary_id,
            "from": _endpoint(self.start),
            "to": _endpoint(self.end),
            "hops": [hop_document(hop, sources) for hop in self.hops],
        }


@dataclass(frozen=True)
class Separation:
    """Two values or contacts that are not one identity, and the rules that keep them apart.

    Without any one of the rules, the two would be one identity. If there is none, nothing that was
    stored joins them, or only what several rules take out. Rules of the past are not known.
    """

    start: Found
    end: Found
    rules: tuple[Rule, ...] = ()
    is_past: bool = False

    @property
    def error(self) -> NotOneIdentityError:
        """The error that reports it, without the values."""
        if self.is_past and self.start.primary_id == self.end.primary_id:
            return NotOneIdentityError(
                f"they were one identity at that time, of contact {self.end.primary_id}, but what"
                " joined them was forgotten since",
                hint="a forgotten value cannot be shown, nor what it joined",
            )
        if self.is_past:
            return NotOneIdentityError(
                "they were two identities at that time: their primaries were the contacts"
                f" {self.start.primary_id} and {self.end.primary_id}",
                hint="identity history shows what has happened since",
            )
        if self.start.primary_id == self.end.primary_id:
            return NotOneIdentityError(
                f"no evidence joins them, although both belong to contact {self.end.primary_id}",
                hint="run identity verify, which lists what is wrong with the graph",
            )
        message = (
            "they are two identities, and nothing that links joins them: their primaries are the"
            f" contacts {self.start.primary_id} and {self.end.primary_id}"
        )
        if self.rules:
            rule = self.rules[0]
            subject = "the pair" if rule.kind == "unlinked" else "the value"
            more = f", and {len(self.rules) - 1} more rules" if len(self.rules) > 1 else ""
            return NotOneIdentityError(
                f"{message}; {subject} that would join them {rule.effect}{more}",
                hint="use --json for the values and the reason",
            )
        return NotOneIdentityError(
            message,
            hint=f"run identity explain {self.start.primary_id} for the evidence of the first one",
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "primary_id": None,
            "from": _endpoint(self.start),
            "to": _endpoint(self.end),
            "hops": None,
            "rules": [rule.as_json() for rule in self.rules],
        }


@dataclass(frozen=True)
class IdentityExplanation:
    """All values of one identity, as the tree of the rows that linked or merged them first.

    Rows that show two values that were joined already are counted, but not part of the tree.
    """

    found: Found
    evidence: IdentityEvidence
    tree: Sequence[Branch]

    @property
    def is_ambiguous(self) -> bool:
        """Whether the reference may mean another identity, too."""
        return self.found.is_ambiguous

    @property
    def values(self) -> list[str]:
        """The values of the identity in the order of the tree."""
        return [branch.value for branch in self.tree]

    @cached_property
    def links(self) -> Links:
        return links_of(self.evidence.rows())

    def as_json(self) -> dict[str, Any]:
        sources = self.evidence.sources
        return {
            "schema_version": SCHEMA_VERSION,
            "primary_id": self.evidence.primary_id,
            "contacts": len(self.evidence.contacts),
            "pairs": len(self.evidence.pairs),
            "tree": [branch_document(branch, sources) for branch in self.tree],
        }


def explain_identity(
    graph: Snapshot, references: Sequence[Reference], moment: Moment | None = None
) -> IdentityExplanation:
    """Explain the identity that the references lead to, or led to at a moment of the past.

    Raises `ContactNotFoundError`.
    """
    if moment is None:
        found = resolved(graph, references)
        evidence = read_evidence(graph, found.primary_id)
    else:
        found = resolve_past(find_past_roots(graph, moment, references), references)
        evidence = read_past_evidence(graph, moment, found.primary_id)
    root = next(
        (row for row in evidence.contacts if row.contact_id == found.primary_id),
        evidence.contacts[0],
    )
    return IdentityExplanation(found, evidence, first_links(evidence.rows(), root.value))


def explain_chain(
    graph: Snapshot,
    start_references: Sequence[Reference],
    end_references: Sequence[Reference],
    moment: Moment | None = None,
) -> ChainExplanation | Separation:
    """Explain why two values or contacts are one identity, or report that they are not.

    With a moment, that they were. Raises `ContactNotFoundError`.
    """
    if moment is None:
        start = resolved(graph, start_references, ": the first one of the two")
        end = resolved(graph, end_references, ": the second one of the two")
    else:
        roots = find_past_roots(graph, moment, (*start_references, *end_references))
        start, end = resolve_past(roots, start_references), resolve_past(roots, end_references)
    if start.primary_id != end.primary_id:
        if moment is not None:
            return Separation(start, end, is_past=True)
        rules = separating_rules(graph, start.primary_id, end.primary_id)
        return Separation(start, end, rules)
    if moment is None:
        evidence = read_evidence(graph, start.primary_id)
    else:
        evidence = read_past_evidence(graph, moment, start.primary_id)
    links = links_of(evidence.rows())
    if start.reference == end.reference:
        return ChainExplanation(start, end, evidence, links, ())
    hops = shortest_chain(links, _values(start, evidence), set(_values(end, evidence)))
    if hops is None:
        return Separation(start, end, is_past=moment is not None)
    first, last = (hops[0].value, hops[-1].other_value) if hops else _common(start, end, evidence)
    hops = [*_own_row(start, evidence, first), *hops]
    hops += [Hop(hop.other_value, hop.value, hop.row) for hop in _own_row(end, evidence, last)]
    return ChainExplanation(start, end, evidence, links, tuple(hops))


def resolved(graph: Snapshot, references: Sequence[Reference], which: str = "") -> Found:
    """Find the identity that the references lead to; `which` names them in a message.

    Raises `ContactNotFoundError`, which reports whether the value is blocked.
    """
    try:
        return _run(graph, core.resolve(references))
    except ContactNotFoundError as error:
        rule = blocking_rule(graph, str(references[-1].value))
        if rule is None:
            message, hint = f"no such contact{which}", error.hint
        else:
            message = f"no identity has the value{which}: it {rule.effect}"
            hint = "a value that is blocked belongs to no identity until it is unblocked"
        raise ContactNotFoundError(message, hint=hint) from None


def _values(found: Found, evidence: IdentityEvidence) -> tuple[str, ...]:
    """Return the value, or the values of the contact."""
    if found.reference.kind != "id":
        return (str(found.reference.value),)
    row = evidence.contact(int(found.reference.value))
    return (row.value,) if row.other_value is None else (row.value, row.other_value)


def _common(start: Found, end: Found, evidence: IdentityEvidence) -> tuple[str, str]:
    """Return a value that both have, as the beginning and the end of a chain without hops."""
    ends = _values(end, evidence)
    value = next(value for value in _values(start, evidence) if value in ends)
    return value, value


def _own_row(found: Found, evidence: IdentityEvidence, joined: str) -> list[Hop]:
    """Return the hop from a contact's other value to the one that is joined with the chain."""
    if found.reference.kind != "id":
        return []
    row = evidence.contact(int(found.reference.value))
    if row.other_value is None:
        return []
    other = row.value if joined == row.other_value else row.other_value
    return [Hop(other, joined, row)]


def _run(graph: Snapshot, steps: Steps[_T]) -> _T:
    try:
        query = next(steps)
        while True:
            query = steps.send(graph.connection.execute(*query).fetchall())
    except StopIteration as stop:
        result: _T = stop.value
        return result


def _endpoint(found: Found) -> dict[str, Any]:
    return {
        "kind": found.reference.kind,
        "value": found.reference.value,
        "primary_id": found.primary_id,
    }


def _row(row: Evidence, sources: Sources) -> dict[str, Any]:
    place = sources.of(row)
    return {
        "contact_id": row.contact_id,
        "evidence_id": row.evidence_id,
        "merged_id": row.merged_id,
        "run_id": row.run_id,
        "path": None if place is None else place.path,
        "line": None if place is None else place.line,
        "time": row.time.isoformat(),
    }


def hop_document(hop: Hop, sources: Sources) -> dict[str, Any]:
    """Return the document of a hop."""
    return {"value": hop.value, "other_value": hop.other_value, **_row(hop.row, sources)}


def branch_document(branch: Branch, sources: Sources) -> dict[str, Any]:
    """Return the document of a value in the tree."""
    origin = None if branch.origin is None else _row(branch.origin, sources)
    if branch.link is branch.origin:
        link = origin
    else:
        link = None if branch.link is None else _row(branch.link, sources)
    return {
        "value": branch.value,
        "depth": branch.depth,
        "parent": branch.parent,
        "origin": origin,
        "link": link,
    }
