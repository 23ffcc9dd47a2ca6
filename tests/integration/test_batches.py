"""A batch stores what `reconcile` stores of the same requests, one after the other."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from steered import Everything, Request
from steering import Player, Step, empty, play, random_request, random_rule

from identity_cli import ContactRequest, IdentityService
from identity_cli.errors import RequestForgottenError
from identity_cli.graph import core
from identity_cli.graph.batches import Refusal, RunRequest
from identity_cli.graph.core import consolidate
from identity_cli.graph.verify import verify
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import SERVE_BATCH
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    import psycopg

    from identity_cli.graph.core import Outcome

    Connection = psycopg.Connection[Any]

RUN = 7
REQUESTS = 60
_TABLES = {
    "contact": "id, email, phone_number, linked_id, link_precedence::text, initial_linked_id,"
    " run_id, line, created_at, anchors_email, anchors_phone",
    "link_evidence": "id, value, other_value, is_held, primary_id, merged_id, run_id, line,"
    " created_at",
    "set_aside_contact": "id, email, phone_number, anchors_email, anchors_phone, run_id, line",
    "restatement": "value, other_value, run_id, line",
    "blocked_value": "value, is_hub, pattern_id",
    "partner_count": "value, partners",
}


def stored(connection: Connection, *, times: bool = True) -> dict[str, list[Any]]:
    """All rows that requests write, without the times of statements."""
    if not times:
        tables = {
            table: columns.replace(" created_at", " NULL") for table, columns in _TABLES.items()
        }
    else:
        tables = _TABLES
    return {
        table: sorted(
            connection.execute(f"SELECT {columns} FROM {table} WHERE {_where(table)}").fetchall(),  # type: ignore[arg-type]
            key=str,
        )
        for table, columns in tables.items()
    }


def _where(table: str) -> str:
    return "id > 0" if table == "contact" else "true"


def requests_of(draw: random.Random) -> list[RunRequest]:
    """Requests of one or several values, some of them of people that come again and again."""
    found = []
    for line in range(2, REQUESTS + 2):
        _, (emails, phones), _ = random_request(draw)
        if draw.random() < 0.4:  # a stranger's value, so that contacts are linked, not merged
            stranger = f"s{draw.randrange(30)}@x.org"
            emails, phones = [stranger], phones[: draw.choice([0, 1])]
        request = ContactRequest(emails=emails, phones=phones)
        found.append(RunRequest(request, line, 1_000_000 * (1_000 + line)))
    return found


def one_by_one(connection: Connection, requests: list[RunRequest]) -> list[Outcome | Refusal]:
    answers: list[Any] = []
    for request, line, time_us in requests:
        row = connection.execute(
            "SELECT outcome, primary_id, contact_id, contact_ids FROM reconcile_request("
            "%s, %s, 'epoch'::timestamptz + %s * interval '1 microsecond', %s, %s)",
            (list(request.emails), list(request.phones), time_us, RUN, line),
        ).fetchone()
        assert row is not None
        name, primary_id, contact_id, contact_ids = row
        if name == "forgotten":
            answers.append(Refusal(None))
        elif primary_id is None:
            answers.append(("blocked", None, None, ()))
        else:
            answers.append((name, primary_id, contact_id, tuple(contact_ids or ())))
    return answers


def prepared(connection: Connection, rules: list[Step], before: list[Step]) -> None:
    """Empty the database and play what was there before the requests."""
    empty(connection)
    play(Player(connection), [*before, *rules])


@pytest.mark.parametrize("has_rules", [False, True])
@pytest.mark.parametrize(
    "seeds", [range(15), pytest.param(range(100, 130), marks=pytest.mark.slow)]
)
def test_batches_store_what_single_requests_store(
    service: IdentityService, connection: Connection, seeds: range, has_rules: bool
) -> None:
    for seed in seeds:
        draw = random.Random(seed)
        before = [random_request(draw) for _ in range(draw.choice([0, 5, 15]))]
        rules = [random_rule(draw) for _ in range(draw.choice([1, 4, 8]) if has_rules else 0)]
        if has_rules and draw.random() < 0.3:
            rules.append(("forget", ([f"e{draw.randrange(5)}@x.org"],), {}))
        requests = requests_of(draw)
        prepared(connection, rules, before)
        expected = one_by_one(connection, requests)
        rows = stored(connection)
        prepared(connection, rules, before)
        size = draw.choice([1, 7, 30, REQUESTS])
        answers = [
            answer if isinstance(answer, Refusal) else tuple(answer)
            for start in range(0, REQUESTS, size)
            for answer in service.reconcile_batch(requests[start : start + size], RUN)
        ]
        assert answers == expected, seed
        assert stored(connection) == rows, seed


def run(connection: Connection, steps: core.Steps[Any]) -> Any:
    try:
        query = next(steps)
        while True:
            query = steps.send(connection.execute(*query).fetchall())  # type: ignore[arg-type]
    except StopIteration as stop:
        return stop.value


def identified(connection: Connection, request: ContactRequest) -> tuple[Any, ...]:
    """The outcome of a request that goes alone, and the consolidated contact."""
    try:
        outcome, rows = run(connection, core.identify(request))
    except RequestForgottenError:
        return ("forgotten",)
    return (*outcome, consolidate(rows) if rows else None)


@pytest.mark.parametrize("has_rules", [False, True])
@pytest.mark.parametrize(
    "seeds", [range(15), pytest.param(range(100, 130), marks=pytest.mark.slow)]
)
def test_requests_identified_together_store_what_single_ones_store(
    database_url: str, connection: Connection, seeds: range, has_rules: bool
) -> None:
    """The answer to each of them holds the contacts of its identity when the batch ends."""
    database = Database(connection_parameters(database_url), embedded=False)
    together = 0
    with database.connect(session=SERVE_BATCH) as session:
        for seed in seeds:
            draw = random.Random(seed)
            before = [random_request(draw) for _ in range(draw.choice([0, 5, 15]))]
            rules = [random_rule(draw) for _ in range(draw.choice([1, 4]) if has_rules else 0)]
            if has_rules and draw.random() < 0.3:
                rules.append(("forget", ([f"e{draw.randrange(5)}@x.org"],), {}))
            requests = [
                ContactRequest(emails=request.emails[:1], phones=request.phones[:1])
                for request, _, _ in requests_of(draw)
                if request.emails or request.phones
            ]
            prepared(connection, rules, before)
            expected = [identified(connection, request)[:-1] for request in requests]
            rows = stored(connection, times=False)
            prepared(connection, rules, before)
            size = draw.choice([2, 7, 30])
            found = []
            for start in range(0, len(requests), size):
                batch = requests[start : start + size]
                answers = run(session, core.identify_batch(batch, at_most=1000))
                together += len(batch) if answers else 0
                for request, answer in zip(
                    batch, answers.answers if answers else [None] * len(batch), strict=True
                ):
                    if answer is None:
                        found.append(identified(connection, request)[:-1])
                        continue
                    found.append(answer.outcome)
                    if answer.is_complete and answer.rows:
                        primary_id = answer.outcome.primary_id
                        contact = consolidate(run(connection, core.read(primary_id)))
                        assert consolidate(answer.rows) == contact, seed
            assert found == expected, seed
            assert stored(connection, times=False) == rows, seed
    assert together > 200


@pytest.mark.parametrize("state", ["23505", "23503", "23G01", "40001", "40P01", "55P03"])
def test_row_that_is_not_taken_asks_the_rule(
    service: IdentityService, connection: Connection, state: str
) -> None:
    service.reconcile(ContactRequest("known@x.org", "1"))
    connection.execute(f"""
        CREATE SEQUENCE rows;
        CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('rows') IN (2, 4) THEN
                RAISE EXCEPTION 'somebody came between' USING ERRCODE = '{state}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER a_test_refuses BEFORE INSERT ON contact
            FOR EACH ROW EXECUTE FUNCTION refuse_once()
    """)
    pairs = [("a@x.org", "2"), ("b@x.org", "3"), ("c@x.org", "1"), ("d@x.org", "2")]
    requests = [
        RunRequest(ContactRequest(*pair), line, 1_000_000 * line)
        for line, pair in enumerate(pairs, 1_000_000_000)
    ]
    outcomes = service.reconcile_batch(requests, RUN)
    assert [outcome[0] for outcome in outcomes] == ["created", "created", "linked", "linked"]
    assert service.retries == 2
    assert verify(connection).ok


@pytest.mark.parametrize("limit", [None, 6])
def test_batches_that_race_end_as_the_components_say(
    database_url: str, connection: Connection, limit: int | None
) -> None:
    if limit is not None:
        Player(connection).limit(None, limit)
    draw = random.Random(11)
    streams = [
        [
            ContactRequest(
                emails=draw.sample([f"e{n}@x.org" for n in range(150)], draw.choice([0, 1, 1, 2])),
                phones=[f"55500{draw.randrange(100, 250)}"],
            )
            for _ in range(700 if limit is None else 200)
        ]
        for _ in range(4)
    ]
    barrier = threading.Barrier(len(streams))

    def send(stream: list[ContactRequest]) -> None:
        with IdentityService.open(database_url) as service:
            barrier.wait()
            for start in range(0, len(stream), 70):
                list(service.reconcile_stream(stream[start : start + 70]))

    with ThreadPoolExecutor(len(streams)) as pool:
        list(pool.map(send, streams))
    everything = Everything(
        [Request(one.emails, one.phones) for stream in streams for one in stream],
        phone_limit=limit,
    )
    found = verify(connection)
    assert found.violations == ()
    assert found.digest == everything.digest()


def test_requests_that_store_nothing_take_no_transaction_id(
    service: IdentityService, connection: Connection
) -> None:
    def transactions() -> int:
        row = connection.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None
        return int(row[0])

    requests = [ContactRequest(f"p{n % 200}@x.org", str(n % 150)) for n in range(400)]
    list(service.reconcile_stream(requests))
    before = transactions()
    assert {one.name for one in service.reconcile_stream(requests)} == {"unchanged"}
    assert transactions() - before < 20  # the server's own, such as autovacuum's
