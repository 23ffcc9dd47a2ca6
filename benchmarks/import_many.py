"""Import over its best number of connections against bare INSERTs over their best number.

The bare INSERTs are prepared and pipelined; those of literal statements, which PostgreSQL parses
and plans one by one, are shown besides. A quick round finds the best numbers of connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import inserts, requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import fresh_server, import_files, pgbench, pgbench_prepared, scratch

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.server import Server

JOBS = (1, 2, 3, 4)
CLIENTS = (1, 2, 4, 8)


def run(quick: bool = False) -> None:
    few, count, rounds = (10_000, 20_000, 2) if quick else (100_000, 1_000_000, 5)
    with fresh_server() as server, scratch() as folder:
        short = requests.write_csv(folder / "short.csv", requests.mixed(few))
        path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
        with server.database() as database:
            import_files(database, short)
            rows = inserts.stored_rows(database)
        share = len(rows) / few
        jobs = {number: few / _import(server, short, number) for number in JOBS}
        prepared = {clients: _prepared(server, folder, few, clients) for clients in CLIENTS}
        for number, rate in jobs.items():
            note(f"import --jobs {number}: {rate:,.0f} requests/s")
        for clients, rate in prepared.items():
            note(f"bare prepared INSERTs, {clients} connections: {rate:,.0f} rows/s")
        best, most = max(jobs, key=jobs.__getitem__), max(prepared, key=prepared.__getitem__)
        literal = inserts.write_scripts(folder, rows, most)
        to_prepared, to_literal = [], []
        for _ in range(rounds):
            imported = count / _import(server, path, best)
            to_prepared.append((imported, _prepared(server, folder, round(count * share), most)))
            with server.database() as database:
                inserts.make_table(database)
                server.settle()
                seconds, _ = pgbench(database, literal)
            to_literal.append((imported, len(rows) / seconds))
    show(
        Figure(f"import --jobs {best} to prepared INSERTs", to_prepared, 0.5, "per second"),
        Figure(f"import --jobs {best} to literal INSERTs", to_literal, 1.2, "per second"),
    )


def _import(server: Server, path: Path, jobs: int) -> float:
    with server.database() as database:
        server.settle()
        return import_files(database, path, jobs=jobs).seconds


def _prepared(server: Server, folder: Path, rows: int, clients: int) -> float:
    """Return the rows per second."""
    script = inserts.write_prepared(folder / f"prepared_{clients}.sql", clients)
    times = max(1, rows // inserts.PREPARED // clients)
    with server.database() as database:
        inserts.make_table(database)
        server.settle()
        return (
            inserts.PREPARED * times * clients / pgbench_prepared(database, script, clients, times)
        )
