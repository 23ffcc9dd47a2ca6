"""Rows of the identities that hubs split, on their way into the database.

It is part of the transaction of a load, whose statements `execute` executes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.meter import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

    from identity_cli.backfill.rows import RowCopier
    from identity_cli.backfill.work import WorkDirectory

_ORIGIN = "run_id bigint, line bigint, created_at timestamptz"
_VALUES = "email text, phone_number text, anchors_email boolean, anchors_phone boolean"
# The columns of the temporary tables, in the order of the COPY.
_STAGED: dict[str, LiteralString] = {
    "split_contact": f"id bigint, {_VALUES}, linked_id bigint, initial_linked_id bigint,"
    f" {_ORIGIN}, updated_at timestamptz",
    "split_gone": "id bigint",
    "split_moved": "id bigint, linked_id bigint, updated_at timestamptz",
    "split_aside": f"id bigint, {_VALUES}, initial_linked_id bigint, {_ORIGIN}",
    "split_aside_gone": "id bigint",
    "split_held": "id bigint, is_held boolean, primary_id bigint",
    "split_hub": "value text",
    "split_command": "number bigint, ran_at timestamptz, run_id bigint",
    "split_move": "contact_id bigint, from_primary_id bigint, to_primary_id bigint,"
    " number bigint, moved_at timestamptz",
    "split_former_contact": "contact_id bigint, primary_id bigint, next_primary_id bigint,"
    " number bigint, replaced_at timestamptz, contact_mark bigint, evidence_mark bigint,"
    f" initial_linked_id bigint, {_VALUES}, stored_in bigint, {_ORIGIN}, updated_at timestamptz",
    "split_former_evidence": "evidence_id bigint, replaced_at timestamptz, primary_id bigint,"
    " merged_id bigint, value text, other_value text, is_held boolean, stored_in bigint,"
    f" {_ORIGIN}",
    "partner_count": "value text, partners bigint",
}
# -1 is the transaction of the load.
_STORED_IN = """
    CASE WHEN stored_in < 0 THEN pg_current_xact_id() ELSE stored_in::text::xid8 END
"""
_STORE: tuple[LiteralString, ...] = (
    """
    CREATE TEMPORARY TABLE split_command_id ON COMMIT DROP AS
    SELECT number, nextval(pg_get_serial_sequence('steering_command', 'id')) AS id
    FROM (SELECT number FROM split_command_rows ORDER BY number) AS in_order
    """,
    """
    INSERT INTO steering_command (id, verb, run_id, ran_at) OVERRIDING SYSTEM VALUE
    SELECT id, 'hub', run_id, ran_at FROM split_command_rows JOIN split_command_id USING (number)
    ORDER BY number
    """,
    """
    INSERT INTO blocked_value (value, is_hub) SELECT value, true FROM split_hub_rows
    ON CONFLICT (value) DO UPDATE SET is_hub = true
    """,
    # In one statement, as in rework(): the foreign key sees the links before and after only.
    """
    WITH gone AS (
        DELETE FROM contact USING split_gone_rows AS g WHERE contact.id = g.id RETURNING contact.id
    ), after_the_delete AS (
        SELECT count(*) FROM gone
    ), moved AS (
        UPDATE contact SET linked_id = m.linked_id, link_precedence = 'secondary',
                           updated_at = m.updated_at,
                           stored_in = written_in(stored_in, contact.xmin)
        FROM split_moved_rows AS m WHERE contact.id = m.id
    )
    INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id, link_precedence,
                         anchors_email, anchors_phone, run_id, line, created_at, updated_at)
    SELECT id, email, phone_number, linked_id, initial_linked_id,
           CASE WHEN linked_id IS NULL THEN 'primary' ELSE 'secondary' END::link_precedence,
           anchors_email, anchors_phone, run_id, line, created_at, updated_at
    FROM split_contact_rows, after_the_delete
    """,
    # As keep_placeholders().
    """
    INSERT INTO contact (id, email, phone_number, link_precedence, anchors_email, anchors_phone)
    SELECT -nextval('placeholder_id'),
           CASE WHEN is_email THEN value END, CASE WHEN NOT is_email THEN value END,
           'primary', is_email, NOT is_email
    FROM (SELECT value, strpos(value, '@') > 0 AS is_email FROM split_hub_rows) AS hub
    WHERE NOT EXISTS (SELECT FROM contact WHERE id < 0 AND email = value)
        AND NOT EXISTS (SELECT FROM contact WHERE id < 0 AND phone_number = value)
    """,
    "DELETE FROM set_aside_contact AS s USING split_aside_gone_rows AS g WHERE s.id = g.id",
    """
    INSERT INTO set_aside_contact (id, email, phone_number, anchors_email, anchors_phone,
                                   initial_linked_id, run_id, line, created_at)
    SELECT id, email, phone_number, anchors_email, anchors_phone,
           initial_linked_id, run_id, line, created_at
    FROM split_aside_rows
    """,
    """
    UPDATE link_evidence AS e SET is_held = h.is_held, primary_id = h.primary_id,
                                  stored_in = written_in(e.stored_in, e.xmin)
    FROM split_held_rows AS h WHERE e.id = h.id
    """,
    """
    INSERT INTO contact_move (contact_id, from_primary_id, to_primary_id, command_id, moved_at)
    SELECT contact_id, from_primary_id, to_primary_id, id, moved_at
    FROM split_move_rows JOIN split_command_id USING (number) ORDER BY number, contact_id
    """,
    f"""
    INSERT INTO former_contact (contact_id, primary_id, next_primary_id, command_id, replaced_at,
                                contact_mark, evidence_mark, initial_linked_id, run_id, line,
                                created_at, updated_at, stored_in, anchors_email, anchors_phone,
                                email, phone_number)
    SELECT contact_id, primary_id, next_primary_id, id, replaced_at,
           contact_mark, evidence_mark, initial_linked_id, run_id, line,
           created_at, updated_at, {_STORED_IN}, anchors_email, anchors_phone,
           email, phone_number
    FROM split_former_contact_rows JOIN split_command_id USING (number)
    ORDER BY number, contact_id
    """,  # noqa: S608 - the expression is of this module
    f"""
    INSERT INTO former_evidence (evidence_id, replaced_at, primary_id, merged_id, run_id, line,
                                 created_at, stored_in, value, other_value, is_held)
    SELECT evidence_id, replaced_at, primary_id, merged_id, run_id, line,
           created_at, {_STORED_IN}, value, other_value, is_held
    FROM split_former_evidence_rows ORDER BY replaced_at, evidence_id
    """,  # noqa: S608 - the expression is of this module
    """
    INSERT INTO partner_count (value, partners) SELECT value, partners FROM partner_count_rows
    ON CONFLICT (value) DO UPDATE SET partners = excluded.partners
    """,
)


def has_limits(work: WorkDirectory) -> bool:
    """Return whether the rows were computed for a target with hub limits."""
    return work.result("partner_count").exists()


def store_splits(execute: Callable[[LiteralString], None], copier: RowCopier) -> None:
    """Store the identities that hubs have split, and what partners were counted."""
    for name, columns in _STAGED.items():
        execute(f"CREATE TEMPORARY TABLE {name}_rows ({columns}) ON COMMIT DROP")
        copier.copy(f"COPY {name}_rows FROM STDIN (FORMAT binary)", name, SILENT)
        execute(f"ANALYZE {name}_rows")
    for statement in _STORE:
        execute(statement)
