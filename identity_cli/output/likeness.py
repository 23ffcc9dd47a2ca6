"""Print the identities that a pattern finds: a table on a terminal, plain lines into a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from identity_cli.graph.masking import masked
from identity_cli.output.streams import document, line, printable, remark
from identity_cli.output.tables import table

if TYPE_CHECKING:
    from identity_cli.graph.likeness import Match, Matches

_HEADER = ("primary", "contacts", "values like the pattern")


def matches(found: Matches, *, as_json: bool, with_values: bool) -> None:
    """Print one identity per line, values masked unless `with_values`."""
    shown = [_values(match, with_values=with_values) for match in found.identities]
    if as_json:
        document(
            {
                "schema_version": 1,
                "identities": [
                    {
                        "primary_id": match.primary_id,
                        "contacts": match.contacts,
                        "values": values,
                        "matching_values": match.total,
                    }
                    for match, values in zip(found.identities, shown, strict=True)
                ],
                "complete": not found.is_cut,
            }
        )
        return
    rows = [
        (str(match.primary_id), str(match.contacts), _listed(values, match.total))
        for match, values in zip(found.identities, shown, strict=True)
    ]
    if sys.stdout.isatty():
        table(rows, _HEADER)
    else:
        for row in (_HEADER, *rows):
            line("\t".join(map(printable, row)))
    if found.is_cut:
        remark(f"only the first {len(rows)} identities are listed; use a more specific pattern")


def _values(match: Match, *, with_values: bool) -> list[str]:
    return [value if with_values else masked(value) for value in match.values]


def _listed(values: list[str], total: int) -> str:
    more = f", and {total - len(values):,} more" if total > len(values) else ""
    return f"{', '.join(values)}{more}"
