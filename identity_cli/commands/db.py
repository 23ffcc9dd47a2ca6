"""`identity db`: manage the schema and the embedded server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from identity_cli import errors, output
from identity_cli.commands.options import HELP_NAMES, DatabaseUrl, Debug, ShowProgress
from identity_cli.settings import connection_parameters, open_database, read_settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_NAMES,
    help="Manage the schema and the embedded server.\n\n\b\nExample:\n  identity db upgrade",
)


@app.command()
def upgrade(
    progress: ShowProgress = "auto", database_url: DatabaseUrl = None, _debug: Debug = False
) -> None:
    """Upgrade the schema to the newest revision.

    \b
    Example:
      identity db upgrade --database-url postgresql://app@db.example.com/identity
    """
    from identity_cli.postgres import schema

    with open_database(database_url) as database:
        database.connect().close()  # reports a server that is unreachable or unsuitable
        with output.progress("db upgrade", progress) as meter:
            schema.upgrade(database, meter)
    output.note(f"the schema is at {schema.HEAD}")


@app.command()
def current(database_url: DatabaseUrl = None, _debug: Debug = False) -> None:
    """Print the schema's revision.

    \b
    Example:
      identity db current
    """
    from identity_cli.postgres import schema

    with open_database(database_url) as database, database.connect() as connection:
        revision = schema.current(connection)
    output.line(revision or "none")
    if revision != schema.HEAD:
        output.note(f"this program needs {schema.HEAD}: run identity db upgrade")


@app.command()
def check(database_url: DatabaseUrl = None, _debug: Debug = False) -> None:
    """Compare the schema and the server settings with what the program needs.

    \b
    Example:
      identity db check
    """
    from identity_cli.postgres import advice as server
    from identity_cli.postgres import schema
    from identity_cli.postgres.differences import differences

    with open_database(database_url) as database, database.connect() as connection:
        revision = schema.current(connection)
        if revision != schema.HEAD:
            raise errors.SchemaNotAtHeadError(
                f"the schema is at {revision or 'none'}, this program needs {schema.HEAD}"
            )
        found = differences(database)
        advised = server.advice(connection)
    for difference in found:
        output.line(difference)
    if found:
        raise errors.SchemaNotAtHeadError(
            "the schema was changed by hand", hint="undo the changes that are listed above"
        )
    for advice in advised:
        output.line(f"{'warning: ' if advice.dangerous else ''}{advice}")
    output.note(f"the schema is at {revision} and unchanged")


@app.command()
def grant(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Database role.")],
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Allow the role only to read.")
    ] = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Allow a role to reconcile, or only to read.

    \b
    Example:
      identity db grant nightly_import
      identity db grant analyst --read-only
    """
    from identity_cli.postgres import roles, schema

    with open_database(database_url) as database:
        connection, _ = schema.connect(database)
        with connection:
            roles.grant(connection, role, read_only=read_only)
    output.note(f"{role} can {'read' if read_only else 'reconcile'}")


@app.command()
def start(_debug: Debug = False) -> None:
    """Start the embedded server and leave it running.

    \b
    Example:
      identity db start
    """
    from identity_cli.postgres.embedded import EmbeddedServer

    server = EmbeddedServer(read_settings().home)
    server.start()
    output.note(f"the embedded server runs in {server.home}")


@app.command()
def stop(_debug: Debug = False) -> None:
    """Stop the embedded server.

    \b
    Example:
      identity db stop
    """
    from identity_cli.postgres.embedded import EmbeddedServer

    stopped = EmbeddedServer(read_settings().home).stop()
    output.note(
        "the embedded server is stopped" if stopped else "the embedded server was not running"
    )


@app.command()
def url(database_url: DatabaseUrl = None, _debug: Debug = False) -> None:
    """Print the database's URL without a password, and start nothing.

    \b
    Example:
      psql "$(identity db url)"
    """
    from identity_cli.postgres.database import Database

    settings = read_settings(database_url)
    if settings.database_url is not None:
        parameters = connection_parameters(settings.database_url)
        output.line(Database(parameters, embedded=False).url)
        return
    from identity_cli.postgres.embedded import EmbeddedServer

    server = EmbeddedServer(settings.home)
    output.line(Database(server.connection_parameters(), embedded=True).url)
    if not server.is_running():
        output.note("the embedded server does not run: start it with identity db start")


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Delete the embedded database and start over.

    \b
    Example:
      identity db reset --yes
    """
    from identity_cli.postgres.embedded import EmbeddedServer

    settings = read_settings(database_url)
    if settings.database_url is not None:
        raise errors.UsageError(
            "db reset deletes only the embedded database, and a database URL is set",
            hint="unset DATABASE_URL, or drop that database with DROP DATABASE",
        )
    server = EmbeddedServer(settings.home)
    if not server.data.exists():
        output.note(f"there is no embedded database in {server.home}")
        return
    if not yes:
        output.note(f"this deletes the embedded database in {server.home} with all its contacts")
        if not sys.stdin.isatty():
            raise errors.UsageError(
                "db reset deletes nothing without a confirmation", hint="pass --yes"
            )
        if not typer.confirm("Delete it?", err=True):
            raise typer.Abort
    server.reset()
    output.note(
        f"the embedded database in {server.home} is deleted; the next command makes a new one"
    )
