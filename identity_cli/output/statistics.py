"""Print statistics of the graph: tables with bars on a terminal, plain lines into a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from identity_cli.graph.hubs import MOST_PARTNERS
from identity_cli.graph.masking import masked
from identity_cli.output.tables import fields, section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from identity_cli.graph.statistics import Growth, SizeClass, Statistics

_BAR_WIDTH = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"
_OUTCOMES = ("read", "created", "linked", "merged", "unchanged", "rejected")
# Columns of these are text, all others are numbers.
_TEXT = ("run", "status", "ended", "primary", "value", "")


def statistics(found: Statistics, *, with_values: bool) -> None:
    """Print statistics, without empty parts; values are masked unless `with_values`."""
    fields(
        {
            "contacts": _cell(found.contacts),
            "identities": _cell(found.identities),
            "emails": _cell(found.emails),
            "phone numbers": _cell(found.phone_numbers),
            "pairs of values": _cell(found.pairs)
            + (f" ({_cell(found.held_pairs)} held by rules)" if found.held_pairs else ""),
            "merges": _cell(found.merges),
            "imported requests": _cell(found.requests),
            "deduplication rate": percentage(found.deduplication_rate),
            "hubs": f"{_cell(found.hubs)} (values shared by more than {MOST_PARTNERS} others)",
        }
    )
    _print_sizes(found.sizes)
    _print(
        "largest identities",
        ("primary", "contacts", "emails", "phone numbers"),
        ((str(primary_id), *counts) for primary_id, *counts in found.largest),
    )
    _print(
        "values shared by the most others",
        ("value", "others", "primary"),
        (
            (
                shared.value if with_values else masked(shared.value),
                shared.partners,
                str(shared.primary_id or "-"),
            )
            for shared in found.most_shared
        ),
    )
    _print(
        "outcomes of the newest runs",
        ("run", "status", *_OUTCOMES),
        (
            (str(run.id), run.state, *(run.rows.get(name, 0) for name in _OUTCOMES))
            for run, *_ in found.runs
        ),
    )
    _print(
        "growth by the newest runs",
        ("run", "ended", "new contacts", "new identities", "merges", "contacts", "identities"),
        map(_growth, found.runs),
    )


def percentage(rate: float | None) -> str:
    """Return a rate as a percentage, a dash if there is none."""
    return "-" if rate is None else f"{rate:.1%}"


def _print_sizes(sizes: Sequence[SizeClass]) -> None:
    most = max((size.identities for size in sizes), default=0)
    # Bars are for the eye: a pipe gets the numbers alone.
    on_terminal = sys.stdout.isatty()
    _print(
        "identities by their number of contacts",
        ("contacts each", "identities", "contacts", *([""] if on_terminal else [])),
        (
            (
                str(size.least) if size.least == size.most else f"{size.least}-{size.most}",
                size.identities,
                size.contacts,
                *([_bar(size.identities / most)] if on_terminal else []),
            )
            for size in sizes
        ),
    )


def _bar(share: float) -> str:
    """Return a bar of a share between 0 and 1; what is not 0 can be seen."""
    eighths = round(share * _BAR_WIDTH * 8)
    if share and not eighths:
        eighths = 1
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _growth(growth: Growth) -> tuple[str | int, ...]:
    stored, graph = growth.stored, growth.graph
    return (
        str(growth.run.id),
        _moment(growth.run.finished_at),
        stored.contacts,
        stored.new_identities,
        stored.merges,
        "-" if graph is None else graph.contacts,
        "-" if graph is None else graph.identities,
    )


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(sep=" ", timespec="seconds")


def _print(title: str, header: tuple[str, ...], rows: Iterable[tuple[str | int, ...]]) -> None:
    cells = [tuple(map(_cell, row)) for row in rows]
    section(title, header, cells, numbers=[name for name in header if name not in _TEXT])


def _cell(value: str | int) -> str:
    """Return a number with separators for a person, without them for a program."""
    return f"{value:,}" if isinstance(value, int) and sys.stdout.isatty() else str(value)
