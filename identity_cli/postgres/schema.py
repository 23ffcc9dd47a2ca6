"""The schema's revision: what the database has, what this program needs, and the way between."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import errors as pg

from identity_cli.errors import SchemaNotAtHeadError
from identity_cli.postgres.database import Database, engine, translated
from identity_cli.postgres.session import READ, SessionSettings

if TYPE_CHECKING:
    import psycopg
    from alembic.config import Config

# The newest revision in migrations/versions. Written down here because a normal command must not
# import Alembic only to know it.
HEAD = "0002"

# A profile binds from the first contact on.
STATE = """
    SELECT version_num, version, region
    FROM alembic_version LEFT JOIN normalization_profile ON EXISTS (SELECT FROM contact)
"""
_USER_TABLES = """
    SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
      AND nspname !~ '^pg_' AND nspname <> 'information_schema'
"""


# Alembic keeps the environment of a running migration in globals of its modules.
_one_thread = threading.Lock()


@dataclass(frozen=True, slots=True)
class Profile:
    """How the values of a database were normalised."""

    version: int
    region: str | None

    def __str__(self) -> str:
        region = f"region {self.region}" if self.region else "no region"
        return f"{region}, version {self.version}"


def connect(
    database: Database, *, application: str = "identity", session: SessionSettings = READ
) -> tuple[psycopg.Connection[Any], Profile | None]:
    """A connection to a database at head, and the profile of its values if it has any.

    The embedded database and an empty one are migrated on the way.
    Raises `SchemaNotAtHeadError` for any other that is not at head.
    """
    connection = database.connect(application=application, session=session)
    try:
        revision, profile = read_state(connection)
        if revision != HEAD:
            if not (database.embedded or (revision is None and _is_empty(connection))):
                raise _not_at_head(revision)
            upgrade(database)
            revision, profile = read_state(connection)
            if revision != HEAD:
                raise _not_at_head(revision)
    except BaseException:
        connection.close()
        raise
    return connection, profile


def current(connection: psycopg.Connection[Any]) -> str | None:
    """The revision of the database, None when it has no schema."""
    return read_state(connection)[0]


def upgrade(database: Database) -> None:
    """Migrate to head; a second upgrade at the same time waits and finds nothing to do."""
    from alembic import command
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    with _one_thread, engine(database).connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
            connection.commit()
        except CommandError as error:
            raise _not_at_head("unknown") from error
        except DBAPIError as error:
            if isinstance(error.orig, pg.Error):
                with translated():
                    raise error.orig from None
            raise


def differences(database: Database) -> list[str]:
    """What differs between the database and the models, a line each; empty at head."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from identity_cli.postgres.models import metadata

    with engine(database).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return [str(difference) for difference in compare_metadata(context, metadata)]


def alembic_config() -> Config:
    """Alembic's configuration, wherever the package is installed."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _migrations() -> Path:
    package = Path(__file__).parent.parent
    # In the wheel they are inside the package, in a checkout beside it.
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def read_state(connection: psycopg.Connection[Any]) -> tuple[str | None, Profile | None]:
    try:
        with translated():
            row = connection.execute(STATE).fetchone()
    except SchemaNotAtHeadError:
        return None, None
    if row is None:
        return None, None
    revision, version, region = row
    return revision, None if version is None else Profile(version, region)


def _is_empty(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(_USER_TABLES).fetchone()
    return row is not None and row[0] == 0


def _not_at_head(revision: str | None) -> SchemaNotAtHeadError:
    if revision is not None and (not revision.isdecimal() or revision > HEAD):
        return SchemaNotAtHeadError(
            f"the database is at a revision that this program does not know, not at {HEAD}",
            hint="upgrade identity: the database was written by a newer release",
        )
    have = "has no schema of identity" if revision is None else f"is at revision {revision}"
    return SchemaNotAtHeadError(f"the database {have}, this program needs {HEAD}")
