"""`identity inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import Debug, Json, Region
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
    _debug: Debug = False,
) -> None:
    """Show how a file would be imported, without a database.

    Shows the format, the columns that are used, the first requests, the
    rows that would be rejected, and the full import command.

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
    with orderly_end(), output.reading_progress(hidden=not all_rows) as show:
        found = inspect_input(
            file,
            options,
            region=check_region(region),
            limit=None if all_rows else ROWS,
            show=show,
        )
    if json:
        output.document(found.as_json())
    else:
        inspection(found)
    if found.error is not None:
        raise found.error
