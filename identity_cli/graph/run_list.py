"""The runs of `import` as a reader sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from identity_cli.errors import RunNotFoundError
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `import_run`. A run that is not `alive` and still "running" has died.

    `inputs` are documents with `path`, `size` (null for a pipe), `sha256` and `first_line`: the
    number of lines in the inputs before it, which a run line counts on from.
    """

    id: int
    status: str
    inputs: list[dict[str, Any]]
    options: dict[str, Any] | None
    rows: dict[str, int]
    seconds: float
    started_at: datetime
    finished_at: datetime | None
    error: dict[str, Any] | None
    alive: bool

    @property
    def paths(self) -> list[str]:
        return [one["path"] for one in self.inputs]

    @property
    def state(self) -> str:
        return "died" if self.status == "running" and not self.alive else self.status

    @property
    def rows_per_second(self) -> float:
        return round(self.rows["read"] / self.seconds, 1) if self.seconds else 0.0


_RUNS = """
    SELECT id, status, inputs, options, rows, seconds, started_at, finished_at, error,
           EXISTS (SELECT FROM pg_locks
                   WHERE locktype = 'advisory' AND granted AND objsubid = 1
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND (classid::bigint << 32) | objid::bigint = lock_key)
    FROM import_run
"""


def list_runs(connection: psycopg.Connection[Any], *, limit: int) -> list[Run]:
    """Return the newest runs, newest first."""
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
    return Run(*row)
