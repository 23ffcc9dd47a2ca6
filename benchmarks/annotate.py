"""Annotation of 200,000 rows against a loop that only reads and writes the CSV file.

The loop gets everything for nothing that annotation is about: no normalisation, no database.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import environment, fresh_server, scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.postgres.database import Database

_GOAL = 50_000

_FILL = """
    INSERT INTO contact (email, phone_number, link_precedence)
    SELECT email, phone_number, 'primary'
    FROM unnest(%b::text[], %b::text[]) AS given (email, phone_number)
"""
_LOOP = """
import csv, sys
with open(sys.argv[1], newline="") as file:
    csv.writer(sys.stdout).writerows([*row, "", ""] for row in csv.reader(file))
"""


def run(quick: bool = False) -> None:
    count = 50_000 if quick else 200_000
    rounds = 3 if quick else 5
    with fresh_server() as server, scratch() as folder, server.database() as database:
        with database.connect() as connection:
            emails, phones = map(list, zip(*requests.strangers(count), strict=True))
            connection.execute(_FILL, (emails, phones))
            connection.execute("VACUUM ANALYZE contact")
        server.settle()
        path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
        command = [sys.executable, "-m", "identity_cli", "annotate", "-q", str(path)]
        loop = [sys.executable, "-c", _LOOP, str(path)]
        pairs = [
            (count / _seconds(database, command), count / _seconds(database, loop))
            for _ in range(rounds)
        ]
    rates = sorted(measured for measured, _ in pairs)
    note(f"{rates[0]:,.0f} to {rates[-1]:,.0f} rows/s")
    show(
        Figure(f"annotate {count:,}", [(rate, _GOAL) for rate in rates], 1, "rows/s"),
        Figure("against the loop", pairs, 0.05, "rows/s"),
    )


def _seconds(database: Database, command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment(database), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
