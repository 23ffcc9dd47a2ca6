"""`identity export`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import (
    AsOf,
    DatabaseUrl,
    Debug,
    Force,
    OutputPath,
    ShowProgress,
)
from identity_cli.commands.signals import orderly_end
from identity_cli.errors import UsageError
from identity_cli.exporter.export import (
    FileFormat,
    What,
    check_format,
    file_format_for,
)
from identity_cli.files import replaced_file, writing
from identity_cli.settings import open_database


def export(
    what: Annotated[
        What,
        typer.Option(help="Export contacts, identities, changes, or former primaries (redirects)."),
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
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="RUN|TIME|TOKEN",
            help="Export changes or redirects since then (default: all).",
            show_default=False,
        ),
    ] = None,
    as_of: AsOf = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="PATH",
            help="Write the token for the next --since to PATH.",
            show_default=False,
        ),
    ] = None,
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
    """Export the whole graph, or what has changed, to standard output or to a file.

    \b
    Example:
      identity export --what identities -o identities.jsonl
      identity export --what changes --since 7 -o changes.csv
    """
    if path == Path("-"):
        path = None
    file_format = file_format or file_format_for(path, what)
    check_format(file_format, what, excel_safe=excel_safe)
    if file_format == "parquet" and path is None and sys.stdout.isatty():
        raise UsageError("Parquet cannot be shown on a terminal", hint="use -o PATH or a pipe")
    if force and path is None:
        raise UsageError("--force needs a file to replace", hint="use -o PATH")
    _check_moments(what, since, as_of)
    _check_token_file(token_file, path, as_of)
    from identity_cli.exporter import export as exporter
    from identity_cli.postgres import schema

    are_changes = what in ("changes", "redirects")
    with (
        orderly_end(),
        replaced_file(path, force=force) if path else nullcontext(sys.stdout.buffer) as stream,
        open_database(database_url) as database,
        schema.connect(database)[0] as connection,
        # A bar would be drawn over what a terminal shows of the output.
        output.progress("export", progress, hidden=path is None) as meter,
    ):
        token = exporter.export(
            connection,
            stream,
            what=what,
            file_format=file_format,
            excel_safe=excel_safe,
            since=since,
            as_of=as_of,
            with_token=are_changes or token_file is not None,
            meter=meter,
        )
    # Only now: whoever has the token has what came before it.
    if token_file is not None:
        with writing(str(token_file)), replaced_file(token_file, force=True) as stream:
            stream.write(f"{token}\n".encode())
    elif are_changes:
        output.note(f"token: {token}")


def _check_moments(what: What, since: str | None, as_of: str | None) -> None:
    from identity_cli.graph.moments import check_moment

    are_changes = what in ("changes", "redirects")
    if since is not None and not are_changes:
        raise UsageError(
            "--since is for --what changes and --what redirects",
            hint="use --as-of to export contacts or identities as they were",
        )
    if as_of is not None and are_changes:
        raise UsageError(
            f"--as-of does not go together with --what {what}",
            hint="use --since: changes lead to the graph as it is now",
        )
    for moment in (since, as_of):
        if moment is not None:
            check_moment(moment)


def _check_token_file(token_file: Path | None, path: Path | None, as_of: str | None) -> None:
    if token_file is None:
        return
    if as_of is not None:
        raise UsageError(
            "--token-file does not go together with --as-of",
            hint="changes lead to the graph as it is now: export it without --as-of",
        )
    is_data = token_file == Path("-") if path is None else token_file.resolve() == path.resolve()
    if is_data:
        raise UsageError(
            "the token cannot be written to the output itself", hint="use another PATH"
        )
