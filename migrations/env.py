"""How Alembic reaches the database: through the connection that it was given, or the settings."""

from __future__ import annotations

from logging.config import fileConfig

from alembic import context
from sqlalchemy import CheckConstraint, Connection, text

from identity_cli.postgres.models import metadata

# Any fixed number: upgrades of one database wait for each other here.
_UPGRADE_LOCK = 0x1DE7711E
_NOT_VALIDATED = text(
    "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint"
    " WHERE contype = 'c' AND NOT convalidated AND conname = ANY(:names)"
    " AND connamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('contact'))"
)


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        transactional_ddl=True,
        on_version_apply=context.config.attributes.get("on_revision"),
    )
    with context.begin_transaction():
        # Held until the commit. The revision is read after it: a second upgrade does nothing.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        context.run_migrations()
    _validate_constraints(connection)


def _validate_constraints(connection: Connection) -> None:
    """Validate what a migration has added `NOT VALID`, one table at a time, while others write."""
    names = [
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    ]
    for table, constraint in connection.execute(_NOT_VALIDATED, {"names": names}).all():
        connection.execute(text(f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}"))


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
