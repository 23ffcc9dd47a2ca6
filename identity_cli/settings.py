"""Where the database is: flag, then environment, then the embedded server."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.postgres.database import Database

_SCHEMES = ("postgresql+psycopg://", "postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class Settings:
    """`database_url` is None for the embedded server, which keeps its data in `home`."""

    database_url: str | None
    home: Path


def read_settings(database_url: str | None = None) -> Settings:
    """The settings that hold for this process, `database_url` being the flag."""
    url = database_url or os.environ.get("DATABASE_URL") or None
    home = os.environ.get("IDENTITY_HOME")
    return Settings(url, Path(home).expanduser().absolute() if home else _default_home())


def _default_home() -> Path:
    # PostgreSQL does not run as root: root's server belongs to a system user, who must be able to
    # reach the folder. Under /var/lib that opens nothing that was closed.
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/identity")
    import platformdirs

    return platformdirs.user_data_path("identity", appauthor=False)


def connection_parameters(url: str) -> dict[str, str]:
    """libpq's parameters out of a database URL. Raises `UsageError`, which never shows the URL."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    for scheme in _SCHEMES:
        if url.startswith(scheme):
            rest = url.removeprefix(scheme)
            break
    else:
        raise _malformed_url()
    try:
        found = conninfo_to_dict(f"postgresql://{rest}")
    except ProgrammingError:
        raise _malformed_url() from None  # the driver's message repeats the password
    parameters = {key: str(value) for key, value in found.items() if value is not None}
    ports = parameters.get("port", "").split(",")
    # A password with a bare @ or / spills into the host or the port, and from there into messages.
    if "@" in parameters.get("host", "") or not all(p.isdigit() or not p for p in ports):
        raise _malformed_url()
    return parameters


def _malformed_url() -> UsageError:
    return UsageError(
        "the database URL is malformed",
        hint="write postgresql://USER:PASSWORD@HOST:5432/DATABASE, "
        "with @ : / ? # in the password percent-encoded",
    )


@contextmanager
def open_database(database_url: str | None = None) -> Iterator[Database]:
    """The database of these settings; an embedded server runs at least as long as the block."""
    from identity_cli.postgres.database import Database

    settings = read_settings(database_url)
    if settings.database_url is not None:
        yield Database(connection_parameters(settings.database_url), embedded=False)
        return
    from identity_cli.postgres.embedded import EmbeddedServer

    with EmbeddedServer(settings.home) as server:
        yield Database(server.connection_parameters(), embedded=True, revive=server.ensure_running)
