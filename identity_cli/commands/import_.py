"""`identity import`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import errors, output
from identity_cli.commands.options import (
    DatabaseUrl,
    Debug,
    Json,
    Metrics,
    Region,
    ShowProgress,
    value_of,
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
from identity_cli.commands.run_ending import Ending, Limits, result_path, stop_on_signals
from identity_cli.commands.run_options import MaxRejects, MinRows, Quiet, Rejects, Summary
from identity_cli.exit_codes import exit_code

if TYPE_CHECKING:
    from identity_cli.importer.run import Progress
    from identity_cli.meter import Meter


def import_files(
    files: Files,
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
    rejects: Rejects = None,
    outcomes: Annotated[
        str | None,
        typer.Option(
            "--outcomes",
            metavar="PATH",
            help="Write one JSON line per request to PATH.",
            show_default=False,
        ),
    ] = None,
    summary: Summary = None,
    max_rejects: MaxRejects = "0",
    min_rows: MinRows = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            max=64,
            help="Connections to use; 1 gives the same ids every time.",
            show_default="1 for the first 100,000 rows, then 3",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run the import, then roll everything back.")
    ] = False,
    values: Annotated[
        bool,
        typer.Option("--values", help="With --dry-run, show values instead of masking them."),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over instead of resuming an interrupted run.")
    ] = False,
    durable: Annotated[
        bool, typer.Option("--durable", help="Wait for the server's disk after every row.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="Seconds to wait for an unreachable server.",
            show_default="60 once the run has begun",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    progress: ShowProgress = "auto",
    metrics: Metrics = None,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> int:
    """Reconcile every row of the files, each in its own transaction.

    CSV, JSON, JSON Lines, Excel, Parquet and vCard are detected. If the
    import is interrupted, run the same command again to resume.

    \b
    Example:
      identity import contacts.csv --region US
      zcat contacts.jsonl.gz | identity import - --map phone=profile.phone
    """
    from identity_cli.graph.normalize import check_region
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.report import refused_report
    from identity_cli.importer.results import remove_old_summary
    from identity_cli.importer.run import Importer
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.settings import open_database

    paths = tuple(files)
    # Wrong usage has a summary too, but never in the place of another file.
    others = (*paths, rejects, outcomes)
    summary_path = result_path(summary, *others, metrics)
    if summary_path is not None:
        remove_old_summary(summary_path)
    metrics_path = result_path(metrics, *others, summary)
    ending = Ending(
        partial(refused_report, paths), summary_path, metrics_path, json=json, quiet=quiet
    )
    with ending:
        limits = Limits.parse(max_rejects, min_rows)
        plan = ImportPlan(
            paths=paths,
            options=input_options(
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
            ),
            region=check_region(region),
            rejects=rejects,
            outcomes=outcomes,
            summary=summary,
            metrics=metrics,
            jobs=jobs,
            dry_run=dry_run,
            restart=restart,
            durable=durable,
            timeout=timeout,
            with_values=values,
        )
        plan.check()
        switch = StopSwitch()
        received = stop_on_signals(switch)
        importer = Importer(plan, switch, _say_nothing if quiet else output.remark)
        ending.make_report = importer.report
        expect_many_rows()
        with (
            open_database(database_url) as database,
            output.progress("import", progress, hidden=quiet, completes=False) as meter,
        ):
            ending.has_begun = True
            importer.run(database, partial(_show, meter))
        if importer.status == "stopped":
            ending.code = 128 + received[0]
        else:
            limits.check(importer.counts, importer.rejects_paths, with_hint=not quiet)
    return ending.code


def _show(meter: Meter, progress: Progress) -> None:
    if not meter.phase:
        meter.expect(progress.total, "bytes")
        meter.begin(progress.phase)
    meter.read(progress.offset, progress.total, progress.counts.read)
    if progress.phase != meter.phase:
        meter.begin(progress.phase)


def _say_nothing(_text: str) -> None:
    pass


def save_refused_results(arguments: list[str], error: errors.UsageError) -> None:
    """Write summary and metrics of a command line that was refused before the import began.

    Old ones would be taken for this run's.
    """
    from identity_cli.importer.plan import is_another_file
    from identity_cli.importer.report import RunError, refused_report
    from identity_cli.importer.results import write_summary
    from identity_cli.output.metrics import import_metrics, write_metrics

    report = refused_report((), exit_code(error), RunError.of(error))

    def write(option: str, path: str) -> None:
        if option == "--summary":
            write_summary(path, report.as_json())
        else:
            write_metrics(path, import_metrics(report))

    for option in ("--summary", "--metrics"):
        path = value_of(option, arguments)
        # An argument may be an input of the same name: that is not overwritten.
        others = [one for one in arguments if one not in {path, f"{option}={path}"}]
        if path is None or not is_another_file(path, *others) or arguments.count(path) > 1:
            continue
        try:
            write(option, path)
        except errors.OutputError as failure:
            output.remark(str(failure))
