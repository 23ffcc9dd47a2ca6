"""Compare the program's own objects in a database with what the program made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity_cli.postgres.database import Database, engine
from identity_cli.postgres.models import metadata
from identity_cli.postgres.session import READ
from identity_cli.postgres.sql import routines

if TYPE_CHECKING:
    import psycopg

TRIGGERS = (
    "contact_identifiers_deleted",
    "contact_identifiers_inserted",
    "contact_identifiers_updated",
)

_CHECKS = """
    SELECT conname, convalidated FROM pg_constraint
    WHERE contype = 'c' AND conrelid IN (SELECT unnest(%s::text[])::regclass)
"""
# 'O' and 'A' fire in a normal session. Foreign keys are triggers too, internal ones.
_TRIGGERS = """
    SELECT CASE WHEN tgisinternal THEN coalesce(conname, tgname) ELSE tgname END,
           tgenabled IN ('O', 'A')
    FROM pg_trigger LEFT JOIN pg_constraint ON pg_constraint.oid = tgconstraint
    WHERE tgrelid IN (SELECT unnest(%s::text[])::regclass)
"""
_ROUTINES = """
    SELECT proname, prosrc, proconfig::text LIKE '%%search_path=%%'
    FROM pg_proc
    WHERE proname = ANY(%s)
      AND pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'contact'::regclass)
"""
# The function that the program replaces as rules come and go, and what it returns.
_RULES_IN_FORCE = "rules_in_force"
_RULES_TABLES = {"block_pattern", "forgotten_value", "link_policy"}
_RULES = """
    SELECT (EXISTS (SELECT FROM block_pattern) OR EXISTS (SELECT FROM forgotten_value))::integer
           + 2 * (SELECT coalesce(least(email_limit, phone_limit), 0) FROM link_policy)
"""


def differences(database: Database) -> list[str]:
    """Return what differs, one line for each; empty if nothing was changed by hand.

    Objects of others, also in the same schema, are not compared.
    """
    found = _tables(database)
    with database.connect(session=READ) as connection:
        names = [name for name in metadata.tables if _exists(connection, name)]
        return [
            *found,
            *_checks(connection, names),
            *_triggers(connection, names),
            *_routines(connection),
            *_rules_in_force(connection, names),
            *_sleeping_triggers(connection),
        ]


def _tables(database: Database) -> list[str]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def is_own(name: str | None, kind: str, _parents: Any) -> bool:
        return kind != "table" or name in metadata.tables

    with engine(database).connect() as connection:
        options = {"compare_server_default": True, "include_name": is_own}
        context = MigrationContext.configure(connection, opts=options)
        return [str(difference) for difference in compare_metadata(context, metadata)]


def _exists(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return row == (True,)


def _checks(connection: psycopg.Connection[Any], tables: list[str]) -> list[str]:
    from sqlalchemy import CheckConstraint

    wanted = {
        str(constraint.name)
        for table in tables
        for constraint in metadata.tables[table].constraints
        if isinstance(constraint, CheckConstraint)
    }
    found = dict(connection.execute(_CHECKS, (tables,)).fetchall())
    return [
        *(f"constraint {name} is missing" for name in sorted(wanted - found.keys())),
        *(
            f"constraint {name} is not validated"
            for name in sorted(wanted & found.keys())
            if not found[name]
        ),
    ]


def _triggers(connection: psycopg.Connection[Any], tables: list[str]) -> list[str]:
    rows = connection.execute(_TRIGGERS, (tables,)).fetchall()
    names = {name for name, _ in rows}
    return [
        *(f"trigger {name} is missing" for name in TRIGGERS if name not in names),
        *(
            f"trigger {name} is disabled"
            for name in sorted({name for name, enabled in rows if not enabled})
        ),
    ]


def _routines(connection: psycopg.Connection[Any]) -> list[str]:
    wanted = {routine.name: routine for routine in routines()}
    rows = connection.execute(_ROUTINES, (list(wanted),)).fetchall()
    found = {name: (body, bool(has_path)) for name, body, has_path in rows}
    result = [f"function {name} is missing" for name in wanted if name not in found]
    for name, (body, has_path) in sorted(found.items()):
        if body != wanted[name].body and name != _RULES_IN_FORCE:
            result.append(f"function {name} has another text")
        elif wanted[name].sets_search_path and not has_path:
            result.append(f"function {name} does not set its search_path")
    return result


def _rules_in_force(connection: psycopg.Connection[Any], tables: list[str]) -> list[str]:
    if not _RULES_TABLES.issubset(tables):
        return []
    bodies = {body for _, body, _ in connection.execute(_ROUTINES, ([_RULES_IN_FORCE],))}
    row = connection.execute(_RULES).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
    if bodies and bodies != {f" SELECT {row[0]} "}:
        return [f"function {_RULES_IN_FORCE} does not agree with the rules"]
    return []


def _sleeping_triggers(connection: psycopg.Connection[Any]) -> list[str]:
    # What the role and the database set; the connection itself has another value.
    rows = connection.execute(
        "SELECT reset_val FROM pg_settings"
        " WHERE name = 'session_replication_role' AND reset_val <> 'origin'"
    ).fetchall()
    return [
        f"session_replication_role is {value}: other programs skip the checks" for (value,) in rows
    ]
