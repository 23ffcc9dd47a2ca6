"""`identity export`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Force, OutputPath, ShowProgress
from identity_cli.commands.signals import orderly_end
from identity_cli.errors import UsageError
from identity_cli.exporter.export import (
    FileFormat,
    What,
    check_format,
    file_format_for,
)
from identity_cli.files import replaced_file
from identity_cli.settings import open_database


def export(
    what: Annotated[
        What, typer.Option(help="Export one record per contact or one per identity.")
    ] = ("contacts"),
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format",
            help="Format (default: by PATH, else csv or, for identities, jsonl).",
            show_default=False,
        ),
    ] = None,
    path: OutputPath = None,
    force: Force = False,
    excel_safe: Annotated[
        bool,
        typer.Option(
            "--excel-safe", help="Put an apostrophe before CSV values that look like formulas."
        ),
    ] = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Export the whole graph to standard output or to a file.

    \b
    Example:
      identity export --what identities -o identities.jsonl
    """
    if path == Path("-"):
        path = None
    file_format = file_format or file_format_for(path, what)
    check_format(file_format, excel_safe=excel_safe)
    if file_format == "parquet" and path is None and sys.stdout.isatty():
        raise UsageError("Parquet cannot be shown on a terminal", hint="use -o PATH or a pipe")
    if force and path is None:
        raise UsageError("--force needs a file to replace", hint="use -o PATH")
    from identity_cli.exporter import export as exporter
    from identity_cli.postgres import schema

    with (
        orderly_end(),
        replaced_file(path, force=force) if path else nullcontext(sys.stdout.buffer) as stream,
        open_database(database_url) as database,
        schema.connect(database)[0] as connection,
        # A bar would be drawn over what a terminal shows of the output.
        output.progress("export", progress, hidden=path is None) as meter,
    ):
        exporter.export(
            connection,
            stream,
            what=what,
            file_format=file_format,
            excel_safe=excel_safe,
            meter=meter,
        )
