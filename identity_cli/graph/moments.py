"""Moments of the past: a run's end, a time, or what an export saw, which its token names.

A token holds a snapshot of PostgreSQL: which transactions had ended. It is exact however many
connections write, where a time, an id or `updated_at` would miss what is committed later. It is
good for the database that it comes from: a copy numbers its transactions anew.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.errors import MomentUnknownError, RunNotFoundError, UsageError

if TYPE_CHECKING:
    from typing import LiteralString

    from identity_cli.postgres.snapshot import Snapshot

_PREFIX = "since"
# Ages of transactions are compared as 32 bit numbers; nothing is older than this one.
_AGE_MAX = 2**31 - 1
# So many transactions later, ages have wrapped around.
_WRAPPED = _AGE_MAX
_POLL_SECONDS = 0.02

# What numbers transactions: the server, its history, the database and the table. A restored backup
# has another one.
_ORIGIN = """
    SELECT concat_ws('-', (SELECT system_identifier FROM pg_control_system()),
                     (SELECT timeline_id FROM pg_control_checkpoint()),
                     (SELECT oid FROM pg_database WHERE datname = current_database()),
                     'contact'::regclass::oid)
"""
# A standby does not know which transactions are at work: all that are not older than the oldest of
# them count as such.
_SNAPSHOT = """
    SELECT CASE WHEN pg_is_in_recovery()
                THEN concat(pg_snapshot_xmin(now), ':', pg_snapshot_xmin(now), ':')
                ELSE now::text END
    FROM pg_current_snapshot() AS now
"""
_AGES = """
    SELECT age(pg_snapshot_xmin(was)::xid), age(pg_snapshot_xmax(was)::xid),
           (pg_snapshot_xmax(pg_current_snapshot())::text::bigint
            - pg_snapshot_xmin(was)::text::bigint)
    FROM (SELECT %s::pg_snapshot) AS past (was)
"""
_LAST_WRITTEN = """
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END
"""
_IS_ON_DISK = "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn"
_WRITER_PAUSE = "SELECT setting::bigint / 1000.0 FROM pg_settings WHERE name = 'wal_writer_delay'"
# What has changed is new to the statistics, and a plan for few rows compares each with each.
_PLANNING = "SET LOCAL enable_nestloop = off"
_RUN = "SELECT status, finished_at, end_snapshot FROM import_run WHERE id = %s"
_LAST_BEFORE = """
    SELECT split_part(recorded, ' ', 2)
    FROM (SELECT started_at AS at, start_snapshot AS recorded FROM import_run
          UNION ALL SELECT finished_at, end_snapshot FROM import_run) AS run
    WHERE at <= %s AND split_part(recorded, ' ', 1) = %s
    ORDER BY at DESC LIMIT 1
"""
_token = re.compile(rf"{_PREFIX}:([0-9a-f]{{8}}):([0-9-]+):([0-9]+:[0-9]+:[0-9,]*)").fullmatch


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment: a snapshot of PostgreSQL or, without one, the times of what was stored by then.

    Transactions are numbered, and their ages count from the newest one: `age` is that of the oldest
    one that was at work in the snapshot, `next_age` that of the first one after it.
    """

    snapshot: str | None = None
    age: int = 0
    next_age: int = 0
    time: datetime | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of queries about the moment."""
        if self.snapshot is not None:
            return {"snapshot": self.snapshot, "age": self.age, "next_age": self.next_age}
        return {"time": "-infinity" if self.time is None else self.time}


# Nothing was stored by then.
BEGINNING = Moment()


def read_origin(connection: psycopg.Connection[Any]) -> str | None:
    """Return what a snapshot belongs to; None if the server does not say. In autocommit mode."""
    try:
        row = connection.execute(_ORIGIN).fetchone()
    except psycopg.Error:
        return None
    return None if row is None else row[0]


def new_token(graph: Snapshot) -> str:
    """Return the token of what this snapshot sees."""
    return _signed(_value(graph, _ORIGIN), _value(graph, _SNAPSHOT))


def wait_until_on_disk(graph: Snapshot) -> None:
    """Wait until all transactions that this snapshot sees are on disk.

    An import commits asynchronously. If the server crashed before, it would give the numbers of the
    lost transactions to others, which a token of this snapshot would take for known.
    """
    position = _value(graph, _LAST_WRITTEN)
    # What has ended is on disk after three pauses of the server's WAL writer; what is still at work
    # need not be.
    deadline = time.monotonic() + 3 * float(_value(graph, _WRITER_PAUSE)) + 0.1
    while (
        position is not None
        and not _value(graph, _IS_ON_DISK, position)
        and time.monotonic() < deadline
    ):
        time.sleep(_POLL_SECONDS)


def find_moment(graph: Snapshot, text: str) -> Moment:
    """Return the moment that a run's id, a time or a token names.

    A run is its end. If that was recorded by another server (the database was restored from a
    dump), or by an older release, the time of the end is used.

    Raises `UsageError`, `RunNotFoundError`, `MomentUnknownError`.
    """
    graph.connection.execute(_PLANNING)
    if text.isdecimal():
        finished_at, snapshot = _end_of_run(graph, int(text))
        return Moment(time=finished_at) if snapshot is None else _in_snapshot(graph, snapshot)
    if text.startswith(f"{_PREFIX}:"):
        return _of_token(graph, text)
    return Moment(time=_past_time(graph, text))


def find_beginning(graph: Snapshot, text: str | None) -> Moment:
    """Return the moment from which changes are to be found; what came later is never missed.

    None is the beginning. Of a time, that is the last start or end of a run before it: what was
    stored at that time may be committed later. Raises what `find_moment` raises, and
    `MomentUnknownError` also for a run of which the end was not recorded.
    """
    graph.connection.execute(_PLANNING)
    if text is None:
        return BEGINNING
    if text.isdecimal():
        _, snapshot = _end_of_run(graph, int(text))
        if snapshot is None:
            raise MomentUnknownError(
                f"the end of run {int(text)} was recorded by another server or by an older release",
                hint="export everything, and use the token of that export from now on",
            )
        return _in_snapshot(graph, snapshot)
    if text.startswith(f"{_PREFIX}:"):
        return _of_token(graph, text)
    before = (_past_time(graph, text), _value(graph, _ORIGIN))
    row = graph.connection.execute(_LAST_BEFORE, before).fetchone()
    return BEGINNING if row is None else _in_snapshot(graph, row[0])


def check_moment(text: str) -> None:
    """Raise `UsageError` if a text is no run, time or token; whether they exist is not checked."""
    if text.isdecimal():
        return
    if text.startswith(f"{_PREFIX}:"):
        _parts(text)
    else:
        _read_time(text)


def _value(graph: Snapshot, query: LiteralString, *parameters: object) -> Any:
    row = graph.connection.execute(query, parameters).fetchone()
    assert row is not None  # noqa: S101 - each of these queries returns one row
    return row[0]


def _signed(origin: str, snapshot: str) -> str:
    return f"{_PREFIX}:{_digest(origin, snapshot)}:{origin}:{snapshot}"


def _digest(origin: str, snapshot: str) -> str:
    # A token that was cut off would be one of another snapshot.
    return hashlib.sha256(f"{origin} {snapshot}".encode()).hexdigest()[:8]


def _parts(token: str) -> tuple[str, str]:
    parts = _token(token)
    if parts is None or parts[1] != _digest(parts[2], parts[3]):
        raise UsageError(
            "the token is not complete, or was changed",
            hint="pass it as an export has printed it; without it, export everything",
        )
    return parts[2], parts[3]


def _of_token(graph: Snapshot, token: str) -> Moment:
    origin, snapshot = _parts(token)
    if origin != _value(graph, _ORIGIN):
        raise MomentUnknownError(
            "the token comes from another database, or from before this one was restored or"
            " failed over"
        )
    return _in_snapshot(graph, snapshot)


def _in_snapshot(graph: Snapshot, snapshot: str) -> Moment:
    row = graph.connection.execute(_AGES, (snapshot,)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without WHERE returns one row
    age, next_age, transactions = row
    if transactions < 0:
        raise MomentUnknownError(
            "the server has lost what it had stored by then, or is a standby that has not caught up"
        )
    if transactions >= _WRAPPED:
        # Every contact is looked at.
        return Moment(snapshot, _AGE_MAX, 0)
    return Moment(snapshot, age, next_age)


def _end_of_run(graph: Snapshot, run_id: int) -> tuple[datetime, str | None]:
    row = graph.connection.execute(_RUN, (min(run_id, 2**63 - 1),)).fetchone()
    if row is None:
        raise RunNotFoundError(f"no run {run_id}")
    status, finished_at, recorded = row
    if finished_at is None or status == "running":
        raise MomentUnknownError(
            f"run {run_id} has not ended", hint="identity runs lists the runs and their ends"
        )
    origin, _, snapshot = (recorded or "").partition(" ")
    return finished_at, snapshot if origin == _value(graph, _ORIGIN) else None


def _past_time(graph: Snapshot, text: str) -> datetime:
    past = _read_time(text)
    if past > _value(graph, "SELECT statement_timestamp()"):
        raise UsageError(f"{text} is in the future", hint="use a time that has passed")
    return past


def _read_time(text: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        problem = "is no run, time or token" if read is None else "has no time zone"
        raise UsageError(
            f"{text!r} {problem}",
            hint="use the number of a run, a time such as 2026-11-29T18:00Z, or the token of an"
            " export",
        )
    return read
