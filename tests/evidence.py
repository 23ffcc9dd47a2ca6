"""Evidence made up by tests, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from identity_cli.graph.evidence import Evidence

_START = datetime(2026, 1, 1, tzinfo=UTC)


def contact(
    contact_id: int,
    value: str,
    other: str | None = None,
    *,
    brings: str = "",
    line: int | None = None,
) -> Evidence:
    """A contact of run 1 that brings in the values whose initials are in `brings`, else both."""
    return Evidence(
        contact_id,
        None,
        None,
        None,
        value,
        other,
        not brings or value[0] in brings,
        other is not None and (not brings or other[0] in brings),
        1,
        contact_id if line is None else line,
        _START + timedelta(seconds=contact_id),
    )


def pair(
    evidence_id: int,
    value: str,
    other: str,
    *,
    second: int,
    merged: tuple[int, int] | None = None,
    run_id: int | None = 1,
) -> Evidence:
    """A pair of evidence at a time, `merged` being the secondary and the primary of a merge."""
    merged_id, primary_id = merged or (None, 1)
    return Evidence(
        None,
        evidence_id,
        primary_id,
        merged_id,
        value,
        other,
        False,
        False,
        run_id,
        None if run_id is None else second,
        _START + timedelta(seconds=second),
    )
