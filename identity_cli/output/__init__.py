"""What a person or a pipe sees: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from identity_cli.errors import IdentityError
    from identity_cli.graph.service import ConsolidatedContact
    from identity_cli.importer.report import ImportReport
    from identity_cli.importer.run import Progress
    from identity_cli.importer.run_list import Run

# Set by --debug: errors keep their traceback.
debug = False


def line(text: str) -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def document(value: Any) -> None:
    """One JSON document."""
    # A path may be no text; standard output takes text only.
    line(json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode())


def note(text: str) -> None:
    """A line for the person at the terminal."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def remark(text: str) -> None:
    """Something to know that is no error."""
    note(f"note: {text}")


def error(failure: IdentityError) -> None:
    """An error with its hint; for a place in a file `PATH:LINE: error: …`."""
    location = getattr(failure, "location", None)
    note(f"{f'{location}: ' if location else ''}error: {failure}")
    if failure.hint:
        note(f"\nhint: {failure.hint}")


def printable(text: str) -> str:
    """The text with what a terminal would obey made visible: paths and words may hold anything."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def consolidated(contact: ConsolidatedContact, *, as_json: bool) -> None:
    """A consolidated contact: JSON, a table on a terminal, plain lines into a pipe."""
    if as_json:
        document(contact.as_json())
        return
    fields(
        {
            "primary": str(contact.primary_id),
            "emails": _listed(contact.emails),
            "phone numbers": _listed(contact.phone_numbers),
            "secondaries": _listed([str(one) for one in contact.secondary_ids]),
        }
    )


def _listed(values: list[str]) -> str:
    return ("\n" if sys.stdout.isatty() else ", ").join(values)


def table(
    rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = (), *, to_stderr: bool = False
) -> None:
    """A small table for a terminal; the cells are text, never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE, show_header=bool(header))
    for title in header:
        drawn.add_column(title)
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    Console(stderr=to_stderr, highlight=False, soft_wrap=False).print(drawn)


@contextmanager
def import_progress(*, hidden: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar by bytes on a terminal, a counter where the size is not known."""
    # Rich would draw into a pipe under FORCE_COLOR.
    if hidden or not sys.stderr.isatty():
        yield lambda _progress: None
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
        task = bar.add_task("import", total=None, rows=0)
        yield lambda progress: bar.update(
            task, completed=progress.offset, total=progress.total, rows=progress.counts.read
        )


def import_report(report: ImportReport) -> None:
    """Print the first few rejects, where the others are, the counts and the rate."""
    for reject in report.first_rejects:
        note(f"{reject.path}:{reject.line}: rejected: {reject.reason}")
    document = report.as_json()
    if report.rows.rejected and report.error is None:
        places = ", ".join(report.rejects_paths)
        note(f"{report.rows.rejected} rejected{f': see {places}' if places else ''}")
    rate = f"{report.rows_per_second:,.0f} rows/s"
    if sys.stderr.isatty():
        rows = [(name, f"{count:,}") for name, count in document["rows"].items()]
        table([*rows, ("rate", rate)], to_stderr=True)
    else:
        note("  ".join(f"{name} {count}" for name, count in document["rows"].items()))
    dry = ", dry run: everything was rolled back" if report.dry_run else ""
    note(f"{report.status} in {report.seconds:.1f} s, {rate}{dry}")


def fields(values: dict[str, str]) -> None:
    """Names and values: a table on a terminal, plain lines into a pipe."""
    if sys.stdout.isatty():
        table(list(values.items()))
    else:
        for name, value in values.items():
            line(f"{name}: {value}")


def runs(found: list[Run]) -> None:
    """A line a run: a table on a terminal, tab-separated into a pipe."""
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
