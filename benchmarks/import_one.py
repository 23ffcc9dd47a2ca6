"""Import over one connection against the same requests as single statements.

pgbench gets every advantage of C: no file to read, no normalisation, nothing to write down, its
start and its parsing not counted. It sends the very call that the batch makes inside, with the
values in place, and waits for nothing but the end of a pipeline of 500.
"""

from __future__ import annotations

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import (
    fresh_server,
    import_files,
    literal,
    pgbench,
    scratch,
    write_script,
)


def run(quick: bool = False) -> None:
    count = 20_000 if quick else 200_000
    rounds = 2 if quick else 3
    pairs = []
    with fresh_server() as server, scratch() as folder:
        mixed = list(requests.mixed(count))
        path = requests.write_csv(folder / "requests.csv", mixed)
        script = write_script(
            folder / "replay.sql", (_call(*request, line) for line, request in enumerate(mixed, 2))
        )
        for _ in range(rounds):
            with server.database() as database:
                server.settle()
                imported = import_files(database, path)
            with server.database() as database:
                server.settle()
                seconds, _ = pgbench(database, [script])
            pairs.append((count / imported.seconds, count / seconds))
        rows = imported.summary["rows"]
    note(", ".join(f"{value:,} {name}" for name, value in rows.items()))
    show(Figure("import --jobs 1", pairs, 1.1, "requests/s"))


def _call(email: str | None, phone: str | None, line: int) -> str:
    return f"SELECT reconcile({literal(email)}, {literal(phone)}, clock_timestamp(), 1, {line})"
