"""How a run went: the document of `--summary` and `--json`, and what is printed of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from identity_cli.graph.run_list import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from identity_cli.errors import IdentityError
    from identity_cli.graph.hubs import Hubs
    from identity_cli.graph.preview import Preview

SCHEMA_VERSION = 1
Status = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One of the first rejected rows: where it is, and why it was rejected."""

    path: str
    line: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunError:
    """What ended a run. `code` is the stable word of the error's class."""

    code: str
    message: str
    hint: str | None

    @classmethod
    def of(cls, error: IdentityError) -> RunError:
        location = getattr(error, "location", None)
        return cls(error.code, f"{location}: {error}" if location else str(error), error.hint)

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """A run of `import` that has ended, however it ended.

    Times are ISO 8601. `rejects` holds the paths of the rejects files that were written.
    `rows` holds the counts that `ROWS` names. `columns` is null until an input was opened.
    `local_phone_numbers` is how many rows had a number without a country code and no region.
    Only a dry run that has finished has a `preview`.
    """

    run_id: int | None
    status: Status
    exit_code: int
    dry_run: bool
    input: tuple[str, ...]
    rows: Mapping[str, int]
    started_at: str
    finished_at: str | None
    seconds: float
    retries: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] | None = None
    local_phone_numbers: int = 0
    hubs: Hubs | None = None
    preview: Preview | None = None
    rejects: tuple[str, ...] = ()
    rejected_by_code: Mapping[str, int] = field(default_factory=dict)
    error: RunError | None = None
    first_rejects: tuple[RejectedRow, ...] = ()

    @property
    def rows_per_second(self) -> float:
        return round(self.rows.get("read", 0) / self.seconds, 1) if self.seconds > 0 else 0.0

    @property
    def has_stored(self) -> bool:
        """Whether the run has left anything in the graph that an undo would take back."""
        stored = ("created", "linked", "merged", "blocked")
        return not self.dry_run and any(self.rows.get(name, 0) for name in stored)

    @property
    def rejects_text(self) -> str | None:
        """How many rows are in the rejects file, and where that is; None if there are none."""
        if not self.rows["rejected"] and not self.rows["partial"]:
            return None
        places = f": see {', '.join(self.rejects)}" if self.rejects else ""
        return f"{describe_rejects(self.rows)}{places}"

    def as_json(self, *, with_values: bool = False) -> dict[str, Any]:
        """Return the document of `--summary`. `rejects` is a path, a list of several, or null.

        The values that many others share are personal data: `with_values` names them.
        """
        rejects = list(self.rejects)
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "status": self.status,
            "exit_code": self.exit_code,
            "dry_run": self.dry_run,
            "input": list(self.input),
            "rows": dict(self.rows),
            "retries": self.retries,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "seconds": round(self.seconds, 3),
            "rows_per_second": self.rows_per_second,
            "options": dict(self.options),
            "columns": None if self.columns is None else dict(self.columns),
            "local_phone_numbers": self.local_phone_numbers,
            "shared_values": None
            if self.hubs is None
            else self.hubs.as_json(with_values=with_values),
            "preview": None if self.preview is None else self.preview.as_json(),
            "rejects": rejects if len(rejects) > 1 else next(iter(rejects), None),
            "rejected_by_code": dict(self.rejected_by_code),
            "error": None if self.error is None else self.error.as_json(),
        }


def describe_rejects(rows: Mapping[str, int]) -> str:
    """Return how many of the rows are in the rejects file."""
    parts = []
    if rows["rejected"] or not rows["partial"]:
        parts.append(f"{rows['rejected']} of {rows['read']} rows were rejected")
    if rows["partial"]:
        of_all = "" if parts else f" of {rows['read']} rows"
        were = "was" if rows["partial"] == 1 else "were"
        parts.append(f"{rows['partial']}{of_all} {were} imported without a bad value")
    return ", ".join(parts)


def refused_report(paths: tuple[str, ...], exit_code: int, error: RunError | None) -> ImportReport:
    """Return the report of a command that was refused before anything was read."""
    now = datetime.now(UTC).isoformat()
    return ImportReport(
        run_id=None,
        status="failed",
        exit_code=exit_code,
        dry_run=False,
        input=paths,
        rows=dict.fromkeys(ROWS, 0),
        started_at=now,
        finished_at=now,
        seconds=0.0,
        error=error,
    )
