"""Export to Parquet; needs the extra `parquet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from identity_cli.exporter.columns import IDENTITY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from identity_cli.graph.service import ConsolidatedContact

# Contacts per row group, which is held in memory.
ROW_GROUP = 65_536

_MOMENT = pa.timestamp("us", tz="UTC")
_COLUMN_TYPES = {
    "id": pa.int64(),
    "linked_id": pa.int64(),
    "primary_id": pa.int64(),
    "old_primary_id": pa.int64(),
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
    "deleted_at": _MOMENT,
}
_IDENTITY_TYPES = (
    pa.int64(),
    pa.list_(pa.string()),
    pa.list_(pa.string()),
    pa.list_(pa.int64()),
)


def write_records(
    stream: BinaryIO, columns: Sequence[str], records: Iterable[tuple[Any, ...]]
) -> None:
    """Write one row per record, as in CSV."""
    types = (_COLUMN_TYPES.get(column, pa.string()) for column in columns)
    schema = pa.schema(list(zip(columns, types, strict=True)))
    _write(stream, schema, ((record, 1) for record in records))


def write_identities(stream: BinaryIO, identities: Iterable[ConsolidatedContact]) -> None:
    """Write one row per identity, with its values as lists."""
    schema = pa.schema(list(zip(IDENTITY_COLUMNS, _IDENTITY_TYPES, strict=True)))
    _write(
        stream,
        schema,
        (
            (tuple(identity.as_json()["contact"].values()), 1 + len(identity.secondary_ids))
            for identity in identities
        ),
    )


def _write(
    stream: BinaryIO, schema: pa.Schema, weighed: Iterable[tuple[tuple[Any, ...], int]]
) -> None:
    """Write rows, each passed with the number of contacts in it."""
    with pq.ParquetWriter(stream, schema) as writer:
        for group in _row_groups(weighed):
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _row_groups(
    weighed: Iterable[tuple[tuple[Any, ...], int]],
) -> Iterator[list[tuple[Any, ...]]]:
    rows: list[tuple[Any, ...]] = []
    contacts = 0
    for row, weight in weighed:
        rows.append(row)
        contacts += weight
        if contacts >= ROW_GROUP:
            yield rows
            rows, contacts = [], 0
    if rows:
        yield rows
