"""Computed rows on their way from Parquet files into PostgreSQL's COPY, in binary format."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from identity_cli.backfill.splits.graph import OWN
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

    from identity_cli.backfill.work import WorkDirectory
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter

_BATCH_ROWS = 65_536
_CONTACT_IDS = (
    *("id", "linked_id", "initial_linked_id", "primary_id", "merged_id"),
    *("contact_id", "from_primary_id", "to_primary_id", "next_primary_id"),
)
_EVIDENCE_IDS = (("link_evidence", "id"), ("split_former_evidence", "evidence_id"))
# Tables of ids that are no new ones.
_HELD_IDS = ("moved", "released", "blocked_value", "split_gone", "split_aside_gone")
# The last ids given out by some moment.
_MARKS = ("contact_mark", "evidence_mark")
_VALUES = ("email", "phone_number", "anchors_email", "anchors_phone")
_ORIGIN = ("run_id", "line", "created_line")
# In the order of the COPY: a column of the result, those of lines as times.
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
    "split_contact": (
        *("id", *_VALUES, "linked_id", "initial_linked_id"),
        *(*_ORIGIN, "updated_line"),
    ),
    "split_gone": ("id",),
    "split_moved": ("id", "linked_id", "updated_line"),
    "split_aside": ("id", *_VALUES, "initial_linked_id", *_ORIGIN),
    "split_aside_gone": ("id",),
    "split_held": ("id", "is_held", "primary_id"),
    "split_hub": ("value",),
    "split_command": ("number", "created_line", "run_id"),
    "split_move": ("contact_id", "from_primary_id", "to_primary_id", "number", "created_line"),
    "split_former_contact": (
        *("contact_id", "primary_id", "next_primary_id", "number", "moment_line"),
        *("contact_mark", "evidence_mark", "initial_linked_id", *_VALUES, "stored_in"),
        *(*_ORIGIN, "updated_line"),
    ),
    "split_former_evidence": (
        *("evidence_id", "moment_line", "primary_id", "merged_id", "value", "other_value"),
        *("is_held", "stored_in", *_ORIGIN),
    ),
    "partner_count": ("value", "partners"),
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
        columns = []
        for column in _COLUMNS[name]:
            match column:
                case "created_line" | "updated_line" | "moment_line":
                    columns.append(self._times(batch, column))
                case "run_id":
                    columns.append(self._runs(batch))
                case "link_precedence":
                    columns.append(_precedences(batch.column("linked_id")))
                case _:
                    columns.append(self._as_id(name, column, batch.column(column)))
        return columns

    def _times(self, batch: Any, column: str) -> Any:
        """Return the times of lines of this run, or those that rows from before it have."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from identity_cli.backfill.binary import EPOCH_US

        names = batch.schema.names
        lines = batch.column(column if column in names else "line")
        times = pc.add(lines.cast(pa.int64()), self._base_us)
        earlier = column.replace("_line", "_us")
        if earlier in names:
            times = pc.coalesce(batch.column(earlier), times)
        return pc.subtract(times, EPOCH_US)

    def _runs(self, batch: Any) -> Any:
        """Return the runs of rows: this one, unless they come from runs before it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if "run_id" not in batch.schema.names:
            return pa.repeat(self._run_id, batch.num_rows)
        runs = batch.column("run_id")
        return pc.if_else(pc.equal(runs, OWN), self._run_id, runs)

    def _as_id(self, name: str, column: str, values: Any) -> Any:
        import pyarrow.compute as pc

        is_mark = column in _MARKS
        if name in _HELD_IDS or not (is_mark or column in (*_CONTACT_IDS, "evidence_id")):
            return values
        kind = int((name, column) in _EVIDENCE_IDS or column == "evidence_mark")
        first = self._work.require_manifest().first_ids[kind]
        shift = self._marks[kind] + 1 - first
        if not shift:
            return values
        is_new = pc.greater_equal(values, first - is_mark)
        return pc.if_else(is_new, pc.add(values, shift), values)


def _precedences(linked_ids: Any) -> Any:
    import pyarrow.compute as pc

    return pc.if_else(pc.is_null(linked_ids), "primary", "secondary")
