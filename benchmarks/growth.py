"""3 million requests, 100,000 at a time: the last against the first, each an import of its own."""

from __future__ import annotations

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import fresh_server, import_files, scratch


def run(quick: bool = False) -> None:
    total = 60_000 if quick else 3_000_000
    part = 10_000 if quick else 100_000
    rates = []
    with fresh_server() as server, scratch() as folder, server.database() as database:
        for path in requests.write_csv_parts(folder, requests.mixed(total), part):
            rates.append(part / import_files(database, path).seconds)
            path.unlink()
            if len(rates) % 5 == 0:
                note(f"{len(rates) * part:,} requests: {rates[-1]:,.0f}/s")
    show(Figure(f"last {part:,} of {total:,}", [(rates[-1], rates[0])], 0.7, "requests/s"))
