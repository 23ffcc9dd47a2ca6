"""The import: every row of the inputs through the service, each in a transaction of its own.

The main thread reads and normalises windows of rows; lanes talk to the server meanwhile. Finished
windows go into the ledger in input order, and at least once a second a checkpoint makes them
durable. Yields progress, never prints.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.errors import (
    ConnectionLostError,
    DatabaseUnreachableError,
    InputBusyError,
    InputUnreadableError,
    InvalidRequestError,
    ResumeError,
)
from identity_cli.graph.profile import claim_profile
from identity_cli.graph.service import IdentityService, Outcome, Refusal, RunRequest
from identity_cli.importer import lanes
from identity_cli.importer.lanes import BATCH, Lane, LaneBrokenError
from identity_cli.importer.ledger import Ledger
from identity_cli.importer.runs import (
    CHECKPOINT_SECONDS,
    Checkpoint,
    Counts,
    InputIdentity,
    RunJournal,
)
from identity_cli.importer.source import Source
from identity_cli.importer.windows import StopRequestedError, StopSwitch, Window, WindowReader
from identity_cli.postgres import schema
from identity_cli.postgres.database import is_connection_lost, translate, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.runs import Record
    from identity_cli.postgres.database import Database

# Windows on their way besides the one that is waited for.
_AHEAD = 3
# What all windows since the last checkpoint may hold, in bytes more or less.
_MOST_PENDING = 1 << 24
# With fewer rows than this one connection is used unless more are asked for: the ids come out the
# same every time, and there is little to gain.
PARALLEL_FROM = 100_000
PARALLEL_JOBS = 3
# How long a server may be gone before a run that has begun gives up.
_PATIENCE_SECONDS = 60.0
_APPLICATION = "identity import"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `total` is None where the size of an input is not known; in bytes."""

    counts: Counts
    offset: int
    total: int | None


class Importer:
    """One run of `import`. `run` does it; `summary` tells how it went, also after an error."""

    def __init__(
        self,
        database: Database,
        plan: ImportPlan,
        switch: StopSwitch | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.plan = plan
        self.status = "failed"
        self.ledger = Ledger(plan)
        self._database = database
        self._say = say
        self._switch = switch or StopSwitch()
        self._sources: list[Source] = []
        self._reader = WindowReader(
            self._sources,
            plan.options,
            region=plan.region,
            opened=self.ledger.begin_input,
        )
        self._journal: RunJournal | None = None
        self._lanes: list[Lane] = []
        self._inflight: deque[Window] = deque()
        # In the ledger, but a server that crashes now may lose them.
        self._undurable: list[Window] = []
        self._checkpoint = Checkpoint()
        self._checkpoint_at = time.monotonic()
        self._marks = (0, 0)
        self._records: dict[int, Record] = {}
        self._records_until = -1
        self._retries = 0
        self._started = time.time()
        self._earlier_seconds = 0.0

    @property
    def counts(self) -> Counts:
        return self.ledger.counts

    @property
    def run_id(self) -> int | None:
        return self._journal.run_id if self._journal else None

    @property
    def retries(self) -> int:
        """How often a request was tried again because a concurrent one got in the way."""
        return self._retries + sum(lane.service.retries for lane in self._lanes)

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
            yield from self._import()
            self.status = "finished"
            self._drain()
        except StopRequestedError:
            self.status = "stopped"
            self._drain()
        except InputUnreadableError:
            self._drain()  # the rows before that place stand
            raise
        finally:
            self._close()

    # Opening and closing.

    def _open(self) -> None:
        for path in self.plan.paths:
            self._sources.append(Source(path, while_reading=self._switch))
        patience = self._patience(self.plan.timeout or 0.0)
        while True:
            try:
                connection, profile = schema.connect(self._database, application=_APPLICATION)
                break
            except DatabaseUnreachableError as error:
                patience.wait_after(error)
        identities = [_identity(source) for source in self._sources]
        journal = self._journal = RunJournal(connection, identities)
        journal.lock()
        if self.plan.dry_run:
            connection.execute("BEGIN")
            claim_profile(connection, profile, self.plan.region)
            self._lanes = [self._lane(connection)]
            self.ledger.open()
            return
        claim_profile(connection, profile, self.plan.region)
        journal.wait_for_workers()
        checkpoint = None if self.plan.restart else journal.interrupted()
        if checkpoint is not None and self._begins_as(checkpoint):
            self._go_on_from(checkpoint)
        else:
            journal.run_id = None
            changed = journal.changed_since()
            if checkpoint is not None or changed is not None:
                self._say(
                    f"{self.plan.paths[0]} has changed since its last run broke off:"
                    " reading it from the top"
                )
            self.ledger.open()
        journal.start(self._checkpoint)
        self._marks = self._checkpoint.marks
        self._open_lanes(self.plan.jobs or 1)

    def _begins_as(self, checkpoint: Checkpoint) -> bool:
        """Whether the input that was being read is the same up to the checkpoint."""
        source = self._sources[checkpoint.input]
        if source.size is None or checkpoint.rows == 0:
            return True  # what comes from a pipe is looked at on the way
        same = source.read_to(checkpoint.position[0]) == checkpoint.position
        source.rewind()
        return same

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        if checkpoint.counts.read == 0:
            self.ledger.open()
        elif (checkpoint.outcomes is not None) != self.ledger.has_outcomes:
            had = "without" if checkpoint.outcomes is None else "with"
            raise ResumeError(
                f"run {self.run_id} was started {had} --outcomes",
                hint="give the same command again, or read from the top with --restart",
            )
        else:
            self.ledger.go_back(checkpoint)
        self._checkpoint = checkpoint
        self._earlier_seconds = checkpoint.seconds
        self._retries = checkpoint.retries
        self._learn_records()
        self._say(f"going on with run {self.run_id} after {self.counts.read} rows")

    def _learn_records(self) -> None:
        assert self._journal is not None  # noqa: S101 - _open made it
        self._records = self._journal.records(self._checkpoint)
        self._records_until = max(self._records, default=-1)

    def _lane(self, connection: psycopg.Connection[Any]) -> Lane:
        service = IdentityService(connection, region=self.plan.region)
        if not (self.plan.durable or self.plan.dry_run):
            with translated():
                connection.execute("SET synchronous_commit = off")
        return Lane(service, run_id=self.run_id, commit_each=not self.plan.dry_run)

    def _open_lanes(self, wanted: int) -> None:
        assert self._journal is not None  # noqa: S101 - _open made it
        wanted = max(1, min(wanted, self._journal.free_connections() + len(self._lanes)))
        while len(self._lanes) < wanted:
            connection = self._database.connect(application=_APPLICATION)
            self._journal.join_workers(connection)
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
            self._close_sources()
            self.ledger.close()

    def _close_sources(self) -> None:
        for source in self._sources:
            source.close()

    # Windows through the lanes, into the ledger.

    def _import(self) -> Iterator[Progress]:
        total = sum(source.size or 0 for source in self._sources)
        known = all(source.size is not None for source in self._sources)
        self._reader.size = self._window_size()
        for window in self._reader.windows(self._checkpoint):
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

    def _window_size(self) -> int:
        return BATCH if len(self._lanes) == 1 else 2 * BATCH * len(self._lanes)

    def _dispatch(self, window: Window) -> None:
        if (
            self.plan.jobs is None
            and not self.plan.dry_run
            and len(self._lanes) == 1
            and self.counts.read >= PARALLEL_FROM
        ):
            for other in self._inflight:
                other.ticket.wait()
            self._open_lanes(PARALLEL_JOBS)
            self._reader.size = self._window_size()
        window.marks = self._marks
        self._submit(window)
        self._inflight.append(window)

    def _submit(self, window: Window) -> None:
        """Ask for what is not on record from before the run broke off."""
        requests = window.requests
        if requests and (requests[0].run_line or 0) <= self._records_until:
            requests = self._unrecorded(window)
        window.ticket = lanes.submit(
            self._lanes, requests, [other.ticket for other in self._inflight if other is not window]
        )

    def _unrecorded(self, window: Window) -> list[RunRequest]:
        left = []
        clock = window.clock
        for item in window.requests:
            line = item.run_line or 0
            record = self._records.get(line)
            if record is not None:
                clock = record.clock
                window.answers[line] = record.outcome
            elif line < self._records_until:
                # Between two that were done its time lies between theirs.
                left.append(item._replace(request_time_us=clock + line))
            else:
                left.append(item)
        return left

    def _collect(self) -> None:
        """Take the oldest window into the ledger; wait for a server that went away."""
        while True:
            window = self._inflight[0]
            try:
                self._enter(window, window.ticket.results())
                break
            except LaneBrokenError:
                self._recover(self._cause())
            except (psycopg.Error, ConnectionLostError) as error:
                self._recover(error)
        self._inflight.popleft()
        self._undurable.append(window)

    def _enter(self, window: Window, results: lanes.Results) -> None:
        ledger, index = self.ledger, window.input
        answers = iter(results)
        for row, request in window.rows:
            if isinstance(request, InvalidRequestError):
                ledger.reject(index, row, request.code, request.reason)
                continue
            line = window.first_line + row.line
            known = window.answers.get(line)
            if known is not None:
                ledger.answer(index, row, known)
                continue
            answer = next(answers)
            if isinstance(answer, Refusal):
                reason = f"the database refuses it ({answer.sqlstate})"
                ledger.reject(index, row, "refused", reason)
            else:
                ledger.answer(index, row, self._as_answered(answer, request, line))

    def _as_answered(self, outcome: Outcome, request: ContactRequest, line: int) -> Outcome:
        """What was answered before the run broke off, where later merges changed it since."""
        if (
            line >= self._records_until
            or outcome.name != "unchanged"
            or not self.ledger.has_outcomes
        ):
            return outcome
        assert self._journal is not None  # noqa: S101 - _open made it
        primary_id = self._journal.primary_at(request.email, request.phone, line)
        return outcome._replace(primary_id=primary_id)

    # Durability.

    def _maybe_checkpoint(self) -> None:
        pending = sum(window.weight for window in self._undurable)
        if time.monotonic() - self._checkpoint_at >= CHECKPOINT_SECONDS or pending > _MOST_PENDING:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        if self.plan.dry_run:
            self._undurable.clear()
            return
        while self._undurable:
            checkpoint = self._next_checkpoint()
            assert self._journal is not None  # noqa: S101 - _open made it
            try:
                # What an earlier session did beyond this checkpoint still lies above the old marks.
                if self._undurable[-1].last_line >= self._records_until:
                    self._marks = self._journal.marks()
                checkpoint.marks = self._inflight[0].marks if self._inflight else self._marks
                self._journal.save(checkpoint)
            except ConnectionLostError as error:
                self._recover(error)
                continue
            self._checkpoint = checkpoint
            self._undurable.clear()
        self._checkpoint_at = time.monotonic()

    def _next_checkpoint(self) -> Checkpoint:
        self.ledger.sync()
        last = self._undurable[-1]
        checkpoint = Checkpoint(
            input=last.input,
            rows=last.rows_done,
            first_line=last.first_line,
            position=last.position,
            retries=self.retries,
            seconds=self._seconds(),
            clock=last.clock,
        )
        self.ledger.note(checkpoint)
        return checkpoint

    def _drain(self) -> None:
        """Take in what is on its way and write the last checkpoint: every row is on disk then."""
        while self._inflight or self._undurable:
            while self._inflight:
                self._collect()
                self._maybe_checkpoint()
            self._save_checkpoint()
        self.ledger.sync()
        if self.plan.dry_run or self._journal is None:
            return
        while True:
            try:
                last = replace(self._checkpoint, seconds=self._seconds(), retries=self.retries)
                self._journal.finish(self.status, last)
                return
            except ConnectionLostError as error:
                self._recover(error)

    def _recover(self, error: Exception) -> None:
        """Wait for a server that went away; then go on as a new run would, but from memory."""
        lost = isinstance(error, ConnectionLostError) or (
            isinstance(error, psycopg.Error) and is_connection_lost(error)
        )
        if not lost or self.plan.dry_run:
            raise translate(error) if isinstance(error, psycopg.Error) else error
        assert self._journal is not None  # noqa: S101 - _open made it
        self._close_lanes()
        self._journal.connection.close()
        patience = self._patience(
            _PATIENCE_SECONDS if self.plan.timeout is None else self.plan.timeout
        )
        patience.wait_after(translate(error) if isinstance(error, psycopg.Error) else error)
        while True:
            try:
                self._database.revive()
                self._journal.connection = self._database.connect(application=_APPLICATION)
                self._journal.lock()
                self._journal.wait_for_workers()
                self._learn_records()
                self._open_lanes(self.plan.jobs or 1)
                break
            except (DatabaseUnreachableError, InputBusyError) as again:
                self._close_lanes()
                self._journal.connection.close()
                patience.wait_after(again)
        self.ledger.go_back(self._checkpoint)
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

    def _patience(self, seconds: float) -> _Patience:
        return _Patience(seconds, self._say, self._switch)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.time() - self._started


class _Patience:
    """Waits for a server that is away, longer and longer, and says so once."""

    def __init__(self, seconds: float, say: Callable[[str], None], switch: StopSwitch) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._say = say
        self._switch = switch
        self._pause = 0.0

    def wait_after(self, error: Exception) -> None:
        """Wait a little; raises the error when the time is over, or a stop was asked for."""
        if time.monotonic() >= self._deadline or self._switch.requested:
            raise error
        if not self._pause:
            self._say(f"{error}: trying again for {self._seconds:.0f} s")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause or 0.05, 2.0)


def _identity(source: Source) -> InputIdentity:
    # A name need not be text, a JSON document does.
    path = source.path.encode(errors="backslashreplace").decode()
    return InputIdentity(path, source.size, sha256(source.beginning).hexdigest())
