"""Requests that are under way at the same time, sent to the database in one round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

LARGEST_BATCH = 64
# A batch that takes longer, because it waits for a lock or the disk is slow, frees its lane.
PATIENCE_SECONDS = 0.05
# After the database has refused to take batches, requests go alone for this time.
PAUSE_SECONDS = 1.0

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class Batches(Generic[_Request, _Answer]):
    """A queue of requests: those that come while others are under way go together.

    As many batches are under way as there are lanes. With two, one is reconciled while the answers
    of the other are written, so each takes half of the requests at most.

    `send` returns an answer for each request, or None for one that has to go alone; None for all of
    them if the database takes no batches. Its error is the error of each request of the batch.
    """

    def __init__(
        self,
        send: Callable[[Sequence[_Request]], Awaitable[Sequence[_Answer | None] | None]],
        *,
        lanes: int,
    ) -> None:
        self._send = send
        self._lanes = lanes
        self._waiting: deque[tuple[_Request, asyncio.Future[_Answer | None]]] = deque()
        self._under_way = 0
        self._next_start: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: dict[asyncio.Task[None], asyncio.TimerHandle] = {}
        self._paused_until = 0.0

    async def answer(self, request: _Request) -> _Answer | None:
        """Return the answer to a request, None if it has to go alone."""
        loop = asyncio.get_running_loop()
        if not self._lanes or (self._paused_until and loop.time() < self._paused_until):
            return None
        future: asyncio.Future[_Answer | None] = loop.create_future()
        self._waiting.append((request, future))
        self._plan_start(loop)
        return await future

    def _plan_start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and self._next_start is None and len(self._busy) < self._lanes:
            # At the end of the next turn of the loop: what it reads goes with the first request.
            self._next_start = loop.call_soon(loop.call_soon, self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_start = None
        share = -(-(len(self._waiting) + self._under_way) // self._lanes)
        size = min(share, len(self._waiting), LARGEST_BATCH)
        batch = [self._waiting.popleft() for _ in range(size)]
        task = loop.create_task(self._run(batch))
        self._tasks.add(task)
        self._busy[task] = loop.call_later(PATIENCE_SECONDS, self._free_lane, task)
        task.add_done_callback(self._finish)
        self._plan_start(loop)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free_lane(task)

    def _free_lane(self, task: asyncio.Task[None]) -> None:
        timer = self._busy.pop(task, None)
        if timer is not None:
            timer.cancel()
            self._plan_start(task.get_loop())

    async def _run(self, batch: Sequence[tuple[_Request, asyncio.Future[_Answer | None]]]) -> None:
        self._under_way += len(batch)
        try:
            answers = await self._send([request for request, _ in batch])
            if answers is None:
                self._paused_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
                answers = [None] * len(batch)
        except Exception as error:  # noqa: BLE001 - each request raises it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # its request may have been cancelled
                    future.set_result(answer)
        finally:
            self._under_way -= len(batch)
            for _, future in batch:
                future.cancel()  # with this task, when the loop ends
