"""The command that takes back the newest import run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg

from identity_cli.errors import RunBusyError, RunNotFoundError, UsageError
from identity_cli.graph.steering import CommandLog, Effect
from identity_cli.postgres import sqlstates

_END_OF_IDS = 2**63
# A server notices a moment later that the connections of a run have ended.
_SECONDS = 2.0
_RUN = "SELECT status, inputs, lock_key FROM import_run WHERE id = %s"
_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
_NEWEST = "SELECT max(id) FROM import_run WHERE status <> 'undone'"


@dataclass(frozen=True, slots=True)
class Undo:
    """Take back a run: what it alone has stated goes, what others have stated too is kept."""

    run_id: int
    reason: str | None = None
    name: str = "undo"

    def run(self, log: CommandLog) -> Effect:
        """Raise `RunNotFoundError`, `RunBusyError`, or `UsageError` if it is not the newest."""
        found = log.rows(_RUN, self.run_id) if self.run_id < _END_OF_IDS else []
        if not found:
            raise RunNotFoundError(f"no run {self.run_id}")
        [(status, inputs, lock_key)] = found
        if status == "undone":
            raise UsageError(f"run {self.run_id} is undone already", hint=_newest_hint(log))
        [(newest,)] = log.rows(_NEWEST)
        if newest != self.run_id:
            raise UsageError(
                f"run {self.run_id} is not the newest run that is not undone",
                hint=_newest_hint(log),
            )
        self._wait_for_end(log, lock_key)
        command = log.enter("undo", reason=self.reason, run_id=self.run_id)
        try:
            log.rows("SELECT undo_run(%s, %s)", self.run_id, command)
        except psycopg.Error as error:
            if error.sqlstate == sqlstates.NOT_THE_NEWEST_RUN:  # another run has just begun
                raise UsageError(
                    f"run {self.run_id} is not the newest run that is not undone",
                    hint="identity runs lists the runs",
                ) from error
            raise
        return Effect(details={"run_id": self.run_id, "input": [one["path"] for one in inputs]})

    def _wait_for_end(self, log: CommandLog, lock_key: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while log.rows(_LOCK, lock_key) != [(True,)]:
            if time.monotonic() > deadline:
                raise RunBusyError(f"run {self.run_id} is at work")
            time.sleep(0.02)


def _newest_hint(log: CommandLog) -> str:
    [(newest,)] = log.rows(_NEWEST)
    if newest is None:
        return "no run is left to undo"
    return f"the newest is run {newest}: identity undo {newest}"
