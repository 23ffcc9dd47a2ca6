"""How `identity import` and `identity backfill` end: limits, summary, metrics, report, signals."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from identity_cli import errors, output
from identity_cli.exit_codes import exit_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from identity_cli.importer.checkpoints import Counts
    from identity_cli.importer.report import ImportReport, RunError
    from identity_cli.importer.stop import StopSwitch


class Ending:
    """Writes the summary and the metrics and prints the report, however the block ends."""

    def __init__(
        self,
        make_report: Callable[[int, RunError | None], ImportReport],
        summary: str | None,
        metrics: str | None,
        *,
        json: bool,
        quiet: bool,
    ) -> None:
        self.make_report = make_report
        self.code = 0
        self.has_begun = False
        self._summary = summary
        self._metrics = metrics
        self._json = json
        self._quiet = quiet

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from identity_cli.importer.report import RunError

        failure = None
        if isinstance(error, errors.IdentityError):
            self.code, failure = exit_code(error), RunError.of(error)
        elif error is not None:
            self.code, failure = 1, RunError("unexpected", type(error).__name__, None)
        report = self.make_report(self.code, failure)
        try:
            self._report(report)
        except errors.IdentityError as failure_to_write:
            code = exit_code(failure_to_write)
            self._save_metrics(replace(report, exit_code=code), has_failed=True)
            raise
        self._save_metrics(report, has_failed=error is not None)

    def _report(self, report: ImportReport) -> None:
        from identity_cli.importer.results import write_summary

        if self._summary is not None:
            write_summary(self._summary, report.as_json(with_values=self._summary != "-"))
        if self.has_begun:
            output.import_report(report, quiet=self._quiet)
        if self._json:
            output.document(report.as_json())

    def _save_metrics(self, report: ImportReport, *, has_failed: bool) -> None:
        if self._metrics is None:
            return
        from identity_cli.output.metrics import import_metrics, save_metrics

        save_metrics(self._metrics, import_metrics(report), has_failed=has_failed)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run that has finished must keep to; a share of rejects is in percent of the rows."""

    rejects: int = 0
    rejects_share: float | None = None
    min_rows: int = 0

    @classmethod
    def parse(cls, max_rejects: str, min_rows: int) -> Limits:
        text = max_rejects.strip()
        try:
            if text.endswith("%"):
                share = float(text.removesuffix("%"))
                if 0 <= share <= 100:
                    return cls(rejects_share=share, min_rows=min_rows)
            elif int(text) >= 0:
                return cls(int(text), min_rows=min_rows)
        except ValueError:
            pass
        raise errors.UsageError(
            f"--max-rejects takes a number of rows or a percentage, not {max_rejects!r}",
            hint="for example --max-rejects 100 or --max-rejects 0.5%",
        )

    def check(self, counts: Counts, rejects_paths: list[str], *, with_hint: bool) -> None:
        """Raise `TooFewRowsError` or `TooManyRejectsError`."""
        from identity_cli.importer.report import describe_rejects

        if counts.read < self.min_rows:
            raise errors.TooFewRowsError(
                f"only {counts.read} rows were read, fewer than --min-rows {self.min_rows}",
                hint="check whether the export that wrote the input was complete"
                if with_hint
                else None,
            )
        allowed = (
            self.rejects if self.rejects_share is None else counts.read * self.rejects_share / 100
        )
        if counts.in_rejects_file > allowed:
            places = f": see {', '.join(rejects_paths)}" if rejects_paths else ""
            raise errors.TooManyRejectsError(
                f"{describe_rejects(asdict(counts))}{places}",
                hint="correct them and import that file, or allow some with --max-rejects"
                if with_hint
                else None,
            )


def result_path(path: str | None, *others: str | None) -> str | None:
    """Return the path to write a result to, None if that would overwrite one of the others."""
    from identity_cli.importer.plan import is_another_file

    if path is not None and not is_another_file(path, *others):
        return None
    return path


def stop_on_signals(switch: StopSwitch) -> list[int]:
    """Let INT and TERM stop the work at the next row; a second one ends the process.

    Returns the list of the signals that were received."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        switch.request()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return received
