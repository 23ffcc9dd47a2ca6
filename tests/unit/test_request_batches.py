"""Requests that are under way at the same time go together, and none waits long for another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from identity_cli.http.batches import LARGEST_BATCH, PATIENCE_SECONDS, Batches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import pytest


class Recorder:
    """Answers each request with its square after a wait; keeps the sizes of the batches."""

    def __init__(self, wait: Callable[[Sequence[int]], Awaitable[object]]) -> None:
        self.sizes: list[int] = []
        self.most_under_way = 0
        self._under_way = 0
        self._wait = wait

    async def send(self, requests: Sequence[int]) -> list[int | None]:
        self.sizes.append(len(requests))
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            await self._wait(requests)
        finally:
            self._under_way -= 1
        return [request**2 for request in requests]


async def for_a_moment(_requests: Sequence[int]) -> None:
    await asyncio.sleep(0.001)


async def all_answers(batches: Batches[int, int], count: int) -> list[int | None]:
    return await asyncio.gather(*map(batches.answer, range(count)))


def test_requests_of_one_turn_share_the_lanes() -> None:
    async def sizes() -> list[int]:
        recorder = Recorder(for_a_moment)
        batches = Batches(recorder.send, lanes=2)
        assert await all_answers(batches, 16) == [n**2 for n in range(16)]
        return recorder.sizes

    assert asyncio.run(sizes()) == [8, 8]


def test_no_more_batches_are_under_way_than_there_are_lanes() -> None:
    async def most() -> int:
        recorder = Recorder(for_a_moment)
        batches = Batches(recorder.send, lanes=2)

        async def client() -> None:
            for n in range(20):
                assert await batches.answer(n) == n**2

        await asyncio.gather(*(client() for _ in range(10)))
        assert sum(recorder.sizes) == 200
        assert max(recorder.sizes) > 1
        return recorder.most_under_way

    assert asyncio.run(most()) == 2


def test_request_alone_is_sent_at_once() -> None:
    async def sizes() -> list[int]:
        recorder = Recorder(for_a_moment)
        batches = Batches(recorder.send, lanes=2)
        for n in range(3):
            assert await batches.answer(n) == n**2
        return recorder.sizes

    assert asyncio.run(sizes()) == [1, 1, 1]


def test_batch_has_a_largest_size() -> None:
    async def sizes() -> list[int]:
        recorder = Recorder(for_a_moment)
        await all_answers(Batches(recorder.send, lanes=1), LARGEST_BATCH + 3)
        return recorder.sizes

    assert asyncio.run(sizes()) == [LARGEST_BATCH, 3]


def test_batch_that_waits_holds_up_no_other_request() -> None:
    async def answers() -> None:
        released = asyncio.Event()

        async def wait(requests: Sequence[int]) -> None:
            if 7 in requests:
                await released.wait()

        batches = Batches(Recorder(wait).send, lanes=1)
        stuck = asyncio.create_task(batches.answer(7))
        await asyncio.sleep(0.001)
        async with asyncio.timeout(20 * PATIENCE_SECONDS):
            assert await batches.answer(2) == 4
        assert not stuck.done()
        released.set()
        assert await stuck == 49

    asyncio.run(answers())


def test_error_is_that_of_each_request() -> None:
    async def errors() -> list[BaseException | int | None]:
        async def fail(_requests: Sequence[int]) -> None:
            raise OSError("broken")

        batches = Batches(Recorder(fail).send, lanes=1)
        return await asyncio.gather(*map(batches.answer, range(3)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(errors())] == ["broken"] * 3


def test_cancelled_request_leaves_the_others_alone() -> None:
    async def answers() -> list[BaseException | int | None]:
        batches = Batches(Recorder(for_a_moment).send, lanes=1)
        tasks = [asyncio.create_task(batches.answer(n)) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, cancelled, last = asyncio.run(answers())
    assert (first, last) == (0, 4)
    assert isinstance(cancelled, asyncio.CancelledError)


def test_refused_batches_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity_cli.http.batches.PAUSE_SECONDS", 0.1)

    async def calls() -> list[int]:
        sizes: list[int] = []

        async def refuse(requests: Sequence[int]) -> None:
            sizes.append(len(requests))

        batches: Batches[int, int] = Batches(refuse, lanes=1)
        assert await all_answers(batches, 3) == [None] * 3
        assert await all_answers(batches, 3) == [None] * 3
        await asyncio.sleep(0.1)
        assert await all_answers(batches, 2) == [None] * 2
        return sizes

    assert asyncio.run(calls()) == [3, 2]


def test_without_lanes_each_request_goes_alone() -> None:
    async def answer() -> int | None:
        return await Batches(Recorder(for_a_moment).send, lanes=0).answer(3)

    assert asyncio.run(answer()) is None
