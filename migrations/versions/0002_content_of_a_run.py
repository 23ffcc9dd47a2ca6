"""A run is known by its content: options and errors of runs, the profile with the first contact."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from identity_cli.postgres.sql import install_functions

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_functions = Path(__file__).parent.parent / "functions"
# Its arguments change; the ones before these two are the same.
_DROP_BATCH = (
    "DROP PROCEDURE reconcile_batch("
    "text[], text[], bigint[], bigint, {}, text[], bigint[], bigint[], bigint)"
)


def upgrade() -> None:
    op.add_column("import_run", sa.Column("options", postgresql.JSONB))
    op.add_column("import_run", sa.Column("error", postgresql.JSONB))
    op.execute(_DROP_BATCH.format("bigint[], boolean"))
    # They take one more parameter now, which makes another function of them.
    op.execute("DROP FUNCTION identify(text, text)")
    op.execute("DROP FUNCTION members(bigint)")
    install_functions(op, _functions / "0002")


def downgrade() -> None:
    op.execute(_DROP_BATCH.format("bigint[], boolean, integer, text"))
    for function in ("claim_profile", "identify", "members"):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_column("import_run", "error")
    op.drop_column("import_run", "options")
    install_functions(op, _functions / "0001")
