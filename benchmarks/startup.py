"""`identity identify` on a running server against a Python with psycopg that does one SELECT."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, show
from benchmarks.server import environment, fresh_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.postgres.database import Database

_SELECT = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("SELECT 1").fetchone()
"""
_IDENTIFY = ("identify", "--email", "mcfly@hillvalley.edu", "--phone", "123456")


def run(quick: bool = False) -> None:
    rounds = 5 if quick else 40
    pairs = []
    with fresh_server() as server, server.database() as database:
        for _ in range(rounds):
            identify = _milliseconds(database, ["-m", "identity_cli", *_IDENTIFY])
            pairs.append((identify, _milliseconds(database, ["-c", _SELECT])))
    show(Figure("identity identify", pairs, 2, "ms", at_most=True))


def _milliseconds(database: Database, arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment(database),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return (time.perf_counter() - start) * 1000
