"""`identity backfill`: many requests reconciled together, and loaded in one transaction."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from identity_cli import output
from identity_cli.commands.backfill_options import (
    ComputeInto,
    Engine,
    Files,
    Into,
    KeptWork,
    Master,
    Memory,
    Remote,
    Restart,
    Storage,
    Threads,
    Work,
)
from identity_cli.commands.options import (
    HELP_NAMES,
    Debug,
    Json,
    Metrics,
    Region,
    ShowProgress,
)
from identity_cli.commands.reading import (
    Delimiter,
    Encoding,
    Escape,
    InputFormat,
    Mapping,
    NoHeader,
    NullWords,
    RegionColumn,
    Sheet,
    SkipLines,
    Strict,
    input_options,
)
from identity_cli.commands.run_ending import Ending, Limits, result_path, stop_on_signals
from identity_cli.commands.run_options import MaxRejects, MinRows, Quiet, Rejects, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.backfill.assignment import BackfillPlan
    from identity_cli.backfill.run import Backfill

_DEFAULT = "run"


class _WithDefault(TyperGroup):
    """A group whose first command may be left out: its arguments are files."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command, unless there is another one or a call for help."""
        if args and args[0] not in self.commands and args[0] not in HELP_NAMES["help_option_names"]:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WithDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_NAMES,
    help="Reconcile many files together; identity backfill FILES runs it all."
    "\n\n\b\nExample:"
    "\n  identity backfill history-*.csv --region US"
    "\n  identity backfill run --help",
)


@app.command(_DEFAULT)
def run(
    files: Files,
    into: Into = None,
    engine: Engine = "duckdb",
    master: Master = None,
    remote: Remote = None,
    storage: Storage = None,
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
    strict: Strict = False,
    rejects: Rejects = None,
    summary: Summary = None,
    max_rejects: MaxRejects = "0",
    min_rows: MinRows = 0,
    work: Work = None,
    memory: Memory = "4GB",
    threads: Threads = None,
    restart: Restart = False,
    json: Json = False,
    quiet: Quiet = False,
    progress: ShowProgress = "auto",
    metrics: Metrics = None,
    _debug: Debug = False,
) -> int:
    """Reconcile all rows of the files and load them in one transaction.

    What is stored is what identity import --jobs 1 stores, except for
    the times. Use --work to be able to resume.

    \b
    Example:
      identity backfill run history-*.csv --work /var/tmp/crm --region US
    """
    from identity_cli.settings import open_database

    def act(backfill: Backfill) -> None:
        with open_database(into) as database:
            backfill.run(database)

    return _from_files(
        "backfill",
        act,
        files,
        work,
        memory,
        threads,
        (engine, master, remote, storage),
        rejects=rejects,
        summary=summary,
        metrics=metrics,
        max_rejects=max_rejects,
        min_rows=min_rows,
        json=json,
        quiet=quiet,
        progress=progress,
        region=region,
        restart=restart,
        input_format=input_format,
        delimiter=delimiter,
        encoding=encoding,
        mapping=mapping,
        skip_lines=skip_lines,
        no_header=no_header,
        escape=escape,
        sheet=sheet,
        region_column=region_column,
        null_words=null_words,
        strict=strict,
    )


@app.command()
def compute(
    files: Files,
    work: KeptWork,
    into: ComputeInto = None,
    engine: Engine = "duckdb",
    master: Master = None,
    remote: Remote = None,
    storage: Storage = None,
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
    strict: Strict = False,
    summary: Summary = None,
    max_rejects: MaxRejects = "0",
    min_rows: MinRows = 0,
    memory: Memory = "4GB",
    threads: Threads = None,
    restart: Restart = False,
    json: Json = False,
    quiet: Quiet = False,
    progress: ShowProgress = "auto",
    metrics: Metrics = None,
    _debug: Debug = False,
) -> int:
    """Read the files and compute the rows, without storing anything.

    Use --into if the database holds contacts already. No other user
    waits for this; identity backfill load stores the rows.

    \b
    Example:
      identity backfill compute history-*.csv --work /var/tmp/crm
    """
    from identity_cli.settings import open_database

    def act(backfill: Backfill) -> None:
        if into is None:
            backfill.compute(None)
            return
        with open_database(into) as database:
            backfill.compute(database)

    return _from_files(
        "backfill compute",
        act,
        files,
        work,
        memory,
        threads,
        (engine, master, remote, storage),
        rejects=None,
        summary=summary,
        metrics=metrics,
        max_rejects=max_rejects,
        min_rows=min_rows,
        json=json,
        quiet=quiet,
        progress=progress,
        region=region,
        restart=restart,
        input_format=input_format,
        delimiter=delimiter,
        encoding=encoding,
        mapping=mapping,
        skip_lines=skip_lines,
        no_header=no_header,
        escape=escape,
        sheet=sheet,
        region_column=region_column,
        null_words=null_words,
        strict=strict,
    )


@app.command()
def load(
    work: KeptWork,
    into: Into = None,
    rejects: Rejects = None,
    summary: Summary = None,
    json: Json = False,
    quiet: Quiet = False,
    progress: ShowProgress = "auto",
    metrics: Metrics = None,
    _debug: Debug = False,
) -> int:
    """Load what identity backfill compute has computed, in one transaction.

    \b
    Example:
      identity backfill load --work /var/tmp/crm --into postgresql://db/crm
    """
    from identity_cli.settings import open_database

    def act(backfill: Backfill) -> None:
        with open_database(into) as database:
            backfill.load(database)

    make_plan = partial(
        _plan, (), work, region=None, rejects=rejects, summary=summary, metrics=metrics
    )
    ending = _ending((), rejects, summary, metrics, json=json, quiet=quiet)
    return _do("backfill load", act, make_plan, None, ending, progress, quiet=quiet)


def _from_files(
    command: str,
    act: Callable[[Backfill], None],
    files: list[str],
    *plan: Any,
    rejects: str | None,
    summary: str | None,
    metrics: str | None,
    max_rejects: str,
    min_rows: int,
    json: bool,
    quiet: bool,
    progress: output.ProgressMode,
    **options: Any,
) -> int:
    """Act on what files hold, and return the exit code; `plan` and `options` are for `_plan`."""
    from identity_cli.backfill.assignment import expand_patterns

    paths = expand_patterns(files)
    make_plan = partial(
        _plan, paths, *plan, rejects=rejects, summary=summary, metrics=metrics, **options
    )
    limits = partial(Limits.parse, max_rejects, min_rows)
    ending = _ending(paths, rejects, summary, metrics, json=json, quiet=quiet)
    return _do(command, act, make_plan, limits, ending, progress, quiet=quiet)


def _ending(
    paths: tuple[str, ...],
    rejects: str | None,
    summary: str | None,
    metrics: str | None,
    *,
    json: bool,
    quiet: bool,
) -> Ending:
    """Return what reports the end, and remove the summary of an earlier run."""
    from identity_cli.backfill.objects import object_name
    from identity_cli.importer.report import refused_report
    from identity_cli.importer.results import remove_old_summary

    paths = tuple(map(object_name, paths))
    summary_path = result_path(summary, *paths, rejects, metrics)
    if summary_path is not None:
        remove_old_summary(summary_path)
    metrics_path = result_path(metrics, *paths, rejects, summary)
    return Ending(
        partial(refused_report, paths), summary_path, metrics_path, json=json, quiet=quiet
    )


def _do(
    command: str,
    act: Callable[[Backfill], None],
    make_plan: Callable[[], BackfillPlan],
    make_limits: Callable[[], Limits] | None,
    ending: Ending,
    progress: output.ProgressMode,
    *,
    quiet: bool,
) -> int:
    """Act, and return the exit code; `make_limits` checks what was read."""
    from identity_cli.backfill.assignment import require_extra
    from identity_cli.backfill.run import Backfill
    from identity_cli.importer.stop import StopSwitch

    with ending:
        limits = None if make_limits is None else make_limits()
        plan = make_plan()
        plan.check()
        require_extra(extra="backfill" if plan.cluster is None else "spark")
        switch = StopSwitch()
        received = stop_on_signals(switch)
        with output.progress(command, progress, hidden=quiet, completes=False) as meter:
            backfill = Backfill(plan, switch, _say_nothing if quiet else output.remark, meter)
            ending.make_report = backfill.report
            ending.has_begun = True
            act(backfill)
            if backfill.status != "stopped" and meter.total is not None:
                meter.reach(meter.total)
        if backfill.status == "stopped":
            ending.code = 128 + received[0]
        elif limits is not None:
            limits.check(backfill.counts, backfill.rejects_paths, with_hint=not quiet)
    return ending.code


def _plan(
    paths: tuple[str, ...],
    work: str | None,
    memory: str = "4GB",
    threads: int | None = None,
    spark: tuple[Engine, str | None, str | None, str | None] = ("duckdb", None, None, None),
    *,
    region: str | None,
    rejects: str | None,
    summary: str | None,
    metrics: str | None,
    restart: bool = False,
    **options: Any,
) -> BackfillPlan:
    """Return the plan of a command line; `options` are those of `input_options`.

    Looks for the inputs in object storage.
    """
    from identity_cli.backfill.assignment import BackfillPlan, expand_urls, spark_cluster
    from identity_cli.graph.normalize import check_region
    from identity_cli.importer.formats import InputOptions
    from identity_cli.importer.plan import ImportPlan

    cluster = spark_cluster(*spark)
    names, objects = expand_urls(paths)
    reading = ImportPlan(
        paths=names,
        options=input_options(**options) if options else InputOptions(),
        region=check_region(region),
        rejects=rejects,
        summary=summary,
        metrics=metrics,
        restart=restart,
    )
    return BackfillPlan(reading, work, memory, threads, cluster, objects)


def _say_nothing(_text: str) -> None:
    pass
