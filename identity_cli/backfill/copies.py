"""What PostgreSQL copies out, as Arrow tables; needs pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pc

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, LiteralString

    import psycopg

_BLOCK_BYTES = 1 << 23


def copied(
    connection: psycopg.Connection[Any], query: LiteralString, schema: pa.Schema
) -> Iterator[pa.Table]:
    """Yield the rows of a query, some megabytes at a time, as columns of these names and types."""
    statement = f"COPY ({query}) TO STDOUT (FORMAT csv)"
    with translated(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        lines = bytearray()
        for line in copy:
            lines += line
            if len(lines) > _BLOCK_BYTES:
                yield _parsed(bytes(lines), schema)
                lines.clear()
        if lines:
            yield _parsed(bytes(lines), schema)


def _parsed(lines: bytes, schema: pa.Schema) -> pa.Table:
    """Return the table of lines of CSV as PostgreSQL writes them: only a null has no quotes."""
    return pc.read_csv(
        pa.BufferReader(lines),
        read_options=pc.ReadOptions(column_names=schema.names, use_threads=False),
        parse_options=pc.ParseOptions(newlines_in_values=True),
        convert_options=pc.ConvertOptions(
            column_types=schema,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
