"""The backfill from end to end: inputs, computed rows, and the load."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.backfill.door import content_digest, read_inputs
from identity_cli.backfill.load import Load, Loaded
from identity_cli.backfill.target import check_target, is_held, read_state, write_held
from identity_cli.backfill.work import WorkDirectory, open_work
from identity_cli.errors import (
    IdentityError,
    InputNotFoundError,
    OutputError,
    TargetChangedError,
    UsageError,
)
from identity_cli.graph.hubs import find_hubs
from identity_cli.graph.profile import check_profile, effective_region
from identity_cli.importer.checkpoints import Checkpoint, Counts
from identity_cli.importer.column_notes import ColumnNotes
from identity_cli.importer.formats import missing_keys
from identity_cli.importer.opening import identify_inputs
from identity_cli.importer.report import ImportReport, RunError, Status
from identity_cli.importer.results import ResultFile
from identity_cli.importer.runs import InputIdentity, RunJournal
from identity_cli.importer.source import is_file
from identity_cli.importer.stop import StopRequestedError, StopSwitch
from identity_cli.meter import SILENT, Meter
from identity_cli.postgres import schema
from identity_cli.postgres.clock import ServerClock
from identity_cli.postgres.session import STEER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.backfill.work import HeldState, InputReport, Manifest
    from identity_cli.graph.hubs import Hubs
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.postgres.database import Database

_APPLICATION = "identity backfill"
_FIRST_REJECTS = 5
_BLOCK = 1 << 20
# The share of each step in the time, about.
_READING = {"reading": 40}
_COMPUTING = {"held rows": 4, "computing": 30}
_LOADING = {"contacts": 12, "evidence": 6, "indexes": 14, "checks": 4, "commit": 1}
# A load commits its own rows together with the end of its run: what the run has stored by its end
# includes them. What has a number and has not ended is still at work.
_END_SNAPSHOT = """
    UPDATE import_run SET end_snapshot = split_part(start_snapshot, ' ', 1) || ' ' || (
        WITH seen AS (
            SELECT now, pg_snapshot_xmin(now)::text::bigint AS oldest,
                   pg_snapshot_xmax(now)::text::bigint AS next,
                   pg_current_xact_id()::text::bigint AS own
            FROM pg_current_snapshot() AS now
        )
        SELECT concat(oldest, ':', greatest(next, own + 1), ':', array_to_string(ARRAY(
            SELECT xid::text::bigint FROM pg_snapshot_xip(now) AS xid WHERE xid::text::bigint <> own
            UNION SELECT generate_series(next, own - 1)
            ORDER BY 1), ','))
        FROM seen)
    WHERE id = %s
"""


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What to backfill, and with how much: `reading` names the inputs, their options and results.

    Without `work` a temporary directory is used. `memory` is DuckDB's limit, such as "4GB".
    `threads` is the number of processes that read, and of threads that compute; None: the cores.
    """

    reading: ImportPlan
    work: str | None = None
    memory: str = "4GB"
    threads: int | None = None

    def check(self) -> None:
        """Raise what `ImportPlan.check` raises, and `UsageError` for an input that is no file."""
        self.reading.check()
        for path in self.reading.paths:
            if not is_file(path):
                raise UsageError(
                    f"{path} is not a file: a backfill reads files",
                    hint="write it to a file first, or use identity import",
                )


def require_extra() -> None:
    """Raise `UsageError` if the extra is not installed."""
    try:
        import duckdb  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "a backfill needs the extra 'backfill', which is not installed",
            hint="pip install 'identity-cli[backfill]'",
        ) from error


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
        self.counts = Counts()
        self.rejects_paths: list[str] = []
        self._reading = plan.reading
        self._switch = switch or StopSwitch()
        self._say = say
        self._meter = meter
        self._begin_step: Callable[[str], None] = meter.begin
        self._reports: list[InputReport] = []
        self._columns = ColumnNotes(plan.reading.paths, say)
        self._rejects: dict[int, tuple[str, int]] = {}
        self._hubs: Hubs | None = None
        self._started = time.monotonic()
        self._started_at = datetime.now(UTC)

    def report(self, exit_code: int, error: RunError | None = None) -> ImportReport:
        """Return how the backfill ended."""
        elapsed = time.monotonic() - self._started
        first_rejects = [row for report in self._reports for row in report.first_rejects]
        return ImportReport(
            run_id=self.run_id,
            status=self.status,
            exit_code=exit_code,
            dry_run=False,
            input=self._reading.paths,
            rows=asdict(self.counts),
            started_at=self._started_at.isoformat(),
            finished_at=(self._started_at + timedelta(seconds=elapsed)).isoformat(),
            seconds=elapsed,
            options=self._reading.reading_options(),
            columns=self._columns.as_json(),
            local_phone_numbers=sum(report.local_phones for report in self._reports),
            hubs=self._hubs,
            rejects=tuple(self.rejects_paths),
            rejected_by_code=dict(sorted(self._codes().items())),
            error=error,
            first_rejects=tuple(first_rejects[:_FIRST_REJECTS]),
        )

    def run(self, database: Database) -> None:
        """Read, compute and load; all of it is stored, or nothing."""
        self._begin_step = self._meter.steps(_READING | _COMPUTING | _LOADING)
        with self._stopping(), open_work(self.plan.work) as work:
            connection, region = self._connect(database)
            with connection:
                manifest = self._begin(work, region)
                with self._run(database, connection, manifest) as journal:
                    self._read(work)
                    self._save_rejects(work)
                    if not is_held(connection):
                        self._compute(work)
                    self._load(connection, journal, work, is_computed=False)

    def compute(self, database: Database | None) -> None:
        """Read and compute for this database, or for an empty one, and store nothing in it."""
        self._begin_step = self._meter.steps(_READING | _COMPUTING)
        with self._stopping(), open_work(self.plan.work) as work:
            region = self._reading.region
            if database is not None:
                connection, region = self._connect(database)
                connection.close()
            self._begin(work, region)
            self._read(work)
            self.rejects_paths = [
                str(work.rejects(index))
                for index in range(len(self._reports))
                if work.rejects(index).exists()
            ]
            state = None if database is None else self._hold_snapshot(database, work)
            if state is None:
                self._hold(work, None, (1, 1))
            self._compute(work)
            self._count(work)

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
            self._reading = replace(
                self._reading, paths=manifest.paths, region=manifest.options["region"]
            )
            # They were noted when the files were read.
            self._columns = ColumnNotes(manifest.paths, _ignore)
            self._note_reports(manifest)
            self._count(work)
            connection, _ = self._connect(database)
            with connection, self._run(database, connection, manifest) as journal:
                self._save_rejects(work)
                self._load(connection, journal, work, is_computed=True)

    # The parts of it.

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
            self.status = "finished"
        except StopRequestedError:
            self.status = "stopped"

    def _connect(self, database: Database) -> tuple[psycopg.Connection[Any], str | None]:
        """Connect to the target; return the region of its phone numbers, too."""
        connection, profile = schema.connect(database, application=_APPLICATION, session=STEER)
        try:
            check_target(connection)
            region = effective_region(self._reading.region, profile)
            check_profile(profile, region)
        except BaseException:
            connection.close()
            raise
        return connection, region

    def _begin(self, work: WorkDirectory, region: str | None) -> Manifest:
        self._reading = replace(self._reading, region=region)
        manifest = work.begin(
            self._reading.reading_options(),
            identify_inputs(self._reading),
            restart=self._reading.restart,
        )
        for path, report in zip(self._reading.paths, manifest.reports, strict=True):
            self._switch.check()
            if report is not None and content_digest(path) != report.content:
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
    ) -> Iterator[RunJournal]:
        """Begin a run in the database, and note how it ends unless it was loaded."""
        inputs = [InputIdentity(**one) for one in manifest.inputs]
        journal = RunJournal(connection, inputs, manifest.options)
        journal.lock_inputs()
        nothing = Checkpoint()
        nothing.first_marks = journal.marks()
        self.run_id = journal.start(nothing)
        try:
            yield journal
        except StopRequestedError:
            _end_run(database, journal, lambda: journal.finish("stopped", nothing, []))
            raise
        except BaseException as error:
            if isinstance(error, IdentityError):
                failure = RunError.of(error)
            else:
                failure = RunError("unexpected", type(error).__name__, None)
            _end_run(database, journal, lambda: journal.fail(failure.as_json()))
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
            self._reading,
            processes=self.plan.threads or _cores(),
            switch=self._switch,
            show=lambda offset, rows: part.reach(offset, rows=rows),
        )
        self._note_reports(work.require_manifest())

    def _note_reports(self, manifest: Manifest) -> None:
        self._reports = manifest.finished_reports
        for index, report in enumerate(self._reports):
            self._columns.begin_input(index, report)
        self._columns.end_input()
        counts = self.counts
        counts.read = sum(report.rows for report in self._reports)
        counts.rejected = sum(report.rejected for report in self._reports)
        counts.partial = sum(report.partial for report in self._reports)
        # A key that one of the inputs has is not missing.
        keys = set.intersection(*(set(report.missing_keys) for report in self._reports))
        if keys and counts.read:
            raise missing_keys(
                ", ".join(self._reading.paths), sorted(keys), kept="nothing was loaded"
            )

    def _compute(self, work: WorkDirectory) -> None:
        """Compute the rows to store; nothing is done if that was done before."""
        from identity_cli.backfill.duck import compute

        self._begin_step("computing")
        manifest = work.require_manifest()
        first_contact_id, first_evidence_id = manifest.first_ids
        compute(
            work.path,
            work.parts(),
            first_contact_id=first_contact_id,
            first_evidence_id=first_evidence_id,
            memory=self.plan.memory,
            threads=self.plan.threads,
            meter=self._meter.part("computing"),
            switch=self._switch,
        )
        if not manifest.is_computed:
            work.save(replace(manifest, is_computed=True))

    def _count(self, work: WorkDirectory) -> None:
        for name, count in work.counts().items():
            setattr(self.counts, name, count)

    def _hold_snapshot(self, database: Database, work: WorkDirectory) -> HeldState | None:
        """Take what the database holds into the work directory, as one snapshot sees it."""
        connection = database.connect(application=_APPLICATION, session=STEER)
        with connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            state = read_state(connection)
            if state is not None:
                self._hold(work, state, _marks(connection), connection)
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
        work: WorkDirectory,
        *,
        is_computed: bool,
    ) -> None:
        """Load in one transaction; rows that are held are read, and counted on, within it."""
        assert journal.run_id is not None  # noqa: S101 - it has begun
        run_id, region = journal.run_id, self._reading.region
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
                self._hold(work, state, journal.marks(), connection)
                self._compute(work)
                self._count(work)
            loaded = load.store(run_id, region, journal.marks())
            manifest = work.require_manifest()
            lines = manifest.first_lines[-1] + self._reports[-1].lines
            checkpoint = self._checkpoint(loaded)

            def finish_run() -> None:
                journal.finish("finished", checkpoint, manifest.first_lines)
                connection.execute(_END_SNAPSHOT, (run_id,))

            load.finish(clock, loaded, lines, finish_run)
        except BaseException:
            load.cancel()
            raise
        with suppress(psycopg.Error):  # a remark: the rows are stored without it
            self._hubs = find_hubs(connection, loaded.first_marks)
        earlier = journal.same_rows_as(checkpoint)
        if earlier is not None:
            self._say(f"run {earlier} has imported the same rows before")

    def _checkpoint(self, loaded: Loaded) -> Checkpoint:
        """Return the checkpoint of the finished run."""
        milestones = []
        if len(self._reports) == 1:
            milestones = [(self._reports[0].rows, self._reports[0].digest)]
        return Checkpoint(
            milestones=milestones,
            segments=[(0, loaded.base_us)],
            counts=replace(self.counts),
            codes=dict(self._codes()),
            input_codes={i: r.codes for i, r in enumerate(self._reports) if r.codes},
            local_phones=sum(report.local_phones for report in self._reports),
            seconds=time.monotonic() - self._started,
            marks=loaded.marks,
            first_marks=loaded.first_marks,
            rejects=self._rejects,
        )

    def _codes(self) -> Counter[str]:
        codes: Counter[str] = Counter()
        for report in self._reports:
            codes.update(report.codes)
        return codes

    def _save_rejects(self, work: WorkDirectory) -> None:
        """Write the rejects files where an import of this run would write them."""
        assert self.run_id is not None  # noqa: S101 - the run has begun
        if self._reading.rejects is not None:
            ResultFile(self._reading.rejects).remove()
        for index in range(len(self._reports)):
            if work.rejects(index).exists():
                file = self._open_rejects(index, self.run_id)
                with open(work.rejects(index), "rb") as rejects:
                    while block := rejects.read(_BLOCK):
                        file.write(block)
                file.sync()
                file.close()
                self.rejects_paths.append(file.path)
                text = file.path.encode(errors="backslashreplace").decode()
                self._rejects[index] = (text, work.rejects(index).stat().st_size)

    def _open_rejects(self, index: int, run_id: int) -> ResultFile:
        try:
            paths = self._reading.rejects_paths(index, run_id)
        except InputNotFoundError:  # computed on another machine
            paths = [f"{os.path.basename(self._reading.paths[index])}.{run_id}.rejects"]
        failure: OutputError | None = None
        for path in paths:
            file = ResultFile(path)
            try:
                file.open()
            except OutputError as error:
                failure = failure or error
            else:
                return file
        raise OutputError(
            str(failure), hint="use --rejects PATH to write the rejected rows somewhere else"
        )


def _check_unchanged(work: WorkDirectory, state: HeldState | None) -> None:
    held = work.require_manifest().held
    if state == held:
        return
    if held is None:
        message = "the database holds contacts, and the backfill was computed for an empty one"
    else:
        message = "the database has changed since the backfill was computed for it"
    raise TargetChangedError(
        message, hint="run identity backfill compute again, with the same --work and --into URL"
    )


def _end_run(database: Database, journal: RunJournal, end: Callable[[], None]) -> None:
    """Note how a run ended over a connection that no statement has broken, if there is one."""
    with suppress(psycopg.Error, IdentityError):
        journal.connection.close()
        with database.connect(application=_APPLICATION, session=STEER) as connection:
            journal.connection = connection
            end()


def _marks(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Return the last ids given out so far."""
    return RunJournal(connection, [], {}).marks()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
