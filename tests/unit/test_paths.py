"""The fewest pairs that separate two values."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.graph.paths import Pair, fewest_pairs


def pairs(*texts: str) -> list[Pair]:
    """Return pairs of one-letter values."""
    return [Pair(text[0], text[1]) for text in texts]


def are_joined(given_pairs: list[Pair], start: str, end: str) -> bool:
    """Whether the pairs lead from one value to the other, worked out by flooding."""
    reached = {start}
    while True:
        more = {v for pair in given_pairs if reached & {*pair[:2]} for v in pair[:2]} - reached
        if not more:
            return end in reached
        reached |= more


def test_cut_is_at_the_bridge() -> None:
    triangles = pairs("ab", "bc", "ac", "cx", "xy", "yz", "xz")
    assert fewest_pairs(triangles, "a", "z") == pairs("cx")


def test_cut_takes_a_flow_back_where_the_first_path_was_wrong() -> None:
    # The shortest path a-c-d-z crosses both ways that two units need.
    crossing = pairs("ac", "cd", "dz", "ap", "pq", "qd", "cr", "rs", "sz")
    cut = fewest_pairs(crossing, "a", "z")
    assert len(cut) == 2
    assert not are_joined([pair for pair in crossing if pair not in cut], "a", "z")


def test_cut_of_separate_values_is_empty() -> None:
    assert fewest_pairs(pairs("ab", "cd"), "a", "d") == []


def test_pair_that_is_stored_twice_is_cut_once() -> None:
    assert len(fewest_pairs([Pair("a", "b", 1), Pair("a", "b", 2)], "a", "b")) == 1


@given(st.sets(st.sampled_from([f"{a}{b}" for a, b in combinations("abcdef", 2)])))
def test_cut_separates_and_no_smaller_set_does(texts: set[str]) -> None:
    known = pairs(*sorted(texts))
    cut = fewest_pairs(known, "a", "f")
    assert not are_joined([pair for pair in known if pair not in cut], "a", "f")
    for smaller in combinations(known, max(0, len(cut) - 1)):
        if cut:
            assert are_joined([pair for pair in known if pair not in smaller], "a", "f")


@pytest.mark.parametrize("width", [1, 300])
def test_cut_of_a_wide_graph_ends(width: int) -> None:
    names = [f"m{i}" for i in range(width)]
    wide = [Pair("a", name) for name in names] + [Pair(name, "z") for name in names]
    assert len(fewest_pairs(wide, "a", "z")) == width
