"""The schema's revision: read it, compare it with what the program needs, and upgrade."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import errors as pg

from identity_cli.errors import SchemaNotAtHeadError
from identity_cli.meter import SILENT
from identity_cli.postgres.database import Database, engine, translated
from identity_cli.postgres.session import READ, SessionSettings

if TYPE_CHECKING:
    import psycopg
    from alembic.config import Config
    from sqlalchemy import Connection

    from identity_cli.meter import Meter

# The newest revision in migrations/versions. Written down here because a normal command must not
# import Alembic only to know it.
HEAD = "0005"

# The profile is binding from the first contact on; a negative id is a placeholder's.
STATE = """
    SELECT version_num, version, region
    FROM alembic_version
    LEFT JOIN normalization_profile ON EXISTS (SELECT FROM contact WHERE id > 0)
"""
_USER_TABLES = """
    SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
      AND nspname !~ '^pg_' AND nspname <> 'information_schema'
"""
# The tables of this program, where the search path does not lead to them.
_ELSEWHERE = """
    SELECT quote_ident(nspname), has_schema_privilege(pg_namespace.oid, 'USAGE')
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname IN ('contact', 'link_evidence', 'normalization_profile') AND relkind = 'r'
    GROUP BY pg_namespace.oid, nspname HAVING count(*) = 3
"""

# Alembic keeps the environment of a running migration in globals of its modules.
_one_thread = threading.Lock()


@dataclass(frozen=True, slots=True)
class Profile:
    """A way of normalising values, stored with the first contact."""

    version: int
    region: str | None

    def __str__(self) -> str:
        region = f"region {self.region}" if self.region else "no region"
        return f"{region}, version {self.version}"


def connect(
    database: Database, *, application: str = "identity", session: SessionSettings = READ
) -> tuple[psycopg.Connection[Any], Profile | None]:
    """Open a connection to a database at head; return it with the profile of its values, if any.

    Migrates the embedded database and an empty one first.
    Raises `SchemaNotAtHeadError` for any other that is not at head.
    """
    connection = database.connect(application=application, session=session)
    try:
        revision, profile = read_state(connection)
        if revision != HEAD:
            if not (database.embedded or (revision is None and _is_empty(connection))):
                raise _out_of_path(connection, revision) or _not_at_head(revision)
            upgrade(database)
            revision, profile = read_state(connection)
            if revision != HEAD:
                raise _not_at_head(revision)
    except BaseException:
        connection.close()
        raise
    return connection, profile


def current(connection: psycopg.Connection[Any]) -> str | None:
    """Return the revision of the database, None if it has no schema."""
    return read_state(connection)[0]


def upgrade(database: Database, meter: Meter = SILENT) -> None:
    """Migrate to head; a second upgrade at the same time waits, then does nothing."""
    from alembic import command
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    with _one_thread, engine(database).connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        try:
            if meter.is_shown:
                _report_revisions(config, connection, meter)
            command.upgrade(config, "head")
            connection.commit()
        except CommandError as error:
            raise _not_at_head("unknown") from error
        except DBAPIError as error:
            if isinstance(error.orig, pg.Error):
                with translated():
                    raise error.orig from None
            raise


def _report_revisions(config: Config, connection: Connection, meter: Meter) -> None:
    """Let the environment of the migrations report each revision to the meter."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_heads() or ("base",)
    connection.rollback()  # the upgrade begins a transaction of its own
    pending = ScriptDirectory.from_config(config).iterate_revisions("head", *current)
    phases = [*(f"revision {one.revision}" for one in reversed(list(pending))), "constraints"]
    meter.expect(len(phases), "steps")
    meter.begin(phases[0])

    def finish_revision(**_of_the_revision: object) -> None:
        meter.done += 1
        meter.begin(phases[min(meter.done, len(phases) - 1)])

    config.attributes["on_revision"] = finish_revision


def alembic_config() -> Config:
    """Return Alembic's configuration, wherever the package is installed."""
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
    """Return the revision and the profile, each None if there is none."""
    try:
        with translated():
            row = connection.execute(STATE).fetchone()
    except SchemaNotAtHeadError:
        return None, None
    if row is None:
        return None, None
    revision, version, region = row
    return revision, None if version is None else Profile(version, region)


def _out_of_path(
    connection: psycopg.Connection[Any], revision: str | None
) -> SchemaNotAtHeadError | None:
    """Return the error for tables that exist, but not in the role's search path."""
    row = connection.execute(_ELSEWHERE).fetchone() if revision is None else None
    if row is None:
        return None
    schema, may_use = row
    if may_use:
        hint = f"run ALTER ROLE … SET search_path = {schema}"
    else:
        hint = "run identity db grant ROLE as the owner of the schema"
    return SchemaNotAtHeadError(f"this role does not find the tables in schema {schema}", hint=hint)


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
