"""How a run ended: what `--summary` and `--json` print."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from identity_cli.importer.checkpoints import Counts

if TYPE_CHECKING:
    from identity_cli.importer.ledger import RejectedRow

RunStatus = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The state of a run at its end, also if it ended with an error.

    `rejects_paths` are the rejects files that were written, `first_rejects` the first few rows in
    them. Times are the server's; `seconds` includes the tries that were interrupted, and
    `rows_per_second` is the rate of this try. `error` is {"code", "message", "hint"} or None.
    """

    run_id: int | None
    status: RunStatus
    exit_code: int
    dry_run: bool
    paths: tuple[str, ...]
    rows: Counts
    rejected_by_code: dict[str, int]
    rejects_paths: tuple[str, ...]
    first_rejects: tuple[RejectedRow, ...]
    retries: int
    options: dict[str, Any]
    started_at: datetime
    finished_at: datetime
    seconds: float
    rows_per_second: float
    error: dict[str, Any] | None = field(default=None)

    @classmethod
    def before_start(
        cls, paths: tuple[str, ...], dry_run: bool, exit_code: int, error: dict[str, Any] | None
    ) -> ImportReport:
        """Return the report of a command that failed before there was anything to do."""
        now = datetime.now(UTC)
        return cls(
            run_id=None,
            status="failed",
            exit_code=exit_code,
            dry_run=dry_run,
            paths=paths,
            rows=Counts(),
            rejected_by_code={},
            rejects_paths=(),
            first_rejects=(),
            retries=0,
            options={},
            started_at=now,
            finished_at=now,
            seconds=0.0,
            rows_per_second=0.0,
            error=error,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the document of `--summary`."""
        rejects: str | list[str] | None = list(self.rejects_paths)
        if len(self.rejects_paths) < 2:
            rejects = self.rejects_paths[0] if self.rejects_paths else None
        return {
            "schema_version": 1,
            "run_id": self.run_id,
            "status": self.status,
            "exit_code": self.exit_code,
            "dry_run": self.dry_run,
            "input": list(self.paths),
            "rows": asdict(self.rows),
            "rejected_by_code": self.rejected_by_code,
            "rejects": rejects,
            "retries": self.retries,
            "options": self.options,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "error": self.error,
        }
