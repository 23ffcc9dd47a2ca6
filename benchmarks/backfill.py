"""Backfill from end to end against import over its best number of connections, of a tenth.

Both are rows a second, from the start of the command to its end, into an empty database. The
requests are in several files, which a backfill reads side by side; one file with all of them is
read by one process. The loaded graph is verified as well. What follows has more requests and no
import: the memory of all processes of the command, and the computation alone against DuckDB reading
the same files.
"""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import (
    backfill_files,
    compute_files,
    fresh_server,
    import_files,
    scratch,
    verify_graph,
)
from identity_cli.backfill import duck
from identity_cli.backfill.work import open_work
from identity_cli.importer.stop import StopSwitch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.server import Imported, Server
    from identity_cli.postgres.database import Database

JOBS = (1, 2, 3, 4)
FILES = 10
MEMORY = "2GB"
_MOST_MIB = 3 * 1024
# What 250,000 requests a second are to DuckDB's reading on two idle cores.
_COMPUTED_TO_READ = 0.015


def run(quick: bool = False) -> None:
    count, rounds, many = (500_000, 2, 500_000) if quick else (5_000_000, 5, 10_000_000)
    with fresh_server() as server:
        with scratch() as folder:
            figures = _end_to_end(server, folder, count, rounds)
        with scratch() as folder:
            paths = list(requests.write_csv_parts(folder, requests.mixed(many), many // FILES))
            peak = _backfill(server, paths).peak_memory / 2**20
            name = f"peak memory of {many:,}, --memory {MEMORY}"
            figures.append(Figure(name, [(peak, _MOST_MIB)], 1, "MiB", at_most=True))
            pairs = _computing(folder, paths, many)
            name = f"computing {many:,} to DuckDB reading them"
            figures.append(Figure(name, pairs, _COMPUTED_TO_READ, "requests/s"))
    show(*figures)


def _end_to_end(server: Server, folder: Path, count: int, rounds: int) -> list[Figure]:
    paths = list(requests.write_csv_parts(folder, requests.mixed(count), count // FILES))
    whole = requests.write_csv(folder / "whole.csv", requests.mixed(count))
    jobs = {number: _import(server, paths[0], number) for number in JOBS}
    for number, rate in jobs.items():
        note(f"import --jobs {number}: {rate:,.0f} requests/s")
    best = max(jobs, key=jobs.__getitem__)
    to_import, to_files, to_load = [], [], []
    for _ in range(rounds):
        with _new_database(server) as database:
            seconds = backfill_files(database, *paths, memory=MEMORY).seconds
            to_load.append((verify_graph(database).seconds, seconds))
        rates = [count / seconds, count / _backfill(server, [whole]).seconds]
        note(f"backfill of {FILES} files, of one: {rates[0]:,.0f}, {rates[1]:,.0f} requests/s")
        to_import.append((rates[0], _import(server, paths[0], best)))
        to_files.append((rates[1], rates[0]))
    return [
        Figure(f"backfill to import --jobs {best}", to_import, 4, "requests/s"),
        Figure(f"one file to {FILES} files", to_files, 0.8, "requests/s"),
        Figure("verify to the backfill", to_load, 0.5, "s", at_most=True),
    ]


def _import(server: Server, path: Path, jobs: int) -> float:
    with _new_database(server) as database:
        done = import_files(database, path, jobs=jobs)
        return float(done.summary["rows"]["read"]) / done.seconds


def _backfill(server: Server, paths: list[Path]) -> Imported:
    with _new_database(server) as database:
        return backfill_files(database, *paths, memory=MEMORY)


@contextmanager
def _new_database(server: Server) -> Iterator[Database]:
    with server.database() as database:
        server.settle()
        yield database


def _computing(folder: Path, paths: list[Path], count: int) -> list[tuple[float, float]]:
    """Rows a second of the computation alone, and of DuckDB that only reads the files."""
    done = compute_files(folder / "work", *paths, memory=MEMORY)
    note(f"backfill compute, reading included: {count / done.seconds:,.0f} requests/s")
    with open_work(str(folder / "work"), is_begun=True) as work:
        parts = work.parts()
    pairs = []
    for _ in range(2):
        again = folder / "again"
        again.mkdir()
        start = time.perf_counter()
        duck.compute(
            again,
            parts,
            first_contact_id=1,
            first_evidence_id=1,
            memory=MEMORY,
            threads=None,
            switch=StopSwitch(),
        )
        computed = count / (time.perf_counter() - start)
        shutil.rmtree(again)
        start = time.perf_counter()
        duckdb.execute(
            "SELECT count(*), max(email), max(phone) FROM read_csv(?, header = true,"
            " all_varchar = true)",
            [[str(path) for path in paths]],
        ).fetchall()
        pairs.append((computed, count / (time.perf_counter() - start)))
    return pairs
