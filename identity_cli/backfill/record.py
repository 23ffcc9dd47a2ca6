"""The run of a backfill in `import_run`: how it ended, and what it saw."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.errors import IdentityError
from identity_cli.importer.runs import RunJournal
from identity_cli.postgres.database import translated
from identity_cli.postgres.session import STEER

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.postgres.database import Database

APPLICATION = "identity backfill"

_STATUS = "SELECT status FROM import_run WHERE id = %s FOR UPDATE"
# A load commits its own rows together with the end of its run: what the run has stored by its end
# includes them. What has a number and has not ended is still at work.
_END_SNAPSHOT = """
    UPDATE import_run SET end_snapshot = split_part(start_snapshot, ' ', 1) || ' ' || (
        WITH seen AS (
            SELECT now, pg_snapshot_xmin(now)::text::bigint AS oldest,
                   pg_snapshot_xmax(now)::text::bigint AS next,
                   pg_current_xact_id()::text::bigint AS own
            FROM pg_current_snapshot() AS now
        )
        SELECT concat(oldest, ':', greatest(next, own + 1), ':', array_to_string(ARRAY(
            SELECT xid::text::bigint FROM pg_snapshot_xip(now) AS xid WHERE xid::text::bigint <> own
            UNION SELECT generate_series(next, own - 1)
            ORDER BY 1), ','))
        FROM seen)
    WHERE id = %s
"""


def end_run(database: Database, journal: RunJournal, end: Callable[[], None]) -> None:
    """Note how a run ended over a connection that no statement has broken, if there is one."""
    with suppress(psycopg.Error, IdentityError):
        journal.connection.close()
        with database.connect(application=APPLICATION, session=STEER) as connection:
            journal.connection = connection
            # It waits for a load that is just being undone, or committed: then it has not failed.
            found = connection.execute(_STATUS, (journal.run_id,)).fetchone()
            if found == ("running",):
                end()


def note_snapshot(connection: psycopg.Connection[Any], run_id: int) -> None:
    """Note what is stored when the transaction of a load commits."""
    with translated():
        connection.execute(_END_SNAPSHOT, (run_id,))


def last_ids(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Return the last ids given out so far."""
    return RunJournal(connection, [], {}).marks()
