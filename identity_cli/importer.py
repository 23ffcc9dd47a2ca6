"""The import: every row of the inputs through the service, each in a transaction of its own.

The main thread reads and normalises windows of rows; lanes talk to the server meanwhile. Finished
windows are written out in input order, and at least once a second a checkpoint makes them durable.
Yields progress, never prints.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli import lanes, schema
from identity_cli.database import is_connection_lost, translate
from identity_cli.errors import (
    ConnectionLostError,
    DatabaseUnreachableError,
    InputBusyError,
    InputUnreadableError,
    InvalidRequestError,
    ResumeError,
    UsageError,
)
from identity_cli.lanes import BATCH, Lane, LaneBrokenError, Ticket
from identity_cli.normalize import ContactRequest
from identity_cli.readers import InputOptions, format_of, open_reader
from identity_cli.results import RejectsWriter, ResultFile, outcome_line
from identity_cli.runs import (
    CHECKPOINT_SECONDS,
    Checkpoint,
    Counts,
    InputIdentity,
    RunJournal,
)
from identity_cli.service import IdentityService, Outcome, Refusal, RunRequest
from identity_cli.source import STDIN, Position, Source, same_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.database import Database
    from identity_cli.readers import Reader, Row
    from identity_cli.runs import Record

# Windows on their way besides the one that is waited for.
_AHEAD = 3
# What a window, and all windows since the last checkpoint, may hold; in characters.
_WINDOW_CHARACTERS = 1 << 23
_PENDING_CHARACTERS = 1 << 26
# With fewer rows than this one connection is used unless more are asked for: the ids come out the
# same every time, and there is little to gain.
PARALLEL_FROM = 100_000
PARALLEL_JOBS = 2
# How long a server may be gone before the run gives up.
_PATIENCE_SECONDS = 60.0
_FIRST_REJECTS = 5


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What to import and how. `jobs` None: as many connections as pay."""

    paths: tuple[str, ...]
    options: InputOptions = field(default_factory=InputOptions)
    region: str | None = None
    rejects: str | None = None
    outcomes: str | None = None
    jobs: int | None = None
    dry_run: bool = False
    restart: bool = False
    durable: bool = False

    def __post_init__(self) -> None:
        for path in self.paths:
            format_of(path, self.options)
        if self.rejects is not None and len(self.paths) > 1:
            raise UsageError(
                "--rejects takes one input",
                hint="without it every input gets a rejects file of its own",
            )
        if self.paths.count(STDIN) > 1:
            raise UsageError("standard input can be read once only", hint="give - one time")
        written = [path for path in (self.rejects, self.outcomes) if path is not None]
        if len(written) == 2 and same_file(*written):
            raise UsageError("rejects and outcomes go to one file", hint="give two paths")
        for path in written:
            if any(one != STDIN and same_file(one, path) for one in self.paths):
                raise UsageError(f"{path} is an input", hint="write the results elsewhere")

    def rejects_path(self, index: int) -> str:
        path = self.paths[index]
        stem = "stdin" if path == STDIN else path
        return self.rejects or f"{stem}.rejects.{format_of(path, self.options)}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `total` is None where the size of an input is not known; in bytes."""

    counts: Counts
    offset: int
    total: int | None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """For the few lines on standard error: where, and why."""

    name: str
    line: int
    reason: str


@dataclass(slots=True)
class _Window:
    """Some hundreds of rows of one input, and how far the input had been read with them.

    `answers` are known before they are asked for: what a run that broke off had stored already.
    """

    input: int
    first_line: int
    rows: list[tuple[Row, ContactRequest | InvalidRequestError]] = field(default_factory=list)
    requests: list[RunRequest] = field(default_factory=list)
    answers: dict[int, Outcome] = field(default_factory=dict)
    ticket: Ticket = field(default_factory=lambda: Ticket(0))
    rows_done: int = 0
    position: Position = Position(0, "")
    characters: int = 0
    clock: int = 0
    marks: tuple[int, int] = (0, 0)


class StopRequestedError(Exception):
    """The run is to end between two rows: raised in the reader when it waits for input."""


class StopSwitch:
    """Asked between rows whether to stop; entered around a read that may wait."""

    def __init__(self) -> None:
        self.requested = False
        self._reading = False

    def request(self) -> None:
        """For a signal handler: stop soon, and at once where the reader waits for input."""
        self.requested = True
        if self._reading:
            raise StopRequestedError

    def __enter__(self) -> None:
        self._reading = True
        if self.requested:
            self._reading = False
            raise StopRequestedError

    def __exit__(self, *_: object) -> None:
        self._reading = False


class Importer:
    """One run of `import`. `run` does it; `summary` tells how it went, also after an error.

    Raises `InputNotFoundError` at once when an input is not there.
    """

    def __init__(
        self, database: Database, plan: ImportPlan, switch: StopSwitch | None = None
    ) -> None:
        self.plan = plan
        self.counts = Counts()
        self.status = "failed"
        self.notes: list[str] = []
        self.first_rejects: list[RejectedRow] = []
        self._database = database
        self._switch = switch or StopSwitch()
        self._sources: list[Source] = []
        try:
            for path in plan.paths:
                self._sources.append(Source(path, while_reading=self._switch))
        except BaseException:
            self._close_sources()
            raise
        self._journal: RunJournal | None = None
        self._lanes: list[Lane] = []
        self._inflight: deque[_Window] = deque()
        # Written out, but a server that crashes now may lose them.
        self._undurable: list[_Window] = []
        self._checkpoint = Checkpoint()
        self._checkpoint_at = time.monotonic()
        self._marks = (0, 0)
        self._records: dict[int, Record] = {}
        self._records_until = -1
        self._retries = 0
        self._started = time.time()
        self._earlier_seconds = 0.0
        self._clock = 0
        self._rejects = [ResultFile(plan.rejects_path(i)) for i in range(len(plan.paths))]
        self._writers: dict[int, RejectsWriter] = {}
        self._outcomes = None if plan.outcomes is None else ResultFile(plan.outcomes)

    @property
    def run_id(self) -> int | None:
        return self._journal.run_id if self._journal else None

    @property
    def retries(self) -> int:
        """How often a request was tried again because a concurrent one got in the way."""
        return self._retries + sum(lane.service.retries for lane in self._lanes)

    @property
    def rejects_paths(self) -> list[str]:
        """The rejects files that were needed."""
        return [file.path for file in self._rejects if file.used]

    def summary(self, exit_code: int) -> dict[str, Any]:
        """The document of `--summary` and `--json`."""
        seconds = self._seconds()
        return {
            "schema_version": 1,
            "run_id": self.run_id,
            "status": self.status,
            "exit_code": exit_code,
            "dry_run": self.plan.dry_run,
            "input": list(self.plan.paths),
            "rows": asdict(self.counts),
            "retries": self.retries,
            "started_at": datetime.fromtimestamp(self._started, UTC).isoformat(),
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.counts.read / seconds, 1),
        }

    def run(self) -> Iterator[Progress]:
        """Import, yielding progress now and then.

        Ends early when the switch asks for it: `status` is "stopped" then. Whatever ends it, the
        rows that were counted stand (but for a dry run) and the same plan goes on from there.
        """
        try:
            self._open()
            try:
                yield from self._read()
                self.status = "finished"
            except StopRequestedError:
                self.status = "stopped"
            except InputUnreadableError:
                self._drain()  # the rows before that place stand
                raise
            self._drain()
        finally:
            self._close()

    # Opening and closing.

    def _open(self) -> None:
        connection, profile = schema.connect(self._database, application="identity import")
        identities = [_identity(source) for source in self._sources]
        journal = self._journal = RunJournal(connection, identities)
        journal.lock()
        if self.plan.dry_run:
            connection.execute("BEGIN")
            schema.claim_profile(connection, profile, self.plan.region)
            self._lanes = [self._lane(connection)]
            self._open_outcomes()
            return
        schema.claim_profile(connection, profile, self.plan.region)
        journal.wait_for_workers()
        checkpoint = None if self.plan.restart else journal.interrupted()
        if checkpoint is not None and self._begins_as(checkpoint):
            self._go_on_from(checkpoint)
        else:
            journal.run_id = None
            changed = journal.changed_since()
            if checkpoint is not None or changed is not None:
                self.notes.append(
                    f"{self.plan.paths[0]} has changed since its last run broke off:"
                    " reading it from the top"
                )
            self._open_outcomes()
        journal.start(self._checkpoint)
        self._marks = journal.marks()
        self._open_lanes(self.plan.jobs or 1)

    def _open_outcomes(self) -> None:
        if self._outcomes is not None:
            self._outcomes.open()

    def _begins_as(self, checkpoint: Checkpoint) -> bool:
        """Whether the input that was being read is the same up to the checkpoint."""
        source = self._sources[checkpoint.input]
        if source.size is None:
            return True  # what comes from a pipe is looked at on the way
        same = source.read_to(checkpoint.position[0]) == checkpoint.position
        source.rewind()
        return same

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        assert self._journal is not None  # noqa: S101 - _open made it
        if (checkpoint.outcomes is None) != (self._outcomes is None):
            had = "without" if checkpoint.outcomes is None else "with"
            raise ResumeError(
                f"run {self._journal.run_id} was started {had} --outcomes",
                hint="give the same command again, or read from the top with --restart",
            )
        self._checkpoint = checkpoint
        self._cut_results_back()
        self._clock = checkpoint.clock
        self._earlier_seconds = checkpoint.seconds
        self._retries = checkpoint.retries
        self._learn_records()
        self.notes.append(f"going on with run {self._journal.run_id} after {self.counts.read} rows")

    def _cut_results_back(self) -> None:
        """Counts and files as they were at the checkpoint."""
        self.counts = replace(self._checkpoint.counts)
        for file, size in zip(self._rejects, self._checkpoint.rejects, strict=False):
            file.cut_back(size)
        if self._outcomes is not None:
            self._outcomes.cut_back(self._checkpoint.outcomes)

    def _learn_records(self) -> None:
        assert self._journal is not None  # noqa: S101 - _open made it
        self._records = self._journal.records(self._checkpoint)
        self._records_until = max(self._records, default=-1)

    def _lane(self, connection: psycopg.Connection[Any]) -> Lane:
        service = IdentityService(connection, region=self.plan.region)
        if not (self.plan.durable or self.plan.dry_run):
            connection.execute("SET synchronous_commit = off")
        return Lane(service, run_id=self.run_id, commit_each=not self.plan.dry_run)

    def _open_lanes(self, wanted: int) -> None:
        assert self._journal is not None  # noqa: S101 - _open made it
        wanted = max(1, min(wanted, self._journal.free_connections() + len(self._lanes)))
        while len(self._lanes) < wanted:
            connection = self._database.connect(application="identity import")
            connection.execute("SELECT pg_advisory_lock_shared(%s)", (self._journal.workers_key,))
            self._lanes.append(self._lane(connection))

    def _close_lanes(self) -> None:
        self._retries = self.retries
        while self._lanes:
            self._lanes.pop().close()

    def _close(self) -> None:
        try:
            if self._journal is not None:
                if self.run_id is not None and self.status == "failed":
                    self._journal.give_up()
                self._close_lanes()
                self._journal.connection.close()  # a dry run is rolled back with it
        finally:
            for file in (*self._rejects, *([self._outcomes] if self._outcomes else [])):
                file.close()
            self._close_sources()

    def _close_sources(self) -> None:
        for source in self._sources:
            source.close()

    # Reading: inputs to windows.

    def _read(self) -> Iterator[Progress]:
        total = sum(source.size or 0 for source in self._sources)
        known = all(source.size is not None for source in self._sources)
        for window in self._windows():
            self._dispatch(window)
            while len(self._inflight) > _AHEAD or (
                self._inflight and self._inflight[0].ticket.done()
            ):
                self._collect()
            self._maybe_checkpoint()
            offset = sum(source.offset for source in self._sources)
            yield Progress(self.counts, offset, total if known else None)
            if self._switch.requested:
                raise StopRequestedError

    def _windows(self) -> Iterator[_Window]:
        first_line = self._checkpoint.first_line
        for index in range(self._checkpoint.input, len(self._sources)):
            source = self._sources[index]
            reader = open_reader(source, self.plan.options)
            self._writers[index] = RejectsWriter(
                self._rejects[index],
                format_of(source.path, self.plan.options),
                columns=reader.columns,
                delimiter=reader.delimiter,
                encoding=self.plan.options.encoding,
            )
            rows = reader.rows()
            done = self._skip(rows, index) if index == self._checkpoint.input else 0
            while True:
                window = _Window(index, first_line, rows_done=done)
                self._fill(window, rows, reader)
                done = window.rows_done
                if not window.rows:
                    break
                window.position = source.position
                yield window
            first_line += reader.line

    def _skip(self, rows: Iterator[Row], index: int) -> int:
        """Pass over the rows that the checkpoint has; what a pipe brings must be the same."""
        wanted = self._checkpoint.rows
        skipped = sum(1 for _ in islice(rows, wanted))
        source = self._sources[index]
        there = self._checkpoint.position
        if (
            source.size is None
            and wanted
            and (skipped < wanted or (source.offset >= there[0] and source.position != there))
        ):
            raise ResumeError(
                f"{source.name} does not begin as it did in run {self.run_id}, which broke off",
                hint="give it the same rows again, or read from the top with --restart",
            )
        return skipped

    def _fill(self, window: _Window, rows: Iterator[Row], reader: Reader) -> None:
        """Read and normalise the rows of one window."""
        region = self.plan.region
        first_line = window.first_line
        size = BATCH if len(self._lanes) == 1 else 2 * BATCH * len(self._lanes)
        before = reader.characters
        most = before + _WINDOW_CHARACTERS
        # Times go up with the lines, and never back: they decide who is the oldest.
        clock = window.clock = max(self._clock, time.time_ns() // 1000 - first_line - reader.line)
        self._clock = clock
        entries, requests = window.rows, window.requests
        for row in islice(rows, size):
            problem = row.problem
            if problem is None:
                try:
                    request = ContactRequest(row.email, row.phone, region=region)
                except InvalidRequestError as error:
                    problem = error
                else:
                    line = first_line + row.line
                    entries.append((row, request))
                    requests.append(RunRequest(request, line, clock + line))
            if problem is not None:
                entries.append((row, problem))
            if reader.characters > most:
                break
        window.characters = reader.characters - before
        window.rows_done += len(entries)

    # Windows through the lanes, and out.

    def _dispatch(self, window: _Window) -> None:
        if (
            self.plan.jobs is None
            and not self.plan.dry_run
            and len(self._lanes) == 1
            and self.counts.read >= PARALLEL_FROM
        ):
            for other in self._inflight:
                other.ticket.wait()
            self._open_lanes(PARALLEL_JOBS)
        window.marks = self._marks
        self._submit(window)
        self._inflight.append(window)

    def _submit(self, window: _Window) -> None:
        """Ask for what is not on record from before the run broke off."""
        requests = window.requests
        if requests and requests[0].line is not None and requests[0].line <= self._records_until:
            requests = self._unrecorded(window)
        window.ticket = lanes.submit(
            self._lanes, requests, [other.ticket for other in self._inflight if other is not window]
        )

    def _unrecorded(self, window: _Window) -> list[RunRequest]:
        left = []
        clock = window.clock
        for item in window.requests:
            line = item.line or 0
            record = self._records.get(line)
            if record is not None:
                clock = record.clock
                window.answers[line] = record.outcome
            elif line < self._records_until:
                # Between two that were done its time lies between theirs.
                left.append(item._replace(clock=clock + line))
            else:
                left.append(item)
        return left

    def _collect(self) -> None:
        """Write the oldest window out; a server that went away is waited for on the way."""
        window = self._inflight[0]
        while True:
            try:
                results = window.ticket.results()
                break
            except LaneBrokenError:
                self._recover(self._cause())
            except psycopg.Error as error:
                self._recover(error)
            window = self._inflight[0]
        self._write_out(window, results)
        self._inflight.popleft()
        self._undurable.append(window)

    def _write_out(self, window: _Window, results: lanes.Results) -> None:
        counts = self.counts
        path = self.plan.paths[window.input] if len(self.plan.paths) > 1 else None
        answers = iter(results)
        written = bytearray()
        for row, request in window.rows:
            counts.read += 1
            if isinstance(request, InvalidRequestError):
                self._reject(window.input, row, request.code, request.reason)
                continue
            line = window.first_line + row.line
            answer = window.answers.get(line) if window.answers else None
            if answer is None:
                result = next(answers)
                if isinstance(result, Refusal):
                    reason = f"the database refuses it ({result.sqlstate})"
                    self._reject(window.input, row, "refused", reason)
                    continue
                answer = self._as_answered(result, request, line)
            name = answer[0]
            if name == "created":
                counts.created += 1
            elif name == "linked":
                counts.linked += 1
            elif name == "merged":
                counts.merged += 1
            else:
                counts.unchanged += 1
            if self._outcomes is not None:
                written += outcome_line(row.line, answer, path)
        if self._outcomes is not None:
            self._outcomes.write(bytes(written))

    def _as_answered(self, outcome: Outcome, request: ContactRequest, line: int) -> Outcome:
        """What was answered before the run broke off, where later merges changed it since."""
        if line >= self._records_until or outcome.name != "unchanged" or self._outcomes is None:
            return outcome
        assert self._journal is not None  # noqa: S101 - _open made it
        primary_id = self._journal.primary_at(request.email, request.phone, line)
        return outcome._replace(primary_id=primary_id)

    def _reject(self, index: int, row: Row, code: str, reason: str) -> None:
        self.counts.rejected += 1
        # A dry run leaves nothing that was not asked for.
        if not self.plan.dry_run or self.plan.rejects is not None:
            self._writers[index].write(row, code, reason)
        if len(self.first_rejects) < _FIRST_REJECTS:
            name = self._sources[index].name
            self.first_rejects.append(RejectedRow(name, row.line, f"{code}: {reason}"))

    # Durability.

    def _maybe_checkpoint(self) -> None:
        pending = sum(window.characters for window in self._undurable)
        if (
            time.monotonic() - self._checkpoint_at >= CHECKPOINT_SECONDS
            or pending > _PENDING_CHARACTERS
        ):
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        if self.plan.dry_run:
            self._undurable.clear()
            return
        while self._undurable:
            checkpoint = self._next_checkpoint()
            assert self._journal is not None  # noqa: S101 - _open made it
            try:
                self._marks = self._journal.marks()
                oldest = self._inflight[0].marks if self._inflight else self._marks
                checkpoint.contact_mark, checkpoint.evidence_mark = oldest
                self._journal.save(checkpoint)
            except ConnectionLostError as error:
                self._recover(error)
                continue
            self._checkpoint = checkpoint
            self._undurable.clear()
        self._checkpoint_at = time.monotonic()

    def _next_checkpoint(self) -> Checkpoint:
        for file in self._rejects:
            file.sync()
        if self._outcomes is not None:
            self._outcomes.sync()
        last = self._undurable[-1]
        return Checkpoint(
            input=last.input,
            rows=last.rows_done,
            first_line=last.first_line,
            position=(last.position.offset, last.position.sha256),
            counts=replace(self.counts),
            retries=self.retries,
            seconds=self._seconds(),
            clock=last.clock,
            rejects=[file.size for file in self._rejects],
            outcomes=None if self._outcomes is None else self._outcomes.size,
        )

    def _drain(self) -> None:
        """Collect what is on its way and write the last checkpoint: every row is on disk then."""
        while self._inflight:
            self._collect()
            self._maybe_checkpoint()
        self._save_checkpoint()
        for file in (*self._rejects, *([self._outcomes] if self._outcomes else [])):
            file.sync()
        if self._journal is not None and self.run_id is not None:
            self._journal.finish(self.status, replace(self._checkpoint, seconds=self._seconds()))

    def _recover(self, error: Exception) -> None:
        """Wait for a server that went away; then go on as a new run would, but from memory."""
        lost = isinstance(error, ConnectionLostError) or (
            isinstance(error, psycopg.Error) and is_connection_lost(error)
        )
        if not lost or self.plan.dry_run:
            raise translate(error) if isinstance(error, psycopg.Error) else error
        assert self._journal is not None  # noqa: S101 - _open made it
        self.notes.append("the connection to the database was lost: trying again")
        self._close_lanes()
        self._journal.connection.close()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        attempt = 0
        while True:
            try:
                self._journal.connection = self._database.connect(application="identity import")
                self._journal.lock()
                self._journal.wait_for_workers()
                self._learn_records()
                self._open_lanes(self.plan.jobs or 1)
                break
            except (DatabaseUnreachableError, InputBusyError, psycopg.Error) as again:
                self._close_lanes()
                self._journal.connection.close()
                if time.monotonic() > deadline:
                    if isinstance(again, psycopg.Error):
                        raise translate(again) from again
                    raise
                attempt += 1
                time.sleep(min(0.1 * 2**attempt, 2.0))
        self._cut_results_back()
        self._inflight.extendleft(reversed(self._undurable))
        self._undurable.clear()
        waiting, self._inflight = self._inflight, deque()
        for window in waiting:
            window.answers.clear()
            self._submit(window)
            self._inflight.append(window)

    def _cause(self) -> Exception:
        """Why a lane is broken: what its first failed batch raised."""
        for window in self._inflight:
            for _, future in window.ticket.parts:
                error = future.exception()
                if isinstance(error, Exception) and not isinstance(error, LaneBrokenError):
                    return error
        return ConnectionLostError()

    def _seconds(self) -> float:
        return self._earlier_seconds + time.time() - self._started


def _identity(source: Source) -> InputIdentity:
    return InputIdentity(source.path, source.size, sha256(source.beginning).hexdigest())
