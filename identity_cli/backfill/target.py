"""The database that a backfill is loaded into: whether it can be, and what it holds already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity_cli.backfill.files import HELD_LIMITS, HELD_RULES
from identity_cli.backfill.matches import write_matches
from identity_cli.backfill.work import HeldState
from identity_cli.errors import PermissionDeniedError, TargetUnsuitableError
from identity_cli.files import replaced_file
from identity_cli.postgres.database import translated
from identity_cli.postgres.differences import TRIGGERS

if TYPE_CHECKING:
    from pathlib import Path
    from typing import LiteralString

    import psycopg

    from identity_cli.backfill.work import WorkDirectory
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter

TABLES: tuple[str, ...] = ("contact", "link_evidence")

_OWNER = """
    SELECT pg_get_userbyid(relowner) FROM pg_class
    WHERE oid IN ('contact'::regclass, 'link_evidence'::regclass, 'import_run'::regclass,
                  'steering_command'::regclass)
        AND NOT pg_has_role(relowner, 'USAGE')
"""
# What others have attached to the tables: its kind, its name, the table that it belongs to.
_FOREIGN = """
    WITH own AS (SELECT unnest(%(tables)s::regclass[])::oid AS oid)
    SELECT 'trigger', quote_ident(tgname), tgrelid::regclass::text
    FROM pg_trigger JOIN own ON own.oid = tgrelid
    WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgname <> ALL (%(triggers)s)
    UNION ALL
    SELECT 'foreign key', quote_ident(conname), conrelid::regclass::text
    FROM pg_constraint
    WHERE contype = 'f'
        AND (conrelid IN (SELECT oid FROM own) OR confrelid IN (SELECT oid FROM own))
        AND NOT (conrelid = 'contact'::regclass AND conname = 'contact_links_to_a_primary')
    UNION ALL
    SELECT 'rule', quote_ident(rulename), ev_class::regclass::text
    FROM pg_rewrite JOIN own ON own.oid = ev_class
    UNION ALL
    SELECT DISTINCT 'view', ev_class::regclass::text, ''
    FROM pg_depend
    JOIN pg_rewrite ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
    JOIN pg_constraint ON refclassid = 'pg_constraint'::regclass AND refobjid = pg_constraint.oid
    WHERE conrelid IN (SELECT oid FROM own)
    ORDER BY 1, 2, 3
"""
_FIXES = {
    "trigger": "run ALTER TABLE {table} DISABLE TRIGGER {name}, and enable it after the load",
    "foreign key": "run ALTER TABLE {table} DROP CONSTRAINT {name}, and add it after the load",
    "rule": "run DROP RULE {name} ON {table}, and create it after the load",
    "view": "run DROP VIEW {name}, and create it after the load: it relies on the primary key",
}
_HAS_LIMITS = """
    SELECT EXISTS (SELECT FROM link_policy WHERE num_nonnulls(email_limit, phone_limit) > 0)
"""
_HAS_RULES = """
    SELECT EXISTS (SELECT FROM blocked_value) OR EXISTS (SELECT FROM unlinked_pair)
        OR EXISTS (SELECT FROM block_pattern) OR EXISTS (SELECT FROM set_aside_contact)
        OR EXISTS (SELECT FROM forgotten_value) OR EXISTS (
            SELECT FROM link_policy WHERE num_nonnulls(email_limit, phone_limit) > 0)
"""
_IS_HELD = f"""
    SELECT EXISTS (SELECT FROM contact) OR EXISTS (SELECT FROM link_evidence)
        OR ({_HAS_RULES})
"""  # noqa: S608 - the query is of this module
# The sum does not depend on the order of the rows.
_STATE = """
    SELECT (SELECT count(*) FROM contact), (SELECT count(*) FROM link_evidence), concat_ws(':',
        (SELECT sum(hashtextextended(ROW(id, linked_id, email, phone_number, anchors_email,
                                         anchors_phone, created_at, initial_linked_id,
                                         run_id, line)::text, 0)) FROM contact),
        (SELECT sum(hashtextextended(ROW(id, value, other_value, is_held)::text, 0))
         FROM link_evidence),
        (SELECT sum(hashtextextended(ROW(id, email, phone_number)::text, 0))
         FROM set_aside_contact),
        (SELECT sum(hashtextextended(ROW(value, is_hub)::text, 0)) FROM blocked_value),
        (SELECT sum(hashtextextended(ROW(value, other_value)::text, 0)) FROM unlinked_pair),
        (SELECT sum(hashtextextended(ROW(id, pattern)::text, 0)) FROM block_pattern),
        (SELECT sum(hashtextextended(encode(hash, 'hex'), 0)) FROM forgotten_value),
        (SELECT ROW(email_limit, phone_limit)::text FROM link_policy),
        (SELECT sum(hashtextextended(value, 0)) FROM hub_exemption),
        (SELECT sum(hashtextextended(ROW(value, partners)::text, 0)) FROM partner_count))
"""
_VALUES = "email, phone_number, anchors_email, anchors_phone"
_VALUE_FIELDS = {
    "email": "string",
    "phone_number": "string",
    "anchors_email": "bool_",
    "anchors_phone": "bool_",
}
_ORIGIN = "run_id, line, (extract(epoch FROM created_at) * 1000000)::bigint"
_ORIGIN_FIELDS = {"run_id": "int64", "line": "int64", "created_us": "int64"}
# The query for each table, and its columns.
_HELD_ROWS: dict[str, tuple[LiteralString, dict[str, str]]] = {
    "contact": (
        "SELECT id, email, phone_number, linked_id, anchors_email, anchors_phone,"
        " (extract(epoch FROM created_at) * 1000000)::bigint AS created_at"
        " FROM contact WHERE id > 0 ORDER BY id",
        {
            "id": "int64",
            "email": "string",
            "phone_number": "string",
            "linked_id": "int64",
            "anchors_email": "bool_",
            "anchors_phone": "bool_",
            "created_at": "int64",
        },
    ),
    "link_evidence": (
        "SELECT value, other_value FROM link_evidence ORDER BY id",
        {"value": "string", "other_value": "string"},
    ),
    "blocked": ("SELECT value FROM blocked_value", {"value": "string"}),
    "unlinked": (
        "SELECT value, other_value FROM unlinked_pair",
        {"value": "string", "other_value": "string"},
    ),
    "placeholder": (
        "SELECT id, coalesce(email, phone_number) FROM contact WHERE id < 0 AND NOT EXISTS ("
        "SELECT FROM blocked_value WHERE value IN (email, phone_number))",
        {"id": "int64", "value": "string"},
    ),
    "aside": (
        "SELECT email, phone_number FROM set_aside_contact",
        {"email": "string", "phone_number": "string"},
    ),
    "policy": (
        "SELECT email_limit, phone_limit FROM link_policy",
        {"email_limit": "int64", "phone_limit": "int64"},
    ),
    "exempt": ("SELECT value FROM hub_exemption", {"value": "string"}),
    "hub": ("SELECT value FROM blocked_value WHERE is_hub", {"value": "string"}),
    "partners": (
        "SELECT value, partners FROM partner_count",
        {"value": "string", "partners": "int64"},
    ),
    # Whole rows, as those of some identities have to be replaced.
    "contact_row": (
        f"SELECT id, {_VALUES}, linked_id, initial_linked_id, {_ORIGIN},"  # noqa: S608 - of this module
        " (extract(epoch FROM updated_at) * 1000000)::bigint, stored_in"
        " FROM contact WHERE id > 0",
        {
            "id": "int64",
            **_VALUE_FIELDS,
            "linked_id": "int64",
            "initial_linked_id": "int64",
            **_ORIGIN_FIELDS,
            "updated_us": "int64",
            "stored_in": "int64",
        },
    ),
    "evidence_row": (
        f"SELECT id, value, other_value, primary_id, merged_id, is_held, {_ORIGIN},"  # noqa: S608 - of this module
        " stored_in FROM link_evidence",
        {
            "id": "int64",
            "value": "string",
            "other_value": "string",
            "primary_id": "int64",
            "merged_id": "int64",
            "is_held": "bool_",
            **_ORIGIN_FIELDS,
            "stored_in": "int64",
        },
    ),
    "aside_row": (
        f"SELECT id, {_VALUES}, initial_linked_id, {_ORIGIN} FROM set_aside_contact",  # noqa: S608 - the names are of this module
        {"id": "int64", **_VALUE_FIELDS, "initial_linked_id": "int64", **_ORIGIN_FIELDS},
    ),
}


def check_target(connection: psycopg.Connection[Any]) -> None:
    """Check that the tables are this role's, and that nothing of others is attached to them.

    Raises `PermissionDeniedError`, `TargetUnsuitableError`.
    """
    with translated():
        owner = connection.execute(_OWNER).fetchone()
        foreign = connection.execute(
            _FOREIGN, {"tables": list(TABLES), "triggers": list(TRIGGERS)}
        ).fetchone()
    if owner is not None:
        raise PermissionDeniedError(
            "a backfill needs a role that owns the tables",
            hint=f"connect as {owner[0]}, or use identity import",
        )
    if foreign is not None:
        kind, name, table = foreign
        on = f" on {table}" if table else ""
        raise TargetUnsuitableError(
            f"the {kind} {name}{on} would be bypassed or broken by the load",
            hint=f"{_FIXES[kind].format(name=name, table=table)}; or use identity import",
        )


def has_limits(connection: psycopg.Connection[Any]) -> bool:
    """Return whether values stop linking when they occur with too many others."""
    with translated():
        row = connection.execute(_HAS_LIMITS).fetchone()
    return row == (True,)


def has_rules(connection: psycopg.Connection[Any]) -> bool:
    """Return whether rules keep values from linking, or out of the database."""
    with translated():
        row = connection.execute(_HAS_RULES).fetchone()
    return row == (True,)


def is_held(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the database holds anything."""
    with translated():
        row = connection.execute(_IS_HELD).fetchone()
    return row == (True,)


def read_state(connection: psycopg.Connection[Any]) -> HeldState | None:
    """Return what the database holds, None if that is nothing."""
    if not is_held(connection):
        return None
    with translated():
        row = connection.execute(_STATE).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
    return HeldState(*row)


def write_held(
    connection: psycopg.Connection[Any],
    work: WorkDirectory,
    switch: StopSwitch,
    meter: Meter,
) -> None:
    """Write the rows and the rules that the database holds into the work directory."""
    tables = TABLES
    if has_rules(connection):
        parts = [part.path for part in work.parts()]
        write_matches(connection, parts, work.held("matched"), switch)
        tables += tuple(name for name in HELD_RULES if name != "matched")
    if has_limits(connection):
        tables += tuple(HELD_LIMITS)
    for table in tables:
        _write_rows(connection, table, work.held(table), switch, meter)


def _write_rows(
    connection: psycopg.Connection[Any],
    table: str,
    path: Path,
    switch: StopSwitch,
    meter: Meter,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from identity_cli.backfill.copies import copied

    query, fields = _HELD_ROWS[table]
    read = pa.schema([(name, getattr(pa, kind)()) for name, kind in fields.items()])
    written = pa.schema(
        [(f.name, pa.timestamp("us") if f.name == "created_at" else f.type) for f in read]
    )
    with replaced_file(path, force=True) as file, pq.ParquetWriter(file, written) as writer:
        for rows in copied(connection, query, read):
            switch.check()
            writer.write_table(rows.cast(written))
            meter.advance(len(rows))
