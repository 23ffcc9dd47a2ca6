"""Commands that report how far they are against the same without."""

from __future__ import annotations

import io
import os
import time
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, show
from benchmarks.server import fresh_server, import_files, scratch
from identity_cli.exporter.export import export
from identity_cli.graph.verify import verify
from identity_cli.meter import SILENT, Meter
from identity_cli.output.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable


def run(quick: bool = False) -> None:
    count = 10_000 if quick else 300_000
    rounds = 2 if quick else 7
    with fresh_server() as server, scratch() as folder:
        path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
        with server.database() as database:
            import_files(database, path)
            with database.connect() as connection, open(os.devnull, "wb") as nowhere:
                connection.execute("VACUUM ANALYZE")
                figures = [
                    Figure(
                        f"{name} with events",
                        [(_seconds(name, work), _seconds(None, work)) for _ in range(rounds)],
                        1.15,
                        "s",
                        at_most=True,
                    )
                    for name, work in (
                        ("verify", lambda meter: verify(connection, meter)),
                        ("export", lambda meter: export(connection, nowhere, meter=meter)),
                    )
                ]
    show(*figures)


def _seconds(command: str | None, work: Callable[[Meter], object]) -> float:
    """Return how long the work takes, with events if it is one of a command."""
    with redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        if command is None:
            work(SILENT)
        else:
            with progress(command, "json") as meter:
                work(meter)
        return time.perf_counter() - start
