"""What a role of the database needs: no superuser, no owner, only these grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    import psycopg

_READ = "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
_USE = "GRANT USAGE ON SCHEMA {schema} TO {role}"
# Deleting is nobody's: no command does it.
_RECONCILE = (
    "GRANT INSERT, UPDATE ON contact, import_run TO {role}",
    "GRANT INSERT ON link_evidence, normalization_profile TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {role}",
)


def grant(connection: psycopg.Connection[Any], role: str, *, read_only: bool) -> None:
    """Let the role reconcile, or only read. Raises `DatabaseError` when there is no such role."""
    statements = (_USE, _READ) if read_only else (_USE, _READ, *_RECONCILE)
    with translated(), connection.transaction():
        row = connection.execute("SELECT current_schema()").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
        names = {"schema": sql.Identifier(row[0]), "role": sql.Identifier(role)}
        for statement in statements:
            connection.execute(sql.SQL(statement).format(**names))
