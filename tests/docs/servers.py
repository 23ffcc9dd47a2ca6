"""The embedded server on which the documentation's commands run."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from identity_cli.postgres.embedded import DATABASE, EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running_server() -> Iterator[Path]:
    """Keep an embedded server running; its IDENTITY_HOME."""
    is_root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="identity-docs-", dir="/var/lib" if is_root else None))
    try:
        if is_root:
            folder.chmod(0o711)  # the server's own user passes through
        home = folder / "home"
        server = EmbeddedServer(home)
        server.start()
        try:
            yield home
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def fresh_database(home: Path) -> None:
    """Replace the database of the embedded server in `home` with an empty one."""
    server = EmbeddedServer(home)
    server.start()
    parameters = server.connection_parameters() | {"dbname": "postgres"}
    with psycopg.connect(**parameters, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
