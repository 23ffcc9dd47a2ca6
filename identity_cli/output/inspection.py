"""Print how a file would be imported: tables on a terminal, plain lines into a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.output.streams import line, printable
from identity_cli.output.tables import fields, section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from identity_cli.importer.inspection import Inspection


def inspection(found: Inspection) -> None:
    """Print an inspection; parts without content are left out."""
    fields(_fields(found))
    section("columns used", ("column", "read as"), found.columns.used)
    section("columns not used", ("column", "why not"), found.columns.unused)
    section("notes", (), [(text,) for text in _notes(found)])
    section(
        "first requests",
        ("line", "emails", "phone numbers"),
        [
            (str(request.line), ", ".join(request.emails), ", ".join(request.phone_numbers))
            for request in found.first_requests
        ],
    )
    section("rejects", ("code", "rows"), [(c, str(n)) for c, n in found.rejected_by_code.items()])
    section(
        "first rejects",
        ("line", "code", "reason"),
        [
            (str(reject.line), reject.code, f"{reject.reason}{_GOOD_VALUES * reject.partial}")
            for reject in found.first_rejects
        ],
    )
    if found.effects is not None:
        section("rules of the database", ("what", "count"), _effects(found.effects))
    section(
        "values shared by most rows",
        ("value", "rows", "other values"),
        [(value, str(rows), str(partners)) for value, rows, partners in found.shared_values],
    )
    # Not in a table, which would break it into several lines.
    line(f"\nimport it with\n  {printable(found.command)}")


def _effects(effects: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    return [
        (f"{kind} {name.replace('_', ' ')}", str(count))
        for kind, counts in effects.items()
        for name, count in counts.items()
    ]


_GOOD_VALUES = " (the other values are used)"


def _fields(found: Inspection) -> dict[str, str]:
    rows = "  ".join(f"{name} {count}" for name, count in found.rows.items())
    header = "none" if found.header_line is None else f"line {found.header_line}"
    shown = {
        "input": found.path,
        "format": found.layout.input_format,
        "compression": found.compression or "none",
        "encoding": found.encoding,
        "delimiter": None
        if found.delimiter is None
        else _NAMES.get(found.delimiter) or found.delimiter,
        "header": header if found.layout.input_format == "csv" else None,
        "rows": rows if found.is_complete else f"{rows} (of the first {found.rows['read']:,})",
    }
    return {name: value for name, value in shown.items() if value is not None}


_NAMES = {"\t": "tab", " ": "space", ",": "comma", ";": "semicolon", "|": "bar"}


def _notes(found: Inspection) -> list[str]:
    notes = list(found.notes)
    if found.without_country:
        notes.append(
            f"{found.without_country:,} phone numbers have no + and there is no region:"
            " 202-555-0101 and +1 202 555 0101 will not match; use --region"
        )
    if found.rows_missed:
        notes.append(
            f"the rows of shared values may be up to {found.rows_missed:,} more than are shown,"
            " as not all values fit into memory"
        )
    return notes
