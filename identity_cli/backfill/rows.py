"""Computed rows on their way from Parquet files into PostgreSQL's COPY, in binary format."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from identity_cli.backfill.work import WorkDirectory
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter

_BATCH_ROWS = 65_536
_CONTACT_IDS = ("id", "linked_id", "initial_linked_id", "primary_id", "merged_id")
# In the order of the COPY: a column of the result, "created_line" and "updated_line" as times.
_COLUMNS = {
    "contact": (
        "id",
        "email",
        "phone_number",
        "linked_id",
        "initial_linked_id",
        "anchors_email",
        "anchors_phone",
        "line",
        "created_line",
        "updated_line",
        "run_id",
        "link_precedence",
    ),
    "link_evidence": (
        "id",
        "value",
        "other_value",
        "primary_id",
        "merged_id",
        "line",
        "created_line",
        "run_id",
        "is_held",
    ),
    "set_aside_contact": (
        "id",
        "email",
        "phone_number",
        "anchors_email",
        "anchors_phone",
        "line",
        "created_line",
        "run_id",
    ),
    "blocked_value": ("id", "value", "pattern_id"),
    "released": ("id",),
    "moved": ("id", "linked_id", "updated_line"),
}


def row_count(path: Path) -> int:
    """Return the number of rows in a Parquet file."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


class RowCopier:
    """Copies the results of a work directory as the rows of a run.

    `base_us` is the time of line 0, `marks` are the last ids given out: the new ids, which were
    computed from others on, follow them.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        work: WorkDirectory,
        switch: StopSwitch,
        run_id: int,
        base_us: int,
        marks: tuple[int, int],
    ) -> None:
        self._connection = connection
        self._work = work
        self._switch = switch
        self._run_id = run_id
        self._base_us = base_us
        self._marks = marks

    def copy(self, statement: Any, name: str, meter: Meter) -> None:
        """Copy the rows of `result/NAME.parquet` with a COPY statement."""
        import pyarrow.parquet as pq

        from identity_cli.backfill import binary

        with (
            translated(),
            pq.ParquetFile(self._work.result(name)) as file,
            ThreadPoolExecutor(1) as other_thread,
            self._connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            meter.expect(file.metadata.num_rows, "rows")
            batches = self._batches(name, file)
            copy.write(binary.BEGINNING)
            # The server takes a batch while the next one is prepared.
            upcoming = other_thread.submit(next, batches, None)
            while (batch := upcoming.result()) is not None:
                upcoming = other_thread.submit(next, batches, None)
                self._switch.check()
                count, rows = batch
                copy.write(rows)
                meter.advance(count)
            copy.write(binary.END)

    def _batches(self, name: str, file: Any) -> Iterator[tuple[int, memoryview]]:
        """Yield the rows of a file, each batch with their number."""
        from identity_cli.backfill import binary

        if not file.metadata.num_rows:  # older releases of pyarrow cannot iterate over nothing
            return
        for batch in file.iter_batches(_BATCH_ROWS):
            yield batch.num_rows, binary.rows(self._as_stored(name, batch))

    def _as_stored(self, name: str, batch: Any) -> list[Any]:
        """Return the columns that the COPY takes."""
        import pyarrow as pa

        columns = []
        for column in _COLUMNS[name]:
            match column:
                case "created_line" | "updated_line":
                    is_dated = column in batch.schema.names
                    lines = batch.column(column if is_dated else "line")
                    columns.append(self._as_times(lines))
                case "run_id":
                    columns.append(pa.repeat(self._run_id, batch.num_rows))
                case "link_precedence":
                    columns.append(_precedences(batch.column("linked_id")))
                case _:
                    columns.append(self._as_id(name, column, batch.column(column)))
        return columns

    def _as_times(self, lines: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from identity_cli.backfill.binary import EPOCH_US

        return pc.add(lines.cast(pa.int64()), self._base_us - EPOCH_US)

    def _as_id(self, name: str, column: str, values: Any) -> Any:
        import pyarrow.compute as pc

        if column not in _CONTACT_IDS or name in ("moved", "released", "blocked_value"):
            return values
        kind = int(name == "link_evidence" and column == "id")
        first = self._work.require_manifest().first_ids[kind]
        shift = self._marks[kind] + 1 - first
        if not shift:
            return values
        return pc.if_else(pc.greater_equal(values, first), pc.add(values, shift), values)


def _precedences(linked_ids: Any) -> Any:
    import pyarrow.compute as pc

    return pc.if_else(pc.is_null(linked_ids), "primary", "secondary")
