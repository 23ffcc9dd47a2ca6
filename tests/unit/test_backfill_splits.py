"""Identities that hubs split, replayed in memory, against the model that starts from scratch."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import combinations, product

import pytest
from steered import Everything, Request, ordered
from steering import EMAILS, PHONES, VALUES

from identity_cli.backfill.splits.graph import Graph
from identity_cli.backfill.splits.replay import Rules, SplitReplay, Statement


def random_model(draw: random.Random) -> Everything:
    """Return random requests, and rules that do not change while they come."""
    model = Everything()
    for _ in range(draw.randint(5, 60)):
        emails, phones = draw.choice([(1, 1), (1, 1), (1, 0), (0, 1), (2, 0), (0, 2), (2, 2)])
        model.requests.append(
            Request(tuple(draw.sample(EMAILS, emails)), tuple(draw.sample(PHONES, phones)))
        )
    limits = (None, 1, 2, 3)
    model.email_limit, model.phone_limit = draw.choice(limits), draw.choice(limits)
    model.exempt = set(draw.sample(VALUES, draw.choice((0, 1))))
    model.blocked = set(draw.sample(VALUES, draw.choice((0, 0, 1))))
    model.unlinked = {ordered(*draw.sample(VALUES, 2)) for _ in range(draw.choice((0, 1, 3)))}
    return model


def statements_of(model: Everything) -> list[Statement]:
    """Return what the requests state, each pair and each value alone when it comes first."""
    statements: list[Statement] = []
    seen: set[tuple[str, ...]] = set()
    for line, request in enumerate(model.requests, 1):
        pairs: list[tuple[str, ...]] = [
            *product(request.emails, request.phones),
            *combinations(request.emails, 2),
            *combinations(request.phones, 2),
        ]
        if not pairs:
            pairs = [request.emails + request.phones]
        for step, pair in enumerate(pairs):
            fact = pair if len(pair) == 1 else ordered(*pair)
            if fact not in seen:
                seen.add(fact)
                left, right = (pair[0], None) if len(pair) == 1 else pair
                statements.append(Statement(1024 * line + 4 * step, left, right))
    return statements


def rules_of(model: Everything, statements: list[Statement]) -> Rules:
    partners: Counter[str] = Counter()
    hubs: dict[str, int] = {}
    blocked: dict[str, int] = {}
    for turn, left, right in statements:
        values = [value for value in (left, right) if value is not None]
        for value in values:
            if value in model.blocked:
                blocked.setdefault(value, turn)
            if len(values) == 2:
                partners[value] += 1
                limit = model.email_limit if "@" in value else model.phone_limit
                is_full = limit is not None and partners[value] > limit
                if is_full and value not in model.exempt:
                    hubs.setdefault(value, turn)
    return Rules(blocked, unlinked=frozenset(model.unlinked), hubs=hubs)


def identities_of(graph: Graph) -> set[frozenset[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for contact in graph.contacts.values():
        found[contact.root].update(v for v in (contact.email, contact.phone) if v is not None)
    return set(map(frozenset, found.values()))


@pytest.mark.parametrize("seed", range(300))
def test_the_identities_are_those_of_the_model(seed: int) -> None:
    model = random_model(random.Random(seed))
    statements = statements_of(model)
    rules = rules_of(model, statements)
    replayed = SplitReplay(Graph(), rules)
    for statement in statements:
        replayed.state(statement)
    graph = replayed.graph
    assert identities_of(graph) == model.identities()
    assert {hub for command in graph.commands for hub in command.hubs} == set(rules.hubs)
    for contact in graph.contacts.values():
        primary = graph.contacts[contact.root]
        assert primary.linked_id is None
        assert (primary.origin.created, primary.id) <= (contact.origin.created, contact.id)
    for evidence in graph.evidence.values():
        pair = (evidence.value, evidence.other_value)
        assert evidence.is_held == bool(model.off() & set(pair) or pair in model.unlinked)


def test_a_hub_leaves_two_identities_behind() -> None:
    statements = [
        Statement(1024, "a@x.org", "100"),
        Statement(2048, "b@x.org", "100"),
        Statement(3072, "c@x.org", "100"),
        Statement(4096, "d@x.org", "100"),
    ]
    replayed = SplitReplay(Graph(), Rules(hubs={"100": 3072}))
    outcomes = [replayed.state(statement) for statement in statements]
    # The third one was linked when it came, and is a primary afterwards.
    assert outcomes == ["created", "linked", "created", "created"]
    graph = replayed.graph
    assert [
        (contact.email, contact.phone, contact.linked_id) for contact in graph.contacts.values()
    ] == [(f"{name}@x.org", None, None) for name in "abcd"]
    assert sorted(row.email or "" for row in graph.aside.values()) == [
        f"{name}@x.org" for name in "abcd"
    ]
    assert [move.to_primary_id == move.contact_id for move in graph.moves] == [True, True]


def test_statements_have_to_come_in_their_order() -> None:
    replayed = SplitReplay(Graph(), Rules())
    replayed.state(Statement(2048, "a@x.org", None))
    with pytest.raises(AssertionError, match="order"):
        replayed.state(Statement(1024, "b@x.org", None))
