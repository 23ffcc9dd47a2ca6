"""1,000 identities of 1,000 contacts become one: merges against the bare UPDATEs.

Both work on copies of one database, with the same constraints and triggers, and move the same rows
in the same order; commits are asynchronous for both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, note, show
from benchmarks.server import Server, fresh_server, reconcile_all, service

if TYPE_CHECKING:
    from identity_cli.postgres.database import Database

# An identity is a phone number; its contacts are the emails on it. Ids and times go up with both.
_FILL = """
    INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id, link_precedence,
                         anchors_email, anchors_phone, created_at, updated_at)
        OVERRIDING SYSTEM VALUE
    SELECT n, 'user' || n || '@example.com', 5550000 + identity,
           nullif(first, n), nullif(first, n),
           CASE WHEN n = first THEN 'primary' ELSE 'secondary' END::link_precedence,
           true, n = first,
           '2026-01-01'::timestamptz + n * interval '1 ms',
           '2026-01-01'::timestamptz + n * interval '1 ms'
    FROM (SELECT identity, identity * %(size)s + 1 AS first,
                 identity * %(size)s + 1 + member AS n
          FROM generate_series(0, %(identities)s - 1) AS identity,
               generate_series(0, %(size)s - 1) AS member) AS people
    ORDER BY n
"""
_ADVANCE = "SELECT setval(pg_get_serial_sequence('contact', 'id'), max(id)) FROM contact"
_MOVE = """
    UPDATE contact SET linked_id = 1, link_precedence = 'secondary', updated_at = clock_timestamp()
    WHERE id = %(gives_way)s OR linked_id = %(gives_way)s
"""


def run(quick: bool = False) -> None:
    identities, size = (100, 200) if quick else (1_000, 1_000)
    rounds = 2 if quick else 1
    pairs = []
    with fresh_server() as server, server.database() as filled:
        with filled.connect() as connection:
            for statement in (_FILL, _ADVANCE):
                connection.execute(statement, {"identities": identities, "size": size})
            connection.execute("VACUUM ANALYZE contact")
        for _ in range(rounds):
            merges = _merge(server, filled, identities)
            pairs.append((merges, _update(server, filled, identities, size)))
    note(f"{identities - 1:,} merges, each moves {size:,} contacts")
    show(Figure("merges", pairs, 0.5, "merges/s"))


def _merge(server: Server, filled: Database, identities: int) -> float:
    incoming = [("user1@example.com", str(5550000 + identity)) for identity in range(1, identities)]
    with server.database(filled.parameters["dbname"]) as database:
        server.settle()
        target = service(database)
        with target.connection:
            start = time.perf_counter()
            done = reconcile_all(target, incoming)
            seconds = time.perf_counter() - start
        _check(database)
    return done / seconds


def _update(server: Server, filled: Database, identities: int, size: int) -> float:
    with server.database(filled.parameters["dbname"]) as database:
        server.settle()
        with service(database).connection as connection:
            start = time.perf_counter()
            for identity in range(1, identities):
                connection.execute(_MOVE, {"gives_way": identity * size + 1})
            seconds = time.perf_counter() - start
        _check(database)
    return (identities - 1) / seconds


def _check(database: Database) -> None:
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM contact WHERE linked_id IS NULL").fetchone()
    assert row == (1,), row
