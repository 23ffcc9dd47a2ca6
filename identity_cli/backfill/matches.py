"""Values of the requests that a pattern blocks when they come first.

PostgreSQL matches them, with the expressions of the rule: another engine has other regular
expressions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity_cli.files import replaced_file
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import psycopg

    from identity_cli.importer.stop import StopSwitch

_BATCH_REQUESTS = 16_384
# As rule_for_new_value() and block_by_pattern(). Few values match, and only these are looked up:
# OFFSET keeps the planner from joining all contacts instead. The placeholder of a value that is not
# blocked has gone when the value is stated first, and then it is new.
_MATCHED = """
    WITH matched AS MATERIALIZED (
        SELECT own.value, (SELECT min(id) FROM block_pattern
                           WHERE own.value ~ whole_value(pattern)) AS pattern_id
        FROM unnest(%s::text[]) AS own (value)
    )
    SELECT value, pattern_id FROM matched
    WHERE pattern_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM blocked_value AS b WHERE b.value = matched.value)
        AND NOT EXISTS (SELECT FROM contact
                        WHERE email = value AND anchors_email AND id > 0 OFFSET 0)
        AND NOT EXISTS (SELECT FROM contact
                        WHERE phone_number = value AND anchors_phone AND id > 0 OFFSET 0)
"""


def write_matches(
    connection: psycopg.Connection[Any],
    parts: Iterable[Path],
    path: Path,
    switch: StopSwitch,
) -> None:
    """Write the new values that a pattern matches, some more than once, with the first pattern.

    A value that is blocked already is not among them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("value", pa.string()), ("pattern_id", pa.int64())])
    with translated():
        has_patterns = connection.execute("SELECT EXISTS (SELECT FROM block_pattern)").fetchone()
    with replaced_file(path, force=True) as file, pq.ParquetWriter(file, schema) as writer:
        for values in _values(parts) if has_patterns == (True,) else ():
            switch.check()
            with translated():
                found = connection.execute(_MATCHED, (values,)).fetchall()
            rows = [dict(zip(schema.names, row, strict=True)) for row in found]
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _values(parts: Iterable[Path]) -> Iterator[list[str]]:
    """Yield the values of the requests, a batch of requests at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(_BATCH_REQUESTS, columns=["emails", "phones"]):
                values = [column.flatten() for column in batch.columns]
                yield pa.chunked_array(values).unique().drop_null().to_pylist()
