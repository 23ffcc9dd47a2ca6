"""Export of 1 million contacts as CSV against `COPY contact TO STDOUT` by psql."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, show
from benchmarks.server import environment, fresh_server, psql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.postgres.database import Database

FILL = """
    INSERT INTO contact (email, phone_number, link_precedence)
    SELECT 'user.' || md5(n::text) || '@example.com', 5550000000 + n, 'primary'
    FROM generate_series(1, %s::int) AS n
"""


def run(quick: bool = False) -> None:
    count = 50_000 if quick else 1_000_000
    rounds = 3 if quick else 7
    with fresh_server() as server, server.database() as database:
        with database.connect() as connection:
            connection.execute(FILL, (count,))
            connection.execute("VACUUM ANALYZE contact")
        server.settle()
        command = [sys.executable, "-m", "identity_cli", "export", "--format", "csv"]
        copy = psql(database, "-c", "COPY contact TO STDOUT")
        pairs = [
            (count / _seconds(database, command), count / _seconds(database, copy))
            for _ in range(rounds)
        ]
    show(Figure(f"export of {count:,}", pairs, 0.5, "contacts/s"))


def _seconds(database: Database, command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment(database), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
