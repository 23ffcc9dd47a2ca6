"""What is shown of a tree that is too large to be looked at."""

from __future__ import annotations

import pytest
from evidence import contact

from identity_cli.graph.chains import Branch, first_links
from identity_cli.graph.excerpts import nearest_branches


def star(size: int) -> list[Branch]:
    """A phone number that many emails share."""
    rows = [contact(n, f"p{n}@x", "1", brings="" if n == 1 else "p") for n in range(1, size)]
    return first_links(rows, "1")


def line(size: int) -> list[Branch]:
    """An email, a phone number, an email, and so on."""
    values = [f"p{n}@x" if n % 2 else str(n) for n in range(size)]
    rows = [contact(n, values[n - 1], values[n]) for n in range(1, size)]
    return first_links(rows, "0")


def shown(tree: list[Branch], *starts: str, limit: int) -> list[str]:
    values = nearest_branches(tree, starts, limit=limit)
    return [branch.value for branch in tree if branch.value in values]


@pytest.mark.parametrize("tree", [star(40), line(40)], ids=["star", "line"])
def test_tree_that_fits_is_shown_as_a_whole(tree: list[Branch]) -> None:
    assert shown(tree, tree[7].value, limit=40) == [branch.value for branch in tree]
    assert len(shown(tree, tree[7].value, limit=39)) < 40


def test_shared_value_shows_a_few_others_and_the_one_that_was_asked_for() -> None:
    values = shown(star(5000), "p4000@x", limit=60)
    assert values[0] == "1"
    assert "p4000@x" in values
    assert 10 < len(values) < 20


def test_long_way_to_the_root_is_cut_in_the_middle() -> None:
    values = shown(line(5000), "p4001@x", limit=60)
    assert values[0] == "0"
    places = [int(value.strip("p@x")) for value in values[1:]]
    assert places == list(range(places[0], places[-1] + 1))
    assert places[0] == 4001 - 30
    assert len(values) == 60


def test_short_way_to_the_root_is_shown_whole() -> None:
    values = shown(line(100), "p5@x", "6", limit=20)
    assert values == [branch.value for branch in line(100)[:20]]


def test_starts_and_root_are_shown_beyond_the_limit() -> None:
    assert shown(line(100), "p7@x", "8", limit=1) == ["0", "p7@x", "8"]
