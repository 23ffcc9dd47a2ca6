"""Runs of `import`: a row each in `import_run`, and in it the checkpoint to go on from."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from identity_cli.errors import InputBusyError, RunNotFoundError
from identity_cli.graph.service import Outcome
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# A run that is killed between two checkpoints reads this much time again.
CHECKPOINT_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """Rows by what became of them: read = created + linked + merged + unchanged + rejected."""

    read: int = 0
    created: int = 0
    linked: int = 0
    merged: int = 0
    unchanged: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class InputIdentity:
    """An input recognised by its content: the SHA-256 of its beginning, and its size if known."""

    path: str
    size: int | None
    sha256: str


@dataclass(slots=True)
class Checkpoint:
    """How far a run has come. All before it is on disk: rows, rejects and outcomes.

    `input` is the index of the current input, `rows` how many of its rows are done, `first_line`
    the number of lines in the inputs before it, `position` how far it had been read by then.
    `marks` are ids of contacts and of evidence: what the run stored after this checkpoint has
    larger ones. `clock` is the time of line 0, in microseconds since 1970.
    """

    input: int = 0
    rows: int = 0
    first_line: int = 0
    position: tuple[int, str] = (0, "")
    counts: Counts = field(default_factory=Counts)
    retries: int = 0
    seconds: float = 0.0
    clock: int = 0
    marks: tuple[int, int] = (0, 0)
    rejects: list[int | None] = field(default_factory=list)
    outcomes: int | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Checkpoint:
        known = {**value, "counts": Counts(**value["counts"])}
        known["position"] = tuple(known["position"])
        known["marks"] = tuple(known["marks"])
        return cls(**known)


class Record(NamedTuple):
    """What one line of a run left in the graph."""

    outcome: Outcome
    clock: int


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `import_run`. `alive` tells a run that goes on from one that died."""

    id: int
    status: str
    paths: list[str]
    rows: dict[str, int]
    seconds: float
    started_at: datetime
    finished_at: datetime | None
    alive: bool
    error: dict[str, Any] | None
    inputs: list[dict[str, Any]]

    @property
    def state(self) -> str:
        return "died" if self.status == "running" and not self.alive else self.status

    @property
    def rows_per_second(self) -> float:
        return round(self.rows["read"] / self.seconds, 1) if self.seconds else 0.0


def fingerprint(inputs: Sequence[InputIdentity]) -> str:
    """One name for the content of all inputs, in order."""
    parts = json.dumps([(one.size, one.sha256) for one in inputs])
    return hashlib.sha256(parts.encode()).hexdigest()


class RunJournal:
    """The row of one run, written over a connection that also holds the run's lock.

    The lock is the session's: it is gone with the run, however that ends. A second lock is shared
    by the connections that do the run's work; a successor waits for it, so that no statement of a
    dead run is still at work when it looks at what that run left behind.
    """

    def __init__(self, connection: psycopg.Connection[Any], inputs: list[InputIdentity]) -> None:
        self.connection = connection
        self.inputs = inputs
        self.fingerprint = fingerprint(inputs)
        digest = bytes.fromhex(self.fingerprint)
        self.lock_key = int.from_bytes(digest[:8], "big", signed=True) & ~1
        self.run_id: int | None = None

    @property
    def workers_key(self) -> int:
        return self.lock_key | 1

    def lock(self) -> None:
        """Take the run's lock. Raises `InputBusyError`, naming the other run."""
        if not self._one("SELECT pg_try_advisory_lock(%s)", self.lock_key):
            other = self._one(
                "SELECT max(id) FROM import_run WHERE lock_key = %s AND status = 'running'",
                self.lock_key,
            )
            named = f"run {other}" if other is not None else "another run"
            raise InputBusyError(
                f"the same input is being imported by {named}",
                hint="wait for it: identity runs shows how far it is",
            )

    def join_workers(self, connection: psycopg.Connection[Any]) -> None:
        """Let a successor wait for this connection."""
        with translated():
            connection.execute("SELECT pg_advisory_lock_shared(%s)", (self.workers_key,))

    def wait_for_workers(self) -> None:
        """Wait until no connection works for this input any more."""
        with translated():
            self.connection.execute("SELECT pg_advisory_lock(%s)", (self.workers_key,))
            self.connection.execute("SELECT pg_advisory_unlock(%s)", (self.workers_key,))

    def interrupted(self) -> Checkpoint | None:
        """The checkpoint of this input's last run if that did not finish; becomes this run."""
        with translated():
            row = self.connection.execute(
                "SELECT id, status, checkpoint FROM import_run WHERE fingerprint = %s"
                " ORDER BY id DESC LIMIT 1",
                (self.fingerprint,),
            ).fetchone()
        if row is None or row[1] == "finished" or row[2] is None:
            return None
        self.run_id = row[0]
        return Checkpoint.from_json(row[2])

    def changed_since(self) -> int | None:
        """An unfinished run of a file of the same name and other content, if that is the newest."""
        with translated():
            row = self.connection.execute(
                "SELECT id, status, fingerprint FROM import_run WHERE inputs->0->>'path' = %s"
                " ORDER BY id DESC LIMIT 1",
                (self.inputs[0].path,),
            ).fetchone()
        if row is None or row[1] == "finished" or row[2] == self.fingerprint:
            return None
        return int(row[0])

    def start(self, checkpoint: Checkpoint) -> None:
        """A new run, or the interrupted one goes on."""
        if self.run_id is None:
            checkpoint.marks = self.marks()
            self.run_id = self._one(
                "INSERT INTO import_run (status, inputs, fingerprint, lock_key, checkpoint, rows,"
                " started_at) VALUES ('running', %s, %s, %s, %s, %s, clock_timestamp())"
                " RETURNING id",
                self._inputs_json(),
                self.fingerprint,
                self.lock_key,
                json.dumps(asdict(checkpoint)),
                json.dumps(asdict(checkpoint.counts)),
            )
        else:
            self._one(
                "UPDATE import_run SET status = 'running', finished_at = NULL, inputs = %s"
                " WHERE id = %s RETURNING id",
                self._inputs_json(),
                self.run_id,
            )

    def _inputs_json(self) -> str:
        return json.dumps([asdict(one) for one in self.inputs])

    def marks(self) -> tuple[int, int]:
        """The last ids given out so far: of contacts, of evidence."""
        with translated():
            rows = self.connection.execute(
                "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(t, 'id')), 0)"
                " FROM unnest(ARRAY['contact', 'link_evidence']) WITH ORDINALITY AS x (t, n)"
                " ORDER BY n"
            ).fetchall()
        return rows[0][0], rows[1][0]

    def free_connections(self) -> int:
        """How many more connections the server takes."""
        free: int = self._one(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
            " - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int"
        )
        return free

    def give_up(self) -> None:
        """Mark the run as failed, its checkpoint as it is; quiet when the server is gone."""
        with suppress(psycopg.Error):
            self.connection.execute(
                "UPDATE import_run SET status = 'failed', finished_at = clock_timestamp()"
                " WHERE id = %s",
                (self.run_id,),
            )

    def save(self, checkpoint: Checkpoint) -> None:
        """A synchronous commit: with it, every commit before it is on disk too."""
        self._one(
            "UPDATE import_run SET checkpoint = %s, rows = %s, seconds = %s WHERE id = %s"
            " RETURNING id",
            json.dumps(asdict(checkpoint)),
            json.dumps(asdict(checkpoint.counts)),
            checkpoint.seconds,
            self.run_id,
        )

    def finish(self, status: str, checkpoint: Checkpoint) -> None:
        """The last checkpoint of a run that ends."""
        self._one(
            "UPDATE import_run SET status = %s, finished_at = clock_timestamp(),"
            " checkpoint = %s, rows = %s, seconds = %s WHERE id = %s RETURNING id",
            status,
            json.dumps(asdict(checkpoint)),
            json.dumps(asdict(checkpoint.counts)),
            checkpoint.seconds,
            self.run_id,
        )

    def records(self, checkpoint: Checkpoint) -> dict[int, Record]:
        """What the run has stored since the checkpoint, by line.

        A contact that anchors all that it carries was `created`, another `linked`; evidence with a
        primary that gave way was `merged`.
        """
        with translated():
            rows = self.connection.execute(
                """
                SELECT line,
                       CASE WHEN initial_linked_id IS NULL THEN 'created' ELSE 'linked' END,
                       coalesce(initial_linked_id, id), id,
                       (extract(epoch FROM created_at) * 1000000)::bigint
                FROM contact WHERE run_id = %(run)s AND id > %(contact_mark)s
                UNION ALL
                SELECT line, CASE WHEN merged_id IS NULL THEN 'unchanged' ELSE 'merged' END,
                       primary_id, NULL, (extract(epoch FROM created_at) * 1000000)::bigint
                FROM link_evidence WHERE run_id = %(run)s AND id > %(evidence_mark)s
                """,
                {
                    "run": self.run_id,
                    "contact_mark": checkpoint.marks[0],
                    "evidence_mark": checkpoint.marks[1],
                },
            ).fetchall()
        return {
            line: Record(Outcome(name, primary_id, contact_id), clock - line)
            for line, name, primary_id, contact_id, clock in rows
        }

    def primary_at(self, email: str | None, phone: str | None, line: int) -> int:
        """The primary that a request which stored nothing was answered when it was first made."""
        primary_id: int = self._one(
            "SELECT primary_at(id, %s, %s) FROM contact"
            " WHERE (email = %s AND anchors_email) OR (phone_number = %s AND anchors_phone)"
            " LIMIT 1",
            self.run_id,
            line,
            email,
            phone,
        )
        return primary_id

    def _one(self, query: str, *values: object) -> Any:
        with translated():
            row = self.connection.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - each of these statements returns one row
        return row[0]


_RUNS = """
    SELECT id, status, inputs, rows, seconds, started_at, finished_at,
           EXISTS (SELECT FROM pg_locks
                   WHERE locktype = 'advisory' AND granted AND objsubid = 1
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND (classid::bigint << 32) | objid::bigint = lock_key),
           error
    FROM import_run
"""


def list_runs(connection: psycopg.Connection[Any], *, limit: int) -> list[Run]:
    """The newest runs, newest first."""
    with translated():
        rows = connection.execute(f"{_RUNS} ORDER BY id DESC LIMIT %s", (limit,)).fetchall()
    return [_run(row) for row in rows]


def find_run(connection: psycopg.Connection[Any], run_id: int) -> Run:
    """Return one run. Raises `RunNotFoundError`."""
    with translated():
        row = connection.execute(f"{_RUNS} WHERE id = %s", (run_id,)).fetchone()
    if row is None:
        raise RunNotFoundError(f"no run {run_id}")
    return _run(row)


def _run(row: Sequence[Any]) -> Run:
    run_id, status, inputs, rows, seconds, started_at, finished_at, alive, error = row
    return Run(
        run_id,
        status,
        [source["path"] for source in inputs],
        rows,
        seconds,
        started_at,
        finished_at,
        alive,
        error,
        inputs,
    )
