"""One identity as it was at a moment: the contacts that it had, and the evidence that linked it.

What was forgotten since is missing. Each function costs the size of the whole graph.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING

from identity_cli.errors import ContactNotFoundError
from identity_cli.graph.core import ConsolidatedContact, Found, consolidate
from identity_cli.graph.evidence import (
    CONTACT_AS_EVIDENCE,
    Evidence,
    IdentityEvidence,
    read_sources,
)
from identity_cli.graph.past import is_before, past_contacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.graph.moments import Moment
    from identity_cli.graph.references import Reference
    from identity_cli.postgres.snapshot import Snapshot

_ROOTS = """
    SELECT DISTINCT CASE WHEN id = ANY(%(ids)s) THEN id END,
           CASE WHEN email = ANY(%(emails)s) THEN email END,
           CASE WHEN phone_number = ANY(%(phones)s) THEN phone_number END,
           coalesce(linked_id, id)
    FROM past_contact
    WHERE id = ANY(%(ids)s) OR email = ANY(%(emails)s) OR phone_number = ANY(%(phones)s)
"""
# The primary's own values first, as in members().
_MEMBERS = """
    SELECT id, email, phone_number FROM past_contact
    WHERE id = %(primary)s OR linked_id = %(primary)s
    ORDER BY linked_id IS NOT NULL, created_at, id
"""
_CONTACTS = f"""
    {CONTACT_AS_EVIDENCE}
    FROM past_contact
    WHERE (id = %(primary)s OR linked_id = %(primary)s)
        AND coalesce(email, phone_number) IS NOT NULL
    ORDER BY created_at, id
"""
# Evidence as it was before a command was the first to change it, or as it is.
_PAIRS = """,
    member AS MATERIALIZED (
        SELECT email, phone_number FROM past_contact
        WHERE id = %(primary)s OR linked_id = %(primary)s
    ),
    own AS (
        SELECT email AS value FROM member WHERE email IS NOT NULL
        UNION
        SELECT phone_number FROM member WHERE phone_number IS NOT NULL
    ),
    stated AS (
        SELECT DISTINCT ON (evidence_id) *
        FROM (
            SELECT evidence_id, f.id AS version, primary_id, merged_id, value, other_value, is_held,
                   run_id, line, created_at, {former_is_before} AS is_before
            FROM own JOIN former_evidence AS f USING (value) WHERE NOT {replaced_before}
            UNION ALL
            SELECT e.id, 9223372036854775807, primary_id, merged_id, value, other_value, is_held,
                   run_id, line, created_at, {evidence_is_before}
            FROM own JOIN link_evidence AS e USING (value)
        ) AS version
        ORDER BY evidence_id, version
    )
    SELECT NULL::bigint, evidence_id, primary_id, merged_id, value, other_value, false, false,
           run_id, line, created_at
    FROM stated
    WHERE is_before AND NOT is_held AND other_value IN (SELECT value FROM own)
    ORDER BY created_at, evidence_id
"""


def find_past_roots(
    graph: Snapshot, moment: Moment, references: Iterable[Reference]
) -> dict[Reference, int]:
    """Return the primaries that references led to; those that led to none are missing."""
    wanted = list(references)
    named = {
        "ids": [one.value for one in wanted if one.kind == "id"],
        "emails": [one.value for one in wanted if one.kind == "email"],
        "phones": [one.value for one in wanted if one.kind == "phone"],
    }
    found: dict[tuple[str, object], int] = {}
    for *values, root in graph.rows(past_contacts(moment) + _ROOTS, moment.parameters | named):
        found |= dict.fromkeys(zip(("id", "email", "phone"), values, strict=True), root)
    return {one: found[one] for one in wanted if one in found}


def resolve_past(roots: dict[Reference, int], references: Sequence[Reference]) -> Found:
    """Return the first of the references that led to an identity. Raises `ContactNotFoundError`."""
    known = [one for one in references if one in roots]
    if not known:
        raise _not_found()
    root = roots[known[0]]
    return Found(known[0], root, any(roots[one] != root for one in known))


def find_past(
    graph: Snapshot, moment: Moment, references: Sequence[Reference], *, all_of_them: bool
) -> tuple[ConsolidatedContact, bool]:
    """Return the identity of the first reference that led to one, or that all of them led to.

    Returns also whether another one led elsewhere. Raises `ContactNotFoundError`.
    """
    roots = find_past_roots(graph, moment, references)
    if all_of_them and (len(roots) < len(references) or len(set(roots.values())) > 1):
        raise _not_found()
    found = resolve_past(roots, references)
    parameters = moment.parameters | {"primary": found.primary_id}
    rows = list(graph.rows(past_contacts(moment) + _MEMBERS, parameters))
    return consolidate(rows), found.is_ambiguous


def read_past_evidence(graph: Snapshot, moment: Moment, primary_id: int) -> IdentityEvidence:
    """Read the evidence that linked an identity. Raises `ContactNotFoundError`."""
    parameters = moment.parameters | {"primary": primary_id}
    clause = past_contacts(moment)
    contacts = list(starmap(Evidence, graph.rows(clause + _CONTACTS, parameters)))
    if not contacts:
        raise _not_found()
    pairs = _PAIRS.format(
        former_is_before=is_before(moment, None, "f.stored_in", "f.created_at"),
        evidence_is_before=is_before(moment, "e", "e.stored_in", "e.created_at"),
        replaced_before=is_before(moment, "f", "f.replaced_in", "f.replaced_at"),
    )
    found = list(starmap(Evidence, graph.rows(clause + pairs, parameters)))
    return IdentityEvidence(primary_id, contacts, found, read_sources(graph, contacts, found))


def _not_found() -> ContactNotFoundError:
    return ContactNotFoundError(
        "no such contact at that time",
        hint="identity history shows when something was stored, and what has happened since",
    )
