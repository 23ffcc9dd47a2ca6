"""Where a row of evidence comes from, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.output.streams import printable

if TYPE_CHECKING:
    from identity_cli.graph.evidence import Evidence, IdentityEvidence, Sources

_NO_RUN = "identify or HTTP"


def place_of(row: Evidence, sources: Sources) -> str:
    """Return the file and line of a row, or how else it came."""
    if row.run_id is None:
        return _NO_RUN
    place = sources.of(row)
    if place is None:
        return "unknown input" if row.line is None else f"line {row.line} of all inputs"
    return f"{'standard input' if place.path == '-' else place.path}:{place.line}"


def time_of(row: Evidence) -> str:
    """Return the time of a row to the second."""
    return row.time.isoformat(sep=" ", timespec="seconds")


def size_of(evidence: IdentityEvidence, values: int) -> str:
    """Return how many contacts, values and rows of evidence an identity has."""
    contacts, pairs = len(evidence.contacts), len(evidence.pairs)
    parts = [
        f"{contacts:,} contact{'' if contacts == 1 else 's'}",
        f"{values:,} value{'' if values == 1 else 's'}",
    ]
    if pairs:
        parts.append(f"{pairs:,} row{'' if pairs == 1 else 's'} of evidence")
    return f"identity {evidence.primary_id}: {', '.join(parts)}"


def one_line(text: str) -> str:
    """Return the text without control characters, tabs and line breaks included."""
    if text.isprintable():
        return text
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
