"""100,000 requests into a graph of 2.9 million, against the first 100,000.

Each is an import of its own over one connection. The parts that follow go into the grown graph, the
first part into an empty database, in turn. The databases are there before: creating one ends with a
checkpoint, after which PostgreSQL logs whole pages, of which a grown graph has more.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import fresh_server, import_files, scratch

if TYPE_CHECKING:
    from pathlib import Path

    from identity_cli.postgres.database import Database


def run(quick: bool = False) -> None:
    total, part, rounds = (60_000, 10_000, 2) if quick else (3_000_000, 100_000, 5)
    mixed = iter(requests.mixed(total + (rounds - 1) * part))
    with fresh_server() as server, scratch() as folder, ExitStack() as stack:
        grown, *empty = (stack.enter_context(server.database()) for _ in range(1 + rounds))
        first = requests.write_csv(folder / "first.csv", islice(mixed, part))
        import_files(grown, first)
        middle = requests.write_csv(folder / "middle.csv", islice(mixed, total - 2 * part))
        import_files(grown, middle, jobs=2)
        middle.unlink()
        pairs = []
        for path, database in zip(
            requests.write_csv_parts(folder, mixed, part), empty, strict=True
        ):
            pairs.append((_rate(grown, path, part), _rate(database, first, part)))
            note(f"{pairs[-1][0]:,.0f} requests/s, the first: {pairs[-1][1]:,.0f}")
    show(Figure(f"last {part:,} of {total:,}", pairs, 0.85, "requests/s"))


def _rate(database: Database, path: Path, count: int) -> float:
    return count / import_files(database, path).seconds
