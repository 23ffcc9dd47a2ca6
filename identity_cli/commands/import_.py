"""`identity import`."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import errors, output
from identity_cli.commands.options import DatabaseUrl, Debug, Json, Region
from identity_cli.exit_codes import exit_code

if TYPE_CHECKING:
    from identity_cli.importer.report import ImportReport
    from identity_cli.importer.run import Importer
    from identity_cli.importer.windows import StopSwitch

FORMATS = ("auto", "csv", "jsonl")


def _parse_map(pairs: list[str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in pairs:
        what, equals, column = pair.partition("=")
        if what not in ("email", "phone") or not equals or not column:
            raise errors.UsageError(
                f"--map {pair} names no column",
                hint="give --map email=COLUMN or --map phone=COLUMN",
            )
        mapping[what] = column
    return mapping


def import_files(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Inputs; - is standard input.")
    ],
    input_format: Annotated[
        str, typer.Option("--input-format", metavar="|".join(FORMATS), help="auto: by the name.")
    ] = "auto",
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter",
            metavar="C",
            help="Of CSV: a comma, a tab in .tsv files.",
            show_default=False,
        ),
    ] = None,
    encoding: Annotated[
        str, typer.Option("--encoding", metavar="NAME", help="Of the text; a BOM is accepted.")
    ] = "utf-8",
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="WHAT=COLUMN",
            help="The column of email, of phone.",
            show_default=False,
        ),
    ] = None,
    region: Region = None,
    rejects: Annotated[
        str | None,
        typer.Option(
            "--rejects",
            metavar="PATH",
            help="Rejected rows, instead of FILE.rejects.csv.",
            show_default=False,
        ),
    ] = None,
    outcomes: Annotated[
        str | None,
        typer.Option(
            "--outcomes", metavar="PATH", help="JSON Lines, one per request.", show_default=False
        ),
    ] = None,
    summary: Annotated[
        str | None,
        typer.Option("--summary", metavar="PATH", help="Counts as JSON.", show_default=False),
    ] = None,
    max_rejects: Annotated[
        int, typer.Option("--max-rejects", metavar="N", min=0, help="More rejects end with code 3.")
    ] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            max=64,
            help="Connections; 1 gives the same ids every time.",
            show_default="1 for small inputs, then 3",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything, keep nothing.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Read from the top, also after a run that broke off.")
    ] = False,
    durable: Annotated[
        bool, typer.Option("--durable", help="Wait for the disk on every row.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="How long to wait for a server that is away.",
            show_default="60 once the run has begun",
        ),
    ] = None,
    json: Json = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Only errors on standard error.")
    ] = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> int:
    """Reconcile every row of CSV or JSON Lines files, each in a transaction of its own.

    Killed or stopped half-way, the same command goes on where it was.

    \b
    Example:
      identity import contacts.csv
      zcat contacts.jsonl.gz | identity import - --input-format jsonl --region US
    """
    from identity_cli.graph.normalize import check_region
    from identity_cli.importer.formats import InputOptions
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.run import Importer
    from identity_cli.importer.windows import StopSwitch
    from identity_cli.settings import open_database

    if input_format not in FORMATS:
        raise errors.UsageError(
            f"there is no input format {input_format}", hint=f"give one of {', '.join(FORMATS)}"
        )
    plan = ImportPlan(
        paths=tuple(files),
        options=InputOptions(
            None if input_format == "auto" else input_format,  # type: ignore[arg-type]
            {"\\t": "\t"}.get(delimiter or "", delimiter),
            encoding,
            _parse_map(mapping or []),
        ),
        region=check_region(region),
        rejects=rejects,
        outcomes=outcomes,
        summary=summary,
        jobs=jobs,
        dry_run=dry_run,
        restart=restart,
        durable=durable,
        timeout=timeout,
    )
    # Rows come and go by the hundred without cycles: looking for some takes a fifth of the time.
    gc.freeze()
    gc.set_threshold(100_000)
    switch = StopSwitch()
    received = _stop_on_signals(switch)
    with open_database(database_url) as database:
        importer = Importer(database, plan, switch, _say_nothing if quiet else output.remark)
        code = 1
        try:
            with output.import_progress(hidden=quiet) as show:
                for progress in importer.run():
                    show(progress)
            code = 128 + received[0] if importer.status == "stopped" else 0
            if importer.status == "finished" and importer.counts.rejected > max_rejects:
                code = 3
        except errors.IdentityError as error:
            code = exit_code(error)
            raise
        finally:
            _report(importer, code, json=json, quiet=quiet)
    return code


def _say_nothing(_text: str) -> None:
    pass


def _stop_on_signals(switch: StopSwitch) -> list[int]:
    """INT and TERM stop between two rows; a second one ends the process."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        switch.request()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return received


def _report(importer: Importer, code: int, *, json: bool, quiet: bool) -> None:
    from identity_cli.importer.results import write_summary

    report = _report_of(importer, code)
    if importer.plan.summary is not None:
        write_summary(importer.plan.summary, report.as_json())
    output.import_report(report, quiet=quiet)
    if json:
        output.document(report.as_json())


def _report_of(importer: Importer, code: int) -> ImportReport:
    from identity_cli.importer.report import ImportReport

    summary = importer.summary(code)
    for key in ("schema_version", "rows_per_second"):
        del summary[key]
    return ImportReport(
        **{**summary, "input": tuple(summary["input"])},
        finished_at=None,
        rejects=tuple(importer.ledger.rejects_paths),
        first_rejects=tuple(importer.ledger.first_rejects),
    )


def save_refused_summary(arguments: list[str], error: errors.UsageError) -> None:
    """Write the summary of a command line that was refused before the import began.

    An old one would be taken for this run's.
    """
    from identity_cli.importer.report import refused_report
    from identity_cli.importer.results import write_summary

    path = _value_of("--summary", arguments)
    if path is None:
        return
    try:
        write_summary(path, refused_report(error, exit_code(error)).as_json())
    except errors.OutputError as failure:
        output.remark(str(failure))


def _value_of(option: str, arguments: list[str]) -> str | None:
    """Return the last value of an option in arguments that Typer could not parse."""
    value = None
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == option and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
    return value or None
