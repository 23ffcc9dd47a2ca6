"""Commands beside writers: everybody ends right, and the graph is that from scratch."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from steering import PHONES, VALUES, Player, Step, random_request, random_rule

if TYPE_CHECKING:
    from collections.abc import Callable

Connection = psycopg.Connection[Any]

# What a concurrent request or command may cause.
RETRIED = {"40P01", "40001", "23503", "23505", "23G01", "55P03"}


def until_done(step: Callable[[], object]) -> None:
    """Take a step again as long as another session is in its way."""
    for attempt in range(100):
        try:
            step()
        except psycopg.Error as error:
            if error.sqlstate not in RETRIED:
                raise
            time.sleep(random.uniform(0, 0.001 * attempt))
        else:
            return
    raise AssertionError("the step did not get through")


def play_beside(url: str, scripts: list[list[Step]]) -> list[Player]:
    """Play each script on a connection of its own, all at once."""
    barrier = threading.Barrier(len(scripts))

    def play_one(script: list[Step]) -> Player:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute("SET lock_timeout = '20s'")
            player = Player(connection)
            barrier.wait()
            for name, arguments, named in script:
                until_done(lambda: getattr(player, name)(*arguments, **named))  # noqa: B023
            return player

    with ThreadPoolExecutor(len(scripts)) as pool:
        return list(pool.map(play_one, scripts))


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))]
)
def test_commands_beside_three_writers_keep_the_graph_right(
    database_url: str, connection: Connection, seed: int
) -> None:
    draw = random.Random(seed)
    writers = [[random_request(draw) for _ in range(150)] for _ in range(3)]
    commands = []
    for _ in range(40):
        commands.append(random_rule(draw))
        if draw.random() < 0.1:
            commands.append(("forget", ([draw.choice(VALUES)],), {}))
        if draw.random() < 0.2:
            run = [random_request(draw) for _ in range(3)]
            inside = [(name, arguments, {"in_run": True}) for name, arguments, _ in run]
            commands += [("start_run", (), {}), *inside, ("undo", (), {})]
    *players, steerer = play_beside(database_url, [*writers, commands])
    everything = steerer.truth
    for player in players:
        everything.requests += player.truth.requests
    check = Player(connection)
    check.truth = everything
    check.check()


def test_hub_that_several_writers_reach_at_once_stops_linking(
    database_url: str, connection: Connection
) -> None:
    check = Player(connection)
    check.limit(None, 20)
    scripts = [
        [("request", ([f"p{writer}-{i}@x.org"], [PHONES[0]]), {}) for i in range(40)]
        for writer in range(4)
    ]
    for player in play_beside(database_url, scripts):
        check.truth.requests += player.truth.requests
    check.check()
    assert len(check.identities()) == 160


def let_requests_overlap(connection: Connection) -> None:
    """Make every statement that stores something take some milliseconds.

    On a few cores short transactions hardly ever meet; on many they do.
    """
    connection.execute("""
        CREATE FUNCTION take_a_while() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(0.003 * random());
            RETURN NULL;
        END $$
    """)
    for table in ("contact", "link_evidence", "partner_count"):
        connection.execute(
            f"CREATE TRIGGER test_takes_a_while AFTER INSERT OR UPDATE OR DELETE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION take_a_while()"
        )


@pytest.mark.parametrize("rules", ["none", "pattern", "forgotten", "hub limits", "blocked"])
def test_overlapping_requests_of_one_identity_do_not_deadlock(
    database_url: str, connection: Connection, rules: str
) -> None:
    check = Player(connection)
    hot = PHONES[0]
    check.request(["first@x.org"], [hot])
    senders = [[f"p{writer}.{i}@x.org" for i in range(25)] for writer in range(6)]
    match rules:
        case "pattern":
            check.add_pattern(r"p.*[02468]@x\.org")
        case "forgotten":
            check.forget([email for emails in senders for email in emails[::2]])
        case "hub limits":
            check.limit(None, 20)
        case "blocked":
            check.block([hot])
    let_requests_overlap(connection)
    scripts: list[list[Step]] = [
        [("request", ([email], [hot]), {}) for email in emails] for emails in senders
    ]
    for player in play_beside(database_url, scripts):
        check.truth.requests += player.truth.requests
    check.check()
    row = connection.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    assert row[0] <= 2


@pytest.mark.parametrize("command", ["block", "unlink"])
@pytest.mark.parametrize("values", [("email", "email"), ("phone", "phone"), ("email", "phone")])
def test_command_between_look_up_and_insert_is_obeyed(
    database_url: str, connection: Connection, command: str, values: tuple[str, str]
) -> None:
    known = "known@x.org" if values[0] == "email" else "111"
    new = "new@x.org" if values[1] == "email" else "222"
    player = Player(connection)
    player.request(*([[known], []] if "@" in known else [[], [known]]))
    # A trigger of the test's stops the request just before it stores its contact.
    connection.execute("""
        CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock_shared(7);
            RETURN NEW;
        END $$;
        CREATE TRIGGER a_test_waits BEFORE INSERT ON contact FOR EACH ROW
            WHEN (NEW.id > 0) EXECUTE FUNCTION wait_here()
    """)
    connection.execute("SELECT pg_advisory_lock(7)")
    emails = [value for value in (known, new) if "@" in value]
    phones = [value for value in (known, new) if "@" not in value]
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as other:
        second = Player(other)
        request = pool.submit(until_done, lambda: second.request(emails, phones))
        while not request.done() and not _is_waiting(connection, other):
            time.sleep(0.005)
        if command == "block":
            player.block([known])
        else:
            player.unlink(known, new)
        connection.execute("SELECT pg_advisory_unlock(7)")
        request.result(timeout=30)
    player.truth.requests += second.truth.requests
    player.check()
    assert player.identities() == player.truth.identities()


def _is_waiting(eye: Connection, worker: Connection) -> bool:
    row = eye.execute(
        "SELECT cardinality(pg_blocking_pids(%s)) > 0", (worker.info.backend_pid,)
    ).fetchone()
    return row == (True,)
