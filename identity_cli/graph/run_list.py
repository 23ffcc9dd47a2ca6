"""The runs of `import` as a reader sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.errors import RunNotFoundError
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg

# The counts of a run.
ROWS = ("read", "created", "linked", "merged", "unchanged", "blocked", "rejected", "partial")


class RejectCount(NamedTuple):
    """How many rows of an input are in its rejects file with a code.

    `path` is None if the run does not know the input: an older release has begun it.
    `rejects_path` is None if no rejects file was written.
    """

    path: str | None
    code: str
    rows: int
    rejects_path: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `import_run`. A run that is not `alive` and still "running" has died.

    `inputs` are documents with `path`, `size` (null for a pipe), `sha256` and `first_line`: the
    number of lines in the inputs before it, which a run line counts on from. `codes`,
    `input_codes` and `rejects_files` are those of its checkpoint.
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
    codes: dict[str, int] | None
    input_codes: dict[str, dict[str, int]] | None
    rejects_files: dict[str, tuple[str, int]] | None

    @property
    def paths(self) -> list[str]:
        return [one["path"] for one in self.inputs]

    @property
    def state(self) -> str:
        return "died" if self.status == "running" and not self.alive else self.status

    @property
    def rows_per_second(self) -> float:
        return round(self.rows["read"] / self.seconds, 1) if self.seconds else 0.0

    @property
    def reject_counts(self) -> list[RejectCount]:
        """The rows in the rejects files by input and code, in the order of the inputs."""
        files = self.rejects_files or {}
        unknown = Counter(self.codes or {})
        counts: list[RejectCount] = []
        for index, path in enumerate(self.paths):
            codes = (self.input_codes or {}).get(str(index), {})
            unknown.subtract(codes)
            if len(self.paths) == 1:  # also those that an older release has counted
                codes, unknown = self.codes or {}, Counter()
            file = files.get(str(index), (None,))[0]
            counts += (RejectCount(path, code, codes[code], file) for code in sorted(codes))
        counts += (RejectCount(None, code, n, None) for code, n in sorted((+unknown).items()))
        return counts


_RUNS = """
    SELECT id, status, inputs, options, rows, seconds, started_at, finished_at, error,
           EXISTS (SELECT FROM pg_locks
                   WHERE locktype = 'advisory' AND granted AND objsubid = 1
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                     AND (classid::bigint << 32) | objid::bigint = lock_key),
           checkpoint -> 'codes', checkpoint -> 'input_codes', checkpoint -> 'rejects'
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
    run = Run(*row)
    # Older releases counted fewer outcomes.
    return replace(run, rows={**dict.fromkeys(ROWS, 0), **run.rows})
