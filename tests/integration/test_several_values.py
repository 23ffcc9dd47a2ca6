"""Requests of several emails and phone numbers: against the model, in batches, and at once."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from graph import contact_rows, evidence_rows, in_batches, problems_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model import Answer, Evidence, Model, Row, components, pairs_of, problems, stored_partition

from identity_cli import ContactRequest, IdentityService, errors
from identity_cli.graph.core import ATTEMPTS
from identity_cli.graph.service import Refusal, RunRequest
from identity_cli.graph.verify import verify
from identity_cli.importer import pipeline
from identity_cli.importer.checkpoints import Checkpoint
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.importer.runs import RunJournal
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from model import Pair

Connection = psycopg.Connection[Any]
Values = tuple[list[str], list[str]]

KILLED = 9
CLOCK = 1_767_225_600_000_000

emails = st.lists(st.sampled_from([f"{c}@x.org" for c in "abcdefgh"]), max_size=4, unique=True)
phones = st.lists(st.sampled_from(list("12345678")), max_size=4, unique=True)
streams = st.lists(st.tuples(emails, phones).filter(any), max_size=12)

# The database is emptied inside the test, so one for all examples is right.
one_database = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def empty(connection: Connection) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.execute("TRUNCATE contact, link_evidence RESTART IDENTITY")


def request(values: Values) -> ContactRequest:
    return ContactRequest(emails=values[0], phones=values[1])


def numbered(stream: Iterable[Values]) -> list[RunRequest]:
    """Requests as an import sends them, a microsecond apart."""
    return [
        RunRequest(request(values), line, CLOCK + line) for line, values in enumerate(stream, 1)
    ]


def some_requests(count: int, values: int, seed: int) -> list[Values]:
    """Requests of none to four values of each kind, a third of them of one of each."""
    draw = random.Random(seed)
    found: list[Values] = []
    while len(found) < count:
        widths = (1, 1) if draw.random() < 0.33 else (draw.randrange(5), draw.randrange(5))
        people = [f"person{i}@x.org" for i in draw.sample(range(values), widths[0])]
        numbers = [str(1000 + i) for i in draw.sample(range(values), widths[1])]
        if people or numbers:
            found.append((people, numbers))
    return found


def all_pairs(stream: Iterable[Values]) -> list[Pair]:
    return [pair for values in stream for pair in pairs_of(*values)]


def compare(connection: Connection, model: Model) -> None:
    rows, evidence = contact_rows(connection), evidence_rows(connection)
    assert rows == model.rows()
    assert evidence == model.evidence
    assert problems(rows, evidence) == []


DOC = "doc@x.org"
EMMETT = "emmett@x.org"


@pytest.mark.parametrize(
    ("stream", "answer", "rows", "evidence"),
    [
        pytest.param(
            [([EMMETT, DOC], [])],
            Answer("created", 1, 1, (1, 2)),
            [Row(1, EMMETT, None, None, "primary"), Row(2, DOC, None, 1, "secondary")],
            [Evidence(DOC, EMMETT, 1, None)],
            id="two unknown emails",
        ),
        pytest.param(
            [([], ["2"]), ([], ["10", "2"])],
            Answer("linked", 1, 2),
            [Row(1, None, "2", None, "primary"), Row(2, None, "10", 1, "secondary")],
            [Evidence("10", "2", 1, None)],
            id="an unknown and a known phone number",
        ),
        pytest.param(
            [([EMMETT], []), ([EMMETT, DOC], [])],
            Answer("linked", 1, 2),
            [Row(1, EMMETT, None, None, "primary"), Row(2, DOC, None, 1, "secondary")],
            [Evidence(DOC, EMMETT, 1, None)],
            id="a known and an unknown email",
        ),
        pytest.param(
            [([EMMETT], []), ([DOC], []), ([DOC, EMMETT], [])],
            Answer("merged", 1, None),
            [Row(1, EMMETT, None, None, "primary"), Row(2, DOC, None, 1, "secondary")],
            [Evidence(DOC, EMMETT, 1, 2)],
            id="two known emails of two identities",
        ),
        pytest.param(
            [([EMMETT, DOC], []), ([DOC, EMMETT], [])],
            Answer("unchanged", 1, None),
            [Row(1, EMMETT, None, None, "primary"), Row(2, DOC, None, 1, "secondary")],
            [Evidence(DOC, EMMETT, 1, None)],
            id="a pair that comes again the other way round",
        ),
        pytest.param(
            [([DOC, EMMETT], ["1", "2"])],
            Answer("created", 1, 1, (1, 2, 3)),
            [
                Row(1, DOC, "1", None, "primary"),
                Row(2, DOC, "2", 1, "secondary"),
                Row(3, EMMETT, "1", 1, "secondary"),
            ],
            [
                Evidence(EMMETT, "2", 1, None),
                Evidence(DOC, EMMETT, 1, None),
                Evidence("1", "2", 1, None),
            ],
            id="two of each",
        ),
        pytest.param(
            [([DOC], []), ([EMMETT, DOC], ["1"])],
            Answer("created", 1, 2),
            [Row(1, DOC, None, None, "primary"), Row(2, EMMETT, "1", 1, "secondary")],
            [Evidence(DOC, "1", 1, 2), Evidence(DOC, EMMETT, 1, None)],
            id="a primary that gives way in its own request",
        ),
    ],
)
def test_request_of_several_values_stores(
    service: IdentityService,
    stream: list[Values],
    answer: Answer,
    rows: list[Row],
    evidence: list[Evidence],
) -> None:
    *_, last = [service.reconcile(request(values)) for values in stream]
    assert last == answer
    assert contact_rows(service.connection) == rows
    assert evidence_rows(service.connection) == evidence
    model = Model()
    assert [model.reconcile_request(*values) for values in stream][-1] == answer
    compare(service.connection, model)


@one_database
@given(streams)
def test_one_by_one_as_the_model_and_as_the_flooded_pairs(
    service: IdentityService, stream: list[Values]
) -> None:
    empty(service.connection)
    model = Model()
    for values in stream:
        answer = model.reconcile_request(*values)
        assert service.reconcile(request(values)) == answer
        compare(service.connection, model)
        expected = model.consolidated(answer.primary_id)
        assert service.identify(request(values)).as_json()["contact"] == expected
    compare(service.connection, model)
    pairs = all_pairs(stream)
    assert stored_partition(contact_rows(service.connection)) == components(pairs)


@one_database
@given(streams, st.integers(1, 7), st.booleans())
def test_batches_as_one_by_one(
    service: IdentityService, stream: list[Values], size: int, commit_each: bool
) -> None:
    empty(service.connection)
    model = Model()
    answers = [model.reconcile_request(*values) for values in stream]
    sent = numbered(stream)
    assert in_batches(service, sent, size, commit_each=commit_each) == answers
    compare(service.connection, model)


@one_database
@given(streams, st.randoms(use_true_random=False))
def test_who_is_who_does_not_depend_on_the_order_of_the_values(
    service: IdentityService, stream: list[Values], draw: random.Random
) -> None:
    found = []
    for shuffles in (False, True):
        empty(service.connection)
        for people, numbers in stream:
            if shuffles:
                values = (draw.sample(people, len(people)), draw.sample(numbers, len(numbers)))
            else:
                values = (people, numbers)
            service.reconcile(request(values))
        found.append(stored_partition(contact_rows(service.connection)))
    assert found[0] == found[1]


@pytest.mark.slow
def test_2000_requests_in_one_stream(service: IdentityService) -> None:
    stream = some_requests(2_000, values=3_000, seed=1)
    model = Model()
    answers = [model.reconcile_request(*values) for values in stream]
    assert {answer.name for answer in answers} == {"created", "linked", "merged", "unchanged"}
    assert list(service.reconcile_stream(map(request, stream))) == answers
    compare(service.connection, model)
    again = {outcome.name for outcome in service.reconcile_stream(map(request, stream))}
    assert again == {"unchanged"}
    compare(service.connection, model)


def test_empty_batch_has_no_outcomes(service: IdentityService) -> None:
    assert service.reconcile_batch([], None) == []


# One transaction


def fail_by_hand(connection: Connection, state: str, *, rows: str) -> None:
    """Make the database refuse these of the rows that are stored, with the SQLSTATE."""
    connection.execute("CREATE SEQUENCE stored_rows")
    connection.execute(
        f"""
        CREATE FUNCTION fail_by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('stored_rows') IN ({rows}) THEN
                RAISE EXCEPTION 'by hand' USING ERRCODE = '{state}';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    for table in ("contact", "link_evidence"):
        connection.execute(
            f"CREATE TRIGGER fail_by_hand BEFORE INSERT ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION fail_by_hand()"
        )


TWO_OF_EACH: Values = ([DOC, EMMETT], ["1", "2"])  # six pairs, a row for each


def test_pairs_of_a_request_are_tried_again_together(service: IdentityService) -> None:
    # The fourth pair of the first attempt fails, the third of the second one.
    fail_by_hand(service.connection, "40P01", rows="4, 7")
    [outcome] = service.reconcile_batch(numbered([TWO_OF_EACH]), None)
    model = Model()
    answer = model.reconcile_request(*TWO_OF_EACH)
    assert service.retries == 2
    assert (outcome[0], len(contact_rows(service.connection))) == (answer.name, 3)
    assert problems_of(service.connection) == []


def test_pairs_of_a_request_are_refused_together(service: IdentityService) -> None:
    fail_by_hand(service.connection, "P0001", rows="6, 13")
    outcomes = service.reconcile_batch(numbered([TWO_OF_EACH, ([DOC], ["3"])]), None)
    assert outcomes[0] == Refusal("P0001")
    assert outcomes[1][0] == "created"
    assert [row[1:3] for row in contact_rows(service.connection)] == [(DOC, "3")]
    with pytest.raises(errors.RequestRefusedError):
        service.reconcile(request(([EMMETT], ["4", "5", "6"])))
    assert len(contact_rows(service.connection)) == 1


def test_attempts_of_a_request_are_limited(service: IdentityService) -> None:
    fail_by_hand(service.connection, "23505", rows="currval('stored_rows')")
    assert service.reconcile_batch(numbered([TWO_OF_EACH]), None) == [Refusal("23505")]
    assert service.retries == ATTEMPTS - 1


def test_merge_above_the_limit_stores_no_pair(service: IdentityService) -> None:
    for values in [([DOC], []), ([EMMETT], ["1"]), ([EMMETT], ["2"])]:
        service.reconcile(request(values))
    before = contact_rows(service.connection)
    service.connection.execute("SET identity.merge_limit = 0")
    with pytest.raises(errors.MergeTooLargeError):
        service.reconcile(request(([DOC, EMMETT], ["9"])))
    assert contact_rows(service.connection) == before
    assert evidence_rows(service.connection) == []


# At the same time


def test_racing_connections_end_with_the_components(
    database_url: str, connection: Connection
) -> None:
    stream = some_requests(120, values=60, seed=3)
    draw = random.Random(4)
    work = [stream, stream[::-1], draw.sample(stream, len(stream))]
    barrier = threading.Barrier(len(work))

    def reconcile(mine: Sequence[Values]) -> None:
        with psycopg.connect(database_url, autocommit=True) as own:
            service = IdentityService(own)
            barrier.wait(timeout=30)
            for values in mine:
                service.reconcile(request(values))

    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET deadlock_timeout = '20ms'")
    with ThreadPoolExecutor(len(work)) as pool:
        list(pool.map(reconcile, work))
    assert problems_of(connection) == []
    assert verify(connection).violations == ()
    assert stored_partition(contact_rows(connection)) == components(all_pairs(stream))


def test_value_that_comes_in_after_the_look_up_is_looked_up_again(
    database_url: str, connection: Connection
) -> None:
    """The phone number 2 is unknown to the second request until the first one commits."""
    with (
        psycopg.connect(database_url) as first,
        psycopg.connect(database_url, autocommit=True) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        first.execute("SELECT reconcile_request('{a@x.org}', '{1,2}')")
        answer = pool.submit(
            second.execute, "SELECT (reconcile_request('{b@x.org}', '{2,3}')).outcome"
        )
        blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
        deadline = time.monotonic() + 30
        while connection.execute(blocked, (second.info.backend_pid,)).fetchone() != (True,):
            assert time.monotonic() < deadline, "the second request did not wait"
            time.sleep(0.01)
        first.commit()
        assert answer.result(timeout=30).fetchone() == ("linked",)
    assert problems_of(connection) == []
    assert [row[1:3] for row in contact_rows(connection)] == [
        ("a@x.org", "1"),
        ("a@x.org", "2"),
        ("b@x.org", "2"),
        ("b@x.org", "3"),
    ]
    assert len({row[3] or row[0] for row in contact_rows(connection)}) == 1


# What an interrupted run has stored


def all_known(_values: list[str]) -> bool:
    """Return that no value is unknown, as after every request without forgotten values."""
    return False


@one_database
@given(streams)
def test_records_answer_as_the_request_was_first_answered(
    service: IdentityService, stream: list[Values]
) -> None:
    empty(service.connection)
    sent = numbered(stream)
    outcomes = service.reconcile_batch(sent, 7)
    journal = RunJournal(service.connection, [], {})
    journal.run_id = 7
    records = journal.records(Checkpoint())
    for item, outcome in zip(sent, outcomes, strict=True):
        line = item.run_line or 0
        recorded = records.outcome(line, item.request, all_known)
        if recorded is None:
            # It stored nothing: its primary of that time is found by its first value.
            assert outcome[0] == "unchanged"
            assert journal.primary_at(item.request, line, []) == outcome[1]
        else:
            assert recorded == outcome
        other = ContactRequest("somebody@else.org", "999", emails=item.request.emails[:1])
        assert records.outcome(line, other, all_known) is None


def test_contact_of_another_request_on_the_line_does_not_count(service: IdentityService) -> None:
    service.reconcile_batch(numbered([([DOC], ["1"])]), 7)
    journal = RunJournal(service.connection, [], {})
    journal.run_id = 7
    records = journal.records(Checkpoint())
    assert records.outcome(1, ContactRequest(DOC, "1"), all_known) == Answer("created", 1, 1)
    assert records.outcome(1, ContactRequest(DOC), all_known) is None
    assert records.outcome(1, ContactRequest(DOC, "2"), all_known) is None
    assert records.outcome(2, ContactRequest(DOC, "1"), all_known) is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("jobs", [1, 3])
def test_killed_import_resumes_with_the_outcomes_of_an_undisturbed_one(
    cloned_database: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
) -> None:
    monkeypatch.setattr(pipeline, "BATCH", 7)
    stream = some_requests(300, values=200, seed=5)
    path = tmp_path / "rows.csv"
    columns = [f"{kind} {number}" for kind in ("email", "phone") for number in range(1, 5)]
    cells = [e + [""] * (4 - len(e)) + p + [""] * (4 - len(p)) for e, p in stream]
    path.write_text("".join(f"{','.join(row)}\n" for row in [columns, *cells]))
    model = Model()
    answers = [model.reconcile_request(*values) for values in stream]
    outcomes = tmp_path / "outcomes"
    plan = ImportPlan((str(path),), jobs=jobs, outcomes=str(outcomes))
    draw = random.Random(jobs)
    with cloned_database() as url:
        for _ in range(8):
            import_and_be_killed(url, plan, windows=draw.randrange(1, 6))
        importer = Importer(plan)
        importer.run(Database(connection_parameters(url), embedded=False), lambda _: None)
        with psycopg.connect(url, autocommit=True) as connection:
            rows = contact_rows(connection)
            assert verify(connection).violations == ()
    assert importer.counts.read == len(stream)
    written = [json.loads(line) for line in outcomes.read_text().splitlines()]
    assert stored_partition(rows) == model.partition()
    # Every contact was reported once.
    reported = [id_ for one in written for id_ in one.get("contactIds", [one["contactId"]]) if id_]
    assert sorted(reported) == [row.id for row in rows]
    if jobs == 1:
        # Kills leave gaps in the ids, and nothing else.
        rank = {row.id: place for place, row in enumerate(rows, 1)}
        assert [
            Answer(
                one["outcome"],
                rank[one["primaryContactId"]],
                one["contactId"] and rank[one["contactId"]],
                tuple(rank[id_] for id_ in one.get("contactIds", [])),
            )
            for one in written
        ] == answers


def import_and_be_killed(url: str, plan: ImportPlan, *, windows: int) -> None:
    """Import in a child that ends without any clean-up after so many windows."""
    child = os.fork()
    if child == 0:
        seen = 0

        def show(_progress: object) -> None:
            nonlocal seen
            seen += 1
            if seen == windows:
                os._exit(KILLED)

        try:
            Importer(plan).run(Database(connection_parameters(url), embedded=False), show)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == KILLED
