"""`identity db`: the schema and the embedded server."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import errors, output
from identity_cli.commands.options import HELP_NAMES, DatabaseUrl, Debug
from identity_cli.settings import open_database, read_settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_NAMES,
    help="The schema, and the embedded server.\n\n\b\nExample:\n  identity db upgrade",
)


@app.command()
def upgrade(database_url: DatabaseUrl = None, _debug: Debug = False) -> None:
    """Bring the schema to the newest revision.

    \b
    Example:
      identity db upgrade --database-url postgresql://app@db.example.com/identity
    """
    from identity_cli.postgres import schema

    with open_database(database_url) as database:
        database.connect().close()  # a server that is not there or not suitable has a plain error
        schema.upgrade(database)
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
    """Tell whether the schema is as the program made it, and which server settings are off.

    \b
    Example:
      identity db check
    """
    from identity_cli.postgres import advice as server
    from identity_cli.postgres import schema

    with open_database(database_url) as database, database.connect() as connection:
        revision = schema.current(connection)
        if revision != schema.HEAD:
            raise errors.SchemaNotAtHeadError(
                f"the schema is at {revision or 'none'}, this program needs {schema.HEAD}"
            )
        found = schema.differences(database)
        advised = server.advice(connection)
    for difference in found:
        output.line(difference)
    if found:
        raise errors.SchemaNotAtHeadError(
            "the schema is not as the program made it", hint="undo what was changed by hand"
        )
    for one in advised:
        output.line(f"{'warning: ' if one.dangerous else ''}{one}")
    output.note(f"the schema is at {revision}, as it should be")


@app.command()
def grant(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role of the database.")],
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only show, export and verify.")
    ] = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Let a role reconcile, or only read; it needs to be neither owner nor superuser.

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
    output.note("the embedded server is stopped" if stopped else "the embedded server did not run")


@app.command()
def url(database_url: DatabaseUrl = None, _debug: Debug = False) -> None:
    """Print the database's URL, without a password, for psql and others.

    \b
    Example:
      psql "$(identity db url)"
    """
    with open_database(database_url) as database:
        output.line(database.url)
        if database.embedded:
            output.note("it answers while the server runs: identity db start")
