"""`identity stats` and `identity report` on 1 million contacts, in seconds more than a COPY."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, note, show
from benchmarks.server import environment, fresh_server, psql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.postgres.database import Database

# Six of ten contacts are primaries. The others share the phone numbers of a few hubs, of a thousand
# large identities, or of one person each. Six runs, each of them a day after the one before.
_FILL = """
    SET session_replication_role = replica;
    INSERT INTO contact (id, email, phone_number, link_precedence, run_id, created_at)
    SELECT n, 'person.' || n || '@example.com', '+1202' || 1000000 + n, 'primary', 1 + n % 6,
           '2026-01-01'::timestamptz + (1 + n % 6) * '1 day'::interval
    FROM generate_series(1, {count} * 6 / 10) AS n;
    INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id, link_precedence,
                         anchors_phone, run_id, created_at)
    SELECT n, 'other.' || n || '@example.com', '+1202' || 1000000 + p, p, p, 'secondary', false,
           1 + n % 6, '2026-01-01 01:00'::timestamptz
               + greatest(1 + n % 6, 1 + p % 6) * '1 day'::interval
    FROM (SELECT n, CASE WHEN n % 20 = 0 THEN 1 + n % 7 WHEN n % 10 = 0 THEN 10 + n % 1000
                         ELSE 1 + n * 7919::bigint % ({count} * 6 / 10) END AS p
          FROM generate_series({count} * 6 / 10 + 1, {count}) AS n) AS other;
    INSERT INTO link_evidence (primary_id, run_id, created_at, value, other_value)
    SELECT linked_id, run_id, created_at, email, 'person.' || linked_id || '@example.com'
    FROM contact WHERE linked_id IS NOT NULL AND id % 2 = 0;
    INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at, finished_at)
    SELECT 'finished', '[{{"path": "contacts.csv"}}]', '', n,
           format('{{"read": %s, "rejected": 0}}', {count})::jsonb,
           '2026-01-01'::timestamptz + n * '1 day'::interval,
           '2026-01-01 02:00'::timestamptz + n * '1 day'::interval
    FROM generate_series(1, 6) AS n;
"""


def run(quick: bool = False) -> None:
    count = 50_000 if quick else 1_000_000
    rounds = 3 if quick else 5
    with fresh_server() as server, server.database() as database:
        with database.connect() as connection:
            connection.execute(_FILL.format(count=count))
            connection.execute("VACUUM ANALYZE")
        server.settle()
        program = [sys.executable, "-m", "identity_cli"]
        note(subprocess.check_output([*program, "verify"], env=environment(database), text=True))
        copy = psql(database, "-c", "COPY contact TO STDOUT")
        figures = [
            Figure(
                f"{command} of {count:,}",
                [
                    (_seconds(database, [*program, command]) - _seconds(database, copy), seconds)
                    for _ in range(rounds)
                ],
                1,
                "s",
                at_most=True,
            )
            for command, seconds in (("stats", 5), ("report", 10))
        ]
    show(*figures)


def _seconds(database: Database, command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment(database), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
