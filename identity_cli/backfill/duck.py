"""The plan on DuckDB, in a database file of the work directory; needs the extra `backfill`.

Each statement is one transaction, which also notes that it is done. A computation that was killed
repeats the statement that was being run, and no other.
"""

from __future__ import annotations

from array import array
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from identity_cli.backfill import plan
from identity_cli.backfill.columns import column, in_order, integers
from identity_cli.backfill.database import (
    NO_BAR,
    inputs,
    interruptibly,
    make_table,
    opened,
    order_preserved,
)
from identity_cli.backfill.files import (
    counts_path,
    plan_for,
    replaced,
    result_path,
    write_counts,
)
from identity_cli.backfill.hubs import LIMITED
from identity_cli.backfill.replay import replay, settle
from identity_cli.backfill.splits.computation import split
from identity_cli.meter import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    import duckdb

    from identity_cli.backfill.plan import Part, Statement
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter

_BATCH_EVENTS = 1 << 17
# Ids rise, and values occur once: differences are small, and a dictionary would only take time.
_RESULT_FORMAT = "FORMAT parquet, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 1"


def compute(
    work: Path,
    parts: Sequence[Part],
    *,
    first_contact_id: int,
    first_evidence_id: int,
    memory: str,
    threads: int | None,
    switch: StopSwitch,
    meter: Meter = SILENT,
) -> None:
    """Compute the rows that the requests add to the target, as files in `work/result`.

    What the target holds is in `work/held`; if it is empty, there are no such files. `memory` is
    what DuckDB may use, as in `4GB`; the replay takes 8 bytes for each contact besides. The same
    call resumes a computation that was interrupted, and starts over if its input has changed.
    `counts.json` is written last: the result is complete if it exists.

    Raises `StopRequestedError`, `OutputError`, and `UsageError` if the memory is not enough.
    """
    # DuckDB gives other meanings to some relative paths, such as ~ and s3:.
    work = work.absolute()
    first_ids = {"first_contact_id": first_contact_id, "first_evidence_id": first_evidence_id}
    with (
        opened(work, parts, first_ids, memory=memory, threads=threads) as connection,
        connection.cursor() as reader,
    ):
        reader.execute(NO_BAR)
        _Computation(connection, reader, work, switch).run(meter)


class _Computation:
    """The steps from the requests to the result."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        reader: duckdb.DuckDBPyConnection,
        work: Path,
        switch: StopSwitch,
    ) -> None:
        self._connection = connection
        # Reads what has been committed while a step writes.
        self._reader = reader
        self._work = work
        self._switch = switch
        self._plan = plan_for(work)

    def run(self, meter: Meter) -> None:
        begin = meter.steps(plan.PHASES)
        begin("requests")
        self._make_all(inputs(self._connection) + self._plan.pairs, meter.part("requests"))
        begin("values")
        self._make_all(self._plan.values, meter.part("values"))
        begin("events")
        self._make_all(self._plan.events, meter.part("events"))
        begin("replay")
        self._step("played", partial(self._replay, meter.part("replay")))
        self._step("settled", self._settle)
        begin("rows")
        self._make_all(self._plan.places, SILENT)
        if self._plan is LIMITED:
            self._step("split", self._split)
        self._write_all(meter.part("rows"))

    def _make_all(self, statements: Sequence[Statement], meter: Meter) -> None:
        meter.expect(len(statements), "steps")
        for statement in statements:
            self._step(statement.table, partial(make_table, statement))
            meter.advance(1)

    def _step(self, name: str, take: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Take a step in a transaction of its own, unless it is done."""
        if self._one("SELECT count(*) FROM done WHERE step = ?", [name]) != (0,):
            return
        self._connection.execute("BEGIN")
        self._interruptibly(take, self._connection)
        self._connection.execute("INSERT INTO done VALUES (?)", [name])
        self._connection.execute("COMMIT")

    def _interruptibly(self, work: Callable[..., object], *arguments: object) -> None:
        self._switch.check()
        interruptibly((self._connection, self._reader), self._switch, work, *arguments)

    def _replay(self, meter: Meter, writer: duckdb.DuckDBPyConnection) -> None:
        (nodes,) = self._one(plan.NODES)
        (events,) = self._one("SELECT count(*) FROM event")
        meter.expect(events, "events")
        parents = array("q", range(nodes + 1))
        writer.execute(
            "CREATE TABLE played (turn BIGINT, new_node BIGINT, primary_node BIGINT,"
            " merged_node BIGINT)"
        )
        with closing(self._read(plan.REPLAYED)) as batches:
            for turns, left_nodes, right_nodes, new_nodes in batches:
                primaries, merged = replay(
                    integers(left_nodes), integers(right_nodes), integers(new_nodes), parents
                )
                _append(writer, "played", [turns, new_nodes, column(primaries), column(merged)])
                meter.advance(len(turns))

    def _settle(self, writer: duckdb.DuckDBPyConnection) -> None:
        (nodes,) = self._one(plan.NODES)
        moved = array("q", bytes(8 * (nodes + 1)))
        writer.execute("CREATE TABLE settled (node BIGINT, turn BIGINT)")
        with closing(self._read(plan.MERGES_BACKWARDS, falling=True)) as batches:
            for turns, primaries, merged in batches:
                last = settle(integers(turns), integers(primaries), integers(merged), moved)
                _append(writer, "settled", [merged, column(last)])

    def _split(self, writer: duckdb.DuckDBPyConnection) -> None:
        split(writer, self._work, self._switch)

    def _read(self, query: str, *, falling: bool = False) -> Generator[list[pa.Array]]:
        with (
            order_preserved(self._reader),
            self._reader.sql(query).to_arrow_reader(_BATCH_EVENTS) as batches,
        ):
            for columns in in_order(batches, falling=falling):
                self._switch.check()
                yield columns

    def _write_all(self, meter: Meter) -> None:
        if counts_path(self._work).exists():
            return
        meter.expect(len(self._plan.results) + 1, "steps")
        for statement in self._plan.results:
            path = result_path(self._work, statement.table)
            if not path.exists():
                self._write(statement, path)
            meter.advance(1)
        created, merged, linked = self._one(self._plan.outcomes)
        (blocked,) = self._one(self._plan.blocked)
        (requests,) = self._one("SELECT requests FROM request_count")
        write_counts(
            self._work, requests, created=created, merged=merged, linked=linked, blocked=blocked
        )
        meter.advance(1)

    def _write(self, statement: Statement, path: Path) -> None:
        with replaced(path) as temporary, order_preserved(self._connection):
            self._interruptibly(
                self._connection.execute,
                f"COPY ({statement.query}) TO ? ({_RESULT_FORMAT})",
                [str(temporary)],
            )

    def _one(self, query: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None  # noqa: S101 - each of these queries returns one row
        return row


def _append(writer: duckdb.DuckDBPyConnection, table: str, columns: list[pa.Array]) -> None:
    names = [str(number) for number in range(len(columns))]
    writer.from_arrow(pa.table(columns, names=names)).insert_into(table)
