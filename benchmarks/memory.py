"""Peak memory of an import of 3 million requests against one of 100,000."""

from __future__ import annotations

from benchmarks import requests
from benchmarks.figures import Figure, show
from benchmarks.server import fresh_server, import_files, scratch

_JOBS = 2


def run(quick: bool = False) -> None:
    most, some = (60_000, 20_000) if quick else (3_000_000, 100_000)
    peaks = []
    with fresh_server() as server, scratch() as folder:
        for count in (most, some):
            path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
            with server.database() as database:
                peaks.append(import_files(database, path, jobs=_JOBS).peak_memory / 2**20)
    show(Figure(f"{most:,} requests", [(peaks[0], peaks[1])], 1.2, "MiB", at_most=True))
