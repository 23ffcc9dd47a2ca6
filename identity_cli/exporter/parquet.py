"""Export to Parquet; needs the extra `parquet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from identity_cli.exporter.columns import CONTACT_COLUMNS, IDENTITY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from identity_cli.graph.service import ConsolidatedContact

# Contacts per row group, which is held in memory.
ROW_GROUP = 65_536

_MOMENT = pa.timestamp("us", tz="UTC")
_CONTACT_TYPES = (
    pa.int64(),
    pa.string(),
    pa.string(),
    pa.int64(),
    pa.string(),
    _MOMENT,
    _MOMENT,
    _MOMENT,
)
_IDENTITY_TYPES = (
    pa.int64(),
    pa.list_(pa.string()),
    pa.list_(pa.string()),
    pa.list_(pa.int64()),
)


def write_contacts(stream: BinaryIO, contacts: Iterable[tuple[Any, ...]]) -> None:
    """Write one row per contact, as in CSV."""
    schema = pa.schema(list(zip(CONTACT_COLUMNS, _CONTACT_TYPES, strict=True)))
    _write(stream, schema, ((contact, 1) for contact in contacts))


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
