"""The backfill from end to end: inputs, computed rows, and the load."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.backfill.door import read_inputs
from identity_cli.backfill.engine import compute_rows, limits_on_spark
from identity_cli.backfill.forgotten import check_forgotten, digest_of, read_forgotten
from identity_cli.backfill.load import Load
from identity_cli.backfill.objects import read_versions
from identity_cli.backfill.reading import content_digest
from identity_cli.backfill.record import APPLICATION, end_run, last_ids, note_snapshot
from identity_cli.backfill.tally import Tally
from identity_cli.backfill.target import (
    check_target,
    has_limits,
    is_held,
    read_state,
    write_held,
)
from identity_cli.backfill.work import WorkDirectory, open_work
from identity_cli.errors import (
    IdentityError,
    TargetChangedError,
    UsageError,
)
from identity_cli.graph.hubs import find_hubs
from identity_cli.graph.profile import check_profile, effective_region
from identity_cli.graph.run_list import ROWS
from identity_cli.importer.checkpoints import Checkpoint, Counts
from identity_cli.importer.opening import identify_input
from identity_cli.importer.report import ImportReport, RunError, Status
from identity_cli.importer.runs import InputIdentity, RunJournal
from identity_cli.importer.stop import StopRequestedError, StopSwitch
from identity_cli.meter import SILENT, Meter
from identity_cli.postgres import schema
from identity_cli.postgres.clock import ServerClock
from identity_cli.postgres.database import translated
from identity_cli.postgres.session import STEER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.backfill.assignment import BackfillPlan
    from identity_cli.backfill.forgotten import ForgottenValues
    from identity_cli.backfill.work import HeldState, Manifest
    from identity_cli.graph.hubs import Hubs
    from identity_cli.postgres.database import Database

# The share of each step in the time, about.
_READING = {"reading": 40}
_COMPUTING = {"held rows": 4, "computing": 30}
_LOADING = {"contacts": 12, "evidence": 6, "indexes": 14, "checks": 4, "commit": 1}


def _ignore(_: object) -> None:
    pass


class Backfill:
    """One backfill: `run` does it, or `compute` and `load` one after the other.

    `report` says how it went, also after an error. `say` gets a sentence that the user should know.
    Each of the three raises `IdentityError`; if the switch asks for it, it ends early, and `status`
    is "stopped".
    """

    def __init__(
        self,
        plan: BackfillPlan,
        switch: StopSwitch | None = None,
        say: Callable[[str], None] = _ignore,
        meter: Meter = SILENT,
    ) -> None:
        self.plan = plan
        self.status: Status = "failed"
        self.run_id: int | None = None
        self._tally = Tally(plan.reading, say)
        self._switch = switch or StopSwitch()
        self._say = say
        self._meter = meter
        self._begin_step: Callable[[str], None] = meter.begin
        self._hubs: Hubs | None = None
        # Those of the target, which are left out while the inputs are read.
        self._forgotten: ForgottenValues | None = None
        self._started = time.monotonic()
        self._started_at = datetime.now(UTC)

    @property
    def counts(self) -> Counts:
        return self._tally.counts

    @property
    def rejects_paths(self) -> list[str]:
        """The rejects files that were written."""
        return self._tally.rejects_paths

    def report(self, exit_code: int, error: RunError | None = None) -> ImportReport:
        """Return how the backfill ended."""
        tally, elapsed = self._tally, time.monotonic() - self._started
        return ImportReport(
            run_id=self.run_id,
            status=self.status,
            exit_code=exit_code,
            dry_run=False,
            input=tally.reading.paths,
            # Nothing is stored unless it has finished.
            rows=tally.rows() if self.status == "finished" else dict.fromkeys(ROWS, 0),
            started_at=self._started_at.isoformat(),
            finished_at=(self._started_at + timedelta(seconds=elapsed)).isoformat(),
            seconds=elapsed,
            options=tally.options,
            columns=tally.columns,
            local_phone_numbers=tally.local_phones,
            hubs=self._hubs,
            rejects=tuple(tally.rejects_paths),
            rejected_by_code=tally.codes,
            error=error,
            first_rejects=tally.first_rejects,
        )

    def run(self, database: Database) -> None:
        """Read, compute and load; all of it is stored, or nothing."""
        self._begin_step = self._meter.steps(_READING | _COMPUTING | _LOADING)
        with self._stopping(), open_work(self.plan.work) as work:
            connection, region = self._connect(database)
            with connection:
                manifest = self._begin(work, region)
                with self._run(database, connection, manifest) as (journal, run_id):
                    self._read(work)
                    self._tally.save_rejects(work, run_id)
                    if not is_held(connection):
                        self._compute(work)
                    self._load(connection, journal, run_id, work, is_computed=False)

    def compute(self, database: Database | None) -> None:
        """Read and compute for this database, or for an empty one, and store nothing in it."""
        self._begin_step = self._meter.steps(_READING | _COMPUTING)
        with self._stopping(), open_work(self.plan.work) as work:
            region = self._tally.reading.region
            if database is not None:
                connection, region = self._connect(database)
                connection.close()
            self._begin(work, region)
            self._read(work)
            self._tally.find_rejects(work)
            state = None if database is None else self._hold_snapshot(database, work)
            if state is None:
                self._hold(work, None, (1, 1))
            self._compute(work)
            self._tally.note_outcomes(work)

    def load(self, database: Database) -> None:
        """Load what was computed in the work directory."""
        self._begin_step = self._meter.steps(_LOADING)
        with self._stopping(), open_work(self.plan.work, is_begun=True) as work:
            manifest = work.require_manifest()
            if not manifest.is_computed:
                raise UsageError(
                    f"{work.path} holds no computed rows yet",
                    hint="run identity backfill compute again: it resumes",
                )
            self._tally.take_inputs(manifest)
            self._tally.note_inputs(manifest)
            self._tally.note_outcomes(work)
            connection, _ = self._connect(database)
            with connection, self._run(database, connection, manifest) as (journal, run_id):
                self._tally.save_rejects(work, run_id)
                self._load(connection, journal, run_id, work, is_computed=True)

    # The parts of it.

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
            self.status = "finished"
        except StopRequestedError:
            self.status = "stopped"

    def _connect(self, database: Database) -> tuple[psycopg.Connection[Any], str | None]:
        """Connect to the target; return the region of its phone numbers, too.

        Raises `ForgetKeyError` if the forgotten values of the target cannot be recognised.
        """
        connection, profile = schema.connect(database, application=APPLICATION, session=STEER)
        try:
            check_target(connection)
            if self.plan.cluster is not None and has_limits(connection):
                raise limits_on_spark()
            self._forgotten = read_forgotten(connection)
            region = effective_region(self._tally.reading.region, profile)
            check_profile(profile, region)
        except BaseException:
            connection.close()
            raise
        return connection, region

    def _begin(self, work: WorkDirectory, region: str | None) -> Manifest:
        self._tally.use_region(region)
        reading = self._tally.reading
        objects = self.plan.objects
        inputs = [
            objects[path].identity() if path in objects else identify_input(path)
            for path in reading.paths
        ]
        manifest = work.begin(self._tally.options, inputs, restart=reading.restart)
        had_read = len(manifest.finished_reports)
        manifest = work.keep_reports(digest_of(self._forgotten))
        if had_read > len(manifest.finished_reports):
            self._say("values were forgotten since the inputs were read; reading the inputs again")
        finished = [
            (path, report.content)
            for path, report in zip(reading.paths, manifest.reports, strict=True)
            if report is not None
        ]
        versions = read_versions(objects[path] for path, _ in finished if path in objects)
        for path, content in finished:
            self._switch.check()
            if (versions.get(path) or content_digest(path)) != content:
                raise UsageError(
                    f"{path} has changed since the backfill in {work.path} was begun",
                    hint="use --restart to start over, or another --work directory",
                )
        done = len(manifest.finished_reports)
        if done:
            self._say(f"resuming in {work.path}: {done} of {len(manifest.reports)} inputs are read")
        return manifest

    @contextmanager
    def _run(
        self, database: Database, connection: psycopg.Connection[Any], manifest: Manifest
    ) -> Iterator[tuple[RunJournal, int]]:
        """Begin a run in the database, and note how it ends unless it was loaded."""
        inputs = [InputIdentity(**one) for one in manifest.inputs]
        journal = RunJournal(connection, inputs, manifest.options)
        journal.lock_inputs()
        nothing = Checkpoint()
        nothing.first_marks = journal.marks()
        now_us = ServerClock(connection).now_us()
        elapsed = timedelta(seconds=time.monotonic() - self._started)
        self._started_at = datetime.fromtimestamp(now_us / 1_000_000, UTC) - elapsed
        run_id = self.run_id = journal.start(nothing)
        try:
            yield journal, run_id
        except StopRequestedError:
            end_run(database, journal, lambda: journal.finish("stopped", nothing, []))
            raise
        except BaseException as error:
            if isinstance(error, IdentityError):
                failure = RunError.of(error)
            else:
                failure = RunError("unexpected", type(error).__name__, None)
            end_run(database, journal, lambda: journal.fail(failure.as_json()))
            raise

    def _read(self, work: WorkDirectory) -> None:
        """Read all inputs into the work directory, and report what they hold."""
        manifest = work.require_manifest()
        total = sum(one["size"] or 0 for one in manifest.inputs)
        part = self._meter.part("reading")
        self._begin_step("reading")
        part.expect(total, "bytes")
        read_inputs(
            work,
            self._tally.reading,
            self.plan.objects,
            self._forgotten,
            processes=self.plan.threads or _cores(),
            switch=self._switch,
            show=lambda offset, rows: part.reach(offset, rows=rows),
        )
        self._tally.note_inputs(work.require_manifest())

    def _compute(self, work: WorkDirectory) -> None:
        """Compute the rows to store; nothing is done if that was done before."""
        self._begin_step("computing")
        compute_rows(self.plan, work, self._switch, self._meter.part("computing"))
        manifest = work.require_manifest()
        if not manifest.is_computed:
            work.save(replace(manifest, is_computed=True))

    def _hold_snapshot(self, database: Database, work: WorkDirectory) -> HeldState | None:
        """Take what the database holds into the work directory, as one snapshot sees it."""
        connection = database.connect(application=APPLICATION, session=STEER)
        with connection:
            with translated():
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            check_forgotten(connection, self._forgotten)
            state = read_state(connection)
            if state is not None:
                self._hold(work, state, last_ids(connection), connection)
            return state

    def _hold(
        self,
        work: WorkDirectory,
        state: HeldState | None,
        marks: tuple[int, int],
        connection: psycopg.Connection[Any] | None = None,
    ) -> None:
        """Let the work directory hold what the target holds; `marks` are the last ids."""
        manifest = work.require_manifest()
        if manifest.held == state:
            return
        work.save(replace(manifest, held=None, first_ids=(1, 1), is_computed=False))
        work.forget_held()
        if state is None or connection is None:
            return
        self._begin_step("held rows")
        part = self._meter.part("held rows")
        part.expect(state.contacts + state.evidence, "rows")
        write_held(connection, work, self._switch, part)
        first_ids = (marks[0] + 1, marks[1] + 1)
        work.save(replace(manifest, held=state, first_ids=first_ids, is_computed=False))

    def _load(
        self,
        connection: psycopg.Connection[Any],
        journal: RunJournal,
        run_id: int,
        work: WorkDirectory,
        *,
        is_computed: bool,
    ) -> None:
        """Load in one transaction; rows that are held are read, and counted on, within it."""
        region = self._tally.reading.region
        clock = ServerClock(connection)
        load = Load(
            connection,
            work,
            switch=self._switch,
            say=self._say,
            meter=self._meter,
            begin_step=self._begin_step,
        )
        self._say("locking the tables: whoever writes to them waits until the load has ended")
        try:
            load.begin(run_id, region)
            state = read_state(connection)
            if is_computed:
                _check_unchanged(work, state)
            else:
                check_forgotten(connection, self._forgotten)
                self._hold(work, state, journal.marks(), connection)
                self._compute(work)
                self._tally.note_outcomes(work)
            loaded = load.store(run_id, region, journal.marks())
            checkpoint = self._tally.checkpoint(loaded, time.monotonic() - self._started)

            def finish_run() -> None:
                journal.finish("finished", checkpoint, work.require_manifest().first_lines)
                note_snapshot(connection, run_id)

            load.finish(clock, loaded, self._tally.last_line, finish_run)
        except BaseException:
            load.cancel()
            raise
        with suppress(psycopg.Error, IdentityError):  # remarks: the rows are stored without them
            self._hubs = find_hubs(connection, loaded.first_marks, reads_all=True)
            earlier = journal.same_rows_as(checkpoint)
            if earlier is not None:
                self._say(f"run {earlier} has imported the same rows before")


def _check_unchanged(work: WorkDirectory, state: HeldState | None) -> None:
    held = work.require_manifest().held
    if state == held:
        return
    if held is None:
        what = "the database holds contacts or rules"
        message = f"{what}, and the backfill was computed for an empty one"
    else:
        message = "the database has changed since the backfill was computed for it"
    raise TargetChangedError(
        message, hint="run identity backfill compute again, with the same --work and --into URL"
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
