"""CPU time of the backend: a request of the import against a bare INSERT in the same kind of loop.

Both are procedures with a COMMIT behind every row, and take turns batch by batch. The time is what
the kernel has counted for each one's server process; the server's other processes (WAL writer,
checkpointer) work for both alike and are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import inserts, requests
from benchmarks.figures import Figure, show
from benchmarks.server import CPU_NANOSECONDS, fresh_server, reconcile_all, service

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from benchmarks.requests import Request
    from benchmarks.server import Server

_BATCH = 500


def run(quick: bool = False) -> None:
    count = 20_000 if quick else 100_000
    rounds = 2 if quick else 5
    mixed = list(requests.mixed(count))
    with fresh_server() as server:
        with server.database() as database:
            target = service(database)
            with target.connection:
                reconcile_all(target, mixed)
            rows = inserts.stored_rows(database)
        pairs = [_round(server, mixed, rows) for _ in range(rounds)]
    show(Figure("server CPU of a request", pairs, 2.4, "µs", at_most=True))


def _round(
    server: Server, mixed: Sequence[Request], rows: Sequence[tuple[Any, ...]]
) -> tuple[float, float]:
    """Return the microseconds of a request and of a row."""
    with server.database() as database, server.database() as other:
        inserts.make_table(other)
        target = service(database)
        server.settle()
        with target.connection as reconciling, other.connect() as inserting:
            inserting.execute("SET synchronous_commit = off")
            reconciling_before, inserting_before = _used(reconciling), _used(inserting)
            stored = 0
            for start in range(0, len(mixed), _BATCH):
                reconcile_all(target, mixed[start : start + _BATCH])
                end = len(rows) * (start + _BATCH) // len(mixed)
                inserts.insert_rows(inserting, rows[stored:end])
                stored = end
            return (
                (_used(reconciling) - reconciling_before) / len(mixed) / 1000,
                (_used(inserting) - inserting_before) / stored / 1000,
            )


def _used(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(CPU_NANOSECONDS).fetchone()
    assert row is not None
    return int(row[0])
