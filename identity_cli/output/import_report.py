"""What is printed when an import or an annotation has ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from identity_cli.output.streams import note, remark
from identity_cli.output.tables import section, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from identity_cli.graph.preview import LargestIdentity, Preview
    from identity_cli.importer.annotation import AnnotationReport
    from identity_cli.importer.report import ImportReport


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
    if report.preview is not None:
        _preview(report.preview)
    if report.run_id is not None and report.has_stored:
        remark(f"to undo this run: identity undo {report.run_id}")


def annotation_report(report: AnnotationReport) -> None:
    """Write how many rows have which status, and the rate."""
    rate = f"{report.rows_per_second:,.0f} rows/s"
    _counts(report.rows, rate)
    note(f"annotated in {report.seconds:.1f} s, {rate}")


def _preview(preview: Preview) -> None:
    """Write what a dry run would have changed."""
    if preview.largest_identity is not None:
        note(_largest(preview.largest_identity))
    if preview.new_hubs:
        note(
            f"{_counted(preview.new_hubs, 'value', 'values')} would exceed the hub limit and"
            " stop linking"
        )
    if preview.merging_rows:
        note(f"{_counted(preview.merging_rows, 'row', 'rows')} would join identities")
    section(
        "sizes of the joined identities",
        ("contacts", "rows"),
        [(_range(size.least, size.most), f"{size.rows:,}") for size in preview.merge_sizes],
        numbers=("contacts", "rows"),
        to_stderr=True,
    )
    section(
        "rows that join the most",
        ("row", "contacts before"),
        [
            (f"{path}:{line}", " + ".join(f"{size:,}" for size in sizes))
            for path, line, sizes in preview.bridges
        ],
        to_stderr=True,
    )
    section(
        "values that gain the most others",
        ("value", "others", "before", "effect"),
        [
            (
                value.value,
                f"{value.partners:,}",
                f"{value.partners_before:,}",
                "stops linking" if value.stops_linking else "",
            )
            for value in preview.values
        ],
        numbers=("others", "before"),
        to_stderr=True,
    )


def _largest(identity: LargestIdentity) -> str:
    primary = "a new primary" if identity.primary_id is None else f"primary {identity.primary_id}"
    return (
        f"the largest identity that grows would have {identity.contacts:,} contacts"
        f" ({identity.contacts_before:,} before): {primary}, {', '.join(identity.members)}"
    )


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least}-{most}"


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _counts(counts: Mapping[str, int], rate: str) -> None:
    if sys.stderr.isatty():
        rows = [(name, f"{count:,}") for name, count in counts.items()]
        table([*rows, ("rate", rate)], to_stderr=True)
    else:
        note("  ".join(f"{name} {count}" for name, count in counts.items()))
