"""CPU time of the backend: a request of the import against one bare INSERT.

Each backend writes down what it has used so far, before and after, from /proc/self/stat. The
server's other processes (WAL writer, checkpointer) work for both alike and are left out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchmarks import inserts, requests
from benchmarks.figures import Figure, show
from benchmarks.server import (
    fresh_server,
    pgbench,
    reconcile_all,
    scratch,
    service,
)

if TYPE_CHECKING:
    from identity_cli.postgres.database import Database

_TICKS = os.sysconf("SC_CLK_TCK")
_NOTE = "INSERT INTO cpu SELECT pg_read_file('/proc/self/stat')"


def run(quick: bool = False) -> None:
    count = 20_000 if quick else 100_000
    rounds = 2 if quick else 5
    pairs = []
    with fresh_server() as server, scratch() as folder:
        mixed = list(requests.mixed(count))
        with server.database() as database, service(database).connection:
            reconcile_all(service(database), mixed)
            rows = inserts.stored_rows(database)
        [script] = inserts.write_scripts(folder, rows, 1)
        script.write_text(f"{_NOTE};\n{script.read_text()}{_NOTE};\n")
        for _ in range(rounds):
            with server.database() as database:
                _make_notebook(database)
                server.settle()
                target = service(database)
                with target.connection as connection:
                    connection.execute(_NOTE)
                    reconcile_all(target, mixed)
                    connection.execute(_NOTE)
                request = _microseconds(database) / count
            with server.database() as database:
                _make_notebook(database)
                inserts.make_table(database)
                server.settle()
                pgbench(database, [script])
                pairs.append((request, _microseconds(database) / len(rows)))
    show(Figure("server CPU of a request", pairs, 1.6, "µs", at_most=True))


def _make_notebook(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE cpu (line text)")


def _microseconds(database: Database) -> float:
    with database.connect() as connection:
        lines = [line for (line,) in connection.execute("SELECT line FROM cpu")]
    # After the command's closing parenthesis utime and stime are the 12th and 13th field.
    used = [sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in lines]
    return (max(used) - min(used)) / _TICKS * 1e6
