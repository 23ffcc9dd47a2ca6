"""The contact graph: contacts, the evidence that linked them, runs, the profile, and the rule."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from identity_cli.postgres.sql import install_functions

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_precedence = postgresql.ENUM("primary", "secondary", name="link_precedence", create_type=False)
_identifier = sa.Text(collation="C")
_moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    _precedence.create(op.get_bind())
    op.create_table(
        "contact",
        sa.Column("id", sa.BigInteger, sa.Identity(always=False), nullable=False),
        sa.Column("linked_id", sa.BigInteger),
        sa.Column("initial_linked_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("line", sa.BigInteger),
        sa.Column("created_at", _moment, nullable=False, server_default=sa.text("now()")),
        sa.Column("updated_at", _moment, nullable=False, server_default=sa.text("now()")),
        sa.Column("deleted_at", _moment),
        sa.Column("link_precedence", _precedence, nullable=False),
        sa.Column(
            "linked_precedence",
            _precedence,
            sa.Computed(
                "CASE WHEN (linked_id IS NOT NULL) THEN 'primary'::link_precedence"
                " ELSE NULL::link_precedence END",
                persisted=True,
            ),
        ),
        sa.Column("anchors_email", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("anchors_phone", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("email", _identifier),
        sa.Column("phone_number", _identifier),
        sa.PrimaryKeyConstraint("id", name="contact_pkey"),
        sa.UniqueConstraint("id", "link_precedence", name="contact_id_link_precedence_key"),
        sa.ForeignKeyConstraint(
            ["linked_id", "linked_precedence"],
            ["contact.id", "contact.link_precedence"],
            name="contact_links_to_a_primary",
        ),
        sa.CheckConstraint(
            "(link_precedence = 'primary') = (linked_id IS NULL)",
            name="contact_primary_has_no_link",
        ),
        sa.CheckConstraint(
            "coalesce(least(email, phone_number), '') <> ''", name="contact_has_an_identifier"
        ),
    )
    op.create_index(
        "contact_email_anchor",
        "contact",
        ["email"],
        unique=True,
        postgresql_where=sa.text("anchors_email"),
    )
    op.create_index(
        "contact_phone_anchor",
        "contact",
        ["phone_number"],
        unique=True,
        postgresql_where=sa.text("anchors_phone"),
    )
    op.create_index(
        "contact_linked_id",
        "contact",
        ["linked_id"],
        postgresql_where=sa.text("linked_id IS NOT NULL"),
    )
    op.create_table(
        "link_evidence",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("primary_id", sa.BigInteger, nullable=False),
        sa.Column("merged_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("line", sa.BigInteger),
        sa.Column("created_at", _moment, nullable=False),
        sa.Column("email", _identifier, nullable=False),
        sa.Column("phone_number", _identifier, nullable=False),
        sa.PrimaryKeyConstraint("id", name="link_evidence_pkey"),
        sa.UniqueConstraint("email", "phone_number", name="link_evidence_pair_key"),
    )
    op.create_index(
        "link_evidence_merged_id",
        "link_evidence",
        ["merged_id"],
        unique=True,
        postgresql_where=sa.text("merged_id IS NOT NULL"),
    )
    op.create_table(
        "import_run",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("inputs", postgresql.JSONB, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("lock_key", sa.BigInteger, nullable=False),
        sa.Column("checkpoint", postgresql.JSONB),
        sa.Column("rows", postgresql.JSONB, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.Column("started_at", _moment, nullable=False),
        sa.Column("finished_at", _moment),
        sa.PrimaryKeyConstraint("id", name="import_run_pkey"),
        sa.CheckConstraint(
            "status IN ('running', 'finished', 'stopped', 'failed')", name="import_run_status"
        ),
    )
    op.create_table(
        "normalization_profile",
        sa.Column("only_row", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("region", sa.Text),
        sa.PrimaryKeyConstraint("only_row", name="normalization_profile_pkey"),
        sa.CheckConstraint("only_row", name="normalization_profile_one_row"),
    )
    op.execute("CREATE TYPE reconciliation AS (outcome text, primary_id bigint, contact_id bigint)")
    install_functions(op, Path(__file__).parent.parent / "functions" / "0001")
    op.execute(
        "CREATE TRIGGER contact_identifiers_inserted AFTER INSERT ON contact FOR EACH ROW"
        " WHEN ((NEW.email IS NOT NULL AND NOT NEW.anchors_email)"
        " OR (NEW.phone_number IS NOT NULL AND NOT NEW.anchors_phone))"
        " EXECUTE FUNCTION guard_identifiers_inserted()"
    )
    op.execute(
        "CREATE TRIGGER contact_identifiers_updated AFTER UPDATE ON contact"
        " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION guard_identifiers_updated()"
    )
    op.execute(
        "CREATE TRIGGER contact_identifiers_deleted AFTER DELETE ON contact"
        " REFERENCING OLD TABLE AS old_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION guard_identifiers_deleted()"
    )


def downgrade() -> None:
    op.drop_table("contact")
    op.drop_table("link_evidence")
    op.drop_table("import_run")
    op.drop_table("normalization_profile")
    op.execute("DROP PROCEDURE reconcile_batch")
    for function in ("identify", "members", "reconcile"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP FUNCTION primary_at")
    for event in ("inserted", "updated", "deleted"):
        op.execute(f"DROP FUNCTION guard_identifiers_{event}")
    op.execute("DROP FUNCTION refuse_two_identities")
    op.execute("DROP TYPE reconciliation")
    _precedence.drop(op.get_bind())
