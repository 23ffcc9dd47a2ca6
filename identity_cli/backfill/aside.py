"""What does not link, on its way into the database: set-aside contacts and blocked values.

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

_COPY_SET_ASIDE = (
    "COPY set_aside_contact (id, email, phone_number, anchors_email, anchors_phone, line,"
    " created_at, run_id) FROM STDIN (FORMAT binary)"
)
_RELEASED = "CREATE TEMPORARY TABLE released_placeholder (id bigint) ON COMMIT DROP"
_COPY_RELEASED = "COPY released_placeholder (id) FROM STDIN (FORMAT binary)"
_RELEASE = "DELETE FROM contact USING released_placeholder AS r WHERE contact.id = r.id"
_MATCHED = (
    "CREATE TEMPORARY TABLE matched_value (id bigint, value text, pattern_id bigint) ON COMMIT DROP"
)
_COPY_MATCHED = "COPY matched_value (id, value, pattern_id) FROM STDIN (FORMAT binary)"
_BLOCK = "INSERT INTO blocked_value (value, pattern_id) SELECT value, pattern_id FROM matched_value"
# As keep_placeholders().
_KEEP_PLACEHOLDERS = """
    INSERT INTO contact (id, email, phone_number, link_precedence, anchors_email, anchors_phone)
    SELECT -nextval('placeholder_id'),
           CASE WHEN is_email THEN value END, CASE WHEN NOT is_email THEN value END,
           'primary', is_email, NOT is_email
    FROM (SELECT value, strpos(value, '@') > 0 AS is_email FROM matched_value
          ORDER BY id) AS matched
"""


def has_rules(work: WorkDirectory) -> bool:
    """Return whether the rows were computed for a target with rules."""
    return work.result("taken_ids").exists()


def release_placeholders(execute: Callable[[LiteralString], None], copier: RowCopier) -> None:
    """Remove the placeholders of values that are stated now."""
    execute(_RELEASED)
    copier.copy(_COPY_RELEASED, "released", SILENT)
    execute(_RELEASE)


def hold(execute: Callable[[LiteralString], None], copier: RowCopier) -> None:
    """Store what does not link, and block the values that a pattern has matched."""
    copier.copy(_COPY_SET_ASIDE, "set_aside_contact", SILENT)
    execute(_MATCHED)
    copier.copy(_COPY_MATCHED, "blocked_value", SILENT)
    execute(_BLOCK)
    execute(_KEEP_PLACEHOLDERS)


def taken_ids(work: WorkDirectory) -> int:
    """Return how many ids of contacts were given out, those in vain too."""
    import pyarrow.parquet as pq

    (taken,) = pq.read_table(work.result("taken_ids")).column("contacts").to_pylist()
    return int(taken)
