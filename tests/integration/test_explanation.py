"""Explanations against the files that were imported: every hop is a line of one of them."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from identity_cli import ContactRequest, IdentityService, errors
from identity_cli.graph.explanation import (
    ChainExplanation,
    Separation,
    explain_chain,
    explain_identity,
)
from identity_cli.graph.references import Reference, read_reference
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.postgres.snapshot import snapshot
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from identity_cli.graph.evidence import Evidence, Sources

EXPLANATIONS = 300

Request = tuple[str, ...]


class World(NamedTuple):
    """A database with what was sent to it: requests from files, and others by themselves."""

    url: str
    requests: list[Request]
    by_hand: list[Request]
    # The values that stand in a line of a file, by path and line.
    lines: dict[tuple[str, int], set[str]]


def some_request(chosen: random.Random, size: int) -> Request:
    """A request of a few values; neighbours share some, so that the identities are of all sizes."""
    place = chosen.randrange(size)
    count = chosen.choice((1, 2, 2, 2, 2, 3, 4))
    near = [max(0, place + chosen.randrange(-2, 3)) for _ in range(count)]
    values = [f"p{i}@x.org" if chosen.random() < 0.5 else f"55{i:05}" for i in near]
    return tuple(dict.fromkeys(values))


def split(request: Request) -> tuple[list[str], list[str]]:
    """The emails and the phone numbers of a request."""
    return [v for v in request if "@" in v], [v for v in request if "@" not in v]


def write(path: Path, requests: Sequence[Request]) -> dict[tuple[str, int], set[str]]:
    """Write a file in the format of its name; return the values by line."""
    text = "" if path.suffix == ".jsonl" else "name,email,phone\n"
    for i, (emails, phones) in enumerate(map(split, requests)):
        if path.suffix == ".jsonl":
            text += json.dumps({"emails": emails, "phones": phones}) + "\n"
        else:
            # Some names have two lines: the line of a row is not its number.
            name = '"Ann\nBell"' if i % 7 == 0 else "Ann"
            text += f'{name},"{"; ".join(emails)}","{"; ".join(phones)}"\n'
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return {(str(path), line): values for line, values in read(path)}


def read(path: Path) -> Iterator[tuple[int, set[str]]]:
    """Yield the values of each record of a file with the line at which it begins."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            document = json.loads(line)
            yield number, {*document["emails"], *document["phones"]}
        return
    reader = csv.reader(text.splitlines(keepends=True))
    begin = 1
    for record in reader:
        yield begin, {value for cell in record[1:] for value in cell.split("; ")}
        begin = reader.line_num + 1


@pytest.fixture(scope="module")
def world(
    cloned_database: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Three runs, one of them of three files, and requests by hand before, between and after."""
    chosen = random.Random(12)
    folder = tmp_path_factory.mktemp("inputs")
    lines: dict[tuple[str, int], set[str]] = {}
    requests: list[Request] = []
    by_hand: list[Request] = []
    with cloned_database() as url, psycopg.connect(url, autocommit=True) as connection:
        database = Database(connection_parameters(url), embedded=False)
        service = IdentityService(connection)
        for names in (["a.csv"], ["b.csv", "c.jsonl", "d.csv.gz"], ["e.jsonl", "f.csv"]):
            paths = [folder / name for name in names]
            for path in paths:
                written = [some_request(chosen, 900) for _ in range(150)]
                requests += written
                lines |= write(path, written)
            Importer(ImportPlan(tuple(map(str, paths)), jobs=1)).run(database)
            for _ in range(12):
                request = some_request(chosen, 900)
                by_hand.append(request)
                emails, phones = split(request)
                service.reconcile(ContactRequest(emails=emails, phones=phones))
        yield World(url, requests + by_hand, by_hand, lines)


def neighbours(requests: Sequence[Request]) -> dict[str, set[str]]:
    """The values that each value was requested with: the evidence, without the database."""
    found: dict[str, set[str]] = defaultdict(set)
    for request in requests:
        for value in request:
            found[value] |= set(request) - {value}
    return found


def distances(found: dict[str, set[str]], start: str) -> dict[str, int]:
    """The number of hops from a value to each one that it is joined with."""
    reached, hops, edge = {start: 0}, 0, {start}
    while edge:
        hops += 1
        edge = {other for value in edge for other in found[value]} - reached.keys()
        reached |= dict.fromkeys(edge, hops)
    return reached


def check_row(row: Evidence, sources: Sources, values: set[str], world: World) -> None:
    """Look the row up: in the file, or among the requests that came by hand."""
    place = sources.of(row)
    if row.run_id is None:
        assert place is None
        assert any(values <= set(request) for request in world.by_hand)
    else:
        assert place is not None
        assert values <= world.lines[place.path, place.line], place


def reference(value: str) -> tuple[Reference, ...]:
    return (Reference("email" if "@" in value else "phone", value),)


def test_every_hop_is_a_line_of_an_input_and_no_chain_is_shorter(world: World) -> None:
    chosen = random.Random(5)
    found = neighbours(world.requests)
    values = sorted(found)
    lengths = []
    with psycopg.connect(world.url, autocommit=True) as connection, snapshot(connection) as graph:
        while len(lengths) < EXPLANATIONS:
            start = chosen.choice(values)
            reached = distances(found, start)
            goal = chosen.choice(sorted(reached))
            explained = explain_chain(graph, reference(start), reference(goal))
            assert isinstance(explained, ChainExplanation)
            assert len(explained.hops) == reached[goal]
            value = start
            for hop in explained.hops:
                assert hop.value == value
                assert {value, hop.other_value} == {hop.row.value, hop.row.other_value}
                check_row(hop.row, explained.evidence.sources, {value, hop.other_value}, world)
                value = hop.other_value
            assert value == goal
            lengths.append(len(explained.hops))
    assert max(lengths) > 8  # the inputs are worth the test


def test_chain_between_contacts_begins_and_ends_with_their_own_rows(world: World) -> None:
    chosen = random.Random(6)
    found = neighbours(world.requests)
    with psycopg.connect(world.url, autocommit=True) as connection, snapshot(connection) as graph:
        rows = connection.execute(
            "SELECT id, email, phone_number, coalesce(linked_id, id) FROM contact ORDER BY id"
        ).fetchall()
        for _ in range(100):
            start_id, *start_values, root = chosen.choice(rows)
            end_id, *end_values, _ = chosen.choice([row for row in rows if row[3] == root])
            starts, ends = ([v for v in vs if v is not None] for vs in (start_values, end_values))
            explained = explain_chain(
                graph, (Reference("id", start_id),), (Reference("id", end_id),)
            )
            assert isinstance(explained, ChainExplanation)
            if start_id == end_id:
                assert explained.hops == ()
                continue
            between = min(distances(found, start)[end] for start in starts for end in ends)
            assert len(explained.hops) == between + (len(starts) == 2) + (len(ends) == 2)
            for hop in explained.hops:
                pair = {hop.value, hop.other_value}
                assert pair == {hop.row.value, hop.row.other_value}
                check_row(hop.row, explained.evidence.sources, pair, world)
            for hop, later in zip(explained.hops, explained.hops[1:], strict=False):
                assert hop.other_value == later.value
            if len(starts) == 2:
                assert explained.hops[0].row.contact_id == start_id
            if len(ends) == 2:
                assert explained.hops[-1].row.contact_id == end_id


def test_values_of_two_identities_are_separate(world: World) -> None:
    chosen = random.Random(7)
    found = neighbours(world.requests)
    values = sorted(found)
    with psycopg.connect(world.url, autocommit=True) as connection, snapshot(connection) as graph:
        for _ in range(50):
            start, goal = chosen.choice(values), chosen.choice(values)
            explained = explain_chain(graph, reference(start), reference(goal))
            is_one = goal in distances(found, start)
            assert isinstance(explained, ChainExplanation if is_one else Separation)


def test_tree_holds_every_value_every_merge_and_only_lines_of_inputs(world: World) -> None:
    found = neighbours(world.requests)
    merges = 0
    with psycopg.connect(world.url, autocommit=True) as connection, snapshot(connection) as graph:
        primaries = [
            row[0] for row in connection.execute("SELECT id FROM contact WHERE linked_id IS NULL")
        ]
        for primary_id in primaries:
            explained = explain_identity(graph, (Reference("id", primary_id),))
            root, *others = explained.tree
            assert set(explained.values) == set(distances(found, root.value))
            assert len(explained.values) == len(set(explained.values))
            sources = explained.evidence.sources
            depths = {root.value: 0}
            assert root.origin is not None
            assert root.origin.contact_id == primary_id
            for branch in others:
                assert branch.parent is not None
                assert branch.link is not None
                assert branch.origin is not None
                assert branch.depth == depths[branch.parent] + 1
                depths[branch.value] = branch.depth
                check_row(branch.link, sources, {branch.value, branch.parent}, world)
                check_row(branch.origin, sources, {branch.value}, world)
                merges += branch.link.merged_id is not None
        stored = connection.execute("SELECT count(merged_id) FROM link_evidence").fetchone()
    assert stored == (merges,)
    assert merges > 50


def test_contacts_of_the_tree_are_each_the_origin_of_what_they_brought(world: World) -> None:
    with psycopg.connect(world.url, autocommit=True) as connection, snapshot(connection) as graph:
        anchors = connection.execute(
            "SELECT email, id FROM contact WHERE email IS NOT NULL AND anchors_email UNION ALL"
            " SELECT phone_number, id FROM contact WHERE phone_number IS NOT NULL AND anchors_phone"
        ).fetchall()
        chosen = random.Random(8)
        for value, contact_id in chosen.sample(anchors, 60):
            explained = explain_identity(graph, reference(value))
            [branch] = [one for one in explained.tree if one.value == value]
            assert branch.origin is not None
            assert branch.origin.contact_id == contact_id


def test_every_pair_of_a_request_is_one_hop(world: World) -> None:
    chosen = random.Random(9)
    with psycopg.connect(world.url, autocommit=True) as connection, snapshot(connection) as graph:
        for request in chosen.sample([r for r in world.requests if len(r) > 1], 40):
            for pair in combinations(request, 2):
                explained = explain_chain(graph, *map(reference, pair))
                assert isinstance(explained, ChainExplanation)
                assert len(explained.hops) == 1


# One snapshot, and what is not found


def test_unknown_end_is_not_found_and_named_by_its_place(service: IdentityService) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    known, unknown = read_reference("a@x.org", None), read_reference("b@x.org", None)
    with snapshot(service.connection) as graph:
        with pytest.raises(errors.ContactNotFoundError, match="first one"):
            explain_chain(graph, unknown, known)
        with pytest.raises(errors.ContactNotFoundError, match="second one"):
            explain_chain(graph, known, unknown)
        with pytest.raises(errors.ContactNotFoundError):
            explain_identity(graph, unknown)
        with pytest.raises(errors.ContactNotFoundError):
            explain_identity(graph, (Reference("id", -1),))


def test_placeholder_with_a_negative_id_is_never_shown(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    connection.execute(
        "INSERT INTO contact (id, email, linked_id, link_precedence) OVERRIDING SYSTEM VALUE"
        " VALUES (-5, 'hidden@x.org', 1, 'secondary')"
    )
    with snapshot(service.connection) as graph:
        explained = explain_identity(graph, (Reference("id", 1),))
        assert explained.values == ["a@x.org", "1"]
        assert [row.contact_id for row in explained.evidence.contacts] == [1]
        with pytest.raises(errors.ContactNotFoundError):
            explain_identity(graph, (Reference("id", -5),))


def test_links_without_evidence_are_reported_with_a_hint(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    connection.execute(
        "INSERT INTO contact (email, linked_id, link_precedence) VALUES ('b@x.org', 1, 'secondary')"
    )
    with snapshot(service.connection) as graph:
        explained = explain_chain(graph, reference("a@x.org"), reference("b@x.org"))
        assert isinstance(explained, Separation)
        assert "no evidence joins them" in str(explained.error)
        assert "identity verify" in str(explained.error.hint)
        tree = explain_identity(graph, reference("b@x.org")).tree
    assert [(branch.value, branch.depth) for branch in tree] == [
        ("a@x.org", 0),
        ("1", 1),
        ("b@x.org", 0),
    ]


def test_explanation_is_one_snapshot(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    service.reconcile(ContactRequest("b@x.org", "2"))
    with snapshot(connection) as graph:
        connection.execute("SELECT count(*) FROM contact")
        service.reconcile(ContactRequest("a@x.org", "2"))
        explained = explain_chain(graph, reference("a@x.org"), reference("b@x.org"))
        assert isinstance(explained, Separation)
    with snapshot(connection) as graph:
        explained = explain_chain(graph, reference("a@x.org"), reference("b@x.org"))
        assert isinstance(explained, ChainExplanation)
        assert explained.hops[0].row.merged_id == 2
