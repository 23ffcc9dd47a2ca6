"""Requests of several values: evidence holds pairs of any two values."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from identity_cli.postgres.sql import install_functions

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_functions = Path(__file__).parent.parent / "functions"
_ORDER = "(strpos(value, '@') = 0, value) < (strpos(other_value, '@') = 0, other_value)"
_REFUSE_PAIRS_OF_A_KIND = """
    DO $$ BEGIN
        IF EXISTS (SELECT FROM link_evidence
                   WHERE (strpos(value, '@') = 0) = (strpos(other_value, '@') = 0)) THEN
            RAISE EXCEPTION 'link_evidence holds pairs of two emails or of two phone numbers,'
                            ' which revision 0002 cannot store'
                USING HINT = 'restore a backup from before the upgrade into another database';
        END IF;
    END $$
"""
# Both revisions have these with parameters of their own.
_ROUTINES = (
    "PROCEDURE reconcile_batch",
    "FUNCTION identify",
    "FUNCTION reconcile",
)


def upgrade() -> None:
    _drop_routines()
    # An email and a phone number, which older rows hold, are in the new order already: nothing is
    # rewritten, and `env.py` validates the constraint later, without the lock of this transaction.
    op.alter_column("link_evidence", "email", new_column_name="value")
    op.alter_column("link_evidence", "phone_number", new_column_name="other_value")
    op.create_check_constraint(
        "link_evidence_pair_order", "link_evidence", sa.text(_ORDER), postgresql_not_valid=True
    )
    op.execute("ALTER TYPE reconciliation ADD ATTRIBUTE contact_ids bigint[]")
    install_functions(op, _functions / "0003")


def downgrade() -> None:
    op.execute(_REFUSE_PAIRS_OF_A_KIND)
    _drop_routines()
    op.execute("DROP FUNCTION reconcile_request")
    op.execute("ALTER TYPE reconciliation DROP ATTRIBUTE contact_ids")
    op.drop_constraint("link_evidence_pair_order", "link_evidence")
    op.alter_column("link_evidence", "value", new_column_name="email")
    op.alter_column("link_evidence", "other_value", new_column_name="phone_number")
    install_functions(op, _functions / "0002")


def _drop_routines() -> None:
    for routine in _ROUTINES:
        op.execute(f"DROP {routine}")
