"""A dump of a database, restored into another one."""

from __future__ import annotations

import subprocess

from identity_cli.postgres.binaries import binaries


def restore(url: str, into: str) -> None:
    """Dump the database of a URL and restore it into the empty one of another."""
    dumped = subprocess.run(
        [binaries() / "pg_dump", url], capture_output=True, check=True, text=True
    )
    subprocess.run(
        [binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", into],
        # An older server does not know this setting of the newer pg_dump.
        input=dumped.stdout.replace("SET transaction_timeout = 0;\n", ""),
        capture_output=True,
        check=True,
        text=True,
    )
