"""Runs of `import`: a row each in `import_run`, with the checkpoint to resume from."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from identity_cli.errors import InputBusyError
from identity_cli.graph.moments import read_origin
from identity_cli.importer.checkpoints import Checkpoint
from identity_cli.importer.records import Records, are_unknown, primary_at, read_records
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.normalize import ContactRequest


@dataclass(frozen=True, slots=True)
class InputIdentity:
    """An input by its path, and by its content: a fingerprint, None for a pipe."""

    path: str
    size: int | None
    sha256: str | None


class InterruptedRun(NamedTuple):
    """A run that did not finish; `checkpoint` is None if an older release wrote it."""

    run_id: int
    options: dict[str, Any] | None
    checkpoint: Checkpoint | None


def fingerprint(inputs: Sequence[InputIdentity]) -> str:
    """Return one name for the inputs in their order: by content, pipes by their paths."""
    parts = [one.sha256 or ["pipe", one.path] for one in inputs]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _lock_key(*parts: object) -> int:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class RunJournal:
    """The row of one run, written over a connection that also holds the run's locks.

    The locks belong to the session and are gone with the run, however that ends. `lock_inputs`
    keeps a second import of the same files out. `lock_run` says that the run is alive. Connections
    that do the run's work share a third lock, for which a successor waits, so that no statement of
    a dead run is still at work when it looks at what that run has left behind.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        inputs: list[InputIdentity],
        options: dict[str, Any],
    ) -> None:
        self.connection = connection
        self.run_id: int | None = None
        self._inputs = inputs
        self._options = options
        self._fingerprint = fingerprint(inputs)
        self._stored_inputs = 0

    def lock_inputs(self) -> None:
        """Take the lock of the inputs. Raises `InputBusyError`, which names the other run.

        Pipes are not locked: two that begin alike may differ later, and a request that is
        reconciled twice changes nothing.
        """
        if any(one.sha256 is None for one in self._inputs):
            return
        key = _lock_key("inputs", self._fingerprint)
        if not self._one("SELECT pg_try_advisory_lock(%s)", key):
            other = self._one(
                "SELECT max(id) FROM import_run WHERE fingerprint = %s AND status = 'running'",
                self._fingerprint,
            )
            named = f"run {other}" if other is not None else "another run"
            raise InputBusyError(
                f"the same input is being imported by {named}",
                hint="wait until it ends: identity runs shows how far it is",
            )

    def lock_run(self, run_id: int) -> bool:
        """Take the lock of a run; return False if another process holds it: the run is alive."""
        taken: bool = self._one("SELECT pg_try_advisory_lock(%s)", _run_key(run_id))
        return taken

    def unlock_run(self, run_id: int) -> None:
        """Give the lock of a run back that is not resumed."""
        self._one("SELECT pg_advisory_unlock(%s)", _run_key(run_id))

    def join_workers(self, connection: psycopg.Connection[Any]) -> None:
        """Let a successor of this run wait for the connection."""
        with translated():
            connection.execute(
                "SELECT pg_advisory_lock_shared(%s)", (_lock_key("workers", self.run_id),)
            )

    def end_workers(self, run_id: int) -> None:
        """End what is still at work for a run that is dead, and wait for it.

        Each of its requests is a transaction of its own, so nothing is left half done.
        """
        key = _lock_key("workers", run_id)
        with translated():
            self.connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks JOIN pg_stat_activity"
                " USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 1"
                " AND datname = current_database()"
                " AND (classid::bigint << 32) | objid::bigint = %s AND usename = current_user",
                (key,),
            )
            self.connection.execute("SELECT pg_advisory_lock(%s)", (key,))
            self.connection.execute("SELECT pg_advisory_unlock(%s)", (key,))

    def find_interrupted(self) -> InterruptedRun | None:
        """Return the newest run of these inputs, by content or by path, if it did not finish.

        Of a run that was undone nothing is left to resume.
        """
        with translated():
            row = self.connection.execute(
                "SELECT id, status, options, checkpoint FROM import_run"
                " WHERE status <> 'undone' AND (fingerprint = %s"
                " OR (SELECT jsonb_agg(one -> 'path') FROM jsonb_array_elements(inputs) AS one)"
                " = %s) ORDER BY id DESC LIMIT 1",
                (self._fingerprint, json.dumps([one.path for one in self._inputs])),
            ).fetchone()
        if row is None or row[1] == "finished" or row[3] is None:
            return None
        run_id, _, options, checkpoint = row
        return InterruptedRun(run_id, options, Checkpoint.from_json(checkpoint))

    def start(self, checkpoint: Checkpoint) -> int:
        """Begin a new run; return its id. The checkpoint's marks are set."""
        checkpoint.marks = self.marks()
        self.run_id = self._one("SELECT nextval(pg_get_serial_sequence('import_run', 'id'))")
        self.lock_run(self.run_id)
        self._one(
            "INSERT INTO import_run (id, status, inputs, fingerprint, lock_key, options,"
            " checkpoint, rows, started_at, start_snapshot) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, 'running', %s, %s, %s, %s, %s, %s, clock_timestamp(),"
            " %s::text || ' ' || pg_current_snapshot()) RETURNING id",
            self.run_id,
            self._inputs_json([]),
            self._fingerprint,
            _run_key(self.run_id),
            _json(self._options),
            json.dumps(checkpoint.as_json()),
            json.dumps(asdict(checkpoint.counts)),
            read_origin(self.connection),
        )
        return self.run_id

    def resume(self, run_id: int, first_lines: Sequence[int]) -> None:
        """Continue a run whose lock was taken."""
        self.run_id = run_id
        self._one(
            "UPDATE import_run SET status = 'running', finished_at = NULL, end_snapshot = NULL,"
            " error = NULL, inputs = %s, fingerprint = %s WHERE id = %s RETURNING id",
            self._inputs_json(first_lines),
            self._fingerprint,
            run_id,
        )

    def marks(self) -> tuple[int, int]:
        """Return the last ids given out so far: of contacts, of evidence."""
        with translated():
            rows = self.connection.execute(
                "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(t, 'id')), 0)"
                " FROM unnest(ARRAY['contact', 'link_evidence']) WITH ORDINALITY AS x (t, n)"
                " ORDER BY n"
            ).fetchall()
        return rows[0][0], rows[1][0]

    def stored_checkpoint(self) -> dict[str, Any] | None:
        """Return the checkpoint's document as the database has it; None if the run is not there."""
        with translated():
            row = self.connection.execute(
                "SELECT checkpoint FROM import_run WHERE id = %s", (self.run_id,)
            ).fetchone()
        return None if row is None else row[0]

    def save(self, checkpoint: Checkpoint, first_lines: Sequence[int]) -> None:
        """Store the checkpoint in a synchronous commit: every commit before it is on disk too."""
        self._one(
            "UPDATE import_run SET checkpoint = %s, rows = %s, seconds = %s,"
            " inputs = coalesce(%s, inputs) WHERE id = %s RETURNING id",
            *self._progress(checkpoint, first_lines),
            self.run_id,
        )

    def finish(
        self,
        status: str,
        checkpoint: Checkpoint,
        first_lines: Sequence[int],
        error: dict[str, Any] | None = None,
    ) -> None:
        """Store the last checkpoint of a run that ends, and why it failed if it did."""
        self._one(
            "UPDATE import_run SET checkpoint = %s, rows = %s, seconds = %s,"
            " inputs = coalesce(%s, inputs), status = %s, error = %s,"
            " finished_at = clock_timestamp(), end_snapshot = split_part(start_snapshot, ' ', 1)"
            " || ' ' || pg_current_snapshot() WHERE id = %s RETURNING id",
            *self._progress(checkpoint, first_lines),
            status,
            None if error is None else _json(error),
            self.run_id,
        )

    def fail(self, error: dict[str, Any]) -> None:
        """Mark the run as failed and keep its checkpoint; quiet if the server is gone."""
        with suppress(psycopg.Error):
            self.connection.execute(
                "UPDATE import_run SET status = 'failed', error = %s,"
                " finished_at = clock_timestamp(), end_snapshot = split_part("
                "start_snapshot, ' ', 1) || ' ' || pg_current_snapshot() WHERE id = %s",
                (_json(error), self.run_id),
            )

    def same_rows_as(self, checkpoint: Checkpoint) -> int | None:
        """Return the newest other finished run that has read the same rows in the same way."""
        if not checkpoint.milestones:
            return None
        run_id: int | None = self._one(
            "SELECT max(id) FROM import_run WHERE status = 'finished' AND id < %s"
            " AND checkpoint -> 'milestones' -> -1 = %s",
            self.run_id,
            json.dumps(checkpoint.milestones[-1]),
        )
        return run_id

    def records(self, checkpoint: Checkpoint) -> Records:
        """Return what the run has stored since the checkpoint."""
        assert self.run_id is not None  # noqa: S101 - it is resumed
        with translated():
            return read_records(self.connection, self.run_id, checkpoint.marks)

    def primary_at(self, request: ContactRequest, run_line: int, hubs: Sequence[str]) -> int | None:
        """Return the primary that a request which stored nothing was first answered.

        `hubs` are those of its values that were hubs then.
        """
        assert self.run_id is not None  # noqa: S101 - it is resumed
        values = (*request.emails, *request.phones)
        with translated():
            return primary_at(self.connection, self.run_id, run_line, values, hubs)

    def are_unknown(self, values: Sequence[str]) -> bool:
        """Return whether no contact was ever stored with one of the values."""
        with translated():
            return are_unknown(self.connection, values)

    def _progress(self, checkpoint: Checkpoint, first_lines: Sequence[int]) -> tuple[Any, ...]:
        # A thousand inputs are a long document, which changes only when one of them begins.
        has_begun_another = len(first_lines) != self._stored_inputs
        self._stored_inputs = len(first_lines)
        return (
            json.dumps(checkpoint.as_json()),
            json.dumps(asdict(checkpoint.counts)),
            checkpoint.seconds,
            self._inputs_json(first_lines) if has_begun_another else None,
        )

    def _inputs_json(self, first_lines: Sequence[int]) -> str:
        documents = [asdict(one) for one in self._inputs]
        for document, first_line in zip(documents, first_lines, strict=False):
            document["first_line"] = first_line
        return json.dumps(documents)

    def _one(self, query: str, *values: object) -> Any:
        with translated():
            row = self.connection.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - each of these statements returns one row
        return row[0]


def _json(document: dict[str, Any]) -> str:
    """Return a document for PostgreSQL, which takes no half of a surrogate pair."""
    return re.sub(r"\\(?=ud[89a-f])", r"\\\\", json.dumps(document))


def _run_key(run_id: int) -> int:
    return _lock_key("run", run_id)
