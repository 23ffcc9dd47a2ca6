"""Find the database: the option, then the environment, then the embedded server."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.postgres.database import Database

_SCHEMES = ("postgresql+psycopg://", "postgresql://", "postgres://")

# Parameters of other programs' URLs, and what to do here instead. Only these are named in a
# message: what stands after a ? may be part of a password.
_FOREIGN_PARAMETERS = {
    "pgbouncer": "remove it, and connect to the server's own port or to a session pool",
    "schema": "remove it, and run ALTER ROLE … SET search_path = …",
    "currentSchema": "remove it, and run ALTER ROLE … SET search_path = …",
    "sslaccept": "write sslmode=require or sslmode=verify-full",
    "connection_limit": "remove it",
    "pool_timeout": "remove it",
    "statement_cache_size": "remove it",
    "prepareThreshold": "remove it",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A database URL, or None for the embedded server that keeps its data in `home`."""

    database_url: str | None
    home: Path
    # The key of the forgotten values, None if it is kept in the database.
    forget_key: str | None = field(default=None, repr=False)


def read_settings(database_url: str | None = None) -> Settings:
    """Return the settings of this process; `database_url` is the option's value.

    Raises `UsageError` if that is empty: a script's variable is not set, and the rows would go to
    the embedded database.
    """
    if database_url is not None and not database_url.strip():
        raise UsageError(
            "--database-url is empty",
            hint="pass a PostgreSQL URL, or leave the option out to use the embedded server",
        )
    url = database_url or os.environ.get("DATABASE_URL") or None
    home = os.environ.get("IDENTITY_HOME")
    try:
        folder = Path(home).expanduser().absolute() if home else _default_home()
    except RuntimeError:
        folder = Path("~")  # of a user that has no entry
    if url is None and not folder.is_absolute():
        raise UsageError(
            "there is no home folder to keep the embedded database in",
            hint="set IDENTITY_HOME to a folder, or DATABASE_URL to a server",
        )
    return Settings(url, folder, os.environ.get("IDENTITY_FORGET_KEY") or None)


def _default_home() -> Path:
    # PostgreSQL does not run as root: root's server runs as a system user, who can reach a folder
    # under /var/lib without any change to the folders above it.
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/identity")
    import platformdirs

    return platformdirs.user_data_path("identity", appauthor=False)


def connection_parameters(url: str) -> dict[str, str]:
    """Return libpq's parameters of a database URL.

    Raises `UsageError`, which never shows the URL.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if url != url.strip():
        raise UsageError(
            "the database URL begins or ends with white space or a line break",
            hint="remove it from --database-url, from DATABASE_URL or from the file it comes from",
        )
    for scheme in _SCHEMES:
        if url.startswith(scheme):
            rest = url.removeprefix(scheme)
            break
    else:
        raise _malformed_url()
    try:
        found = conninfo_to_dict(f"postgresql://{rest}")
    except ProgrammingError:
        # The driver's message repeats the password.
        raise _foreign_parameter(rest) or _malformed_url() from None
    parameters = {key: str(value) for key, value in found.items() if value is not None}
    ports = parameters.get("port", "").split(",")
    # An unescaped @ or / in a password ends up in the host or the port, which messages show.
    if "@" in parameters.get("host", "") or not all(p.isdigit() or not p for p in ports):
        raise _malformed_url()
    return parameters


def _foreign_parameter(rest: str) -> UsageError | None:
    _, _, query = rest.rpartition("?")
    for name in (pair.partition("=")[0] for pair in query.split("&")):
        if name in _FOREIGN_PARAMETERS:
            return UsageError(
                f"the database URL has the parameter {name}, which is not one of PostgreSQL",
                hint=_FOREIGN_PARAMETERS[name],
            )
    return None


def _malformed_url() -> UsageError:
    return UsageError(
        "the database URL is malformed",
        hint="write postgresql://USER:PASSWORD@HOST:5432/DATABASE, "
        "with @ : / ? # in the password percent-encoded",
    )


@contextmanager
def open_database(database_url: str | None = None) -> Iterator[Database]:
    """Open the database of the settings; an embedded server runs at least as long as the block."""
    from identity_cli.postgres.database import Database

    settings = read_settings(database_url)
    if settings.database_url is not None:
        yield Database(
            connection_parameters(settings.database_url),
            embedded=False,
            forget_key=settings.forget_key,
        )
        return
    from identity_cli.postgres.embedded import EmbeddedServer

    with EmbeddedServer(settings.home) as server:
        yield Database(
            server.connection_parameters(),
            embedded=True,
            revive=server.ensure_running,
            forget_key=settings.forget_key,
        )
