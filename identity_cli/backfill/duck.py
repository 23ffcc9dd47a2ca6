"""The plan on DuckDB, in a database file of the work directory; needs the extra `backfill`.

Each statement is one transaction, which also notes that it is done. A computation that was killed
repeats the statement that was being run, and no other.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from identity_cli.backfill import plan
from identity_cli.backfill.plan import Statement
from identity_cli.backfill.replay import replay, settle
from identity_cli.errors import OutputError, UsageError
from identity_cli.files import writing
from identity_cli.importer.stop import StopRequestedError
from identity_cli.meter import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from identity_cli.backfill.plan import Part
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter

DATABASE = "compute.duckdb"
HELD_CONTACTS = Path("held", "contact.parquet")
HELD_EVIDENCE = Path("held", "link_evidence.parquet")
RESULT = "result"
COUNTS = "counts.json"

_BATCH_EVENTS = 1 << 17
# Phases, by their share of the time.
_PHASES = {"requests": 20, "values": 30, "events": 20, "replay": 15, "rows": 15}

_NO_REQUESTS = """
    SELECT CAST(NULL AS BIGINT) AS line, CAST(NULL AS VARCHAR[]) AS emails,
           CAST(NULL AS VARCHAR[]) AS phones WHERE false
"""
_REQUESTS = """
    SELECT p.first_line + r.line AS line, r.emails, r.phones
    FROM read_parquet(getvariable('parts'), filename = true) AS r
        JOIN part AS p ON r.filename = p.path
"""
_LONE = """
    SELECT line, emails[1] AS email, phones[1] AS phone FROM request
    WHERE len(emails) <= 1 AND len(phones) <= 1
"""
_LISTING = """
    SELECT line, 'email' AS kind, generate_subscripts(emails, 1) AS place, unnest(emails) AS value,
           len(emails) AS emails, len(phones) AS phones
    FROM request WHERE len(emails) > 1 OR len(phones) > 1
    UNION ALL
    SELECT line, 'phone', generate_subscripts(phones, 1), unnest(phones), len(emails), len(phones)
    FROM request WHERE len(emails) > 1 OR len(phones) > 1
"""
_NONE_HELD = """
    SELECT CAST(NULL AS BIGINT) AS node, CAST(NULL AS BIGINT) AS root, CAST(NULL AS BIGINT) AS id,
           CAST(NULL AS VARCHAR) AS email, CAST(NULL AS VARCHAR) AS phone,
           false AS anchors_email, false AS anchors_phone WHERE false
"""
_HELD = """
    WITH aged AS MATERIALIZED (
        SELECT row_number() OVER (ORDER BY created_at, id) AS node, id, linked_id, email,
               phone_number AS phone, anchors_email, anchors_phone
        FROM read_parquet(getvariable('held_contacts'))
    )
    SELECT a.node, coalesce(p.node, a.node) AS root, a.id, a.email, a.phone,
           a.anchors_email, a.anchors_phone
    FROM aged AS a LEFT JOIN aged AS p ON a.linked_id = p.id
"""
_NO_EVIDENCE_HELD = """
    SELECT CAST(NULL AS VARCHAR) AS value, CAST(NULL AS VARCHAR) AS other_value WHERE false
"""
_HELD_EVIDENCE = "SELECT value, other_value FROM read_parquet(getvariable('held_evidence'))"
_TARGET = """
    SELECT count(*) AS held, CAST(getvariable('first_contact_id') AS BIGINT) AS first_contact_id,
           CAST(getvariable('first_evidence_id') AS BIGINT) AS first_evidence_id
    FROM held
"""


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
    first_ids = {"first_contact_id": first_contact_id, "first_evidence_id": first_evidence_id}
    with _translated(work, memory, switch):
        connection = _open(work, _fingerprint(work, parts, first_ids), memory, threads)
        try:
            _provide(connection, work, parts, first_ids)
            _Computation(connection, work, switch).run(meter)
        finally:
            connection.close()


class _Computation:
    """The steps from the requests to the result."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, work: Path, switch: StopSwitch
    ) -> None:
        self._connection = connection
        self._result = work / RESULT
        self._switch = switch

    def run(self, meter: Meter) -> None:
        begin = meter.steps(_PHASES)
        begin("requests")
        inputs = (
            Statement("request_count", "SELECT count(*) AS requests FROM request"),
            Statement("held", _HELD if self._is_set("held_contacts") else _NONE_HELD),
            Statement(
                "held_evidence",
                _HELD_EVIDENCE if self._is_set("held_evidence") else _NO_EVIDENCE_HELD,
            ),
            Statement("target", _TARGET),
        )
        self._make_all(inputs + plan.PAIRS, meter.part("requests"))
        begin("values")
        self._make_all(plan.VALUES, meter.part("values"))
        begin("events")
        self._make_all(plan.EVENTS, meter.part("events"))
        begin("replay")
        self._step("played", partial(self._replay, meter.part("replay")))
        self._step("settled", self._settle)
        begin("rows")
        self._make_all(plan.PLACES, SILENT)
        self._write_all(meter.part("rows"))

    def _is_set(self, variable: str) -> bool:
        return self._one("SELECT getvariable(?) IS NOT NULL", [variable])[0] is True

    def _make_all(self, statements: Sequence[Statement], meter: Meter) -> None:
        meter.expect(len(statements), "steps")
        for statement in statements:
            self._step(statement.table, partial(_make, statement))
            meter.advance(1)

    def _step(self, name: str, take: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Take a step in a transaction of its own, unless it is done."""
        if self._one("SELECT count(*) FROM done WHERE step = ?", [name]) != (0,):
            return
        self._switch.check()
        self._connection.execute("BEGIN")
        take(self._connection)
        self._connection.execute("INSERT INTO done VALUES (?)", [name])
        self._connection.execute("COMMIT")

    def _replay(self, meter: Meter, writer: duckdb.DuckDBPyConnection) -> None:
        (nodes,) = self._one(plan.NODES)
        (events,) = self._one("SELECT count(*) FROM event")
        meter.expect(events, "events")
        parents = array("q", range(nodes + 1))
        writer.execute(
            "CREATE TABLE played (turn BIGINT, new_node BIGINT, primary_node BIGINT,"
            " merged_node BIGINT)"
        )
        with closing(self._ordered(plan.REPLAYED)) as batches:
            for turns, left_nodes, right_nodes, new_nodes in batches:
                primaries, merged = replay(
                    _integers(left_nodes), _integers(right_nodes), _integers(new_nodes), parents
                )
                _append(writer, "played", [turns, new_nodes, _column(primaries), _column(merged)])
                meter.advance(len(turns))

    def _settle(self, writer: duckdb.DuckDBPyConnection) -> None:
        (nodes,) = self._one(plan.NODES)
        moved = array("q", bytes(8 * (nodes + 1)))
        writer.execute("CREATE TABLE settled (node BIGINT, turn BIGINT)")
        with closing(self._ordered(plan.MERGES_BACKWARDS, falling=True)) as batches:
            for turns, primaries, merged in batches:
                last = settle(_integers(turns), _integers(primaries), _integers(merged), moved)
                _append(writer, "settled", [merged, _column(last)])

    def _ordered(self, query: str, *, falling: bool = False) -> Generator[list[pa.Array]]:
        """Yield the columns of batches; the first column has to rise, or to fall."""
        with self._connection.cursor() as reader:
            in_order = pc.greater if falling else pc.less
            last = None
            # The rows of a batch are in order, but the batches need not be if DuckDB is free to
            # hand them out as they come.
            with _order_preserved(reader):
                for batch in reader.sql(query).to_arrow_reader(_BATCH_EVENTS):
                    self._switch.check()
                    first = batch.column(0)
                    follows = last is None or in_order(last, first[0]).as_py()
                    if not follows or pc.all(in_order(first[:-1], first[1:])).as_py() is False:
                        raise RuntimeError("DuckDB has returned rows out of order")
                    last = first[-1]
                    yield batch.columns

    def _write_all(self, meter: Meter) -> None:
        if (self._result / COUNTS).exists():
            return
        meter.expect(len(plan.RESULTS) + 1, "steps")
        with writing(str(self._result)):
            self._result.mkdir(exist_ok=True)
        for statement in plan.RESULTS:
            path = self._result / f"{statement.table}.parquet"
            if not path.exists():
                self._switch.check()
                self._write(statement, path)
            meter.advance(1)
        created, merged, linked = self._one(plan.OUTCOMES)
        (requests,) = self._one("SELECT requests FROM request_count")
        counts = {
            "created": created,
            "linked": linked,
            "merged": merged,
            "unchanged": requests - created - linked - merged,
        }
        with _replaced(self._result / COUNTS) as temporary:
            temporary.write_text(json.dumps(counts), encoding="utf-8")
        meter.advance(1)

    def _write(self, statement: Statement, path: Path) -> None:
        with _replaced(path) as temporary, _order_preserved(self._connection):
            self._connection.execute(
                f"COPY ({statement.query}) TO ? (FORMAT parquet)", [str(temporary)]
            )

    def _one(self, query: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None  # noqa: S101 - each of these queries returns one row
        return row


def _make(statement: Statement, writer: duckdb.DuckDBPyConnection) -> None:
    writer.execute(f"CREATE TABLE {statement.table} AS {statement.query}")
    for table in statement.last_use_of:
        writer.execute(f"DROP TABLE {table}")


def _open(
    work: Path, fingerprint: str, memory: str, threads: int | None
) -> duckdb.DuckDBPyConnection:
    """Open the database of the work directory, an empty one if it was made of another input."""
    connection = _connect(work, memory, threads)
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS input (fingerprint VARCHAR)")
        connection.execute("CREATE TABLE IF NOT EXISTS done (step VARCHAR)")
        found = connection.execute("SELECT fingerprint FROM input").fetchall()
    except BaseException:
        connection.close()
        raise
    if found == [(fingerprint,)]:
        return connection
    # The results first: without them, what is left is not taken for a complete computation.
    with writing(str(work)):
        for name in (COUNTS, *(f"{statement.table}.parquet" for statement in plan.RESULTS)):
            (work / RESULT / name).unlink(missing_ok=True)
    if found:
        connection.close()
        with writing(str(work)):
            for name in (f"{DATABASE}.wal", DATABASE):
                (work / name).unlink(missing_ok=True)
        return _open(work, fingerprint, memory, threads)
    connection.execute("INSERT INTO input VALUES (?)", [fingerprint])
    return connection


def _connect(work: Path, memory: str, threads: int | None) -> duckdb.DuckDBPyConnection:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "temp_directory": str(work / "spill"),
        "preserve_insertion_order": False,
        # Nothing is fetched: what the plan uses is built in.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        settings["threads"] = threads
    return duckdb.connect(work / DATABASE, config=settings)


def _fingerprint(work: Path, parts: Sequence[Part], first_ids: dict[str, int]) -> str:
    """Return a text that differs if another result were to be computed, or in another way."""
    files: list[tuple[str, int, int, int]] = []
    held = [(path, 0) for path in (work / HELD_CONTACTS, work / HELD_EVIDENCE) if path.exists()]
    for path, first_line in [*((part.path, part.first_line) for part in parts), *held]:
        status = path.stat()
        name = os.path.relpath(path, work)
        files.append((name, first_line, status.st_size, status.st_mtime_ns))
    phases = (plan.PAIRS, plan.VALUES, plan.EVENTS, plan.PLACES, plan.RESULTS)
    queries = [statement.query for phase in phases for statement in phase]
    told = json.dumps([files, first_ids, queries, _REQUESTS, _LONE, _LISTING, _HELD])
    return hashlib.sha256(told.encode()).hexdigest()


def _provide(
    connection: duckdb.DuckDBPyConnection,
    work: Path,
    parts: Sequence[Part],
    first_ids: dict[str, int],
) -> None:
    """Make the views that the plan starts from. They last as long as the connection."""
    variables: dict[str, Any] = {**first_ids, "parts": [str(part.path) for part in parts]}
    for name, path in {"held_contacts": HELD_CONTACTS, "held_evidence": HELD_EVIDENCE}.items():
        variables[name] = str(work / path) if (work / path).exists() else None
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = ?", [value])
    connection.execute("CREATE TEMP TABLE part (path VARCHAR, first_line BIGINT)")
    if parts:
        connection.executemany(
            "INSERT INTO part VALUES (?, ?)", [(str(part.path), part.first_line) for part in parts]
        )
    requests = _REQUESTS if parts else _NO_REQUESTS
    for view, query in {"request": requests, "lone": _LONE, "listing": _LISTING}.items():
        connection.execute(f"CREATE TEMP VIEW {view} AS {query}")


@contextmanager
def _translated(work: Path, memory: str, switch: StopSwitch) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UsageError(
            f"the backfill does not fit in {memory} of memory and the room of {work}",
            hint="pass a larger --memory, or make room on that disk; the same command resumes",
        ) from error
    except (duckdb.IOException, duckdb.FatalException) as error:
        problem = str(error).partition("\n")[0][:200]
        raise OutputError(
            f"cannot use {work}: {problem}",
            hint="check that its disk has room; the same command resumes",
        ) from error
    except RuntimeError as error:
        # What DuckDB raises after a signal, whatever the handler has raised.
        if type(error) is RuntimeError and switch.requested:
            raise StopRequestedError from error
        raise


@contextmanager
def _order_preserved(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let DuckDB return rows in the order of the query; otherwise it may not, to save memory."""
    connection.execute("SET preserve_insertion_order = true")
    try:
        yield
    finally:
        connection.execute("SET preserve_insertion_order = false")


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Take what is written to a temporary file as the file, once it is complete and on disk."""
    temporary = path.with_name(f".{path.name}")
    with writing(str(path)):
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def _integers(column: pa.Array) -> memoryview[int]:
    """Return a view of integers, none of which is null."""
    _, values = column.buffers()
    integers = memoryview(values).cast("B").cast("q")
    return integers[column.offset : column.offset + len(column)]


def _column(integers: array[int]) -> pa.Array:
    """Return integers as a column, without a copy."""
    return pa.Array.from_buffers(pa.int64(), len(integers), [None, pa.py_buffer(integers)])


def _append(writer: duckdb.DuckDBPyConnection, table: str, columns: list[pa.Array]) -> None:
    names = [str(number) for number in range(len(columns))]
    writer.from_arrow(pa.table(columns, names=names)).insert_into(table)
