"""Requests sent to the service in batches, and the stored graph as the model's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model import Evidence, Row, problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from identity_cli.graph.service import IdentityService, Outcome, Refusal, RunRequest

# Nothing refuses what is planted from here on.
UNGUARDED = """
    ALTER TABLE contact DISABLE TRIGGER USER;
    ALTER TABLE contact DROP CONSTRAINT contact_links_to_a_primary;
    ALTER TABLE contact DROP CONSTRAINT contact_primary_has_no_link;
    ALTER TABLE contact DROP CONSTRAINT contact_has_an_identifier;
    DROP INDEX contact_email_anchor;
    DROP INDEX contact_phone_anchor;
    ALTER TABLE contact ALTER COLUMN linked_precedence DROP EXPRESSION;
"""


def in_batches(
    service: IdentityService, sent: Sequence[RunRequest], size: int, *, commit_each: bool
) -> list[Outcome | Refusal]:
    """Reconcile requests in batches of one size; return their outcomes in order."""
    return [
        outcome
        for start in range(0, len(sent), size)
        for outcome in service.reconcile_batch(
            sent[start : start + size], 1, commit_each=commit_each
        )
    ]


def contact_rows(connection: psycopg.Connection[Any]) -> list[Row]:
    found = connection.execute(
        "SELECT id, email, phone_number, linked_id, link_precedence::text FROM contact ORDER BY id"
    )
    return [Row(*row) for row in found]


def evidence_rows(connection: psycopg.Connection[Any]) -> list[Evidence]:
    found = connection.execute(
        "SELECT value, other_value, primary_id, merged_id FROM link_evidence ORDER BY id"
    )
    return [Evidence(*row) for row in found]


def problems_of(connection: psycopg.Connection[Any]) -> list[str]:
    """What is wrong with the stored graph."""
    oldest_first = connection.execute("SELECT id FROM contact ORDER BY created_at, id").fetchall()
    return problems(
        contact_rows(connection), evidence_rows(connection), [id_ for (id_,) in oldest_first]
    )
