"""The DuckDB database of a work directory: opened, and the requests in it as views.

It belongs to one input: to the parts, to what the target holds, and to the ids that come next.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from identity_cli.backfill.files import (
    HELD_CONTACTS,
    HELD_EVIDENCE,
    HELD_LIMITS,
    HELD_RULES,
    drop_result,
    fingerprint,
)
from identity_cli.backfill.plan import Statement
from identity_cli.errors import OutputError, UsageError
from identity_cli.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from identity_cli.backfill.plan import Part

DATABASE = "compute.duckdb"
# For each connection: DuckDB would draw a bar on standard output.
NO_BAR = "SET enable_progress_bar = false"

_T = TypeVar("_T")
_SPILL = "spill"

_NO_REQUESTS = """
    SELECT CAST(NULL AS BIGINT) AS line, CAST(NULL AS VARCHAR[]) AS emails,
           CAST(NULL AS VARCHAR[]) AS phones WHERE false
"""
_REQUESTS = """
    SELECT p.first_line + r.line AS line, r.emails, r.phones
    FROM read_parquet(getvariable('parts'), filename = true) AS r
        JOIN part AS p ON r.filename = p.path
"""
# Each part has to be found by the name that DuckDB reports for it.
_COUNT = """
    SELECT CASE WHEN count(*) = getvariable('requests') THEN count(*)
                ELSE CAST(error('the parts were not read as they are') AS BIGINT) END AS requests
    FROM request
"""
_LONE = """
    SELECT line, emails[1] AS email, phones[1] AS phone FROM request
    WHERE len(emails) <= 1 AND len(phones) <= 1
"""
_LISTING = """
    WITH several AS MATERIALIZED (
        SELECT line, emails, phones FROM request WHERE len(emails) > 1 OR len(phones) > 1
    )
    SELECT line, 'email' AS kind, generate_subscripts(emails, 1) AS place, unnest(emails) AS value,
           len(emails) AS emails, len(phones) AS phones
    FROM several
    UNION ALL
    SELECT line, 'phone', generate_subscripts(phones, 1), unnest(phones), len(emails), len(phones)
    FROM several
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
# Of the limits; the other files are read for the identities that are split.
_COUNTED = ("policy", "exempt", "hub", "partners")
_RULES = "SELECT * FROM read_parquet(getvariable('held_{}'))"
_TARGET = """
    SELECT count(*) AS held, CAST(getvariable('first_contact_id') AS BIGINT) AS first_contact_id,
           CAST(getvariable('first_evidence_id') AS BIGINT) AS first_evidence_id
    FROM held
"""


@contextmanager
def opened(
    work: Path,
    parts: Sequence[Part],
    first_ids: Mapping[str, int],
    *,
    memory: str,
    threads: int | None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the database of the work directory, with views of what the plan starts from.

    It is empty, and there is no result, if they come from another input. Raises `OutputError`, and
    `UsageError` if the memory is not enough.
    """
    if "?" in str(work):
        raise UsageError(
            f"{work}: DuckDB takes no path with a question mark",
            hint="pass another work directory",
        )
    identifier = fingerprint(work, parts, first_ids, (_REQUESTS, _LONE, _LISTING, _HELD))
    with _translated(work, memory):
        connection = _open(work, identifier, memory, threads)
        try:
            _provide(connection, work, parts, first_ids)
            yield connection
        finally:
            connection.close()


def inputs(connection: duckdb.DuckDBPyConnection) -> tuple[Statement, ...]:
    """Return the statements that make the other tables that the plan starts from."""
    is_held = connection.execute(
        "SELECT getvariable('held_contacts') IS NOT NULL, getvariable('held_evidence') IS NOT NULL"
    ).fetchone()
    assert is_held is not None  # noqa: S101 - such a query returns one row
    contacts, evidence = is_held
    rules = connection.execute("SELECT getvariable('held_blocked') IS NOT NULL").fetchone()
    limits = connection.execute("SELECT getvariable('held_policy') IS NOT NULL").fetchone()
    return (
        Statement("request_count", _COUNT),
        Statement("held", _HELD if contacts else _NONE_HELD),
        Statement("held_evidence", _HELD_EVIDENCE if evidence else _NO_EVIDENCE_HELD),
        Statement("target", _TARGET),
        *(Statement(name, _RULES.format(name)) for name in HELD_RULES if rules == (True,)),
        *(Statement(name, _RULES.format(name)) for name in _COUNTED if limits == (True,)),
    )


def _open(
    work: Path, identifier: str, memory: str, threads: int | None
) -> duckdb.DuckDBPyConnection:
    """Open the database, an empty one if it was made of another input."""
    spill = work / _SPILL
    connection = connect(work / DATABASE, spill=spill, memory=memory, threads=threads)
    # What a killed computation has left there.
    shutil.rmtree(spill, ignore_errors=True)
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS input (fingerprint VARCHAR)")
        connection.execute("CREATE TABLE IF NOT EXISTS done (step VARCHAR)")
        found = connection.execute("SELECT fingerprint FROM input").fetchall()
    except BaseException:
        connection.close()
        raise
    if found == [(identifier,)]:
        return connection
    drop_result(work)
    if found:
        connection.close()
        with writing(str(work)):
            for name in (f"{DATABASE}.wal", DATABASE):
                (work / name).unlink(missing_ok=True)
        return _open(work, identifier, memory, threads)
    connection.execute("INSERT INTO input VALUES (?)", [identifier])
    return connection


def connect(
    database: Path | str, *, spill: Path | str, memory: str, threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a database that writes to a directory what does not fit into the memory."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "temp_directory": str(spill),
        "preserve_insertion_order": False,
        # Nothing is fetched: what the statements use is built in.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        settings["threads"] = threads
    try:
        connection = duckdb.connect(database, config=settings)
    except duckdb.ParserException as error:
        raise UsageError(
            f"{memory!r} is not an amount of memory", hint="pass one with its unit, such as 4GB"
        ) from error
    connection.execute(NO_BAR)
    return connection


def _provide(
    connection: duckdb.DuckDBPyConnection,
    work: Path,
    parts: Sequence[Part],
    first_ids: Mapping[str, int],
) -> None:
    """Make the views that the plan starts from. They last as long as the connection."""
    variables: dict[str, Any] = {
        **first_ids,
        "parts": [str(part.path.absolute()) for part in parts],
    }
    held = {"held_contacts": HELD_CONTACTS, "held_evidence": HELD_EVIDENCE} | {
        f"held_{name}": path for name, path in (HELD_RULES | HELD_LIMITS).items()
    }
    for name, path in held.items():
        variables[name] = str(work / path) if (work / path).exists() else None
    variables["requests"] = 0
    if parts:
        read = connection.execute(
            "SELECT count(*) FROM read_parquet(?)", [variables["parts"]]
        ).fetchone()
        variables["requests"] = read[0] if read else None
    for name, value in variables.items():
        connection.execute(f"SET VARIABLE {name} = ?", [value])
    connection.execute("CREATE TEMP TABLE part (path VARCHAR, first_line BIGINT)")
    if parts:
        connection.executemany(
            "INSERT INTO part VALUES (?, ?)",
            [(str(part.path.absolute()), part.first_line) for part in parts],
        )
    requests = _REQUESTS if parts else _NO_REQUESTS
    for view, query in {"request": requests, "lone": _LONE, "listing": _LISTING}.items():
        connection.execute(f"CREATE TEMP VIEW {view} AS {query}")


def make_table(statement: Statement, writer: duckdb.DuckDBPyConnection) -> None:
    """Make the table of a statement, and drop those that nothing needs from then on."""
    # Compressing texts takes longer than the table is read for; integers are small work.
    columns = writer.execute(f"DESCRIBE {statement.query}").fetchall()
    has_texts = any(kind == "VARCHAR" for _, kind, *_ in columns)
    writer.execute(f"SET force_compression = '{'uncompressed' if has_texts else 'auto'}'")
    writer.execute(f"CREATE TABLE {statement.table} AS {statement.query}")
    for table in statement.last_use_of:
        writer.execute(f"DROP TABLE {table}")


@contextmanager
def _translated(work: Path, memory: str) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UsageError(
            f"the backfill does not fit in {memory} of memory and the room of {work}",
            hint="pass a larger --memory, or make room on that disk; the same command resumes",
        ) from error
    except (duckdb.IOException, duckdb.FatalException, duckdb.TransactionException) as error:
        problem = str(error).partition("\n")[0][:200]
        raise OutputError(
            f"cannot use {work}: {problem}",
            hint="check that its disk has room and that no other backfill uses it;"
            " the same command resumes",
        ) from error


def interruptibly(
    connections: Sequence[duckdb.DuckDBPyConnection],
    waiting: AbstractContextManager[object],
    work: Callable[..., _T],
    *arguments: object,
) -> _T:
    """Do the work on the connections in a thread: this one has to be free for signals.

    DuckDB does not look for them while it is at work, but it lets another thread interrupt it. What
    is raised in `waiting` ends the work.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work, *arguments)
        try:
            with waiting:
                return future.result()
        finally:
            while not future.done():
                for connection in connections:
                    connection.interrupt()
                wait([future], timeout=0.1)


@contextmanager
def order_preserved(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let DuckDB return rows in the order of the query; otherwise it may not, to save memory."""
    connection.execute("SET preserve_insertion_order = true")
    try:
        yield
    finally:
        connection.execute("SET preserve_insertion_order = false")
