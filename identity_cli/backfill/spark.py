"""The plan on Apache Spark; needs the extra `spark`.

Each statement makes a table of Parquet files on storage that the whole cluster reaches, and a file
in the work directory notes that it is done: a computation that was killed repeats the statement
that was being run, and no other. Nothing but the DataFrame interface of Spark 4 is used, and no
Python runs on the workers, so it does not matter how the session reaches the cluster, nor what is
installed there.
"""

from __future__ import annotations

from array import array
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from identity_cli.backfill import plan
from identity_cli.backfill.columns import column, in_order, integers
from identity_cli.backfill.files import (
    HELD_CONTACTS,
    HELD_EVIDENCE,
    HELD_RULES,
    counts_path,
    drop_result,
    fingerprint,
    plan_for,
    replaced,
    result_path,
    write_counts,
)
from identity_cli.backfill.journal import Journal
from identity_cli.backfill.plan import Statement
from identity_cli.backfill.replay import replay, settle
from identity_cli.backfill.rules import RULED
from identity_cli.backfill.session import translated
from identity_cli.backfill.tables import ROWS_SENT, Tables
from identity_cli.meter import SILENT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from identity_cli.backfill.plan import Part
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter

TABLES = "spark"
JOURNAL = "spark.json"
LOG = "spark.log"

# Tables that are read in order are kept in slices: of about a million lines, or of a million ids.
_SLICE_OF_TURN = "floor(turn / 1073741824)"
_SLICE_OF_ID = "floor(id / 1048576)"

_REQUEST = "line BIGINT, emails ARRAY<STRING>, phones ARRAY<STRING>"
_HELD_CONTACT = (
    "id BIGINT, email STRING, phone_number STRING, linked_id BIGINT, anchors_email BOOLEAN,"
    " anchors_phone BOOLEAN, created_at BIGINT"
)
_HELD_EVIDENCE = "value STRING, other_value STRING"
_RULES = {
    "blocked": "value STRING",
    "matched": "value STRING, pattern_id BIGINT",
    "unlinked": "value STRING, other_value STRING",
    "placeholder": "id BIGINT, value STRING",
    "aside": "email STRING, phone_number STRING",
}
_PLAYED = "turn BIGINT, new_node BIGINT, primary_node BIGINT, merged_node BIGINT, slice BIGINT"
_PLAYED_NAMES = ["turn", "new_node", "primary_node", "merged_node"]
_EVENT = ["turn", "left_node", "right_node", "new_node"]
_MERGE = ["turn", "primary_node", "merged_node"]
_SETTLED = "node BIGINT, turn BIGINT"

_LONE = """
    SELECT line, get(emails, 0) AS email, get(phones, 0) AS phone FROM request
    WHERE size(emails) <= 1 AND size(phones) <= 1
"""
_LISTING = """
    SELECT line, 'email' AS kind, CAST(position + 1 AS BIGINT) AS place, value,
           CAST(size(emails) AS BIGINT) AS emails, CAST(size(phones) AS BIGINT) AS phones
    FROM request LATERAL VIEW posexplode(emails) AS position, value
    WHERE size(emails) > 1 OR size(phones) > 1
    UNION ALL
    SELECT line, 'phone', CAST(position + 1 AS BIGINT), value,
           CAST(size(emails) AS BIGINT), CAST(size(phones) AS BIGINT)
    FROM request LATERAL VIEW posexplode(phones) AS position, value
    WHERE size(emails) > 1 OR size(phones) > 1
"""
_HELD = Statement(
    "held",
    """
    WITH aged AS (
        SELECT CAST(row_number() OVER (ORDER BY created_at, id) AS BIGINT) AS node, id, linked_id,
               email, phone_number AS phone, anchors_email, anchors_phone
        FROM held_contact
    )
    SELECT a.node, coalesce(p.node, a.node) AS root, a.id, a.email, a.phone,
           a.anchors_email, a.anchors_phone
    FROM aged AS a LEFT JOIN aged AS p ON a.linked_id = p.id
    """,
    last_use_of=("held_contact",),
)
_TARGET = """
    SELECT count(*) AS held, CAST({first_contact_id} AS BIGINT) AS first_contact_id,
           CAST({first_evidence_id} AS BIGINT) AS first_evidence_id
    FROM held
"""


def compute(
    spark: SparkSession,
    work: Path,
    parts: Sequence[Part],
    *,
    first_contact_id: int,
    first_evidence_id: int,
    switch: StopSwitch,
    storage: str | None = None,
    meter: Meter = SILENT,
) -> None:
    """Compute the rows that the requests add to the target, as files in `work/result`.

    The files are those that `duck.compute` writes. `storage` is the URL of a directory that all
    machines of the cluster can write to, for the tables; what is in `work` is sent to the cluster
    then. By default `work` is such a directory itself. The replay takes 8 bytes of this process for
    each contact. The same call resumes a computation that was interrupted, and starts over if its
    input has changed. `counts.json` is written last: the result is complete if it exists.

    Raises `StopRequestedError`, `OutputError`, and `UsageError` if the machines of the cluster do
    not reach the same storage.
    """
    first_ids = {"first_contact_id": first_contact_id, "first_evidence_id": first_evidence_id}
    engine = [_REQUEST, _LONE, _LISTING, _HELD.query, storage or ""]
    journal = Journal(work / JOURNAL, fingerprint(work, parts, first_ids, engine))
    if not journal.is_resumed:
        drop_result(work)
        journal.begin()
    folder = work.absolute() / TABLES if storage is None else None
    with translated(spark, switch):
        # Another computation may use the same storage.
        place = f"file://{folder}" if storage is None else f"{storage.rstrip('/')}/{journal.name}"
        tables = Tables(spark, place, folder, journal, switch)
        _Computation(tables, work, parts, first_ids).run(meter)


class _Computation:
    """The steps from the requests to the result."""

    def __init__(
        self,
        tables: Tables,
        work: Path,
        parts: Sequence[Part],
        first_ids: dict[str, int],
    ) -> None:
        self._tables = tables
        self._spark = tables.spark
        self._work = work
        self._parts = parts
        self._first_ids = first_ids
        self._plan = plan_for(work)

    def run(self, meter: Meter) -> None:
        if not counts_path(self._work).exists():
            self._compute(meter)
        # Tables are personal data, too, and the result is complete without them.
        self._tables.drop_all()

    def _compute(self, meter: Meter) -> None:
        tables = self._tables
        begin = meter.steps(plan.PHASES)
        begin("requests")
        tables.check_storage()
        self._provide()
        self._make_all(self._plan.pairs, meter.part("requests"))
        begin("values")
        self._make_all(self._plan.values, meter.part("values"))
        begin("events")
        self._make_all(self._plan.events, meter.part("events"))
        begin("replay")
        (nodes,) = tables.one(plan.NODES)
        tables.take("played", partial(self._replay, nodes, meter.part("replay")))
        tables.take("settled", partial(self._settle, nodes))
        begin("rows")
        self._make_all(self._plan.places, SILENT)
        self._write_all(meter.part("rows"))

    def _provide(self) -> None:
        """Make what the plan starts from."""
        tables = self._tables
        if tables.folder is not None:
            self._shared_requests().createOrReplaceTempView("request")
        else:
            tables.take(
                "request", lambda: tables.write_here("request", _REQUEST, self._requests_here())
            )
        for view, query in {"lone": _LONE, "listing": _LISTING}.items():
            self._spark.sql(query).createOrReplaceTempView(view)
        for table, columns, rows in (
            ("held_contact", _HELD_CONTACT, _held_contacts(self._work / HELD_CONTACTS)),
            ("held_evidence", _HELD_EVIDENCE, _batches(self._work / HELD_EVIDENCE)),
        ):
            tables.take(table, partial(tables.write_here, table, columns, rows))
        for table, path in HELD_RULES.items() if self._plan is RULED else ():
            rows = _batches(self._work / path)
            tables.take(table, partial(tables.write_here, table, _RULES[table], rows))
        tables.make(_HELD)
        tables.make(Statement("target", _TARGET.format(**self._first_ids)))

    def _shared_requests(self) -> DataFrame:
        """Return the requests from the parts, which the workers reach as this process does."""
        if not self._parts:
            return self._spark.createDataFrame([], _REQUEST)
        names = [part.path.name for part in self._parts]
        if len(set(names)) < len(names):
            raise ValueError("parts of the same name")
        first_lines = pa.table(
            {"name": names, "first_line": pa.array([part.first_line for part in self._parts])}
        )
        self._spark.createDataFrame(first_lines).createOrReplaceTempView("part")
        paths = [f"file://{part.path.absolute()}" for part in self._parts]
        rows = self._spark.read.schema(_REQUEST).parquet(*paths)
        rows.selectExpr("*", "_metadata.file_name AS name").createOrReplaceTempView("part_row")
        return self._spark.sql(
            "SELECT r.line + p.first_line AS line, r.emails, r.phones"
            " FROM part_row AS r JOIN part AS p ON r.name = p.name"
        )

    def _requests_here(self) -> Iterator[tuple[None, pa.Table]]:
        for part in self._parts:
            for _, rows in _batches(part.path):
                lines = pc.add(rows["line"], part.first_line)
                yield None, rows.set_column(0, "line", lines)

    def _make_all(self, statements: Sequence[Statement], meter: Meter) -> None:
        meter.expect(len(statements), "steps")
        for statement in statements:
            self._tables.make(statement, _SLICE_OF_TURN if statement.table == "event" else None)
            meter.advance(1)

    def _replay(self, nodes: int, meter: Meter) -> str:
        (events,) = self._tables.one("SELECT count(*) FROM event")
        meter.expect(events, "events")
        parents = array("q", range(nodes + 1))

        def played() -> Iterator[tuple[int, pa.Table]]:
            pieces = self._tables.in_order("event", "turn")
            for slice_, (turns, left_nodes, right_nodes, new_nodes) in _checked(pieces, _EVENT):
                primaries, merged = replay(
                    integers(left_nodes), integers(right_nodes), integers(new_nodes), parents
                )
                columns = [turns, new_nodes, column(primaries), column(merged)]
                yield slice_, pa.table(columns, names=_PLAYED_NAMES)
                meter.advance(len(turns))

        return self._tables.write_here("played", _PLAYED, played())

    def _settle(self, nodes: int) -> str:
        moved = array("q", bytes(8 * (nodes + 1)))

        def settled() -> Iterator[tuple[None, pa.Table]]:
            merges = self._tables.in_order("played", "turn", where="merged_node > 0", falling=True)
            for _, (turns, primaries, merged) in _checked(merges, _MERGE, falling=True):
                last = settle(integers(turns), integers(primaries), integers(merged), moved)
                yield None, pa.table([merged, column(last)], names=["node", "turn"])

        return self._tables.write_here("settled", _SETTLED, settled())

    def _write_all(self, meter: Meter) -> None:
        meter.expect(len(self._plan.results) + 1, "steps")
        for statement in self._plan.results:
            path = result_path(self._work, statement.table)
            if not path.exists():
                self._tables.make(statement, _SLICE_OF_ID)
                self._fetch(statement.table, path)
            self._tables.drop([statement.table])
            meter.advance(1)
        created, merged, linked = self._tables.one(self._plan.outcomes)
        (blocked,) = self._tables.one(self._plan.blocked)
        requests = sum(pq.read_metadata(part.path).num_rows for part in self._parts)
        write_counts(
            self._work, requests, created=created, merged=merged, linked=linked, blocked=blocked
        )
        meter.advance(1)

    def _fetch(self, table: str, path: Path) -> None:
        """Write the rows of a table to one file here, in the order of their ids."""
        schema = self._tables.schema(table)
        with replaced(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            pieces = self._tables.in_order(table, "id")
            for _, columns in _checked(pieces, schema.names):
                writer.write_table(pa.table(columns, schema.names).cast(schema))


def _batches(path: Path) -> Iterator[tuple[None, pa.Table]]:
    """Yield the rows of a file in batches; there are none if there is no file."""
    if not path.exists():
        return
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_SENT):
            yield None, pa.Table.from_batches([batch])


def _held_contacts(path: Path) -> Iterator[tuple[None, pa.Table]]:
    """Yield what the target holds, with ages as integers, which no time zone changes."""
    for _, rows in _batches(path):
        place = rows.schema.get_field_index("created_at")
        yield None, rows.set_column(place, "created_at", rows["created_at"].cast(pa.int64()))


def _checked(
    pieces: Generator[tuple[int, pa.Table]], names: Sequence[str], *, falling: bool = False
) -> Iterator[tuple[int, list[pa.Array]]]:
    """Yield the columns of pieces, of which the first has to rise, or to fall, throughout."""
    slices: deque[int] = deque()

    def batches() -> Iterator[pa.RecordBatch]:
        for slice_, rows in pieces:
            whole = rows.select(list(names)).combine_chunks().to_batches()
            slices.extend([slice_] * len(whole))
            yield from whole

    for columns in in_order(batches(), falling=falling):
        yield slices.popleft(), columns
