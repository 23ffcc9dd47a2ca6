"""A dry run against the import itself over one connection, and its preview against the dry run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, show
from benchmarks.server import fresh_server, import_files, scratch
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer

if TYPE_CHECKING:
    from pathlib import Path

    from identity_cli.importer.run import Progress
    from identity_cli.postgres.database import Database


def run(quick: bool = False) -> None:
    count = 10_000 if quick else 300_000
    rounds = 1 if quick else 3
    runs, previews = [], []
    with fresh_server() as server, scratch() as folder:
        path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
        for _ in range(rounds):
            with server.database() as database:
                seconds, preview = _dry_run(database, path)
                server.settle()
                imported = import_files(database, path)
            runs.append((seconds, imported.seconds))
            previews.append((preview, seconds))
    show(
        Figure(f"dry run of {count:,}", runs, 1.1, "s", at_most=True),
        Figure("its preview", previews, 0.1, "s", at_most=True),
    )


def _dry_run(database: Database, path: Path) -> tuple[float, float]:
    """Return how long the dry run took, and how much of that its preview."""
    began = preview = time.perf_counter()

    def note(progress: Progress) -> None:
        nonlocal preview
        if progress.phase == "preview":
            preview = time.perf_counter()

    Importer(ImportPlan((str(path),), dry_run=True)).run(database, note)
    ended = time.perf_counter()
    return ended - began, ended - preview
