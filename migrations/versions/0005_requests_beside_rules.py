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
_NEW = ("identify_batch", "wait_for_disk")
# A role that could reconcile before can reconcile afterwards, also where nobody may execute a
# function unless it is granted.
_GRANT_AS_BEFORE = """
    DO $$
    DECLARE
        grantee text;
    BEGIN
        FOR grantee IN
            SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
            FROM pg_proc, aclexplode(proacl) AS acl
            WHERE oid = 'identify'::regproc AND acl.grantee <> proowner
        LOOP
            EXECUTE format('GRANT EXECUTE ON ROUTINE {routines} TO %s', grantee);
        END LOOP;
    END $$
"""


def upgrade() -> None:
    _drop_functions()
    install_functions(op, _functions / "0005")
    op.execute(_GRANT_AS_BEFORE.format(routines=", ".join(_OTHER_PARAMETERS + _NEW)))


def downgrade() -> None:
    _drop_functions()
    for name in _NEW:
        op.execute(f"DROP ROUTINE {name}")
    changed = {file.stem for file in (_functions / "0005").glob("*.sql")}
    install_functions(op, _functions / "0004", only=changed)


def _drop_functions() -> None:
    for name in _OTHER_PARAMETERS:
        op.execute(f"DROP FUNCTION {name}")
