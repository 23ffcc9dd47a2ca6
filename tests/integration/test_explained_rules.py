"""Explanations where rules keep values from linking."""

from __future__ import annotations

import random
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from steered import ordered
from steering import Player

from identity_cli import errors
from identity_cli.graph.explanation import (
    ChainExplanation,
    Separation,
    explain_chain,
    explain_identity,
)
from identity_cli.graph.references import Reference
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def reference(value: str) -> tuple[Reference, ...]:
    return (Reference("email" if "@" in value else "phone", value),)


def explained(connection: Connection, start: str, end: str) -> ChainExplanation | Separation:
    with snapshot(connection) as graph:
        return explain_chain(graph, reference(start), reference(end))


def separation(connection: Connection, start: str, end: str) -> Separation:
    found = explained(connection, start, end)
    assert isinstance(found, Separation)
    return found


def test_unlinked_pair_of_a_contact_is_named(connection: Connection) -> None:
    player = Player(connection)
    player.request(["a@x"], ["1"])
    player.request(["b@x"], ["1"])
    player.unlink("b@x", "1")
    found = separation(connection, "b@x", "a@x")
    [rule] = found.rules
    assert (rule.kind, list(rule.values), rule.command_id) == ("unlinked", ["b@x", "1"], 1)
    assert "the pair that would join them was unlinked (command 1)" in str(found.error)
    assert "b@x" not in str(found.error)
    assert found.as_json()["rules"] == [rule.as_json()]


def test_unlinked_pair_of_evidence_is_named(connection: Connection) -> None:
    player = Player(connection)
    player.request(["a@x", "c@x"], [])
    player.request(["b@x"], ["2"])
    player.request(["b@x", "c@x"], [])
    player.unlink("c@x", "b@x")
    [rule] = separation(connection, "a@x", "2").rules
    assert (rule.kind, list(rule.values)) == ("unlinked", ["b@x", "c@x"])


def test_unlinked_pair_that_was_never_stated_keeps_nothing_apart(connection: Connection) -> None:
    player = Player(connection)
    player.request(["a@x"], ["1"])
    player.request(["b@x"], ["2"])
    player.unlink("a@x", "2")
    found = separation(connection, "a@x", "b@x")
    assert found.rules == ()
    assert str(found.error).startswith("they are two identities, and nothing that links joins them")


def test_blocked_value_between_two_identities_is_named(connection: Connection) -> None:
    player = Player(connection)
    player.request(["a@x"], ["555"])
    player.request(["b@x"], ["555"])
    player.block(["555"])
    found = separation(connection, "a@x", "b@x")
    [rule] = found.rules
    assert (rule.kind, list(rule.values), rule.command_id) == ("blocked", ["555"], 1)
    assert "the value that would join them was blocked (command 1)" in str(found.error)
    assert "555" not in str(found.error)


def test_pattern_and_hub_are_named(connection: Connection) -> None:
    player = Player(connection)
    for i in range(4):
        player.request([f"p{i}@x"], ["555"])
        player.request([f"q{i}@x", "info@x"], [])
    player.add_pattern("info@.*")
    player.limit(None, 3)
    [by_pattern] = separation(connection, "q1@x", "q2@x").rules
    assert (by_pattern.kind, list(by_pattern.values)) == ("pattern", ["info@x"])
    found = separation(connection, "p1@x", "p2@x")
    [by_limit] = found.rules
    assert (by_limit.kind, list(by_limit.values), by_limit.command_id) == ("hub", ["555"], None)
    assert "was seen with more others than the policy allows" in str(found.error)


def test_each_rule_of_several_is_listed(connection: Connection) -> None:
    player = Player(connection)
    for phone in ("551", "552", "553"):
        player.request(["a@x"], [phone])
        player.request(["b@x"], [phone])
    player.block(["551"])
    player.block(["552"])
    player.unlink("a@x", "553")
    found = separation(connection, "a@x", "b@x")
    assert [(rule.kind, list(rule.values)) for rule in found.rules] == [
        ("blocked", ["551"]),
        ("blocked", ["552"]),
        ("unlinked", ["a@x", "553"]),
    ]
    assert str(found.error).endswith("was blocked (command 1), and 2 more rules")


def test_blocked_value_belongs_to_no_identity(connection: Connection) -> None:
    player = Player(connection)
    player.request(["a@x"], ["555"])
    player.block(["555"])
    with snapshot(connection) as graph:
        with pytest.raises(errors.ContactNotFoundError, match=r"it was blocked \(command 1\)"):
            explain_identity(graph, reference("555"))
        with pytest.raises(errors.ContactNotFoundError, match="the second one of the two: it was"):
            explain_chain(graph, reference("a@x"), reference("555"))
        with pytest.raises(errors.ContactNotFoundError, match="no such contact"):
            explain_identity(graph, reference("556"))
    player.unblock(["555"])
    assert isinstance(explained(connection, "a@x", "555"), ChainExplanation)


def play(player: Player, chosen: random.Random, steps: int) -> None:
    emails = [f"{name}@x" for name in "abcdefghij"]
    phones = [f"55{i}" for i in range(10)]
    # Rules for what was requested, as users make them.
    stated: list[tuple[str, str]] = [("a@x", "550")]
    for _ in range(steps):
        step = chosen.random()
        if step < 0.6:
            values = chosen.sample(emails, chosen.choice((0, 1, 1, 2))) + chosen.sample(phones, 1)
            player.request(values[:-1], values[-1:])
            stated += combinations(values, 2)
        elif step < 0.72:
            player.block([chosen.choice(emails + phones)])
        elif step < 0.8:
            player.unblock([chosen.choice(emails + phones)])
        elif step < 0.95:
            player.unlink(*chosen.choice(stated))
        else:
            player.limit(None, chosen.choice((None, 4, 6)))


def linking(player: Player) -> dict[str, set[str]]:
    """The values that each value links with, from everything that was requested and the rules."""
    off = player.truth.off()
    beside: dict[str, set[str]] = {
        value: set() for fact in player.truth.facts() for value in fact if value not in off
    }
    for fact in player.truth.facts():
        if len(fact) == 2 and not off & set(fact) and ordered(*fact) not in player.truth.unlinked:
            beside[fact[0]].add(fact[1])
            beside[fact[1]].add(fact[0])
    return beside


def distances(beside: dict[str, set[str]], start: str) -> dict[str, int]:
    reached, hops, edge = {start: 0}, 0, {start}
    while edge:
        hops += 1
        edge = {other for value in edge for other in beside[value]} - reached.keys()
        reached |= dict.fromkeys(edge, hops)
    return reached


@pytest.mark.parametrize("seed", range(6))
def test_after_any_rules_chains_are_the_shortest_ones_of_what_links(
    connection: Connection, seed: int
) -> None:
    player = Player(connection)
    play(player, random.Random(seed), 35)
    beside = linking(player)
    separate = 0
    with snapshot(connection) as graph:
        for start, end in combinations(sorted(beside), 2):
            found = explain_chain(graph, reference(start), reference(end))
            reached = distances(beside, start)
            if end not in reached:
                assert isinstance(found, Separation)
                separate += 1
                continue
            assert isinstance(found, ChainExplanation)
            assert len(found.hops) == reached[end]
            assert all(hop.other_value in beside[hop.value] for hop in found.hops)
        for value in beside:
            tree = explain_identity(graph, reference(value)).tree
            assert sorted(branch.value for branch in tree) == sorted(distances(beside, value))
            assert sum(branch.parent is None for branch in tree) == 1
            assert all(branch.origin is not None for branch in tree)
    assert (separate, len(beside)) > (0, 5)


@pytest.mark.parametrize("seed", [1, 3, 4, 5, 6, 7])  # where some rule does that
def test_a_rule_is_named_exactly_where_its_removal_would_join_the_two(
    connection: Connection, seed: int
) -> None:
    player = Player(connection)
    play(player, random.Random(100 + seed), 35)
    player.limit(None, None)
    truth = player.truth
    beside = linking(player)
    named = 0
    with snapshot(connection) as graph:
        for start, end in combinations(sorted(beside), 2):
            found = explain_chain(graph, reference(start), reference(end))
            if isinstance(found, ChainExplanation):
                continue
            expected = set()
            for value in list(truth.blocked):
                truth.blocked.remove(value)
                if end in distances(linking(player), start):
                    expected.add((value,))
                truth.blocked.add(value)
            for pair in list(truth.unlinked):
                truth.unlinked.remove(pair)
                if end in distances(linking(player), start):
                    expected.add(pair)
                truth.unlinked.add(pair)
            assert {tuple(rule.values) for rule in found.rules} == expected
            named += len(expected)
    assert named > 0
