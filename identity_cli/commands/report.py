"""`identity report`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from identity_cli import output
from identity_cli.commands.options import (
    DatabaseUrl,
    Debug,
    Force,
    OutputPath,
    ShowProgress,
    Top,
    Values,
)
from identity_cli.commands.signals import orderly_end
from identity_cli.errors import DatabaseUnreachableError, UsageError
from identity_cli.files import replaced_file
from identity_cli.settings import open_database

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from psycopg import Connection

    from identity_cli.postgres.database import Database


def report(
    path: OutputPath = None,
    force: Force = False,
    top: Top = 10,
    values: Values = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Write a report of the graph and of its changes as one HTML page.

    \b
    Example:
      identity report -o report.html --force
    """
    if path == Path("-"):
        path = None
    if force and path is None:
        raise UsageError("--force needs a file to replace", hint="use -o PATH")
    from identity_cli import __version__
    from identity_cli.graph.report import compile_report
    from identity_cli.output.report import report_page
    from identity_cli.postgres import schema
    from identity_cli.postgres.snapshot import snapshot

    with (
        orderly_end(),
        replaced_file(path, force=force) if path else nullcontext(sys.stdout.buffer) as stream,
        open_database(database_url) as database,
    ):
        with (
            schema.connect(database)[0] as connection,
            _second_connection(database) as second,
            output.progress("report", progress) as meter,
            snapshot(connection) as graph,
        ):
            found = compile_report(graph, top=top, meter=meter, second=second)
        place = "The embedded database" if database.embedded else f"Database {database.place}"
        page = report_page(found, place=place, version=__version__, with_values=values)
        stream.write(page.encode())


def _second_connection(database: Database) -> AbstractContextManager[Connection[Any] | None]:
    """Connect once more; a server that has no room for that makes the report slower."""
    try:
        return database.connect()
    except DatabaseUnreachableError:
        return nullcontext()
