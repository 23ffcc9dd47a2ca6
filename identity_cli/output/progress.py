"""The progress of long work."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.importer.run import Progress


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
