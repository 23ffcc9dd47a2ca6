"""Requests beside blocked values look up less; the functions alone change."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from identity_cli.postgres.sql import install_functions

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_functions = Path(__file__).parent.parent / "functions"
# With other parameters than before: replaced, a second function would stand beside the first.
_OTHER_PARAMETERS = ("reconcile_value",)


def upgrade() -> None:
    _drop_functions()
    install_functions(op, _functions / "0005")


def downgrade() -> None:
    _drop_functions()
    changed = {file.stem for file in (_functions / "0005").glob("*.sql")}
    install_functions(op, _functions / "0004", only=changed)


def _drop_functions() -> None:
    for name in _OTHER_PARAMETERS:
        op.execute(f"DROP FUNCTION {name}")
