"""The nightly report as one HTML page, which needs neither a network nor scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.graph.changes import DOUBLED_AT_LEAST
from identity_cli.graph.hubs import MOST_PARTNERS
from identity_cli.graph.masking import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from identity_cli.graph.changes import Changes
    from identity_cli.graph.report import Report
    from identity_cli.graph.run_list import Run
    from identity_cli.graph.statistics import SizeClass, Statistics
    from identity_cli.graph.verify import Verification

_OUTCOMES = ("read", "created", "linked", "merged", "unchanged", "rejected")
_LEVELS = {"finished": "good", "stopped": "warn", "failed": "bad", "died": "bad"}
_BAD_STATES = {
    "failed": "failed",
    "died": "was interrupted; import the same input again to resume it",
}
_MINUS = "\N{MINUS SIGN}"
_MASKED_TEXT = "Emails and phone numbers are masked; identity show --id N prints an identity."


class Notice(NamedTuple):
    """A sentence about something wrong ("bad") or unusual ("warn"), and the part with details."""

    level: str
    text: str
    target: str


class Figure(NamedTuple):
    """A number with its name, and what puts it into proportion."""

    name: str
    value: str
    remark: str = ""


def report_page(found: Report, *, place: str, version: str, with_values: bool) -> str:
    """Return the page; `place` names the database. Values are masked unless `with_values`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("identity_cli.output"),
        # Names of files, values and messages are text, whatever they contain.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    graph = found.statistics
    show = (lambda value: value) if with_values else masked
    return environment.get_template("report.html").render(
        place=place,
        version=version,
        values_text="" if with_values else _MASKED_TEXT,
        taken_at=_moment(graph.taken_at),
        taken_at_iso=graph.taken_at.isoformat(),
        warnings=notices(found),
        figures=_figures(graph, found.changes),
        **_changes(found, show),
        **_runs([growth.run for growth in graph.runs]),
        **_identities(graph),
        **_shared_values(graph, show),
        **_verification(found.verification),
    )


def notices(found: Report) -> list[Notice]:
    """Return what needs a look, what is wrong before what is unusual."""
    notices = []
    if not found.verification.ok:
        kinds = ", ".join(f"{count:,} {code}" for code, count in found.verification.counts.items())
        notices.append(Notice("bad", f"The stored graph is not correct: {kinds}.", "verification"))
    newest = found.statistics.runs[0].run if found.statistics.runs else None
    if newest is not None and newest.state in _BAD_STATES:
        text = f"Run {newest.id}, the newest one, {_BAD_STATES[newest.state]}"
        reason = f": {newest.error.get('message')}" if newest.error else ""
        notices.append(Notice("bad", f"{text}{reason}.", "runs"))
    doubled = found.changes.doubled
    if doubled:
        largest = doubled[0]
        notices.append(
            Notice(
                "warn",
                f"{_count(len(doubled), 'identity has', 'identities have')} at least doubled."
                f" The largest, of primary {largest.primary_id}, has {largest.contacts:,} contacts"
                f" and had {largest.contacts_before:,}.",
                "doubled",
            )
        )
    new_hubs = found.statistics.new_hubs
    if new_hubs:
        became = _count(new_hubs, "value has become a hub", "values have become hubs")
        text = f"{became}: shared by more than {MOST_PARTNERS} others, it may join strangers."
        notices.append(Notice("warn", text, "new-hubs"))
    return notices


def _figures(graph: Statistics, changes: Changes) -> list[Figure]:
    new_contacts = sum(one.new_identities + one.linked_contacts for one in changes.added)
    new_identities = sum(one.new_identities - one.merges for one in changes.added)
    # What rules take out of the graph and put back is not counted.
    is_compared = changes.since is not None and not any(changes.moved_by_rules)
    return [
        Figure("Contacts", f"{graph.contacts:,}", _difference(new_contacts) * is_compared),
        Figure("Identities", f"{graph.identities:,}", _difference(new_identities) * is_compared),
        Figure("Emails", f"{graph.emails:,}"),
        Figure("Phone numbers", f"{graph.phone_numbers:,}"),
        Figure(
            "Deduplication rate",
            _percentage(graph.deduplication_rate),
            f"of {graph.requests:,} imported requests",
        ),
        Figure("Hubs", f"{graph.hubs:,}", f"shared by more than {MOST_PARTNERS}"),
        Figure(
            "Largest identity",
            f"{graph.largest[0].contacts if graph.largest else min(graph.contacts, 1):,}",
            "contacts",
        ),
    ]


def _changes(found: Report, show: Callable[[str], str]) -> dict[str, Any]:
    changes = found.changes
    since = (
        "Since the beginning"
        if changes.since is None
        else f"Since run {changes.previous_run_id} ended, {_moment(changes.since)} UTC"
    )
    moved = changes.moved_by_rules
    added = [
        (_origin(one.run_id), one.new_identities, one.linked_contacts, one.merges, 0)
        for one in changes.added
    ]
    if any(moved):
        added.append(("Rules", 0, 0, *moved))
    doubled = changes.doubled[: found.top]
    return {
        "since": since,
        "added_caption": f"{since}: identities that are new, were merged or were split, and linked"
        " contacts",
        "added": [(origin, *map(_number, counts)) for origin, *counts in added],
        "added_total": ("Together", *map(_number, _sum(added))) if len(added) > 1 else None,
        "doubled_caption": f"Identities of {DOUBLED_AT_LEAST} contacts or more that have at least"
        f" doubled{_first(len(doubled), len(changes.doubled))}",
        "doubled": [
            (str(primary_id), f"{before:,}", f"{now:,}") for primary_id, now, before in doubled
        ],
        "new_hubs_caption": f"Values that have become hubs: shared by more than {MOST_PARTNERS}"
        " others" + _first(len(found.statistics.most_shared_new_hubs), found.statistics.new_hubs),
        "new_hubs": [
            (show(value), str(primary_id or "-"), f"{before:,}", f"{now:,}")
            for value, now, before, primary_id in found.statistics.most_shared_new_hubs
        ],
    }


def _runs(runs: list[Run]) -> dict[str, Any]:
    return {
        "outcomes": [name.capitalize() for name in _OUTCOMES],
        "runs": [
            {
                "id": run.id,
                "started_at": _moment(run.started_at),
                "status": run.state,
                "level": _LEVELS.get(run.state, ""),
                "counts": [_outcome(run, name) for name in _OUTCOMES],
                "rate": f"{run.rows_per_second:,.0f}",
                "input": ", ".join(run.paths),
                "error": "" if run.error is None else run.error.get("message"),
            }
            for run in runs
        ],
        "rejects": [
            (
                str(run.id),
                "several inputs" if count.path is None else count.path,
                count.code,
                f"{count.rows:,}",
                count.rejects_path or "-",
            )
            for run in runs
            for count in run.reject_counts
        ],
    }


def _outcome(run: Run, name: str) -> dict[str, str]:
    number, read = run.rows.get(name, 0), run.rows["read"]
    share = "" if name == "read" or not number else _percentage(number / read)
    return {"number": f"{number:,}", "share": share}


def _identities(graph: Statistics) -> dict[str, Any]:
    most = max((size.identities for size in graph.sizes), default=0)
    return {
        "sizes": [_size(size, most, graph.identities) for size in graph.sizes],
        "largest": [
            (str(primary_id), *(f"{count:,}" for count in counts))
            for primary_id, *counts in graph.largest
        ],
    }


def _size(size: SizeClass, most: int, identities: int) -> dict[str, str]:
    # An identity can be seen among a million others.
    width = max(size.identities / most * 100, 1) if size.identities else 0
    return {
        "range": f"{size.least:,}" if size.most == 1 else f"{size.least:,}\N{EN DASH}{size.most:,}",
        "identities": f"{size.identities:,}",
        "contacts": f"{size.contacts:,}",
        "share": _percentage(size.identities / identities),
        "width": f"{width:.1f}",
    }


def _shared_values(graph: Statistics, show: Callable[[str], str]) -> dict[str, Any]:
    return {
        "hubs_text": f"{_count(graph.hubs, 'value is a hub', 'values are hubs')}: shared by more"
        f" than {MOST_PARTNERS} others, as a switchboard or a placeholder is.",
        "most_shared": [
            (show(shared.value), str(shared.primary_id or "-"), f"{shared.partners:,}")
            for shared in graph.most_shared
        ],
    }


def _verification(verification: Verification) -> dict[str, Any]:
    counted = (
        f"{_count(verification.contacts, 'contact', 'contacts')},"
        f" {_count(verification.identities, 'identity', 'identities')}"
    )
    number = sum(verification.counts.values())
    return {
        "is_correct": verification.ok,
        "verification_text": f"The stored graph is correct: {counted}."
        if verification.ok
        else f"The stored graph is not correct: {_count(number, 'violation', 'violations')}"
        f" in {counted}.",
        "violations": [(code, f"{count:,}") for code, count in verification.counts.items()],
        "digest": verification.digest,
    }


def _origin(run_id: int | None) -> str:
    return "Single requests" if run_id is None else f"Run {run_id}"


def _sum(rows: Iterable[tuple[str, int, int, int, int]]) -> Iterator[int]:
    _, *columns = zip(*rows, strict=True)
    return map(sum, columns)


def _number(number: int) -> str:
    return f"{number:,}"


def _first(listed: int, count: int) -> str:
    return "" if listed == count else f" (the first {listed:,} of {count:,})"


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _percentage(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _difference(number: int) -> str:
    return f"{_MINUS if number < 0 else '+'}{abs(number):,}"
