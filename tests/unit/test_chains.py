"""The search in evidence: shortest chains, the tree of what linked first, what is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evidence import contact, pair
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.graph.chains import first_links, links_of, nearest, shortest_chain

if TYPE_CHECKING:
    import random

    from identity_cli.graph.evidence import Evidence

# Contact 4 is a primary of its own until evidence 1 joins b and 4.
ROWS = [
    contact(1, "a@x", "1"),
    contact(2, "b@x", "1", brings="b"),
    contact(3, "b@x", "3", brings="3"),
    contact(4, "d@x", "4"),
    contact(5, "d@x", "5", brings="5"),
    pair(1, "b@x", "4", second=6, merged=(4, 1)),
    pair(2, "a@x", "5", second=7),
]


def test_chain_is_the_shortest_one() -> None:
    hops = shortest_chain(links_of(ROWS), ["a@x"], {"d@x"})
    assert hops is not None
    assert [(hop.value, hop.other_value, hop.row.name) for hop in hops] == [
        ("a@x", "5", "evidence 2"),
        ("5", "d@x", "contact 5"),
    ]


def test_of_chains_of_one_length_the_one_of_the_first_rows_is_preferred() -> None:
    rows = [contact(1, "a@x", "1"), contact(2, "a@x", "2"), contact(3, "z@x", "2")]
    rows.append(contact(4, "z@x", "1"))
    for order in (rows, [rows[1], rows[2], rows[0], rows[3]]):
        hops = shortest_chain(links_of(order), ["a@x"], {"z@x"})
        assert hops is not None
        assert hops[0].row == order[0]


def test_chain_to_the_value_itself_has_no_hops() -> None:
    assert shortest_chain(links_of(ROWS), ["a@x"], {"a@x"}) == []


def test_values_that_nothing_joins_have_no_chain() -> None:
    assert shortest_chain(links_of([*ROWS, contact(9, "z@x", "9")]), ["a@x"], {"9"}) is None


def test_tree_holds_the_rows_that_joined_the_values_first() -> None:
    tree = first_links(ROWS, "a@x")
    assert [
        (
            branch.depth,
            branch.value,
            branch.parent,
            branch.link and branch.link.name,
            branch.origin and branch.origin.name,
        )
        for branch in tree
    ] == [
        (0, "a@x", None, None, "contact 1"),
        (1, "1", "a@x", "contact 1", "contact 1"),
        (2, "b@x", "1", "contact 2", "contact 2"),
        (3, "3", "b@x", "contact 3", "contact 3"),
        (3, "4", "b@x", "evidence 1", "contact 4"),
        (4, "d@x", "4", "contact 4", "contact 4"),
        (5, "5", "d@x", "contact 5", "contact 5"),
    ]


def test_values_that_nothing_joins_with_the_root_are_trees_of_their_own() -> None:
    tree = first_links([*ROWS[:2], contact(9, "z@x", "9"), contact(10, "y@x")], "a@x")
    assert [(branch.depth, branch.value) for branch in tree[3:]] == [
        (0, "z@x"),
        (1, "9"),
        (0, "y@x"),
    ]


def test_tree_as_deep_as_it_is_large_needs_no_recursion() -> None:
    rows = []
    for i in range(5000):
        rows.append(contact(2 * i + 1, f"{i}@x", str(i)))
        rows.append(contact(2 * i + 2, f"{i + 1}@x", str(i)))
    tree = first_links(rows, "0@x")
    assert tree[-1].depth == 10_000
    hops = shortest_chain(links_of(rows), ["0@x"], {"5000@x"})
    assert hops is not None
    assert len(hops) == 10_000


def test_nearest_stops_at_the_limit_and_at_the_breadth() -> None:
    star = links_of([contact(i, f"{i}@x", "hub") for i in range(1, 100)])
    assert nearest(star, ["hub"], limit=10, breadth=50) == [
        "hub",
        *(f"{i}@x" for i in range(1, 10)),
    ]
    assert nearest(star, ["5@x"], limit=10, breadth=3) == ["5@x", "hub", "1@x", "2@x", "3@x"]
    assert nearest(star, ["5@x", "6@x", "7@x"], limit=2, breadth=3) == ["5@x", "6@x", "7@x"]


@st.composite
def evidence(draw: st.DrawFn) -> list[Evidence]:
    count = draw(st.integers(2, 8))
    values = st.sampled_from([f"{i}@x" for i in range(count)] + [str(i) for i in range(count)])
    pairs = draw(st.lists(st.tuples(values, values).filter(lambda p: p[0] != p[1]), min_size=1))
    return [pair(i, *found, second=i) for i, found in enumerate(pairs, 1)]


def distance(rows: list[Evidence], start: str, goal: str) -> int | None:
    """The length of the shortest chain, by growing a set of values one hop at a time."""
    reached, hops = {start}, 0
    while goal not in reached:
        grown = reached | {
            value
            for row in rows
            for value in (row.value, row.other_value)
            if value is not None and {row.value, row.other_value} & reached
        }
        if grown == reached:
            return None
        reached, hops = grown, hops + 1
    return hops


@given(evidence(), st.randoms(use_true_random=False))
def test_chain_is_as_short_as_growing_the_set_of_values_needs_hops(
    rows: list[Evidence], chosen: random.Random
) -> None:
    values = sorted({row.value for row in rows} | {str(row.other_value) for row in rows})
    start, goal = chosen.choice(values), chosen.choice(values)
    hops = shortest_chain(links_of(rows), [start], {goal})
    assert (None if hops is None else len(hops)) == distance(rows, start, goal)
    for hop in hops or ():
        assert {hop.value, hop.other_value} == {hop.row.value, hop.row.other_value}
    if hops:
        ends = [value for hop in hops for value in (hop.value, hop.other_value)]
        assert ends[::2][1:] == ends[1::2][:-1]
        assert (ends[0], ends[-1]) == (start, goal)


@given(evidence())
def test_each_value_is_in_the_tree_once_and_linked_as_early_as_possible(
    rows: list[Evidence],
) -> None:
    tree = first_links(rows, rows[0].value)
    values = {row.value for row in rows} | {str(row.other_value) for row in rows}
    assert sorted(branch.value for branch in tree) == sorted(values)
    before: dict[str, int] = {}
    for branch in tree:
        if branch.link is not None and branch.parent is not None:
            assert {branch.value, branch.parent} == {branch.link.value, branch.link.other_value}
            assert branch.depth == before[branch.parent] + 1
            earlier = rows[: rows.index(branch.link)]
            assert distance(earlier, branch.value, branch.parent) is None
        before[branch.value] = branch.depth
