"""How a run begins: anew, or as the continuation of an interrupted one with the same content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from identity_cli.importer.checkpoints import Checkpoint
from identity_cli.importer.clock import RunClock
from identity_cli.importer.records import Records
from identity_cli.importer.runs import InputIdentity
from identity_cli.importer.source import STDIN, file_size, fingerprint, is_file
from identity_cli.postgres.clock import ServerClock
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.importer.ledger import Ledger
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.runs import InterruptedRun, RunJournal
    from identity_cli.importer.session import Session
    from identity_cli.importer.windows import WindowReader

_OPTION_NAMES = {
    "input_format": "--input-format",
    "delimiter": "--delimiter",
    "encoding": "--encoding",
    "mapping": "--map",
    "region": "--region",
    "skip_lines": "--skip-lines",
    "header": "--no-header",
    "escape": "--escape",
    "sheet": "--sheet",
    "region_column": "--region-column",
    "key": "--key",
    "null_words": "--null",
    "strict": "--strict",
}


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """Where a run starts: its checkpoint, what it has stored beyond that, and its clock.

    `run_id` is None for a dry run.
    """

    run_id: int | None
    checkpoint: Checkpoint
    records: Records
    clock: RunClock


def identify_inputs(plan: ImportPlan) -> list[InputIdentity]:
    """Return what the inputs are found again by. Files are opened one at a time."""
    return [identify_input(path) for path in plan.paths]


def identify_input(path: str) -> InputIdentity:
    """Return what an input is found again by."""
    return InputIdentity(
        # A name need not be text, a JSON document does.
        path.encode(errors="backslashreplace").decode(),
        file_size(path) if is_file(path) else None,
        fingerprint(path) if is_file(path) else None,
    )


def open_run(
    session: Session,
    journal: RunJournal,
    plan: ImportPlan,
    reader: WindowReader,
    ledger: Ledger,
    say: Callable[[str], None],
) -> OpenedRun:
    """Begin a run, or resume the interrupted one of the same content and options.

    Until it is known which, nothing is written. Raises `InputBusyError`, `OutputError`,
    `DatabaseError`, and `StopRequestedError`.
    """
    clock = ServerClock(session.connection)
    if plan.dry_run:
        with translated():
            session.connection.execute("BEGIN")
        session.use_one_connection()
        ledger.open(0)
        return OpenedRun(None, Checkpoint(first_marks=journal.marks()), Records(), _started(clock))
    journal.lock_inputs()
    interrupted = None if plan.restart else journal.find_interrupted()
    # Another process may be at work on a pipe of the same name: its run is none of ours.
    if interrupted is not None and journal.lock_run(interrupted.run_id):
        checkpoint = interrupted.checkpoint
        reason = _why_not_resumed(interrupted, plan, ledger)
        if reason is None and checkpoint is not None:
            journal.end_workers(interrupted.run_id)
            if reader.skip_to(checkpoint):
                reader.accept()
                say(f"resuming run {interrupted.run_id} after {checkpoint.counts.read} rows")
                journal.resume(interrupted.run_id, reader.first_lines)
                ledger.resume(interrupted.run_id, checkpoint)
                session.add_retries(checkpoint.retries)
                return OpenedRun(
                    interrupted.run_id,
                    checkpoint,
                    journal.records(checkpoint),
                    RunClock(clock, checkpoint.segments),
                )
            reader.start_over()
            reason = f"{_named(plan)} changed since the interrupted run"
        say(f"{reason}; starting over")
        journal.unlock_run(interrupted.run_id)
    run_clock = _started(clock)
    checkpoint = Checkpoint(segments=list(run_clock.segments), first_marks=journal.marks())
    run_id = journal.start(checkpoint)
    ledger.open(run_id)
    return OpenedRun(run_id, checkpoint, Records(), run_clock)


def _started(clock: ServerClock) -> RunClock:
    run_clock = RunClock(clock)
    run_clock.advance(1)
    return run_clock


def _why_not_resumed(interrupted: InterruptedRun, plan: ImportPlan, ledger: Ledger) -> str | None:
    if interrupted.checkpoint is None:
        return "the interrupted run was started by an older release"
    changed = _changed_options(interrupted.options or {}, plan.reading_options())
    if changed:
        return f"the interrupted run was started with other values of {', '.join(changed)}"
    reason = ledger.why_not_resumed(interrupted.run_id, interrupted.checkpoint)
    return None if reason is None else f"the interrupted run cannot be resumed: {reason}"


def _changed_options(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for key, name in _OPTION_NAMES.items() if before.get(key) != now[key]]


def _named(plan: ImportPlan) -> str:
    path = "standard input" if plan.paths[0] == STDIN else plan.paths[0]
    return f"{path} has" if len(plan.paths) == 1 else "the inputs have"
