"""How Alembic reaches the database: through the connection that it was given, or the settings."""

from __future__ import annotations

from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, text

from identity_cli.postgres.models import metadata

# Any fixed number: upgrades of one database wait for each other here.
_UPGRADE_LOCK = 0x1DE7711E


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        # Held until the commit. The revision is read after it: a second upgrade does nothing.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        context.run_migrations()


def _run() -> None:
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    given: Connection | None = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    from identity_cli.postgres.database import engine
    from identity_cli.settings import open_database

    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    with open_database() as database, engine(database).connect() as connection:
        _migrate(connection)
        connection.commit()


_run()
