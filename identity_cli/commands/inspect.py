"""`identity inspect`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import Debug, Json, Region, ShowProgress
from identity_cli.commands.reading import (
    Delimiter,
    Encoding,
    Escape,
    InputFormat,
    Key,
    Mapping,
    NoHeader,
    NullWords,
    RegionColumn,
    Sheet,
    SkipLines,
    Strict,
    input_options,
)
from identity_cli.commands.signals import orderly_end

if TYPE_CHECKING:
    from identity_cli.graph.effects import EffectCounter


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Input; - is standard input.")],
    all_rows: Annotated[
        bool, typer.Option("--all", help="Read all rows, not only the first 10,000.")
    ] = False,
    input_format: InputFormat = "auto",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    mapping: Mapping = None,
    skip_lines: SkipLines = None,
    no_header: NoHeader = False,
    escape: Escape = None,
    sheet: Sheet = None,
    region: Region = None,
    region_column: RegionColumn = None,
    null_words: NullWords = None,
    key: Key = None,
    strict: Strict = False,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            metavar="URL",
            help="Show what the rules of this database do to the rows.",
            show_default=False,
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Show how a file would be imported.

    Shows the format, the columns that are used, the first requests, the
    rows that would be rejected, and the full import command. Needs no
    database; with --database-url, also shows what its rules would do.

    \b
    Example:
      identity inspect contacts.csv --region US
    """
    from identity_cli.graph.normalize import check_region
    from identity_cli.importer.inspection import ROWS, inspect_input
    from identity_cli.output.inspection import inspection

    options = input_options(
        input_format=input_format,
        delimiter=delimiter,
        encoding=encoding,
        mapping=mapping,
        skip_lines=skip_lines,
        no_header=no_header,
        escape=escape,
        sheet=sheet,
        region_column=region_column,
        key=key,
        null_words=null_words,
        strict=strict,
    )
    region = check_region(region)
    with ExitStack() as stack:
        stack.enter_context(orderly_end())
        effects = None
        if database_url is not None:
            effects, region = _rules(stack, database_url, region)
        meter = stack.enter_context(
            output.progress("inspect", progress, hidden=not all_rows, completes=False)
        )
        meter.expect(None, "bytes")
        meter.begin("rows")
        found = inspect_input(
            file,
            options,
            region=region,
            limit=None if all_rows else ROWS,
            effects=effects,
            show=meter.read,
        )
    if json:
        output.document(found.as_json())
    else:
        inspection(found)
    if found.error is not None:
        raise found.error


def _rules(
    stack: ExitStack, database_url: str, region: str | None
) -> tuple[EffectCounter, str | None]:
    """Connect to a database until the stack ends; return its rules and its region."""
    from identity_cli.graph.effects import EffectCounter
    from identity_cli.graph.profile import check_profile, effective_region
    from identity_cli.postgres import schema
    from identity_cli.postgres.session import LOOK_UP
    from identity_cli.settings import open_database

    database = stack.enter_context(open_database(database_url))
    connection, profile = schema.connect(database, session=LOOK_UP)
    stack.enter_context(connection)
    region = effective_region(region, profile)
    check_profile(profile, region)
    return EffectCounter(connection), region
