"""`identity import`."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass, replace
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
from identity_cli.exit_codes import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from identity_cli.importer.checkpoints import Counts
    from identity_cli.importer.report import ImportReport, RunError
    from identity_cli.importer.run import Progress
    from identity_cli.importer.stop import StopSwitch
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
    rejects: Annotated[
        str | None,
        typer.Option(
            "--rejects",
            metavar="PATH",
            help="Write rejected rows to PATH (default: FILE.RUN.rejects).",
            show_default=False,
        ),
    ] = None,
    outcomes: Annotated[
        str | None,
        typer.Option(
            "--outcomes",
            metavar="PATH",
            help="Write one JSON line per request to PATH.",
            show_default=False,
        ),
    ] = None,
    summary: Annotated[
        str | None,
        typer.Option(
            "--summary",
            metavar="PATH",
            help="Write counts and the result to PATH as JSON.",
            show_default=False,
        ),
    ] = None,
    max_rejects: Annotated[
        str,
        typer.Option(
            "--max-rejects", metavar="N|P%", help="Exit with 3 if more rows are rejected."
        ),
    ] = "0",
    min_rows: Annotated[
        int,
        typer.Option("--min-rows", metavar="N", min=0, help="Exit with 3 if fewer rows are read."),
    ] = 0,
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
    quiet: Annotated[
        bool,
        typer.Option("-q", "--quiet", help="Print only fatal errors, and why it exits with 3."),
    ] = False,
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
    from identity_cli.importer.plan import ImportPlan, is_another_file
    from identity_cli.importer.report import refused_report
    from identity_cli.importer.results import remove_old_summary
    from identity_cli.importer.run import Importer
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.settings import open_database

    paths = tuple(files)
    # Wrong usage has a summary too, but never in the place of another file.
    others = (*paths, rejects, outcomes)
    if summary is not None and not is_another_file(summary, *others, metrics):
        summary_path = None
    else:
        summary_path = summary
    if summary_path is not None:
        remove_old_summary(summary_path)
    if metrics is not None and not is_another_file(metrics, *others, summary):
        metrics_path = None
    else:
        metrics_path = metrics
    ending = _Ending(
        partial(refused_report, paths), summary_path, metrics_path, json=json, quiet=quiet
    )
    with ending:
        limits = _Limits.parse(max_rejects, min_rows)
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
        received = _stop_on_signals(switch)
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


class _Ending:
    """Writes the summary and the metrics and prints the report, however the block ends."""

    def __init__(
        self,
        make_report: Callable[[int, RunError | None], ImportReport],
        summary: str | None,
        metrics: str | None,
        *,
        json: bool,
        quiet: bool,
    ) -> None:
        self.make_report = make_report
        self.code = 0
        self.has_begun = False
        self._summary = summary
        self._metrics = metrics
        self._json = json
        self._quiet = quiet

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from identity_cli.importer.report import RunError

        failure = None
        if isinstance(error, errors.IdentityError):
            self.code, failure = exit_code(error), RunError.of(error)
        elif error is not None:
            self.code, failure = 1, RunError("unexpected", type(error).__name__, None)
        report = self.make_report(self.code, failure)
        try:
            self._report(report)
        except errors.IdentityError as failure_to_write:
            code = exit_code(failure_to_write)
            self._save_metrics(replace(report, exit_code=code), has_failed=True)
            raise
        self._save_metrics(report, has_failed=error is not None)

    def _report(self, report: ImportReport) -> None:
        from identity_cli.importer.results import write_summary

        if self._summary is not None:
            write_summary(self._summary, report.as_json(with_values=self._summary != "-"))
        if self.has_begun:
            output.import_report(report, quiet=self._quiet)
        if self._json:
            output.document(report.as_json())

    def _save_metrics(self, report: ImportReport, *, has_failed: bool) -> None:
        if self._metrics is None:
            return
        from identity_cli.output.metrics import import_metrics, save_metrics

        save_metrics(self._metrics, import_metrics(report), has_failed=has_failed)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a finished import must keep to; a share of rejects is in percent of the rows."""

    rejects: int = 0
    rejects_share: float | None = None
    min_rows: int = 0

    @classmethod
    def parse(cls, max_rejects: str, min_rows: int) -> _Limits:
        text = max_rejects.strip()
        try:
            if text.endswith("%"):
                share = float(text.removesuffix("%"))
                if 0 <= share <= 100:
                    return cls(rejects_share=share, min_rows=min_rows)
            elif int(text) >= 0:
                return cls(int(text), min_rows=min_rows)
        except ValueError:
            pass
        raise errors.UsageError(
            f"--max-rejects takes a number of rows or a percentage, not {max_rejects!r}",
            hint="for example --max-rejects 100 or --max-rejects 0.5%",
        )

    def check(self, counts: Counts, rejects_paths: list[str], *, with_hint: bool) -> None:
        """Raise `TooFewRowsError` or `TooManyRejectsError`."""
        from identity_cli.importer.report import describe_rejects

        if counts.read < self.min_rows:
            raise errors.TooFewRowsError(
                f"only {counts.read} rows were read, fewer than --min-rows {self.min_rows}",
                hint="check whether the export that wrote the input was complete"
                if with_hint
                else None,
            )
        allowed = (
            self.rejects if self.rejects_share is None else counts.read * self.rejects_share / 100
        )
        if counts.in_rejects_file > allowed:
            places = f": see {', '.join(rejects_paths)}" if rejects_paths else ""
            raise errors.TooManyRejectsError(
                f"{describe_rejects(asdict(counts))}{places}",
                hint="correct them and import that file, or allow some with --max-rejects"
                if with_hint
                else None,
            )


def _show(meter: Meter, progress: Progress) -> None:
    if not meter.phase:
        meter.expect(progress.total, "bytes")
        meter.begin(progress.phase)
    meter.read(progress.offset, progress.total, progress.counts.read)
    if progress.phase != meter.phase:
        meter.begin(progress.phase)


def _say_nothing(_text: str) -> None:
    pass


def _stop_on_signals(switch: StopSwitch) -> list[int]:
    """Let INT and TERM stop the import between two rows; a second one ends the process."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        switch.request()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return received


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
