"""The replay against the model: who is linked to whom, who gives way, and who was moved when."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import Model

from identity_cli.backfill.replay import replay, settle

if TYPE_CHECKING:
    from model import Pair


@dataclass
class Events:
    """What the replay is told of a stream of requests, and what it has to answer."""

    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    model: Model = field(default_factory=Model)
    # The event that last moved each contact, kept as the service keeps it: row for row.
    links: dict[int, int] = field(default_factory=dict)
    moved: dict[int, int] = field(default_factory=dict)

    def add(self, left: int, right: int, new: int, answer: tuple[int, int]) -> None:
        self.left.append(left)
        self.right.append(right)
        self.new.append(new)
        self.answers.append(answer)
        primary, merged = answer
        if new:
            self.links[new] = primary
        if merged:
            for contact in [merged, *(c for c, link in self.links.items() if link == merged)]:
                self.links[contact] = primary
                self.moved[contact] = len(self.answers)


def events_of(stream: list[Pair]) -> Events:
    events = Events()
    anchors: dict[str, int] = {}
    for pair in stream:
        evidence = len(events.model.evidence)
        answer = events.model.reconcile(*pair)
        values = [value for value in pair if value is not None]
        if answer.contact_id is not None:
            known = [anchors[value] for value in values if value in anchors]
            for value in values:
                anchors.setdefault(value, answer.contact_id)
            if answer.name == "linked":
                events.add(known[0], 0, answer.contact_id, (answer.primary_id, 0))
        elif len(events.model.evidence) > evidence:
            merged = events.model.evidence[-1].merged_id
            events.add(anchors[values[0]], anchors[values[1]], 0, (answer.primary_id, merged or 0))
    return events


emails = st.sampled_from([None, *(f"{name}@x.org" for name in "abcdefgh")])
phones = st.sampled_from([None, *"12345678"])
streams = st.lists(st.tuples(emails, phones).filter(any), max_size=60)


@given(streams, st.integers(1, 20))
def test_replay_answers_as_the_model_does(stream: list[Pair], size: int) -> None:
    events = events_of(stream)
    parents = array("q", range(len(stream) + 1))
    found: list[tuple[int, int]] = []
    for start in range(0, len(events.new), size):
        batch = slice(start, start + size)
        found += zip(
            *replay(events.left[batch], events.right[batch], events.new[batch], parents),
            strict=True,
        )
    assert found == events.answers


@given(streams, st.integers(1, 20))
def test_settle_tells_when_contacts_were_moved_last(stream: list[Pair], size: int) -> None:
    events = events_of(stream)
    merges = [
        (turn, primary, merged)
        for turn, (primary, merged) in enumerate(events.answers, 1)
        if merged
    ][::-1]
    moved = array("q", bytes(8 * (len(stream) + 1)))
    settled: list[int] = []
    for start in range(0, len(merges), size):
        turns, primaries, merged = zip(*merges[start : start + size], strict=True)
        settled += settle(turns, primaries, merged, moved)
    losers = [merged for _, _, merged in merges]
    assert settled == [events.moved[loser] for loser in losers]
    # The primary of that event leads the identity in the end.
    leads = [events.answers[turn - 1][0] for turn in settled]
    assert leads == [events.model.primaries()[loser] for loser in losers]


def test_replay_takes_a_dictionary_for_some_of_the_nodes() -> None:
    parents = {node: node for node in (3, 5, 8, 9)}
    assert [*zip(*replay([5, 3, 9], [0, 8, 3], [9, 0, 0], parents), strict=True)] == [
        (5, 0),
        (3, 8),
        (3, 5),
    ]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        replay([1, 2], [2], [0, 0], array("q", range(4)))
