"""What a role of the database needs: no superuser, no owner, only these grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from identity_cli.postgres.database import translated
from identity_cli.postgres.models import metadata
from identity_cli.postgres.sql import routines

if TYPE_CHECKING:
    import psycopg

# The schema, sequences and routines of the tables that the search path leads to; a routine of
# another owner is none of the program's.
_OBJECTS = """
    SELECT relnamespace::regnamespace::text,
           ARRAY(SELECT pg_get_serial_sequence(name, 'id')
                 FROM unnest(%(sequences)s::text[]) AS name),
           ARRAY(SELECT oid::regprocedure::text FROM pg_proc
                 WHERE pronamespace = relnamespace AND proname = ANY(%(routines)s)
                   AND proowner = relowner)
    FROM pg_class WHERE oid = 'contact'::regclass
"""
# With the key, whoever has a copy of the hashes could find out by trial what was forgotten.
_UNREADABLE = "forget_key"
# What a request writes; functions with the rights of their owner write the rest. No role may
# delete.
_WRITTEN = ("contact", "import_run", "link_evidence")
_READ = ("GRANT USAGE ON SCHEMA {schema} TO {role}", "GRANT SELECT ON {tables} TO {role}")
_RECONCILE = (
    "GRANT INSERT, UPDATE ON contact, import_run, normalization_profile, partner_count TO {role}",
    "GRANT INSERT ON link_evidence TO {role}",
    "GRANT USAGE, SELECT ON SEQUENCE {sequences} TO {role}",
    "GRANT EXECUTE ON ROUTINE {routines} TO {role}",
)


def grant(connection: psycopg.Connection[Any], role: str, *, read_only: bool) -> None:
    """Allow the role to reconcile, or only to read.

    Raises `DatabaseError` if there is no such role.
    """
    statements = _READ if read_only else (*_READ, *_RECONCILE)
    wanted = {
        "sequences": list(_WRITTEN),
        "routines": [routine.name for routine in routines()],
    }
    with translated(), connection.transaction():
        row = connection.execute(_OBJECTS, wanted).fetchone()
        assert row is not None  # noqa: S101 - the database is at head
        schema, sequences, own_routines = row
        names = {
            "schema": sql.Identifier(schema),
            "role": sql.Identifier(role),
            "tables": sql.SQL(", ").join(
                map(sql.Identifier, ("alembic_version", *(metadata.tables.keys() - {_UNREADABLE})))
            ),
            # PostgreSQL has quoted these.
            "sequences": sql.SQL(", ".join(sequences)),
            "routines": sql.SQL(", ".join(own_routines)),
        }
        for statement in statements:
            connection.execute(sql.SQL(statement).format(**names))
