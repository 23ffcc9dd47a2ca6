"""Statistics of the graph, compared with the same numbers from plain rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from identity_cli import ContactRequest, IdentityService
from identity_cli.graph.hubs import MOST_PARTNERS
from identity_cli.graph.rules import Block, Unblock
from identity_cli.graph.statistics import STEPS, Statistics, Stored, statistics
from identity_cli.graph.steering import Steering
from identity_cli.graph.undo import Undo
from identity_cli.graph.values import NamedValue
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import STEER
from identity_cli.postgres.snapshot import snapshot
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(connection_parameters(database_url), embedded=False)


@pytest.fixture
def steering(database: Database) -> Iterator[Steering]:
    with database.connect(session=STEER) as connection:
        yield Steering(connection)


def read(connection: psycopg.Connection[Any], **options: Any) -> Statistics:
    with snapshot(connection) as graph:
        return statistics(graph, **options)


@pytest.fixture
def random_people(service: IdentityService) -> None:
    """Identities of very different sizes, a hub, merges, and pairs of a kind."""
    chosen = random.Random(7)
    for number in range(MOST_PARTNERS + 5):
        service.reconcile(ContactRequest(f"desk{number}@hillvalley.edu", "717171"))
    for _ in range(300):
        emails = [f"p{chosen.randrange(150)}@x.org" for _ in range(chosen.randrange(3))]
        phones = [str(1000 + chosen.randrange(200)) for _ in range(chosen.randrange(3))]
        if emails or phones:
            service.reconcile(ContactRequest(emails=emails, phones=phones))


@pytest.mark.usefixtures("random_people")
def test_counts_are_those_of_the_rows(connection: psycopg.Connection[Any]) -> None:
    contacts = connection.execute(
        "SELECT id, coalesce(linked_id, id), email, phone_number FROM contact"
    ).fetchall()
    evidence = connection.execute("SELECT value, other_value FROM link_evidence").fetchall()
    members = Counter(primary_id for _, primary_id, *_ in contacts)
    values: dict[int, set[str]] = defaultdict(set)
    for _, primary_id, *shown in contacts:
        values[primary_id] |= {value for value in shown if value is not None}
    pairs = {(email, phone) for *_, email, phone in contacts if email and phone} | set(evidence)
    partners = Counter(value for pair in pairs for value in pair)
    all_values = set[str]().union(*values.values())

    found = read(connection, top=7)

    assert found.contacts == len(contacts)
    assert found.identities == len(members)
    assert found.emails == sum("@" in value for value in all_values)
    assert found.phone_numbers == sum("@" not in value for value in all_values)
    assert found.pairs == len(pairs)
    assert found.held_pairs == 0
    largest = sorted(members, key=lambda primary_id: (-members[primary_id], primary_id))[:7]
    assert [tuple(one) for one in found.largest] == [
        (
            primary_id,
            members[primary_id],
            sum("@" in value for value in values[primary_id]),
            sum("@" not in value for value in values[primary_id]),
        )
        for primary_id in largest
    ]
    shared = sorted(partners, key=lambda value: (-partners[value], value.encode()))[:7]
    assert [(one.value, one.partners) for one in found.most_shared] == [
        (value, partners[value]) for value in shared
    ]
    for one in found.most_shared:
        assert one.primary_id is not None
        assert one.value in values[one.primary_id]
    assert found.hubs == sum(count > MOST_PARTNERS for count in partners.values()) > 0


@pytest.mark.usefixtures("random_people")
def test_sizes_are_powers_of_two_without_gaps(connection: psycopg.Connection[Any]) -> None:
    members = Counter(
        primary_id
        for (primary_id,) in connection.execute("SELECT coalesce(linked_id, id) FROM contact")
    )
    sizes = read(connection).sizes
    assert [(size.least, size.most) for size in sizes] == [
        (2**bits, 2 ** (bits + 1) - 1) for bits in range(len(sizes))
    ]
    for size in sizes:
        inside = [n for n in members.values() if size.least <= n <= size.most]
        assert (size.identities, size.contacts) == (len(inside), sum(inside))
    assert sizes[-1].identities > 0
    assert sum(size.contacts for size in sizes) == members.total()


def test_statistics_of_an_empty_graph(connection: psycopg.Connection[Any]) -> None:
    found = read(connection)
    assert (found.contacts, found.identities, found.hubs) == (0, 0, 0)
    assert (found.sizes, found.largest, found.most_shared, found.runs) == ((), (), (), ())
    assert found.deduplication_rate is None


def test_placeholders_with_negative_ids_are_not_counted(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    service.reconcile(ContactRequest("lorraine@hillvalley.edu", "123456"))
    before = read(connection).as_json(with_values=True)
    connection.execute(
        "INSERT INTO contact (id, email, link_precedence)"
        " VALUES (-1, 'info@hillvalley.edu', 'primary')"
    )
    after = read(connection).as_json(with_values=True)
    assert after | {"taken_at": None} == before | {"taken_at": None}


def test_value_of_a_large_and_of_a_single_identity(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    service.reconcile(ContactRequest("doc@hillvalley.edu", "123456"))
    found = read(connection)
    assert found.largest == ()  # the identities of one contact are equals
    assert found.most_shared == ()
    assert [tuple(size) for size in found.sizes] == [(1, 1, 1, 1)]


def test_growth_adds_up_to_the_graph(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    """Two runs, the second with a merge; a single request before, between and after them."""

    def stored_by(run: int | None, minute: int, email: str, phone: str) -> None:
        connection.execute(
            "SELECT reconcile(%s, %s, '2026-01-01'::timestamptz + %s * '1 min'::interval, %s, 0)",
            (email, phone, minute, run),
        )

    for run_id, (start, end) in enumerate([(10, 15), (20, None)], 1):
        connection.execute(
            "INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at,"
            " finished_at) VALUES ('finished', '[]', '', %s,"
            """ '{"read": 3, "rejected": 1}', '2026-01-01'::timestamptz + %s * '1 min'::interval,"""
            " '2026-01-01'::timestamptz + %s * '1 min'::interval)",
            (run_id, start, end),
        )
    stored_by(None, 1, "a@x.org", "1")
    stored_by(1, 11, "b@x.org", "2")
    stored_by(1, 12, "b@x.org", "3")
    stored_by(None, 16, "c@x.org", "4")
    stored_by(2, 21, "a@x.org", "2")
    stored_by(2, 22, "d@x.org", "5")

    found = read(connection)

    assert [(one.run.id, one.stored, one.graph) for one in found.runs] == [
        (2, Stored(contacts=1, new_identities=1, merges=1), None),
        (1, Stored(contacts=2, new_identities=1), Stored(contacts=3, new_identities=2)),
    ]
    assert found.requests == 4
    assert found.identities == 3
    assert found.deduplication_rate == 0.25
    assert read(connection, top=1).runs == found.runs[:1]


def test_growth_leaves_out_what_an_undone_run_has_merged(
    service: IdentityService, steering: Steering, database: Database, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("lorraine@hillvalley.edu", "123456"))
    rows = tmp_path / "rows.csv"
    rows.write_text("email,phone\na@x.org,1000001\nb@x.org,1000002\na@x.org,1000002\n")
    importer = Importer(ImportPlan((str(rows),)))
    importer.run(database)
    run_id = importer.report(0, None).run_id
    assert run_id is not None
    steering.apply(Undo(run_id))
    [growth] = read(steering.connection).runs
    assert growth.stored == Stored()
    assert growth.graph is not None
    assert (growth.graph.contacts, growth.graph.identities) == (1, 1)


def test_growth_counts_a_contact_that_comes_back_once(
    service: IdentityService, steering: Steering, database: Database, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("email,phone\na@x.org,\n")
    service.reconcile(ContactRequest("a@x.org", "1000001"))
    service.reconcile(ContactRequest("b@x.org", "1000001"))
    steering.apply(Block(patterns=(".*",)))
    steering.apply(Block((NamedValue("1000001"),)))
    steering.apply(Unblock(patterns=(".*",)))
    Importer(ImportPlan((str(rows),))).run(database)
    found = read(steering.connection)
    assert (found.contacts, found.identities) == (2, 2)
    [growth] = found.runs
    assert growth.graph is not None
    assert (growth.graph.contacts, growth.graph.identities) == (found.contacts, found.identities)


def test_rate_is_unknown_if_single_requests_made_the_graph(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    service.reconcile(ContactRequest("doc@hillvalley.edu", "123456"))
    assert read(connection).deduplication_rate is None


@pytest.mark.usefixtures("random_people")
def test_values_are_masked_unless_wanted(connection: psycopg.Connection[Any]) -> None:
    found = read(connection)
    assert "717171" in repr(found.as_json(with_values=True))
    masked = repr(found.as_json(with_values=False))
    assert "717171" not in masked
    assert "***71" in masked
    assert "@x.org" not in masked


def test_steps_are_reported_in_order(connection: psycopg.Connection[Any]) -> None:
    steps: list[str] = []
    read(connection, on_step=steps.append)
    assert steps == list(STEPS)
