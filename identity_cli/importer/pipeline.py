"""The pipeline: windows of rows through the lanes into the ledger, made durable by checkpoints."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from identity_cli.errors import (
    ConnectionLostError,
    DatabaseError,
    DatabaseUnreachableError,
    ServerWentBackError,
)
from identity_cli.graph.batches import FORGOTTEN, REFUSED, Refusal
from identity_cli.graph.core import Outcome
from identity_cli.graph.hubs import find_hubs
from identity_cli.graph.normalize import Normalizer
from identity_cli.importer import lanes
from identity_cli.importer.checkpoints import CHECKPOINT_SECONDS, Checkpoint, Counts
from identity_cli.importer.lanes import BATCH, LaneBrokenError
from identity_cli.postgres.database import is_connection_lost, translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.graph.hubs import Hubs
    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.importer.column_notes import ColumnNotes
    from identity_cli.importer.formats import Reader
    from identity_cli.importer.ledger import Ledger
    from identity_cli.importer.opening import OpenedRun
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.report import RunError
    from identity_cli.importer.runs import RunJournal
    from identity_cli.importer.session import Session
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.importer.windows import Window, WindowReader

# Windows that were sent besides the one that is waited for.
_AHEAD = 3
# What all windows since the last checkpoint may hold, in bytes, roughly.
_MOST_PENDING = 1 << 24
# With fewer rows than this one connection is used unless more are asked for: the ids are the same
# every time, and there is little to gain.
PARALLEL_FROM = 100_000
PARALLEL_JOBS = 3
# After a stop, batches get this long to end by themselves, then this long to be cancelled.
_GRACE_SECONDS = 1.0
_CANCEL_SECONDS = 3.0
# How often a wait for the server looks whether a stop was requested.
_LOOK_SECONDS = 0.2
# A row that comes after a silence must not be dated before it.
_MOST_LAG_US = 250_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in rows and bytes; `total` is None if the size of an input is not known.

    `phase` is "comparing" while a resumed run reads again what it has read before, then "rows"
    until all are read.
    """

    counts: Counts
    offset: int
    total: int | None
    phase: str = "rows"


class Pipeline:
    """One run at work, from its opening checkpoint to its last one."""

    def __init__(
        self,
        session: Session,
        journal: RunJournal,
        plan: ImportPlan,
        reader: WindowReader,
        ledger: Ledger,
        opened: OpenedRun,
        *,
        columns: ColumnNotes,
        switch: StopSwitch,
        total: int | None,
        show: Callable[[Progress], None],
    ) -> None:
        self._session = session
        self._journal = journal
        self._plan = plan
        self._reader = reader
        self._ledger = ledger
        self._columns = columns
        self._switch = switch
        self._total = total
        self._show = show
        self._clock = opened.clock
        self._records = opened.records
        self._checkpoint = opened.checkpoint
        # Its commit may or may not have reached the server when the connection was lost.
        self._attempted = opened.checkpoint
        self._checkpoint_at = time.monotonic()
        self._marks = opened.checkpoint.marks
        self._started = time.monotonic()
        self._seconds_before = opened.checkpoint.seconds
        self._normalizer = Normalizer(session.region, null_words=plan.options.null_words)
        self._in_flight: deque[Window] = deque()
        # In the ledger, but a server that crashes now may lose them.
        self._undurable: list[Window] = []

    @property
    def checkpoint(self) -> Checkpoint:
        """The last one that is on disk."""
        return self._checkpoint

    @property
    def seconds(self) -> float:
        """Time at work, that of the tries before this one included."""
        return self._seconds_before + time.monotonic() - self._started

    def run(self) -> None:
        """Read the inputs to their end; every row is on disk then, unless it is a dry run.

        Raises `InputUnreadableError` when everything before that place was sent, and
        `StopRequestedError`.
        """
        if not self._plan.dry_run:
            try:
                self._session.open_lanes(self._journal, self._plan.jobs or 1)
            except DatabaseError as error:
                self._recover(error)
        self._set_window_size()
        self._reader.read(
            self._clock,
            self._normalizer,
            consume=self._consume,
            begin_input=self._begin_input,
            on_idle=self._on_idle,
        )
        self.drain()

    def drain(self) -> None:
        """Wait for all that was sent and save a checkpoint behind it."""
        while self._in_flight or self._undurable:
            while self._in_flight:
                self._collect()
                self._save_checkpoint_if_due()
            self._save_checkpoint()
        self._ledger.sync()

    def stop(self) -> None:
        """End within seconds, between two rows: count what is done, leave out the rest.

        What is left out is read again by the next try. If the server cannot be reached any more,
        the counts are those of the last checkpoint.
        """
        deadline = time.monotonic() + _GRACE_SECONDS
        for window in self._in_flight:
            window.ticket.wait(max(0.0, deadline - time.monotonic()))
        if not all(window.ticket.is_done() for window in self._in_flight):
            self._session.cancel(_CANCEL_SECONDS)
        while self._in_flight and self._in_flight[0].ticket.is_done():
            window = self._in_flight[0]
            if window.ticket.has_failed():
                break
            self._enter(window, window.ticket.letters())
            self._undurable.append(self._in_flight.popleft())
        # A window that was left out may have stored rows: the next try has to find them.
        try:
            if self._plan.dry_run:
                self._undurable.clear()
            elif self._undurable:
                self._save(self._next_checkpoint())
            self._ledger.sync()
        except DatabaseError:
            self._ledger.go_back(self._checkpoint)

        if not self._plan.dry_run:
            with suppress(DatabaseError):
                self._journal.finish("stopped", self._checkpoint, self._reader.first_lines)

    def find_hubs(self) -> Hubs | None:
        """Return the values that too many others share; None if the server cannot tell now."""
        # It is a remark: the rows are on disk, and the run has not failed without it.
        try:
            return find_hubs(self._session.connection, self._checkpoint.first_marks)
        except psycopg.Error:
            return None

    def finish(self, status: str) -> None:
        """Store that the run has ended; its rows are on disk already."""
        if self._plan.dry_run:
            return
        while True:
            last = replace(self._checkpoint, seconds=self.seconds, retries=self._session.retries)
            try:
                self._journal.finish(status, last, self._reader.first_lines)
            except ConnectionLostError as error:
                self._recover(error)
                self.drain()
            else:
                self._checkpoint = last
                return

    def fail(self, error: RunError) -> None:
        """Store why the run has failed, if the server can still be told; its checkpoint is kept."""
        if not self._plan.dry_run:
            self._journal.fail(error.as_json())

    # Windows through the lanes, into the ledger.

    def _consume(self, window: Window) -> None:
        self._open_more_lanes_if_due()
        window.marks = self._marks
        self._send(window)
        self._in_flight.append(window)
        while len(self._in_flight) > _AHEAD or self._is_next_done():
            self._collect()
        self._save_checkpoint_if_due()
        self._show(Progress(self._ledger.counts, self._reader.offset, self._total))
        self._switch.check()

    def _begin_input(self, index: int, reader: Reader) -> None:
        self._ledger.begin_input(index, reader)
        self._columns.begin_input(index, reader)

    def _on_idle(self, is_idle: bool) -> None:
        if is_idle:
            while self._is_next_done():
                self._collect()
            if self._undurable:
                self._save_checkpoint_if_due()
        elif self._clock.lag_us(self._reader.next_run_line) > _MOST_LAG_US:
            self._save_checkpoint()

    def _is_next_done(self) -> bool:
        return bool(self._in_flight) and self._in_flight[0].ticket.is_done()

    def _set_window_size(self) -> None:
        count = len(self._session.lanes)
        self._reader.size = BATCH if count == 1 else 2 * BATCH * count

    def _open_more_lanes_if_due(self) -> None:
        if (
            self._plan.jobs is None
            and not self._plan.dry_run
            and len(self._session.lanes) == 1
            and self._ledger.counts.read >= PARALLEL_FROM
        ):
            while self._in_flight:
                self._collect()
            try:
                self._session.open_lanes(self._journal, PARALLEL_JOBS)
            except DatabaseError as error:
                self._recover(error)
            self._set_window_size()

    def _send(self, window: Window) -> None:
        """Send the requests, also those that an interrupted try has stored: nothing changes."""
        ahead = [other.ticket for other in self._in_flight if other is not window]
        window.ticket = lanes.send(self._session.lanes, window.requests, ahead)

    def _collect(self) -> None:
        """Take the oldest window into the ledger; wait for a server that has gone."""
        while True:
            window = self._in_flight[0]
            while not window.ticket.wait(_LOOK_SECONDS):
                self._switch.check()
            try:
                letters = window.ticket.letters()
            except LaneBrokenError:
                self._recover(self._cause())
            except (psycopg.Error, ConnectionLostError) as error:
                self._recover(error)
            else:
                break
        try:
            self._enter(window, letters)
        except ConnectionLostError as error:
            self._recover(error)
            return
        self._in_flight.popleft()
        self._undurable.append(window)

    def _enter(self, window: Window, letters: str) -> None:
        ledger, index = self._ledger, window.input
        ledger.local_phones += window.local_phones
        if not (
            window.problems
            or ledger.writes_outcomes
            or window.first_run_line <= self._records.until
            or REFUSED in letters
            or FORGOTTEN in letters
        ):
            ledger.count(letters)
            return
        answers = enumerate(window.ticket.results())
        for place, row in enumerate(window.rows):
            problem = window.problems.get(place)
            if place in window.skipped:
                if problem is not None:
                    ledger.reject(index, row, problem.code, problem.reason)
                continue
            number, answer = next(answers)
            run_line = window.lines_before + row.line
            if run_line <= self._records.until:
                request = self._normalizer.request_of(*window.requests.values(number))
                answer = self._as_first_answered(answer, request, run_line)
            if isinstance(answer, Refusal):
                error = answer.as_error()
                ledger.reject(index, row, error.code, error.reason)
                continue
            ledger.answer(index, row, answer)
            if problem is not None:
                ledger.leave_out(index, row, problem.code, problem.reason)

    def _as_first_answered(
        self, answer: Outcome | Refusal, request: ContactRequest, run_line: int
    ) -> Outcome | Refusal:
        """Return what was answered before an interruption, if the request was stored then.

        A request that had stored nothing was unchanged then too, but later merges and hubs may have
        moved its identity.
        """
        if isinstance(answer, Outcome) and not (
            answer.name == "unchanged"
            or (answer.name == "blocked" and self._records.has_hub_since(run_line, request))
        ):
            return answer
        first = self._records.outcome(run_line, request, self._journal.are_unknown)
        if first is None:
            if isinstance(answer, Refusal):
                return answer
            first = Outcome("unchanged", None, None)
        if first.primary_id is None and self._ledger.writes_outcomes:
            hubs = self._records.hubs_at(run_line, request)
            return first._replace(primary_id=self._journal.primary_at(request, run_line, hubs))
        return first

    # Durability.

    def _save_checkpoint_if_due(self) -> None:
        pending = sum(window.weight for window in self._undurable)
        elapsed = time.monotonic() - self._checkpoint_at
        if elapsed >= CHECKPOINT_SECONDS or pending > _MOST_PENDING:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        """Save a checkpoint, and again until it is certain that it was saved."""
        if self._plan.dry_run:
            self._undurable.clear()
            self._clock.advance(self._reader.next_run_line)
            return
        while True:
            try:
                self._save(self._next_checkpoint())
            except ConnectionLostError as error:
                self._recover(error)
                while self._in_flight:
                    self._collect()
            else:
                return

    def _next_checkpoint(self) -> Checkpoint:
        self._ledger.sync()
        checkpoint = self._checkpoint.copy()
        if self._undurable:
            last = self._undurable[-1]
            checkpoint.milestones = last.milestones
            # What an interrupted try did beyond this checkpoint still lies above the old marks.
            if last.last_run_line >= self._records.until:
                self._marks = self._journal.marks()
            checkpoint.marks = self._in_flight[0].marks if self._in_flight else self._marks
            self._clock.forget_before(last.last_run_line + 1)
        # What an interrupted try has stored is dated by its segments, and so are the gaps in it.
        if self._reader.next_run_line > self._records.until:
            self._clock.advance(self._reader.next_run_line)
        checkpoint.segments = list(self._clock.segments)
        checkpoint.retries = self._session.retries
        checkpoint.seconds = self.seconds
        self._ledger.note(checkpoint)
        return checkpoint

    def _save(self, checkpoint: Checkpoint) -> None:
        self._attempted = checkpoint
        self._journal.save(checkpoint, self._reader.first_lines)
        self._checkpoint = checkpoint
        self._undurable.clear()
        self._checkpoint_at = time.monotonic()

    def _recover(self, error: Exception) -> None:
        """Wait for a server that has gone, then continue from the last checkpoint."""
        is_lost = isinstance(error, DatabaseUnreachableError) or (
            isinstance(error, psycopg.Error) and is_connection_lost(error)
        )
        failure = translate(error) if isinstance(error, psycopg.Error) else error
        if not is_lost or self._plan.dry_run:
            raise failure
        while True:
            self._session.reconnect(self._journal, failure)
            try:
                self._check_server_kept_all()
                self._records = self._journal.records(self._checkpoint)
            except ConnectionLostError as again:
                failure = again
            else:
                break
        self._ledger.go_back(self._checkpoint)
        self._in_flight.extendleft(reversed(self._undurable))
        self._undurable.clear()
        waiting, self._in_flight = self._in_flight, deque()
        for window in waiting:
            self._send(window)
            self._in_flight.append(window)

    def _check_server_kept_all(self) -> None:
        """Compare the database's checkpoint with ours.

        A server that was replaced by a standby behind it, or restored from a backup, may be older
        than what it had reported to be on disk.
        """
        stored = self._journal.stored_checkpoint()
        if stored in (self._checkpoint.as_json(), self._attempted.as_json()):
            return
        if stored is None:
            what, then = "does not know this run", "from the beginning"
        else:
            rows = stored.get("counts", {}).get("read", 0)
            what = f"has it up to row {rows}, and had reported row {self._checkpoint.counts.read}"
            then = f"after row {rows}"
        raise ServerWentBackError(
            f"the database has lost rows of this run: it {what}",
            hint=f"check what the server was restored from; the same command reads again {then}",
        )

    def _cause(self) -> Exception:
        """Return what the first failed batch raised: why a lane is broken."""
        for window in self._in_flight:
            for _, future in window.ticket.parts:
                if future.done() and not future.cancelled():
                    error = future.exception()
                    if isinstance(error, Exception) and not isinstance(error, LaneBrokenError):
                        return error
        return ConnectionLostError()
