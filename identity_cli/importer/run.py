"""The import: every row of the inputs through the service, each in a transaction of its own.

The main thread reads and normalises windows of rows; lanes talk to the server meanwhile. Finished
windows go into the ledger in input order, and at least once a second a checkpoint makes them
durable.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from identity_cli.errors import (
    DatabaseUnreachableError,
    IdentityError,
    InputUnreadableError,
)
from identity_cli.graph.preview import take_preview
from identity_cli.graph.profile import check_profile
from identity_cli.importer.checkpoints import Counts
from identity_cli.importer.column_notes import ColumnNotes
from identity_cli.importer.formats import missing_keys
from identity_cli.importer.ledger import Ledger
from identity_cli.importer.opening import OpenedRun, identify_inputs, open_run
from identity_cli.importer.pipeline import Pipeline, Progress
from identity_cli.importer.report import ImportReport, RunError, Status
from identity_cli.importer.runs import RunJournal
from identity_cli.importer.session import Patience, Session
from identity_cli.importer.stop import StopRequestedError, StopSwitch
from identity_cli.importer.windows import WindowReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from identity_cli.graph.hubs import Hubs
    from identity_cli.graph.preview import Preview
    from identity_cli.importer.checkpoints import Checkpoint
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.runs import InputIdentity
    from identity_cli.importer.session import Backend
    from identity_cli.postgres.database import Database

__all__ = ["Importer", "Progress"]


def _ignore(_: object) -> None:
    pass


class Importer:
    """One run of `import`: `run` does it, `report` says how it went, also after an error.

    `say` gets a sentence that the user should know, such as that a run is resumed.
    """

    def __init__(
        self,
        plan: ImportPlan,
        switch: StopSwitch | None = None,
        say: Callable[[str], None] = _ignore,
    ) -> None:
        self.plan = plan
        self.status: Status = "failed"
        self.run_id: int | None = None
        self._say = say
        self._switch = switch or StopSwitch()
        self._ledger = Ledger(plan)
        self._columns = ColumnNotes(plan.paths, say)
        self._hubs: Hubs | None = None
        self._preview: Preview | None = None
        self._retries = 0
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._started_at = datetime.now(UTC)

    @property
    def counts(self) -> Counts:
        return self._ledger.counts

    @property
    def rejects_paths(self) -> list[str]:
        """The rejects files that were written."""
        return self._ledger.rejects_paths

    def report(self, exit_code: int, error: RunError | None = None) -> ImportReport:
        """Return how the run ended."""
        elapsed = time.monotonic() - self._started
        return ImportReport(
            run_id=self.run_id,
            status=self.status,
            exit_code=exit_code,
            dry_run=self.plan.dry_run,
            input=self.plan.paths,
            rows=asdict(self.counts),
            started_at=self._started_at.isoformat(),
            finished_at=(self._started_at + timedelta(seconds=elapsed)).isoformat(),
            seconds=self._seconds_before + elapsed,
            retries=self._retries,
            options=self.plan.reading_options(),
            columns=self._columns.as_json(),
            local_phone_numbers=self._ledger.local_phones,
            hubs=self._hubs,
            preview=self._preview,
            rejects=tuple(self._ledger.rejects_paths),
            rejected_by_code=dict(sorted(self._ledger.codes.items())),
            error=error,
            first_rejects=tuple(self._ledger.first_rejects),
        )

    def run(self, database: Database, show: Callable[[Progress], None] = _ignore) -> None:
        """Import into the database, calling `show` now and then.

        Ends early if the switch asks for it: `status` is "stopped" then. However it ends, the rows
        that were counted are on disk (unless it is a dry run), and the same plan resumes from
        there. Raises `IdentityError`.
        """
        try:
            with ExitStack() as stack:
                stack.callback(self._ledger.close)
                inputs = identify_inputs(self.plan)
                session, journal, opened, reader = self._open(database, stack, inputs, show)
                stack.callback(self._note_retries, session)
                self._import(session, journal, opened, reader, _total(inputs), show)
        except StopRequestedError:
            self.status = "stopped"

    def _open(
        self,
        database: Database,
        stack: ExitStack,
        inputs: list[InputIdentity],
        show: Callable[[Progress], None],
    ) -> tuple[Session, RunJournal, OpenedRun, WindowReader]:
        patience = Patience(self.plan.timeout or 0.0, self._say, self._switch)
        backends: set[Backend] = set()
        asked = self.plan
        reader: WindowReader | None = None
        while True:
            session = Session(database, self.plan, self._switch, self._say, backends)
            # The next try compares it: another writer may have stored a region meanwhile.
            self.plan = replace(asked, region=session.region)
            if reader is None:
                reader = WindowReader(self.plan, self._switch)
                stack.callback(reader.close)
                reader.on_compared = partial(_show_compared, reader, _total(inputs), show)
            try:
                session.end_lost_backends()
                check_profile(session.profile, session.region)
                journal = RunJournal(session.connection, inputs, self.plan.reading_options())
                opened = open_run(session, journal, self.plan, reader, self._ledger, self._say)
            except DatabaseUnreachableError as error:
                session.close()
                patience.wait_after(error)
                reader.start_over()
            except BaseException:
                session.close()
                raise
            else:
                stack.callback(session.close)
                self.run_id = opened.run_id
                self._started_at = opened.clock.started_at
                self._started = time.monotonic()
                self._seconds_before = opened.checkpoint.seconds
                return session, journal, opened, reader

    def _import(
        self,
        session: Session,
        journal: RunJournal,
        opened: OpenedRun,
        reader: WindowReader,
        total: int | None,
        show: Callable[[Progress], None],
    ) -> None:
        pipeline = Pipeline(
            session,
            journal,
            self.plan,
            reader,
            self._ledger,
            opened,
            columns=self._columns,
            switch=self._switch,
            total=total,
            show=show,
        )
        try:
            try:
                try:
                    pipeline.run()
                finally:
                    self._columns.end_input()
                self._check_keys(reader)
            except InputUnreadableError as error:
                pipeline.drain()
                if error.is_midway and not self.plan.dry_run:
                    error.hint = f"{error.hint}; the rows before this place are imported"
                raise
            read = Progress(self.counts, reader.offset, total, phase="shared values")
            show(read)
            self._hubs = pipeline.find_hubs()
            if self.plan.dry_run:
                show(replace(read, phase="preview"))
                self._preview = take_preview(
                    session.connection,
                    pipeline.checkpoint.first_marks,
                    partial(_place, self.plan.paths, reader.first_lines),
                    self._switch.check,
                    with_values=self.plan.with_values,
                )
            pipeline.finish("finished")
            self.status = "finished"
        except StopRequestedError:
            pipeline.stop()
            raise
        except IdentityError as error:
            pipeline.fail(RunError.of(error))
            raise
        except BaseException as error:
            pipeline.fail(RunError("unexpected", type(error).__name__, None))
            raise
        self._compare_with_earlier_runs(journal, pipeline.checkpoint)

    def _check_keys(self, reader: WindowReader) -> None:
        if reader.missing_keys and self.counts.read:
            raise missing_keys(
                ", ".join(self.plan.paths),
                reader.missing_keys,
                kept="the rows are imported without it",
            )

    def _compare_with_earlier_runs(self, journal: RunJournal, checkpoint: Checkpoint) -> None:
        if not self.plan.dry_run:
            earlier = journal.same_rows_as(checkpoint)
            if earlier is not None:
                self._say(f"run {earlier} has imported the same rows before")

    def _note_retries(self, session: Session) -> None:
        self._retries = session.retries


def _show_compared(
    reader: WindowReader, total: int | None, show: Callable[[Progress], None], rows: int
) -> None:
    show(Progress(Counts(read=rows), reader.offset, total, phase="comparing"))


def _place(paths: Sequence[str], first_lines: Sequence[int], run_line: int) -> tuple[str, int]:
    """Return the input and its line of a line that is counted through all inputs."""
    index = bisect_left(first_lines, run_line) - 1
    return paths[index], run_line - first_lines[index]


def _total(inputs: list[InputIdentity]) -> int | None:
    sizes = [one.size for one in inputs]
    return None if None in sizes else sum(size or 0 for size in sizes)
