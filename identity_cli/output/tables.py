"""Tables on a terminal, plain lines into a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from identity_cli.output.streams import line, note, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from identity_cli.graph.run_list import Run


def table(
    rows: Sequence[tuple[str, ...]],
    header: tuple[str, ...] = (),
    *,
    numbers: Collection[str] = (),
    to_stderr: bool = False,
) -> None:
    """Draw a small table for a terminal; the cells are text, never markup.

    The columns whose header is in `numbers` are aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE, show_header=bool(header))
    for title in header:
        drawn.add_column(title, justify="right" if title in numbers else "left")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    Console(stderr=to_stderr, highlight=False, soft_wrap=False).print(drawn)


def section(
    title: str,
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    *,
    numbers: Collection[str] = (),
    to_stderr: bool = False,
) -> None:
    """Write a table with a title, or tab-separated lines into a pipe; nothing without rows."""
    if not rows:
        return
    write = note if to_stderr else line
    if (sys.stderr if to_stderr else sys.stdout).isatty():
        write(title)
        table(rows, header, numbers=numbers, to_stderr=to_stderr)
        return
    write(f"\n{title}")
    for row in (header, *rows) if header else rows:
        write("  " + "\t".join(map(printable, row)))


def fields(values: dict[str, str]) -> None:
    """Write names and values: a table on a terminal, plain lines into a pipe."""
    if sys.stdout.isatty():
        table(list(values.items()))
    else:
        for name, value in values.items():
            line(f"{name}: {printable(value)}")


def runs(found: list[Run]) -> None:
    """Write one line per run: a table on a terminal, tab-separated into a pipe."""
    header = ("run", "started", "status", "read", "rejected", "rows/s", "input")
    rows = [
        (
            str(run.id),
            run.started_at.isoformat(sep=" ", timespec="seconds"),
            run.state,
            str(run.rows["read"]),
            str(run.rows["rejected"]),
            f"{run.rows_per_second:.0f}",
            ", ".join(run.paths),
        )
        for run in found
    ]
    if sys.stdout.isatty():
        table(rows, header)
    else:
        for row in (header, *rows):
            line("\t".join(map(printable, row)))


def run(shown: Run) -> None:
    """Write one run: its inputs each on a line, its counts, the error that ended it."""
    finished = shown.finished_at
    values = {
        "run": str(shown.id),
        "status": shown.state,
        "started": shown.started_at.isoformat(sep=" ", timespec="seconds"),
        "finished": finished.isoformat(sep=" ", timespec="seconds") if finished else "-",
        "seconds": f"{shown.seconds:.1f}",
        "rows/s": f"{shown.rows_per_second:.0f}",
    }
    values |= {name: str(count) for name, count in shown.rows.items()}
    several = len(shown.inputs) > 1
    for number, source in enumerate(shown.inputs, 1):
        first_line = source.get("first_line")
        place = f" (its line 1 is line {first_line + 1} of the run)" if first_line else ""
        values[f"input {number}" if several else "input"] = f"{source['path']}{place}"
    if shown.error is not None:
        values["error"] = f"{shown.error.get('code')}: {shown.error.get('message')}"
        if shown.error.get("hint"):
            values["hint"] = str(shown.error["hint"])
    fields(values)
