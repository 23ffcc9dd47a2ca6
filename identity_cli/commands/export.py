"""`identity export`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from identity_cli.commands.options import DatabaseUrl, Debug
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
    what: Annotated[What, typer.Option(help="A record a contact, or a record an identity.")] = (
        "contacts"
    ),
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format",
            help="Default: as PATH ends; else csv for contacts, jsonl for identities.",
            show_default=False,
        ),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Write a file, which appears when it is whole. Default: standard output.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file at PATH.")] = False,
    excel_safe: Annotated[
        bool,
        typer.Option(
            "--excel-safe", help="CSV: an apostrophe before what a spreadsheet would calculate."
        ),
    ] = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Write the whole graph to standard output or to a file.

    \b
    Example:
      identity export --what identities -o identities.jsonl
    """
    if path == Path("-"):
        path = None
    file_format = file_format or file_format_for(path, what)
    check_format(file_format, excel_safe=excel_safe)
    if file_format == "parquet" and path is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal", hint="give -o PATH or a pipe")
    if force and path is None:
        raise UsageError("--force goes with a file", hint="give -o PATH")
    from identity_cli.exporter import export as exporter
    from identity_cli.postgres import schema

    with (
        orderly_end(),
        replaced_file(path, force=force) if path else nullcontext(sys.stdout.buffer) as stream,
        open_database(database_url) as database,
        schema.connect(database)[0] as connection,
    ):
        exporter.export(
            connection, stream, what=what, file_format=file_format, excel_safe=excel_safe
        )
