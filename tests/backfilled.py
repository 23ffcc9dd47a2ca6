"""Requests as the parts that a backfill computes from, and what it has computed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from identity_cli.backfill.duck import compute
from identity_cli.backfill.plan import Part
from identity_cli.importer.stop import StopSwitch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import psycopg

# A line of its part, the emails and the phone numbers; a forgotten value is None.
Line = tuple[int, list[str], list[str]]
RestOfLine = tuple[int, list[str | None], list[str | None]]
_PART = pa.schema(
    {"line": pa.int64(), "emails": pa.list_(pa.string()), "phones": pa.list_(pa.string())}
)
_HELD = {
    "contact": "id, email, phone_number, linked_id, anchors_email, anchors_phone, created_at",
    "link_evidence": "value, other_value",
}


def write_part(work: Path, first_line: int, lines: Iterable[Line | RestOfLine]) -> Part:
    """Write requests as the next part."""
    folder = work / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{len(list(folder.iterdir())):05}.parquet"
    rows = [{"line": line, "emails": emails, "phones": phones} for line, emails, phones in lines]
    pq.write_table(pa.Table.from_pylist(rows, _PART), path)
    return Part(path, first_line)


def write_held(work: Path, connection: psycopg.Connection[Any]) -> None:
    """Write what the database holds, in no order."""
    (work / "held").mkdir(parents=True)
    for table, columns in _HELD.items():
        found = connection.execute(f"SELECT {columns} FROM {table} ORDER BY random()")  # type: ignore[arg-type]
        assert found.description is not None
        names = [column.name for column in found.description]
        rows = found.fetchall()
        schema = pa.schema(
            {name: pa.string() for name in names}
            | {
                name: type_
                for name, type_ in {
                    "id": pa.int64(),
                    "linked_id": pa.int64(),
                    "anchors_email": pa.bool_(),
                    "anchors_phone": pa.bool_(),
                    "created_at": pa.timestamp("us", "UTC"),
                }.items()
                if name in names
            }
        )
        table_rows = [dict(zip(names, row, strict=True)) for row in rows]
        pq.write_table(pa.Table.from_pylist(table_rows, schema), work / "held" / f"{table}.parquet")


def run_compute(work: Path, parts: Sequence[Part], **options: Any) -> None:
    """Compute with little memory, and with several threads, as nothing may depend on them."""
    compute(
        work,
        parts,
        **{
            "first_contact_id": 1,
            "first_evidence_id": 1,
            "memory": "256MB",
            "threads": 2,
            "switch": StopSwitch(),
        }
        | options,
    )


def computed(work: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a result in the order of its file."""
    rows: list[dict[str, Any]] = pq.read_table(work / "result" / f"{table}.parquet").to_pylist()
    return rows


def counts(work: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((work / "result" / "counts.json").read_text())
    return found
