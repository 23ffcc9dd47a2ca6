"""Lanes: connections that work side by side, each through its batches in the order they came.

Requests that share an identifier go down one lane in file order, so with any number of lanes the
same contact comes first and is the primary.
"""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from identity_cli.importer.groups import Assignment, Groups, assign

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.graph.batches import Answers, Refusal, RequestColumns
    from identity_cli.graph.core import Outcome
    from identity_cli.graph.service import IdentityService

BATCH = 500
_CANCEL_SECONDS = 2.0

Results = list["Outcome | Refusal"]


class LaneBrokenError(Exception):
    """A batch before this one failed: it must not overtake it."""


class Lane:
    """One connection and the thread that waits for it."""

    def __init__(self, service: IdentityService, *, run_id: int | None, commit_each: bool) -> None:
        self.service = service
        self._run_id = run_id
        self._commit_each = commit_each
        self._is_broken = False
        self._at_work = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lane")

    def send(self, batch: RequestColumns, after: Sequence[Future[Answers]] = ()) -> Future[Answers]:
        """Send the batch when those before it are done, and those of other lanes in `after`."""
        return self._thread.submit(self._reconcile, batch, after)

    def _reconcile(self, batch: RequestColumns, after: Sequence[Future[Answers]]) -> Answers:
        if self._is_broken or any(map(_has_failed, after)):
            self._is_broken = True
            raise LaneBrokenError
        try:
            with self._at_work:
                return self.service.reconcile_columns(
                    batch, self._run_id, commit_each=self._commit_each
                )
        except BaseException:
            self._is_broken = True
            raise

    def cancel(self) -> None:
        """End the batch at work between two of its requests; those that wait are not sent.

        Returns within seconds, also if the server can no longer be reached.
        """
        self._is_broken = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        connection = self.service.connection
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait for the batch at work, at most so long; return whether it has ended."""
        if not self._at_work.acquire(timeout=seconds):
            return False
        self._at_work.release()
        return True

    def disconnect(self) -> None:
        """Cut the connection under a batch whose answer no longer comes."""
        with suppress(psycopg.Error, OSError):
            descriptor = os.dup(self.service.connection.fileno())
            with socket.socket(fileno=descriptor) as shared:
                shared.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Wait for the batch at work, leave out those that wait, close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.service.connection.close()


def _has_failed(future: Future[Answers]) -> bool:
    """Wait for a batch; return whether it did not come to its end."""
    try:
        return future.exception() is not None
    except CancelledError:
        return True


@dataclass(slots=True)
class Ticket:
    """Requests that were sent: which of them went in which batch, and how they were assigned."""

    size: int
    parts: list[tuple[Sequence[int], Future[Answers]]] = field(default_factory=list)
    assignment: Assignment | None = None

    def is_done(self) -> bool:
        return all(future.done() for _, future in self.parts)

    def has_failed(self) -> bool:
        """Return whether a batch did not come to its end; for a ticket that is done."""
        return any(_has_failed(future) for _, future in self.parts)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for all batches, at most so long; return whether they are done."""
        return not wait_for([future for _, future in self.parts], seconds).not_done

    def letters(self) -> str:
        """Return the letters of the answers, in any order. Raises what a lane raised."""
        return "".join(future.result().letters for _, future in self.parts)

    def results(self) -> Results:
        """Return the results in the order of the requests. Raises what a lane raised."""
        if self.assignment is None:
            return [result for _, future in self.parts for result in future.result().outcomes()]
        results: dict[int, Outcome | Refusal] = {}
        for indexes, future in self.parts:
            results.update(zip(indexes, future.result().outcomes(), strict=True))
        return [results[i] for i in range(self.size)]


def send(lanes: Sequence[Lane], requests: RequestColumns, ahead: Iterable[Ticket]) -> Ticket:
    """Send the requests down the lanes, behind the tickets that are not done yet."""
    ticket = Ticket(len(requests))
    if len(lanes) == 1:
        shares: list[Sequence[int]] = [range(len(requests))]
        crossing: list[list[int]] = [[]]
    else:
        ahead = [other for other in ahead if not other.is_done()]
        before = [other.assignment for other in ahead if other.assignment is not None]
        ticket.assignment = assign(Groups(requests), len(lanes), before)
        shares = [*ticket.assignment.shares]
        crossing = ticket.assignment.crossing
    for lane, share in zip(lanes, shares, strict=True):
        for start in range(0, len(share), BATCH):
            part = share[start : start + BATCH]
            ticket.parts.append((part, lane.send(requests.take(part))))
    if any(crossing):
        after = [future for other in ahead for _, future in other.parts]
        for lane, indexes in zip(lanes, crossing, strict=True):
            for start in range(0, len(indexes), BATCH):
                part = indexes[start : start + BATCH]
                ticket.parts.append((part, lane.send(requests.take(part), after)))
    return ticket
