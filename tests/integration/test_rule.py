"""The rule in the database against the model, alone and with others at the same time."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from graph import contact_rows, evidence_rows, in_batches, problems_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model import Answer, Evidence, Model, Row, components, problems, stored_partition

from identity_cli import ContactRequest, IdentityService, errors
from identity_cli.graph.core import ATTEMPTS, Attempts, Outcome
from identity_cli.graph.service import Refusal, RunRequest
from identity_cli.postgres import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from model import Pair

Connection = psycopg.Connection[Any]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = int(EPOCH.timestamp()) * 1_000_000
DAY = 86_400_000_000

emails = st.sampled_from([None, "a@x.org", "b@x.org", "c@x.org", "d@x.org"])
phones = st.sampled_from([None, "1", "2", "3", "4"])
pairs = st.tuples(emails, phones).filter(any)
sequences = st.lists(pairs, max_size=24)

# The database is emptied inside the test, so one for all examples is right.
one_database = settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def empty(connection: Connection) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.execute("TRUNCATE contact, link_evidence RESTART IDENTITY")


def request(pair: Pair) -> ContactRequest:
    return ContactRequest(*pair)


def numbered(requests: Iterable[Pair], *, first: int = 1) -> list[RunRequest]:
    """Requests as an import sends them, a microsecond apart."""
    return [
        RunRequest(request(pair), line, CLOCK + line) for line, pair in enumerate(requests, first)
    ]


def number(i: int) -> str:
    """Return a phone number; 0 alone is none."""
    return str(5_550_000 + i)


def some_requests(count: int, values: int, seed: int) -> list[Pair]:
    """Requests over so many values that strangers, newcomers, repeats and merges all come up."""
    draw = random.Random(seed)
    found: list[Pair] = []
    while len(found) < count:
        email = f"person{draw.randrange(values)}@x.org" if draw.random() < 0.9 else None
        phone = str(1000 + draw.randrange(values)) if draw.random() < 0.9 else None
        if email or phone:
            found.append((email, phone))
    return found


HILL_VALLEY: list[tuple[Pair, Answer]] = [
    (("lorraine@hillvalley.edu", "123456"), Answer("created", 1, 1)),
    (("mcfly@hillvalley.edu", "123456"), Answer("linked", 1, 2)),
    (("george@hillvalley.edu", "919191"), Answer("created", 3, 3)),
    (("biffsucks@hillvalley.edu", "717171"), Answer("created", 4, 4)),
    (("george@hillvalley.edu", "717171"), Answer("merged", 3, None)),
]
HILL_VALLEY_ROWS = [
    Row(1, "lorraine@hillvalley.edu", "123456", None, "primary"),
    Row(2, "mcfly@hillvalley.edu", "123456", 1, "secondary"),
    Row(3, "george@hillvalley.edu", "919191", None, "primary"),
    Row(4, "biffsucks@hillvalley.edu", "717171", 3, "secondary"),
]


def test_hill_valley(service: IdentityService) -> None:
    for pair, answer in HILL_VALLEY:
        assert service.reconcile(request(pair)) == answer
    assert contact_rows(service.connection) == HILL_VALLEY_ROWS
    assert evidence_rows(service.connection) == [Evidence("george@hillvalley.edu", "717171", 3, 4)]
    assert service.find(email="mcfly@hillvalley.edu").as_json() == {
        "contact": {
            "primaryContatctId": 1,
            "emails": ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"],
            "phoneNumbers": ["123456"],
            "secondaryContactIds": [2],
        }
    }


def test_the_model_knows_hill_valley() -> None:
    model = Model()
    assert [model.reconcile(*pair) for pair, _ in HILL_VALLEY] == [a for _, a in HILL_VALLEY]
    assert model.rows() == HILL_VALLEY_ROWS
    assert problems(model.rows(), model.evidence) == []


def compare(connection: Connection, model: Model) -> None:
    rows, evidence = contact_rows(connection), evidence_rows(connection)
    assert rows == model.rows()
    assert evidence == model.evidence
    assert problems(rows, evidence) == []
    assert {(row.email, row.phone) for row in rows if row.email and row.phone} | {
        (item.value, item.other_value) for item in evidence
    } == {pair for pair in model.pairs if all(pair)}


@one_database
@given(sequences)
def test_one_by_one_as_the_model_after_every_request(
    service: IdentityService, requests: list[Pair]
) -> None:
    empty(service.connection)
    model = Model()
    for pair in requests:
        answer = model.reconcile(*pair)
        assert service.reconcile(request(pair)) == answer
        compare(service.connection, model)
        expected = model.consolidated(answer.primary_id)
        assert service.identify(request(pair)).as_json()["contact"] == expected
        for by in ({"email": pair[0]}, {"phone": pair[1]}):
            if any(by.values()):
                assert service.find(**by).as_json()["contact"] == expected
    for row in model.rows():
        assert service.find(contact_id=row.id).as_json() == {"contact": model.consolidated(row.id)}
    compare(service.connection, model)


@one_database
@given(sequences)
def test_a_stream_as_the_model(service: IdentityService, requests: list[Pair]) -> None:
    empty(service.connection)
    model = Model()
    answers = [model.reconcile(*pair) for pair in requests]
    assert list(service.reconcile_stream(map(request, requests))) == answers
    compare(service.connection, model)


@one_database
@given(sequences, st.integers(1, 7), st.booleans())
def test_batches_as_the_model(
    service: IdentityService, requests: list[Pair], size: int, commit_each: bool
) -> None:
    empty(service.connection)
    model = Model()
    answers = [model.reconcile(*pair) for pair in requests]
    sent = numbered(requests)
    assert in_batches(service, sent, size, commit_each=commit_each) == answers
    compare(service.connection, model)


@one_database
@given(st.lists(st.tuples(pairs, st.integers(0, 5)), max_size=24))
def test_requests_whose_times_are_out_of_order(
    service: IdentityService, requests: list[tuple[Pair, int]]
) -> None:
    empty(service.connection)
    model = Model()
    for line, (pair, second) in enumerate(requests, 1):
        answer = model.reconcile(*pair, at=second)
        assert service.reconcile_batch([RunRequest(request(pair), line, CLOCK + second)], 1) == [
            answer
        ]
        assert contact_rows(service.connection) == model.rows()
        assert service.find(contact_id=answer.primary_id).as_json()[
            "contact"
        ] == model.consolidated(answer.primary_id)


@pytest.mark.slow
def test_20000_requests_row_by_row(service: IdentityService) -> None:
    requests = some_requests(20_000, values=9_000, seed=1)
    model = Model()
    empty(service.connection)
    answers = [model.reconcile(*pair) for pair in requests]
    assert {answer.name for answer in answers} == {"created", "linked", "merged", "unchanged"}
    assert list(service.reconcile_stream(map(request, requests))) == answers
    compare(service.connection, model)

    assert {outcome.name for outcome in service.reconcile_stream(map(request, requests))} == {
        "unchanged"
    }
    compare(service.connection, model)


def test_a_newcomer_does_not_become_older_than_its_primary(service: IdentityService) -> None:
    service.reconcile_batch([RunRequest(request(("a@x.org", "1")), 1, CLOCK + DAY)], None)
    service.reconcile_batch([RunRequest(request(("b@x.org", "1")), 2, CLOCK)], None)
    service.reconcile_batch([RunRequest(request(("c@x.org", "3")), 3, CLOCK + DAY)], None)
    assert service.reconcile(request(("b@x.org", "3"))) == Answer("merged", 1, None)
    created = service.connection.execute("SELECT created_at FROM contact ORDER BY id").fetchall()
    assert created == [(EPOCH + timedelta(days=1),)] * 3


def test_the_oldest_is_by_time_before_id(service: IdentityService) -> None:
    service.reconcile_batch([RunRequest(request(("a@x.org", "1")), 1, CLOCK + DAY)], None)
    service.reconcile_batch([RunRequest(request(("b@x.org", "2")), 2, CLOCK)], None)
    assert service.reconcile(request(("a@x.org", "2"))) == Answer("merged", 2, None)
    assert [row.linked_id for row in contact_rows(service.connection)] == [2, None]


def test_facts_say_their_run_and_line(service: IdentityService) -> None:
    service.reconcile_batch(numbered([pair for pair, _ in HILL_VALLEY], first=2), 7)
    lines = service.connection.execute("SELECT run_id, line FROM contact ORDER BY id").fetchall()
    assert lines == [(7, 2), (7, 3), (7, 4), (7, 5)]
    found = service.connection.execute("SELECT run_id, line, created_at FROM link_evidence")
    assert found.fetchall() == [(7, 6, EPOCH + timedelta(microseconds=6))]


def test_a_merge_moves_updated_at_of_those_it_moves(service: IdentityService) -> None:
    service.reconcile_batch(numbered([pair for pair, _ in HILL_VALLEY]), 7)
    found = service.connection.execute(
        "SELECT id, updated_at - %s FROM contact ORDER BY id", [EPOCH]
    ).fetchall()
    assert [(id_, step.microseconds) for id_, step in found] == [(1, 1), (2, 2), (3, 3), (4, 5)]


@one_database
@given(sequences)
def test_primary_at_any_earlier_line(service: IdentityService, requests: list[Pair]) -> None:
    empty(service.connection)
    model = Model()
    history: list[tuple[int, int, int]] = []
    for line, pair in enumerate(requests, 1):
        model.reconcile(*pair)
        history += [(contact, line, primary) for contact, primary in model.primaries().items()]
    if requests:
        service.reconcile_batch(numbered(requests), 1)
    found = service.connection.execute(
        "SELECT c, l, primary_at(c, 1, l) FROM unnest(%s::bigint[], %s::bigint[]) AS asked (c, l)",
        [[contact for contact, _, _ in history], [line for _, line, _ in history]],
    ).fetchall()
    assert found == history


def test_primary_at_follows_what_other_runs_merged(service: IdentityService) -> None:
    service.reconcile_batch(numbered([("a@x.org", "1"), ("b@x.org", "2"), ("c@x.org", "3")]), 1)
    service.reconcile_batch(numbered([("b@x.org", "3")], first=1), 2)
    service.reconcile_batch(numbered([("a@x.org", "2")], first=4), 1)
    ask = (
        "SELECT primary_at(3, 1, 3), primary_at(3, 1, 4), primary_at(3, 2, 0), primary_at(3, 2, 1)"
    )
    assert service.connection.execute(ask).fetchone() == (2, 1, 3, 1)


def test_a_request_without_identifier_is_refused(service: IdentityService) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        service.connection.execute("SELECT reconcile(NULL, NULL)")


# A transaction for each request


def test_a_batch_is_a_transaction_for_each_request(
    service: IdentityService, connection: Connection
) -> None:
    strangers: list[Pair] = [(f"p{i}@x.org", number(i)) for i in range(300)]
    newcomers: list[Pair] = [(f"q{i}@x.org", number(i)) for i in range(100)]
    again: list[Pair] = [(f"q{i}@x.org", number(i)) for i in range(100)]
    merges: list[Pair] = [(f"p{i}@x.org", number(i + 1)) for i in range(100, 200, 2)]
    write_down_transactions(connection)

    outcomes = service.reconcile_batch(numbered([*strangers, *newcomers, *again, *merges]), None)

    assert [outcome[0] for outcome in outcomes] == (
        ["created"] * 300 + ["linked"] * 100 + ["unchanged"] * 100 + ["merged"] * 50
    )
    wrote = connection.execute(
        "SELECT count(*), count(DISTINCT transaction) FROM written"
    ).fetchone()
    assert wrote == (450, 450)
    wrote = connection.execute(
        "SELECT count(*), count(DISTINCT xmin::text) FROM"
        " (SELECT xmin FROM contact WHERE id NOT IN (SELECT merged_id FROM link_evidence)"
        "  UNION ALL SELECT xmin FROM link_evidence) AS facts"
    ).fetchone()
    assert wrote == (400, 400)


def write_down_transactions(connection: Connection) -> None:
    """Log the transaction that stores each fact: `xmin` alone may be that of a savepoint."""
    connection.execute("CREATE TABLE written (transaction xid8)")
    connection.execute(
        """
        CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO written VALUES (pg_current_xact_id());
            RETURN NULL;
        END $$
        """
    )
    for table in ("contact", "link_evidence"):
        connection.execute(
            f"CREATE TRIGGER write_down AFTER INSERT ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION write_down()"
        )


def test_postgresql_counts_a_commit_for_each_request(
    service: IdentityService, connection: Connection
) -> None:
    requests: list[Pair] = [(f"p{i % 200}@x.org", str(i % 200)) for i in range(400)]
    before = _commits(service.connection, connection)
    service.reconcile_batch(numbered(requests), None)
    assert _commits(service.connection, connection) - before >= len(requests)


def _commits(writer: Connection, reader: Connection) -> int:
    writer.execute("SELECT pg_stat_force_next_flush()")
    row = reader.execute(
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_dry_run_is_one_transaction_that_can_be_taken_back(service: IdentityService) -> None:
    write_down_transactions(service.connection)
    with service.connection.transaction(force_rollback=True):
        service.reconcile_batch(
            numbered([pair for pair, _ in HILL_VALLEY]), None, commit_each=False
        )
        found = service.connection.execute(
            "SELECT count(*), count(DISTINCT transaction) FROM written"
        )
        assert found.fetchone() == (5, 1)
    assert contact_rows(service.connection) == []


def test_a_request_of_a_batch_is_refused_alone(service: IdentityService) -> None:
    sent = numbered([("a@x.org", "1"), ("b@x.org", "2"), ("c@x.org", "3")])
    fail_by_hand(service.connection, "P0001", calls="2")
    outcomes = service.reconcile_batch(sent, None)
    assert outcomes == [Answer("created", 1, 1), Refusal("P0001"), Answer("created", 2, 2)]
    assert [row.email for row in contact_rows(service.connection)] == ["a@x.org", "c@x.org"]


def test_a_stream_ends_at_a_request_that_is_refused(service: IdentityService) -> None:
    fail_by_hand(service.connection, "P0001", calls="2")
    outcomes = service.reconcile_stream([request(("a@x.org", "1")), request(("b@x.org", "2"))])
    assert next(outcomes) == Answer("created", 1, 1)
    with pytest.raises(errors.RequestRefusedError, match="P0001"):
        next(outcomes)


# At the same time


def run_together(database_url: str, work: Sequence[Sequence[Pair]]) -> list[Outcome]:
    """Each list on a thread and connection of its own, begun together."""
    barrier = threading.Barrier(len(work))

    def reconcile(requests: Sequence[Pair]) -> list[Outcome]:
        with psycopg.connect(database_url, autocommit=True) as connection:
            service = IdentityService(connection)
            connection.execute("SET synchronous_commit = off")
            barrier.wait(timeout=30)
            return [service.reconcile(request(pair)) for pair in requests]

    with ThreadPoolExecutor(len(work)) as pool:
        return [outcome for done in pool.map(reconcile, work) for outcome in done]


def check_graph(connection: Connection, requests: Iterable[Pair]) -> None:
    """The graph is right, whatever came first: who is who follows from the pairs alone."""
    requests = list(requests)
    model = Model()
    for pair in requests:
        model.reconcile(*pair)
    rows, evidence = contact_rows(connection), evidence_rows(connection)
    assert problems_of(connection) == []
    assert stored_partition(rows) == model.partition() == components(requests)
    assert {(row.email, row.phone) for row in rows if row.email and row.phone} | {
        (item.value, item.other_value) for item in evidence
    } == {pair for pair in requests if all(pair)}
    refused = connection.execute(
        """
        SELECT c.id FROM contact c LEFT JOIN contact p ON p.id = c.linked_id
        WHERE (c.link_precedence = 'primary') <> (c.linked_id IS NULL)
           OR (c.linked_id IS NOT NULL AND p.link_precedence IS DISTINCT FROM 'primary')
           OR (c.linked_id IS NOT NULL AND (p.created_at, p.id) > (c.created_at, c.id))
        UNION ALL
        SELECT min(coalesce(linked_id, id)) FROM contact WHERE email IS NOT NULL GROUP BY email
        HAVING count(DISTINCT coalesce(linked_id, id)) > 1
            OR count(*) FILTER (WHERE anchors_email) <> 1
        UNION ALL
        SELECT min(coalesce(linked_id, id)) FROM contact WHERE phone_number IS NOT NULL
        GROUP BY phone_number
        HAVING count(DISTINCT coalesce(linked_id, id)) > 1
            OR count(*) FILTER (WHERE anchors_phone) <> 1
        """
    ).fetchall()
    assert refused == []


def check_outcomes(connection: Connection, outcomes: list[Outcome]) -> None:
    """Every row and every merge was reported to exactly one request."""
    stored = Counter(outcome.contact_id for outcome in outcomes if outcome.contact_id is not None)
    assert stored == Counter(row.id for row in contact_rows(connection))
    assert sum(outcome.name == "merged" for outcome in outcomes) == sum(
        item.merged_id is not None for item in evidence_rows(connection)
    )


def test_equal_first_requests_at_once_store_one_contact(
    database_url: str, connection: Connection
) -> None:
    requests: list[Pair] = [(f"p{i}@x.org", number(i)) for i in range(100)]
    requests += [(f"only{i}@x.org", None) for i in range(25)]
    outcomes = run_together(database_url, [requests] * 8)
    check_graph(connection, requests)
    check_outcomes(connection, outcomes)
    assert Counter(outcome.name for outcome in outcomes) == {"created": 125, "unchanged": 875}


def test_two_new_values_brought_in_crosswise(database_url: str, connection: Connection) -> None:
    straight: list[Pair] = [(f"p{i}@x.org", number(i)) for i in range(80)]
    crossed: list[Pair] = [(f"p{i}@x.org", number(i ^ 1)) for i in range(80)]
    outcomes = run_together(database_url, [straight, crossed] * 4)
    check_graph(connection, straight + crossed)
    check_outcomes(connection, outcomes)


def test_rings_of_merges_in_opposite_orders(database_url: str, connection: Connection) -> None:
    people = 48
    strangers: list[Pair] = [(f"p{i}@x.org", number(i)) for i in range(people)]
    first = run_together(database_url, [strangers])
    ring: list[Pair] = [(f"p{i}@x.org", number((i + 1) % people)) for i in range(people)]
    shuffled = random.Random(7).sample(ring, people)
    work = [ring, ring[::-1], ring[24:] + ring[:24], ring[23::-1] + ring[:23:-1], shuffled]
    outcomes = run_together(database_url, [*work, *work[:3]])
    check_graph(connection, strangers + ring)
    check_outcomes(connection, first + outcomes)
    assert {row.linked_id for row in contact_rows(connection)} == {None, 1}


def test_newcomers_while_their_identities_merge(database_url: str, connection: Connection) -> None:
    people = 40
    strangers: list[Pair] = [(f"p{i}@x.org", number(i + 1)) for i in range(people)]
    first = run_together(database_url, [strangers])
    merges: list[Pair] = [(f"p{i}@x.org", number(i)) for i in range(people - 1, 0, -1)]
    newcomers: list[list[Pair]] = [
        [(f"new{thread}-{i}@x.org", str(i + 1)) for i in range(people - 1, -1, -1)]
        for thread in range(6)
    ]
    outcomes = run_together(database_url, [merges, merges[::-1], *newcomers])
    check_graph(connection, [*strangers, *merges, *(pair for one in newcomers for pair in one)])
    check_outcomes(connection, first + outcomes)


def test_one_hot_phone_number(database_url: str, connection: Connection) -> None:
    work: list[list[Pair]] = [
        [(f"p{thread}-{i}@x.org", "555") for i in range(60)] for thread in range(8)
    ]
    outcomes = run_together(database_url, work)
    check_graph(connection, [pair for requests in work for pair in requests])
    check_outcomes(connection, outcomes)
    assert Counter(outcome.name for outcome in outcomes) == {"created": 1, "linked": 479}


def test_everything_at_once(database_url: str, connection: Connection) -> None:
    requests = some_requests(600, values=150, seed=3)
    draw = random.Random(4)
    work = [draw.sample(requests, 300) for _ in range(6)] + [requests, requests[::-1]]
    outcomes = run_together(database_url, work)
    check_graph(connection, requests)
    check_outcomes(connection, outcomes)


def test_batches_at_once(database_url: str, connection: Connection) -> None:
    requests = some_requests(1_000, values=250, seed=5)
    shuffled = random.Random(6).sample(requests, len(requests))
    barrier = threading.Barrier(4)

    def reconcile(mine: list[Pair]) -> int:
        with psycopg.connect(database_url, autocommit=True) as own:
            service = IdentityService(own)
            barrier.wait(timeout=30)
            return len(list(service.reconcile_stream(map(request, mine))))

    with ThreadPoolExecutor(4) as pool:
        work = [requests, requests[::-1], shuffled, shuffled[::-1]]
        assert list(pool.map(reconcile, work)) == [1_000] * 4
    check_graph(connection, requests)


# What gets in the way is tried again


@contextmanager
def at_work(
    database_url: str, sent: ContactRequest
) -> Iterator[tuple[IdentityService, Future[Outcome]]]:
    """A request on a connection of its own, begun and left waiting for a lock."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        service = IdentityService(connection)
        with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as eye:
            future = pool.submit(service.reconcile, sent)
            wait_for_lock(eye, connection)
            yield service, future


def wait_for_lock(eye: Connection, connection: Connection) -> None:
    """Wait until a connection waits for a lock, as another one sees it."""
    waits = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
    for _ in range(2_000):
        if eye.execute(waits, [connection.info.backend_pid]).fetchone() == (True,):
            return
        time.sleep(0.005)
    raise AssertionError("nobody waits for a lock")


def test_a_newcomer_waits_for_the_merge_of_its_primary(
    service: IdentityService, database_url: str, connection: Connection
) -> None:
    for pair in [("a@x.org", "1"), ("b@x.org", "2")]:
        service.reconcile(request(pair))
    connection.execute("BEGIN")
    connection.execute("SELECT reconcile('a@x.org', '2')")
    with at_work(database_url, request(("c@x.org", "2"))) as (waiting, answer):
        connection.execute("COMMIT")
        assert answer.result(timeout=30) == Answer("linked", 1, 3 + waiting.retries)
    assert waiting.retries == 1
    assert problems_of(connection) == []


def test_a_newcomer_whose_merge_was_taken_back(
    service: IdentityService, database_url: str, connection: Connection
) -> None:
    for pair in [("a@x.org", "1"), ("b@x.org", "2")]:
        service.reconcile(request(pair))
    connection.execute("BEGIN")
    connection.execute("SELECT reconcile('a@x.org', '2')")
    with at_work(database_url, request(("c@x.org", "2"))) as (waiting, answer):
        connection.execute("ROLLBACK")
        assert answer.result(timeout=30) == Answer("linked", 2, 3)
    assert waiting.retries == 0


def test_two_merges_of_the_same_primary(
    service: IdentityService, database_url: str, connection: Connection
) -> None:
    for pair in [("a@x.org", "1"), ("b@x.org", "2"), ("c@x.org", "3")]:
        service.reconcile(request(pair))
    connection.execute("BEGIN")
    connection.execute("SELECT reconcile('a@x.org', '2')")
    with at_work(database_url, request(("b@x.org", "3"))) as (_, answer):
        connection.execute("COMMIT")
        assert answer.result(timeout=30) == Answer("merged", 1, None)
    assert problems_of(connection) == []


def test_two_requests_bring_in_the_same_value(
    service: IdentityService, database_url: str, connection: Connection
) -> None:
    service.reconcile(request(("a@x.org", "1")))
    connection.execute("BEGIN")
    connection.execute("SELECT reconcile('new@x.org', '1')")
    with at_work(database_url, request(("new@x.org", "2"))) as (_, answer):
        connection.execute("COMMIT")
        assert answer.result(timeout=30).name == "linked"
    assert problems_of(connection) == []


def test_deadlock_is_tried_again(
    service: IdentityService, database_url: str, connection: Connection
) -> None:
    for pair in [("a@x.org", "1"), ("b@x.org", "2"), ("c@x.org", "3")]:
        service.reconcile(request(pair))
    # Whoever has waited for this time looks for a deadlock, and is the victim if there is one.
    connection.execute("SET deadlock_timeout = '1h'")
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET deadlock_timeout = '10ms'")
    connection.execute("BEGIN")
    connection.execute("SELECT FROM contact WHERE id = 3 FOR UPDATE")
    merges = ContactRequest("a@x.org", phones=["2", "3"])
    with psycopg.connect(database_url) as third, ThreadPoolExecutor(1) as pool:
        third.execute("SELECT FROM contact WHERE id = 2 FOR UPDATE")
        with at_work(database_url, merges) as (waiting, answer):
            locked = "SELECT FROM contact WHERE id = 1 FOR UPDATE"
            lock = pool.submit(connection.execute, locked)
            wait_for_lock(service.connection, connection)
            third.rollback()  # the request merges 2 into 1 and waits for 3
            lock.result(timeout=30)
            connection.execute("COMMIT")
            assert answer.result(timeout=30) == Answer("merged", 1, None)
    assert waiting.retries == 1
    assert problems_of(connection) == []


def fail_by_hand(connection: Connection, state: str, *, calls: str) -> None:
    """Make `reconcile` fail with the SQLSTATE at these of its calls, counted over all sessions."""
    signature = "text, text, timestamptz, bigint, bigint, boolean, boolean"
    connection.execute(f"ALTER FUNCTION reconcile ({signature}) RENAME TO reconcile_as_it_is")
    connection.execute("CREATE SEQUENCE calls")
    connection.execute(
        f"""
        CREATE FUNCTION reconcile (
            text, text, timestamptz, bigint, bigint, boolean DEFAULT false, boolean DEFAULT false
        ) RETURNS reconciliation LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('calls') IN ({calls}) THEN
                RAISE EXCEPTION 'by hand' USING ERRCODE = '{state}';
            END IF;
            RETURN reconcile_as_it_is($1, $2, $3, $4, $5, $6, $7);
        END $$
        """
    )


CONFLICTS = ["40P01", "40001", "23503", "23505"]


@pytest.mark.parametrize("state", CONFLICTS)
def test_conflict_is_tried_again(service: IdentityService, state: str) -> None:
    fail_by_hand(service.connection, state, calls="1, 2, 3, 5")
    assert service.reconcile(request(("a@x.org", "1"))) == Answer("created", 1, 1)
    assert service.retries == 3
    assert service.reconcile(request(("b@x.org", "1"))) == Answer("linked", 1, 2)
    assert service.retries == 4


@pytest.mark.parametrize("state", CONFLICTS)
def test_attempts_are_limited(
    service: IdentityService, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_by_hand(service.connection, state, calls="currval('calls')")
    monkeypatch.setattr("identity_cli.graph.core.random.uniform", lambda low, high: 0)
    # A constraint that is violated each time is no concurrent request.
    refused = state.startswith("23")
    expected = errors.RequestRefusedError if refused else errors.RetryableError
    with pytest.raises(expected, match=state):
        service.reconcile(request(("a@x.org", "1")))
    assert service.retries == ATTEMPTS - 1
    assert contact_rows(service.connection) == []


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("reconcile", r"FOR attempt IN 1 \.\. (\d+) LOOP"),
        ("reconcile_batch", r"= '23' THEN (\d+) ELSE"),
    ],
)
def test_sql_and_python_limit_attempts_alike(name: str, limit: str) -> None:
    text = (Path(sql.__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    assert re.findall(limit, text) == [str(ATTEMPTS)]


def test_another_failure_is_not_tried_again(service: IdentityService) -> None:
    fail_by_hand(service.connection, "XX000", calls="1")
    with pytest.raises(errors.DatabaseError, match="XX000"):
        service.reconcile(request(("a@x.org", "1")))
    assert service.retries == 0


@pytest.mark.parametrize("state", CONFLICTS)
def test_conflict_in_a_stream_is_tried_again(service: IdentityService, state: str) -> None:
    requests = some_requests(700, values=200, seed=8)
    model = Model()
    answers = [model.reconcile(*pair) for pair in requests]
    fail_by_hand(service.connection, state, calls="3, 4, 600")
    assert list(service.reconcile_stream(map(request, requests))) == answers
    assert service.retries == 3
    compare(service.connection, model)


@pytest.mark.parametrize("state", CONFLICTS)
def test_attempts_of_a_batch_are_limited(service: IdentityService, state: str) -> None:
    fail_by_hand(service.connection, state, calls="currval('calls')")
    assert service.reconcile_batch(numbered([("a@x.org", "1")]), None) == [Refusal(state)]
    # What cannot be anybody's constraint is tried for longer.
    assert service.retries == (ATTEMPTS if state.startswith("23") else 300) - 1
    assert contact_rows(service.connection) == []


@pytest.mark.parametrize("state", ["40P01", "40001"])
def test_request_that_loses_again_and_again_is_stored_in_the_end(
    service: IdentityService, state: str
) -> None:
    calls = range(1, 4 * ATTEMPTS)
    fail_by_hand(service.connection, state, calls=", ".join(map(str, calls)))
    [outcome] = service.reconcile_batch(numbered([("a@x.org", "1")]), None)
    assert outcome[0] == "created"
    assert service.retries == len(calls)


def test_pauses_grow_and_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity_cli.graph.core.random.uniform", lambda low, high: high)
    deadlock = psycopg.errors.DeadlockDetected()
    attempts = Attempts()
    pauses = [attempts.delay_after(deadlock) or 0.0 for _ in range(ATTEMPTS - 1)]
    assert attempts.delay_after(deadlock) is None
    assert pauses[:3] == [0.001, 0.002, 0.004]
    assert pauses == sorted(pauses)
    assert sum(pauses) < 5
