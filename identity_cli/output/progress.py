"""The progress of an import, and the report when it has ended."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from identity_cli.output.streams import note, remark
from identity_cli.output.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from identity_cli.importer.annotation import AnnotationReport
    from identity_cli.importer.report import ImportReport
    from identity_cli.importer.run import Progress

_TOO_MANY_REJECTS = 3


@contextmanager
def import_progress(*, hidden: bool) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of an import on a terminal."""
    with reading_progress(hidden=hidden) as show:
        yield lambda progress: show(progress.offset, progress.total, progress.counts.read)


@contextmanager
def reading_progress(*, hidden: bool) -> Iterator[Callable[[int, int | None, int], None]]:
    """Show a progress bar by bytes on a terminal, a counter if the size is not known.

    Yields a function that takes the bytes that were read, those of all inputs, and the rows.
    """
    # Rich would draw into a pipe under FORCE_COLOR.
    if hidden or not sys.stderr.isatty():
        yield lambda _offset, _total, _rows: None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    bar = rich_progress.Progress(
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TextColumn("{task.fields[rows]:,} rows"),
        rich_progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("reading", total=None, rows=0)
        yield lambda offset, total, rows: bar.update(task, completed=offset, total=total, rows=rows)


@contextmanager
def step_progress(steps: int) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how many of the steps of a command are done.

    Yields a function that takes the name of each step before it begins.
    """
    if not sys.stderr.isatty():
        yield lambda _name: None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    bar = rich_progress.Progress(
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.description}"),
        rich_progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("connecting", total=steps)
        done = count()
        yield lambda name: bar.update(task, description=name, completed=next(done))


def import_report(report: ImportReport, *, quiet: bool) -> None:
    """Write the first few rejected rows, where the others are, the counts and the rate.

    What made a run fail is written as an error, with `quiet` nothing else.
    """
    if quiet:
        return
    for row in report.first_rejects:
        note(f"{row.path}:{row.line}: rejected: {row.code}: {row.reason}")
    if report.error is None and report.rejects_text is not None:  # the error says the same
        note(report.rejects_text)
    if report.local_phone_numbers:
        remark(
            f"{_counted(report.local_phone_numbers, 'row has', 'rows have')} phone numbers without"
            " a country code:"
            " 202-555-0101 and +1 202 555 0101 will not match unless you use --region"
        )
    if report.hubs is not None and report.hubs.count:
        remark(
            f"{_counted(report.hubs.count, 'value is', 'values are')} shared by more than"
            f" {report.hubs.more_than} others; the largest identity has"
            f" {report.hubs.largest_identity:,} contacts: use --summary PATH to list the values"
        )
    rate = f"{report.rows_per_second:,.0f} rows/s"
    _counts(report.rows, rate)
    dry_run = ", dry run: nothing was kept" if report.dry_run else ""
    note(f"{report.status} in {report.seconds:.1f} s, {rate}{dry_run}")
    if report.run_id is not None and report.has_stored:
        remark(f"to undo this run: identity undo {report.run_id}")


def annotation_report(report: AnnotationReport) -> None:
    """Write how many rows have which status, and the rate."""
    rate = f"{report.rows_per_second:,.0f} rows/s"
    _counts(report.rows, rate)
    note(f"annotated in {report.seconds:.1f} s, {rate}")


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _counts(counts: Mapping[str, int], rate: str) -> None:
    if sys.stderr.isatty():
        rows = [(name, f"{count:,}") for name, count in counts.items()]
        table([*rows, ("rate", rate)], to_stderr=True)
    else:
        note("  ".join(f"{name} {count}" for name, count in counts.items()))
