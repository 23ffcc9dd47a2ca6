"""Rules decide which evidence links: blocked values, unlinked pairs, limits for hubs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

from identity_cli.postgres.sql import install_functions, routine_names

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_functions = Path(__file__).parent.parent / "functions"
_identifier = sa.Text(collation="C")
_moment = sa.DateTime(timezone=True)


class _Xid8(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "xid8"


_this_transaction = sa.text("pg_current_xact_id()")

_TABLES = (
    "set_aside_contact",
    "restatement",
    "steering_command",
    "contact_move",
    "former_contact",
    "former_evidence",
    "blocked_value",
    "block_pattern",
    "unlinked_pair",
    "link_policy",
    "hub_exemption",
    "partner_count",
    "forgotten_value",
    "forget_key",
)
# Both revisions have these, with the same parameters.
_REPLACED = ("claim_profile", "identify", "reconcile", "reconcile_request")
_REPLACED_OF_0002 = ("guard_identifiers", "primary_at")

_TYPES = """
    CREATE TYPE reworked_contact AS (
        id bigint,
        email text COLLATE "C",
        phone_number text COLLATE "C",
        anchors_email boolean,
        anchors_phone boolean,
        initial_linked_id bigint,
        run_id bigint,
        line bigint,
        created_at timestamptz,
        is_aside boolean,
        is_elsewhere boolean,
        was_shown boolean,
        was_email text COLLATE "C",
        was_phone_number text COLLATE "C",
        was_anchors_email boolean,
        was_anchors_phone boolean,
        was_linked_id bigint,
        email_label integer,
        phone_label integer,
        is_unlinked boolean
    );
    CREATE TYPE reworked_pair AS (
        evidence_id bigint,
        value text COLLATE "C",
        other_value text COLLATE "C",
        was_held boolean,
        run_id bigint,
        line bigint,
        created_at timestamptz,
        label integer
    );
"""
# A role that could reconcile before can reconcile afterwards, and one that could read can read.
_GRANT_AS_BEFORE = """
    DO $$
    DECLARE
        grantee text;
        may_insert boolean;
    BEGIN
        FOR grantee, may_insert IN
            SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END,
                   bool_or(acl.privilege_type = 'INSERT')
            FROM pg_class, aclexplode(relacl) AS acl
            WHERE pg_class.oid = 'contact'::regclass AND acl.grantee <> relowner
            GROUP BY acl.grantee
        LOOP
            EXECUTE format('GRANT SELECT ON {readable} TO %s', grantee);
            IF may_insert THEN
                EXECUTE format('GRANT INSERT, UPDATE ON partner_count TO %s', grantee);
                EXECUTE format('GRANT EXECUTE ON ROUTINE {routines} TO %s', grantee);
            END IF;
        END LOOP;
    END $$
"""
_REFUSE_RULES = """
    DO $$ BEGIN
        IF EXISTS (SELECT FROM set_aside_contact) OR EXISTS (SELECT FROM steering_command)
            OR EXISTS (SELECT FROM contact WHERE id < 0)
            OR EXISTS (SELECT FROM import_run WHERE status = 'undone') THEN
            RAISE EXCEPTION 'the database holds rules or their history,'
                            ' which revision 0003 cannot store'
                USING HINT = 'restore a backup from before the upgrade into another database';
        END IF;
    END $$
"""


def upgrade() -> None:
    _create_tables()
    op.execute(_TYPES)
    op.execute("CREATE SEQUENCE placeholder_id")
    # Built beside writers of other tables; the exclusive locks come last and are short.
    op.create_index(
        "link_evidence_merged",
        "link_evidence",
        ["merged_id"],
        postgresql_where=sa.text("merged_id IS NOT NULL"),
    )
    op.drop_index("link_evidence_merged_id", "link_evidence")
    op.execute("ALTER INDEX link_evidence_merged RENAME TO link_evidence_merged_id")
    op.alter_column("link_evidence", "primary_id", nullable=True)
    op.add_column(
        "link_evidence",
        sa.Column("is_held", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_index(
        "link_evidence_held",
        "link_evidence",
        ["other_value"],
        postgresql_where=sa.text("is_held"),
    )
    for name in ("start_snapshot", "end_snapshot"):
        op.add_column("import_run", sa.Column(name, sa.Text))
    _replace_check(
        "import_run",
        "import_run_status",
        "status IN ('running', 'finished', 'stopped', 'failed', 'undone')",
    )
    for table in ("link_evidence", "contact"):
        # With a default from the beginning, all rows would be rewritten.
        op.add_column(table, sa.Column("stored_in", _Xid8))
        op.alter_column(table, "stored_in", server_default=_this_transaction)
    _replace_check(
        "contact",
        "contact_primary_has_no_link",
        "(link_precedence = 'primary') = (linked_id IS NULL) AND linked_id > 0 IS NOT FALSE",
    )
    op.execute("DROP PROCEDURE reconcile_batch")
    install_functions(op, _functions / "0004")
    # A condition is parsed again by every INSERT: the shorter, the better.
    _replace_insert_trigger("NOT (NEW.anchors_email AND NEW.anchors_phone)")
    definers = ", ".join(routine_names(_functions / "0004", with_owner_rights=True))
    op.execute(f"REVOKE EXECUTE ON ROUTINE {definers} FROM PUBLIC")
    readable = ", ".join(table for table in _TABLES if table != "forget_key")
    op.execute(_GRANT_AS_BEFORE.format(readable=readable, routines=definers).replace(":", r"\:"))


def downgrade() -> None:
    op.execute(_REFUSE_RULES)
    kept = {*_REPLACED, *_REPLACED_OF_0002, "refuse_two_identities"}
    for name in routine_names(_functions / "0004"):
        if name not in kept and not name.startswith("guard_identifiers"):
            op.execute(f"DROP ROUTINE {name}")
    install_functions(op, _functions / "0003")
    install_functions(op, _functions / "0002", only=_REPLACED_OF_0002)
    _replace_insert_trigger(
        "(NEW.email IS NOT NULL AND NOT NEW.anchors_email)"
        " OR (NEW.phone_number IS NOT NULL AND NOT NEW.anchors_phone)"
    )
    for name in ("reworked_contact", "reworked_pair"):
        op.execute(f"DROP TYPE {name}")
    for table in _TABLES:
        op.execute(f"DROP TABLE {table} CASCADE")
    op.execute("DROP SEQUENCE placeholder_id")
    op.drop_index("link_evidence_held", "link_evidence")
    op.drop_column("link_evidence", "is_held")
    for table in ("link_evidence", "contact"):
        op.drop_column(table, "stored_in")
    for name in ("start_snapshot", "end_snapshot"):
        op.drop_column("import_run", name)
    op.alter_column("link_evidence", "primary_id", nullable=False)
    op.drop_index("link_evidence_merged_id", "link_evidence")
    op.create_index(
        "link_evidence_merged_id",
        "link_evidence",
        ["merged_id"],
        unique=True,
        postgresql_where=sa.text("merged_id IS NOT NULL"),
    )
    _replace_check(
        "import_run",
        "import_run_status",
        "status IN ('running', 'finished', 'stopped', 'failed')",
    )
    _replace_check(
        "contact",
        "contact_primary_has_no_link",
        "(link_precedence = 'primary') = (linked_id IS NULL)",
    )


def _replace_insert_trigger(condition: str) -> None:
    op.execute("DROP TRIGGER contact_identifiers_inserted ON contact")
    op.execute(
        "CREATE TRIGGER contact_identifiers_inserted AFTER INSERT ON contact FOR EACH ROW"
        f" WHEN ({condition}) EXECUTE FUNCTION guard_identifiers_inserted()"
    )


def _replace_check(table: str, name: str, condition: str) -> None:
    # `env.py` validates it later, without the lock of this transaction.
    op.drop_constraint(name, table)
    op.create_check_constraint(name, table, sa.text(condition), postgresql_not_valid=True)


def _create_tables() -> None:
    op.create_table(
        "set_aside_contact",
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("initial_linked_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("line", sa.BigInteger),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("anchors_email", sa.Boolean, nullable=False),
        sa.Column("anchors_phone", sa.Boolean, nullable=False),
        sa.Column("email", _identifier),
        sa.Column("phone_number", _identifier),
        sa.PrimaryKeyConstraint("id", name="set_aside_contact_pkey"),
        sa.CheckConstraint(
            "coalesce(least(email, phone_number), '') <> ''",
            name="set_aside_contact_has_an_identifier",
        ),
    )
    op.create_index(
        "set_aside_contact_pair_key",
        "set_aside_contact",
        ["email", "phone_number"],
        unique=True,
        postgresql_where=sa.text("email IS NOT NULL AND phone_number IS NOT NULL"),
    )
    for name, column in (("email", "email"), ("phone", "phone_number")):
        op.create_index(
            f"set_aside_contact_{name}",
            "set_aside_contact",
            [column],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.create_table(
        "restatement",
        sa.Column("run_id", sa.BigInteger),
        sa.Column("line", sa.BigInteger),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("value", _identifier, nullable=False),
        sa.Column("other_value", _identifier, nullable=False),
        sa.PrimaryKeyConstraint("value", "other_value", name="restatement_pkey"),
    )
    op.create_table(
        "steering_command",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("role_name", sa.Text, nullable=False, server_default=sa.text("SESSION_USER")),
        sa.Column("ran_at", _moment, nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.PrimaryKeyConstraint("id", name="steering_command_pkey"),
    )
    op.create_table(
        "contact_move",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("contact_id", sa.BigInteger, nullable=False),
        sa.Column("from_primary_id", sa.BigInteger),
        sa.Column("to_primary_id", sa.BigInteger),
        sa.Column("command_id", sa.BigInteger),
        sa.Column("moved_at", _moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="contact_move_pkey"),
    )
    for column in ("contact_id", "command_id"):
        op.create_index(f"contact_move_{column}", "contact_move", [column])
    op.create_table(
        "former_contact",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("contact_id", sa.BigInteger, nullable=False),
        sa.Column("primary_id", sa.BigInteger),
        sa.Column("next_primary_id", sa.BigInteger),
        sa.Column("command_id", sa.BigInteger),
        sa.Column("replaced_in", _Xid8, nullable=False, server_default=_this_transaction),
        sa.Column("replaced_at", _moment, nullable=False),
        sa.Column("contact_mark", sa.BigInteger, nullable=False),
        sa.Column("evidence_mark", sa.BigInteger, nullable=False),
        sa.Column("initial_linked_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("line", sa.BigInteger),
        sa.Column("created_at", _moment),
        sa.Column("updated_at", _moment),
        sa.Column("stored_in", _Xid8),
        sa.Column("anchors_email", sa.Boolean),
        sa.Column("anchors_phone", sa.Boolean),
        sa.Column("email", _identifier),
        sa.Column("phone_number", _identifier),
        sa.PrimaryKeyConstraint("id", name="former_contact_pkey"),
    )
    op.create_index("former_contact_contact_id", "former_contact", ["contact_id", "id"])
    op.create_table(
        "former_evidence",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("evidence_id", sa.BigInteger, nullable=False),
        sa.Column("replaced_in", _Xid8, nullable=False, server_default=_this_transaction),
        sa.Column("replaced_at", _moment, nullable=False),
        sa.Column("primary_id", sa.BigInteger),
        sa.Column("merged_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("line", sa.BigInteger),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("stored_in", _Xid8),
        sa.Column("value", _identifier),
        sa.Column("other_value", _identifier),
        sa.Column("is_held", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="former_evidence_pkey"),
    )
    op.create_index("former_evidence_evidence_id", "former_evidence", ["evidence_id"])
    op.create_index(
        "former_evidence_merged_id",
        "former_evidence",
        ["merged_id"],
        postgresql_where=sa.text("merged_id IS NOT NULL"),
    )
    op.create_index("former_evidence_value", "former_evidence", ["value"])
    op.create_table(
        "block_pattern",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("command_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="block_pattern_pkey"),
        sa.UniqueConstraint("pattern", name="block_pattern_pattern_key"),
    )
    op.create_table(
        "blocked_value",
        sa.Column("command_id", sa.BigInteger),
        sa.Column("pattern_id", sa.BigInteger),
        sa.Column("is_hub", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("value", _identifier, nullable=False),
        sa.PrimaryKeyConstraint("value", name="blocked_value_pkey"),
        sa.ForeignKeyConstraint(
            ["pattern_id"], ["block_pattern.id"], name="blocked_value_pattern_id_fkey"
        ),
        sa.CheckConstraint(
            "num_nonnulls(command_id, pattern_id) > 0 OR is_hub",
            name="blocked_value_has_a_reason",
        ),
    )
    op.create_table(
        "unlinked_pair",
        sa.Column("command_id", sa.BigInteger, nullable=False),
        sa.Column("value", _identifier, nullable=False),
        sa.Column("other_value", _identifier, nullable=False),
        sa.PrimaryKeyConstraint("value", "other_value", name="unlinked_pair_pkey"),
        sa.CheckConstraint(
            "(strpos(value, '@') = 0, value) < (strpos(other_value, '@') = 0, other_value)",
            name="unlinked_pair_order",
        ),
    )
    op.create_index("unlinked_pair_other_value", "unlinked_pair", ["other_value"])
    op.create_table(
        "link_policy",
        sa.Column("only_row", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("email_limit", sa.Integer),
        sa.Column("phone_limit", sa.Integer),
        sa.PrimaryKeyConstraint("only_row", name="link_policy_pkey"),
        sa.CheckConstraint("only_row", name="link_policy_one_row"),
        sa.CheckConstraint("least(email_limit, phone_limit) >= 1", name="link_policy_limits"),
    )
    op.execute("INSERT INTO link_policy DEFAULT VALUES")
    op.create_table(
        "hub_exemption",
        sa.Column("command_id", sa.BigInteger, nullable=False),
        sa.Column("value", _identifier, nullable=False),
        sa.PrimaryKeyConstraint("value", name="hub_exemption_pkey"),
    )
    op.create_table(
        "partner_count",
        sa.Column("partners", sa.Integer, nullable=False),
        sa.Column("value", _identifier, nullable=False),
        sa.PrimaryKeyConstraint("value", name="partner_count_pkey"),
    )
    op.create_table(
        "forgotten_value",
        sa.Column("command_id", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="forgotten_value_pkey"),
    )
    op.create_table(
        "forget_key",
        sa.Column("only_row", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("key", sa.LargeBinary),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("only_row", name="forget_key_pkey"),
        sa.CheckConstraint("only_row", name="forget_key_one_row"),
    )
