"""Backfill from end to end against import over its best number of connections, of a tenth.

Both are rows a second, from the start of the command to its end, into an empty database. The
requests are in several files, which a backfill reads side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import backfill_files, fresh_server, import_files, scratch

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.server import Imported, Server

JOBS = (1, 2, 3, 4)
FILES = 10


def run(quick: bool = False) -> None:
    count, rounds = (500_000, 2) if quick else (5_000_000, 5)
    with fresh_server() as server, scratch() as folder:
        paths = list(requests.write_csv_parts(folder, requests.mixed(count), count // FILES))
        jobs = {number: _import(server, paths[0], number) for number in JOBS}
        for number, rate in jobs.items():
            note(f"import --jobs {number}: {rate:,.0f} requests/s")
        best = max(jobs, key=jobs.__getitem__)
        pairs = []
        for _ in range(rounds):
            done = _backfill(server, paths)
            note(
                f"backfill: {count / done.seconds:,.0f} requests/s,"
                f" at most {done.peak_memory / 2**20:,.0f} MiB"
            )
            pairs.append((count / done.seconds, _import(server, paths[0], best)))
    show(Figure(f"backfill to import --jobs {best}", pairs, 4, "requests/s"))


def _import(server: Server, path: Path, jobs: int) -> float:
    with server.database() as database:
        server.settle()
        done = import_files(database, path, jobs=jobs)
        return float(done.summary["rows"]["read"]) / done.seconds


def _backfill(server: Server, paths: list[Path]) -> Imported:
    with server.database() as database:
        server.settle()
        return backfill_files(database, *paths)
