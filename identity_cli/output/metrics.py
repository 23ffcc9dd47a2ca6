"""Metrics of a command as a file for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.errors import OutputError
from identity_cli.files import replaced_file
from identity_cli.output.streams import remark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from identity_cli.graph.verify import Verification
    from identity_cli.importer.report import ImportReport

# Prometheus' exporter runs as another user. There is no value of a contact in the file.
_READABLE = 0o644
_SUFFIX = ".prom"
_OUTCOMES = ("created", "linked", "merged", "unchanged", "blocked", "rejected")


class Metric(NamedTuple):
    """A gauge without labels, or with one label that has a value for each of its numbers."""

    name: str
    help: str
    number: float | None
    label: str = ""
    numbers: tuple[tuple[str, float], ...] = ()


def import_metrics(report: ImportReport) -> Iterator[Metric]:
    """Yield the metrics of an import that has ended, however it ended."""
    finished_at = datetime.fromisoformat(report.finished_at or report.started_at)
    yield from _ending(
        "import",
        report.exit_code,
        datetime.fromisoformat(report.started_at).timestamp(),
        finished_at.timestamp(),
        report.seconds,
    )
    yield Metric(
        "identity_import_rows",
        "Rows by their outcome.",
        None,
        "outcome",
        tuple((name, report.rows[name]) for name in _OUTCOMES),
    )
    yield Metric(
        "identity_import_partial_rows",
        "Rows that were imported without a bad value.",
        report.rows["partial"],
    )
    yield Metric(
        "identity_import_rows_per_second", "Rows read in a second.", report.rows_per_second
    )
    yield Metric(
        "identity_import_retries", "Requests tried again after a conflict.", report.retries
    )
    yield Metric("identity_import_dry_run", "Whether the import was rolled back.", report.dry_run)
    if report.hubs is not None:
        yield Metric(
            "identity_import_shared_values",
            f"Values shared by more than {report.hubs.more_than} others, of identities that grew.",
            report.hubs.count,
        )
        yield Metric(
            "identity_import_largest_identity_contacts",
            "Contacts of the largest of these identities.",
            report.hubs.largest_identity,
        )


def verify_metrics(
    found: Verification | None, exit_code: int, started_at: float, finished_at: float
) -> Iterator[Metric]:
    """Yield the metrics of a verification; `found` is None if it has failed."""
    seconds = max(0.0, finished_at - started_at)
    yield from _ending("verify", exit_code, started_at, finished_at, seconds)
    if found is not None:
        yield Metric("identity_verify_contacts", "Contacts.", found.contacts)
        yield Metric("identity_verify_identities", "Identities.", found.identities)
        violations = sum(found.counts.values())
        yield Metric("identity_verify_violations", "Violations that were found.", violations)


def write_metrics(path: str, metrics: Iterable[Metric]) -> None:
    """Write the file; the collector sees a whole one or none. Raises `OutputError`.

    Every sample has the name of the file as a label: two files must not have the same series.
    """
    text = exposition(metrics, Path(path).name.removesuffix(_SUFFIX))
    with replaced_file(Path(path), force=True, mode=_READABLE) as file:
        file.write(text.encode(errors="backslashreplace"))


def save_metrics(path: str, metrics: Iterable[Metric], *, has_failed: bool) -> None:
    """Write the file as `write_metrics` does; if it cannot be written, say so.

    Raises `OutputError`, but not if the command `has_failed`: its own error is what the user has to
    know.
    """
    try:
        write_metrics(path, metrics)
    except OutputError as failure:
        if not has_failed:
            raise
        remark(str(failure))


def exposition(metrics: Iterable[Metric], file: str) -> str:
    """Return metrics in Prometheus' text format."""
    lines: list[str] = []
    for metric in metrics:
        lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} gauge")
        if metric.number is not None:
            lines.append(f"{metric.name}{{{_label('file', file)}}} {_number(metric.number)}")
        for value, number in metric.numbers:
            labels = f"{_label('file', file)},{_label(metric.label, value)}"
            lines.append(f"{metric.name}{{{labels}}} {_number(number)}")
    return "".join(f"{line}\n" for line in lines)


def _ending(
    command: str, exit_code: int, started_at: float, finished_at: float, seconds: float
) -> Iterator[Metric]:
    yield Metric(
        f"identity_{command}_exit_code", "Exit code of the last run; 0 is success.", exit_code
    )
    yield Metric(
        f"identity_{command}_started_timestamp_seconds", "When the last run began.", started_at
    )
    yield Metric(
        f"identity_{command}_finished_timestamp_seconds", "When the last run ended.", finished_at
    )
    yield Metric(f"identity_{command}_duration_seconds", "How long it took.", seconds)


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{escaped}"'


def _number(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.3f}"
