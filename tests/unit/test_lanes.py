"""How requests spread over lanes: those that share an identifier stay together and in order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import components

from identity_cli import ContactRequest
from identity_cli.graph.batches import Answers, RequestColumns, RunRequest
from identity_cli.importer.groups import Assignment, Groups, assign
from identity_cli.importer.lanes import BATCH, Lane, LaneBrokenError, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model import Pair

pairs = st.tuples(
    st.sampled_from([None, *(f"{c}@x.org" for c in "abcdefghij")]),
    st.sampled_from([None, *"123456789"]),
).filter(any)
streams = st.lists(pairs, max_size=40)
counts = st.integers(1, 8)


def numbered(stream: Sequence[Pair]) -> list[RunRequest]:
    return [RunRequest(ContactRequest(*pair), line, line) for line, pair in enumerate(stream)]


def columns(stream: Sequence[Pair]) -> RequestColumns:
    return RequestColumns.of(numbered(stream))


def values(item: RunRequest) -> set[str]:
    return {*item.request.emails, *item.request.phones}


def assigned(
    stream: Sequence[Pair], lanes: int, before: Sequence[Assignment] = ()
) -> tuple[Assignment, list[list[int]], list[list[int]]]:
    assignment = assign(Groups(columns(stream)), lanes, before)
    return assignment, assignment.shares, assignment.crossing


@given(streams, counts)
def test_every_request_goes_down_one_lane_in_order(stream: list[Pair], lanes: int) -> None:
    _, found, crossing = assigned(stream, lanes)
    assert len(found) == lanes
    assert sorted(i for lane in found for i in lane) == list(range(len(stream)))
    assert all(lane == sorted(lane) for lane in found)
    assert crossing == [[]] * lanes


@given(streams, counts)
def test_what_identifiers_connect_goes_down_one_lane(stream: list[Pair], lanes: int) -> None:
    requests = numbered(stream)
    _, found, _ = assigned(stream, lanes)
    lane_of = {i: number for number, lane in enumerate(found) for i in lane}
    for component in components(stream):
        known = {value.partition(":")[2] for value in component}
        assert len({lane_of[i] for i, item in enumerate(requests) if values(item) & known}) == 1


@given(
    st.lists(
        st.lists(st.sampled_from([f"{c}@x.org" for c in "abcdefghijklmnop"]), max_size=4),
        max_size=12,
    ),
    counts,
)
def test_all_values_of_a_request_connect(stream: list[list[str]], lanes: int) -> None:
    requests = [
        RunRequest(ContactRequest(emails=emails), line, line)
        for line, emails in enumerate(filter(None, stream))
    ]
    found = assign(Groups(RequestColumns.of(requests)), lanes, []).shares
    lane_of = {i: number for number, lane in enumerate(found) for i in lane}
    pairs = [(emails[0], other) for emails in filter(None, stream) for other in emails]
    for component in components(pairs):
        known = {value.partition(":")[2] for value in component}
        assert len({lane_of[i] for i, item in enumerate(requests) if values(item) & known}) == 1


@given(st.lists(streams, min_size=2, max_size=5), counts)
def test_a_group_follows_what_is_still_on_its_way(windows: list[list[Pair]], lanes: int) -> None:
    """A request comes after all earlier ones that share a value: down their lane, or waiting."""
    before: list[Assignment] = []
    last: dict[str, int] = {}  # the lane that a value was sent down last
    for stream in windows:
        requests = numbered(stream)
        assignment, found, crossing = assigned(stream, lanes, before)
        assert sorted(i for lane in (*found, *crossing) for i in lane) == list(range(len(stream)))
        waiting = {i for lane in crossing for i in lane}
        lane_of = {i: n for part in (found, crossing) for n, lane in enumerate(part) for i in lane}
        for component in components(stream):
            known = {value.partition(":")[2] for value in component}
            members = [i for i, item in enumerate(requests) if values(item) & known]
            behind = {last[value] for value in known if value in last}
            assert len({lane_of[i] for i in members}) == 1
            lane = lane_of[members[0]]
            assert behind <= {lane} or waiting >= set(members)
            assert not behind or lane in behind
            assert len(behind) > 1 or not waiting & set(members)
        for i, item in enumerate(requests):
            for value in values(item):
                last[value] = lane_of[i]
        before.append(assignment)


def test_strangers_are_shared_out_evenly() -> None:
    _, found, _ = assigned([(f"p{i}@x.org", str(i)) for i in range(1, 1001)], 4)
    assert [len(lane) for lane in found] == [250] * 4


class FakeService:
    """Answers with the line of each request, when it is let."""

    def __init__(self) -> None:
        self.connection = self
        self.go = threading.Event()
        self.lines: list[list[int]] = []
        self.error: Exception | None = None

    def reconcile_columns(
        self, columns: RequestColumns, run_id: int | None, *, commit_each: bool = True
    ) -> Answers:
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        self.lines.append(columns.run_lines)
        lines = ",".join(map(str, columns.run_lines))
        return Answers("c" * len(columns), lines, lines, [])

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def services() -> list[FakeService]:
    return [FakeService(), FakeService()]


@pytest.fixture
def lanes(services: list[FakeService]) -> Iterator[list[Lane]]:
    opened = [Lane(service, run_id=1, commit_each=True) for service in services]  # type: ignore[arg-type]
    yield opened
    for service, lane in zip(services, opened, strict=True):
        service.go.set()
        lane.close()
        assert service.closed


def test_results_come_in_the_order_of_the_requests(
    lanes: list[Lane], services: list[FakeService]
) -> None:
    requests = columns([(f"p{i % 700}@x.org", None) for i in range(3 * BATCH)])
    for service in services:
        service.go.set()
    results = send(lanes, requests, []).results()
    assert [one.primary_id for one in results] == requests.run_lines  # type: ignore[union-attr]
    assert all(len(batch) <= BATCH for service in services for batch in service.lines)
    assert all(service.lines for service in services)


def test_a_later_window_does_not_overtake(lanes: list[Lane], services: list[FakeService]) -> None:
    first = send(lanes, columns([("a@x.org", "1"), ("b@x.org", "2")]), [])
    # It needs what both lanes are at work on: it waits for both, and nobody waits for it here.
    bridging = send(lanes, columns([("a@x.org", "2")]), [first])
    (_, future), *_ = bridging.parts
    services[0].go.set()
    with pytest.raises(TimeoutError):
        future.result(0.1)
    assert not bridging.is_done()
    services[1].go.set()
    assert len(bridging.results()) == 1
    assert first.is_done()
    assert sorted(len(batch) for service in services for batch in service.lines) == [1, 1, 1]


def test_nothing_follows_a_batch_of_another_lane_that_failed(
    lanes: list[Lane], services: list[FakeService]
) -> None:
    first = send(lanes, columns([("a@x.org", "1"), ("b@x.org", "2")]), [])
    bridging = send(lanes, columns([("a@x.org", "2")]), [first])
    services[1].error = services[0].error = ValueError("lost")
    for service in services:
        service.go.set()
    with pytest.raises(LaneBrokenError):
        bridging.results()


def test_nothing_follows_a_batch_that_failed(
    lanes: list[Lane], services: list[FakeService]
) -> None:
    services[0].error = ValueError("lost")
    for service in services:
        service.go.set()
    failed = send(lanes[:1], columns([("a@x.org", None)]), [])
    after = send(lanes[:1], columns([("b@x.org", None)]), [failed])
    with pytest.raises(ValueError, match="lost"):
        failed.results()
    services[0].error = None
    with pytest.raises(LaneBrokenError):
        after.results()
    assert services[0].lines == []
