"""Changes of a night, and an export as of the day before, of 1 million contacts, against COPY."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.export import FILL
from benchmarks.figures import Figure, note, show
from benchmarks.server import environment, fresh_server, psql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.postgres.database import Database


def run(quick: bool = False) -> None:
    count = 50_000 if quick else 1_000_000
    rounds = 3 if quick else 5
    with (
        fresh_server() as server,
        server.database() as database,
        tempfile.TemporaryDirectory() as name,
    ):
        with database.connect() as connection:
            connection.execute(FILL, (count,))
            connection.execute("VACUUM ANALYZE contact")
        program = [sys.executable, "-m", "identity_cli"]
        export = [*program, "export"]
        folder = Path(name)
        copy, token_file, night = folder / "contacts.csv", folder / "token", folder / "night.csv"
        _run(database, [*export, "-o", str(copy), "--token-file", str(token_file)])
        night.write_text("".join(_night(count)))
        _run(database, [*program, "import", "-q", str(night)])
        server.settle()
        token = token_file.read_text().strip()
        changes = [*export, "--what", "changes", "--since", token]
        note(f"{len(_run(database, changes).splitlines()) - 1:,} changes")
        as_of = [*export, "--as-of", token]
        assert _run(database, as_of) == copy.read_bytes()
        reference = psql(database, "-c", "COPY contact TO STDOUT")
        figures = [
            Figure(
                f"{what} of {count:,}",
                [
                    (_seconds(database, command), _seconds(database, reference))
                    for _ in range(rounds)
                ],
                most,
                "s",
                at_most=True,
            )
            for what, command, most in (
                ("changes", changes, 2),
                ("redirects", [*export, "--what", "redirects", "--since", token], 2),
                ("export --as-of", as_of, 5),
            )
        ]
    show(*figures)


def _night(contacts: int) -> list[str]:
    """Return rows that bring new people, add values to known ones, and merge some of these."""
    draw = random.Random(1)
    rows = ["email,phone\n"]
    for i in range(contacts // 100):
        phone = 5550000001 + draw.randrange(contacts)
        if i % 3 == 0:
            rows.append(f"new{i}@example.com,{phone}\n")
        elif i % 3 == 1:
            rows.append(f"new{i - 1}@example.com,{phone}\n")
        else:
            rows.append(f"new{i}@example.com,{6660000000 + i}\n")
    return rows


def _run(database: Database, command: Sequence[str]) -> bytes:
    return subprocess.run(
        command, env=environment(database), stdout=subprocess.PIPE, check=True
    ).stdout


def _seconds(database: Database, command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        command,
        env=environment(database),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start
