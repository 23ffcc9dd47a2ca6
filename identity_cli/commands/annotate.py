"""`identity annotate`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import (
    DatabaseUrl,
    Debug,
    Force,
    Json,
    OutputPath,
    Region,
    ShowProgress,
)
from identity_cli.commands.reading import (
    Delimiter,
    Encoding,
    Escape,
    Files,
    InputFormat,
    Key,
    Mapping,
    NoHeader,
    NullWords,
    RegionColumn,
    Sheet,
    SkipLines,
    Strict,
    expect_many_rows,
    input_options,
)
from identity_cli.commands.signals import orderly_end
from identity_cli.errors import UsageError


def annotate(
    files: Files,
    path: OutputPath = None,
    force: Force = False,
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
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Add the identity of each row to files, without writing anything to the database.

    Adds the columns primary_contact_id and identity_status (known, split,
    unknown, blocked or rejected). Inputs of one format become one output.

    \b
    Example:
      identity annotate contacts.csv -o annotated.csv
    """
    if path == Path("-"):
        path = None
    for option, is_used in (("--force", force), ("--json", json)):
        if is_used and path is None:
            raise UsageError(f"{option} needs a file to write", hint="use -o PATH")
    from identity_cli.files import replaced_file
    from identity_cli.graph.normalize import check_region
    from identity_cli.graph.profile import check_profile, effective_region
    from identity_cli.importer.annotation import AnnotationPlan
    from identity_cli.importer.annotation import annotate as annotate_files
    from identity_cli.importer.source import check_input
    from identity_cli.postgres import schema
    from identity_cli.postgres.session import LOOK_UP
    from identity_cli.postgres.snapshot import snapshot
    from identity_cli.settings import open_database

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
    for file in files:
        check_input(file)
    expect_many_rows()
    with (
        orderly_end(),
        replaced_file(path, force=force) if path else nullcontext(sys.stdout.buffer) as stream,
        open_database(database_url) as database,
    ):
        connection, profile = schema.connect(database, session=LOOK_UP)
        region = effective_region(region, profile)
        plan = AnnotationPlan(tuple(files), options, region)
        remark = (lambda _text: None) if quiet else output.remark
        with connection:
            check_profile(profile, region)
            with (
                snapshot(connection) as graph,
                output.progress("annotate", progress, hidden=quiet) as meter,
            ):
                meter.expect(None, "bytes")
                meter.begin("rows")
                report = annotate_files(graph, stream, plan, show=meter.read, remark=remark)
    if not quiet:
        output.annotation_report(report)
    if json:
        output.document(report.as_json())
