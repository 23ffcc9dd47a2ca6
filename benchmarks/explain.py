"""`identity explain` in a graph of a million contacts against `identity show`.

900,000 contacts are in identities of ten with three rows of evidence each, 100,000 in one identity:
a tree in which every email leads to ten phone numbers and every phone number to ten emails.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, show
from benchmarks.server import environment, fresh_server

if TYPE_CHECKING:
    from identity_cli.postgres.database import Database

_FILL_SMALL = """
    INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id, link_precedence,
                         anchors_email, anchors_phone, run_id, line, created_at)
        OVERRIDING SYSTEM VALUE
    SELECT n, 'user' || n || '@example.com', 5550000 + first, nullif(first, n), nullif(first, n),
           CASE WHEN n = first THEN 'primary' ELSE 'secondary' END::link_precedence,
           true, n = first, 1, n, '2026-01-01'::timestamptz + n * interval '1 ms'
    FROM (SELECT n, (n - 1) / 10 * 10 + 1 AS first
          FROM generate_series(1, %(small)s) AS n) AS people
    ORDER BY n
"""
_FILL_EVIDENCE = """
    INSERT INTO link_evidence (value, other_value, primary_id, run_id, line, created_at)
    SELECT least(value, other), greatest(value, other), first, 1, first + later,
           '2026-01-01'::timestamptz + (first + 10) * interval '1 ms'
    FROM (SELECT first, later, ('user' || first || '@example.com') COLLATE "C" AS value,
                 ('user' || first + later || '@example.com') COLLATE "C" AS other
          FROM generate_series(1, %(small)s, 10) AS first, generate_series(1, 3) AS later) AS pairs
"""
# Contact 2k brings in email k, contact 2k + 1 phone number k.
_FILL_LARGE = """
    INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id, link_precedence,
                         anchors_email, anchors_phone, run_id, line, created_at)
        OVERRIDING SYSTEM VALUE
    SELECT first + n,
           'large' || CASE n %% 2 WHEN 0 THEN n / 2 ELSE n / 20 END || '@example.com',
           (9990000000 + CASE n %% 2 WHEN 0 THEN n / 20 ELSE n / 2 END)::text,
           nullif(first, first + n), nullif(first, first + n),
           CASE n WHEN 0 THEN 'primary' ELSE 'secondary' END::link_precedence,
           n %% 2 = 0, n %% 2 = 1 OR n = 0, 1, first + n,
           '2026-01-01'::timestamptz + (first + n) * interval '1 ms'
    FROM (SELECT %(small)s + 1 AS first) AS beginning, generate_series(0, %(large)s) AS n
    WHERE n <> 1
    ORDER BY n
"""
_FILL_RUN = """
    INSERT INTO import_run (id, status, inputs, fingerprint, lock_key, rows, started_at)
        OVERRIDING SYSTEM VALUE
    VALUES (1, 'finished', '[{"path": "contacts.csv", "first_line": 0}]', '', 1, '{}', now())
"""


def run(quick: bool = False) -> None:
    small, large = (20_000, 5_000) if quick else (900_000, 100_000)
    rounds = 2 if quick else 9
    with fresh_server() as server, server.database() as database:
        with database.connect() as connection:
            for statement in (_FILL_SMALL, _FILL_EVIDENCE, _FILL_LARGE, _FILL_RUN):
                connection.execute(statement, {"small": small, "large": large})
            connection.execute("VACUUM ANALYZE contact, link_evidence")
        server.settle()
        middle, last = f"user{small // 2}@example.com", f"large{large // 2}@example.com"
        figures = [
            ("chain in an identity of 10", (middle, str(small // 2 - 9)), middle, 1.5),
            ("tree of an identity of 10", (middle,), middle, 1.5),
            (f"chain in one of {large:,}", (last, "large1@example.com"), last, 4),
            (f"tree of one of {large:,}", (last,), last, 6),
        ]
        for name, arguments, value, goal in figures:
            pairs = [
                (
                    _seconds(database, "explain", *arguments),
                    _seconds(database, "show", "--email", value),
                )
                for _ in range(rounds)
            ]
            show(Figure(name, pairs, goal, "s", at_most=True))


def _seconds(database: Database, *arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "identity_cli", *arguments],
        env=environment(database),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start
