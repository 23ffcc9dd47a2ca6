"""What changed since a run, compared with the graph as it was when that run ended."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from steering import Player

from identity_cli.graph.changes import (
    DOUBLED_AT_LEAST,
    Added,
    DoubledIdentity,
    MovedByRules,
    beginning_of_changes,
)
from identity_cli.graph.hubs import MOST_PARTNERS
from identity_cli.graph.report import STEPS, compile_report
from identity_cli.graph.run_list import list_runs
from identity_cli.meter import Meter
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    from identity_cli.graph.report import Report

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_RUN, SECOND_RUN = (MIDNIGHT, MIDNIGHT + timedelta(hours=1)), (MIDNIGHT + timedelta(days=1),)


def read(connection: psycopg.Connection[Any], **options: Any) -> Report:
    with snapshot(connection) as graph:
        return compile_report(graph, **options)


def add_run(
    connection: psycopg.Connection[Any], started_at: datetime, finished_at: datetime | None
) -> None:
    status = "running" if finished_at is None else "finished"
    connection.execute(
        "INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at,"
        """ finished_at) VALUES (%s, '[]', '', 0, '{"read": 1, "rejected": 0}', %s, %s)""",
        (status, started_at, finished_at),
    )


def store(
    connection: psycopg.Connection[Any],
    email: str,
    phone: str,
    moment: datetime,
    run_id: int | None = None,
) -> None:
    connection.execute("SELECT reconcile(%s, %s, %s, %s, 0)", (email, phone, moment, run_id))


@pytest.fixture
def two_runs(connection: psycopg.Connection[Any]) -> None:
    add_run(connection, *FIRST_RUN)
    add_run(connection, *SECOND_RUN, None)


def identities(connection: psycopg.Connection[Any]) -> dict[int, set[int]]:
    """The contacts of each identity, by the primary."""
    members: defaultdict[int, set[int]] = defaultdict(set)
    for contact_id, primary_id in connection.execute(
        "SELECT id, coalesce(linked_id, id) FROM contact WHERE id > 0"
    ):
        members[primary_id].add(contact_id)
    return members


def partners(connection: psycopg.Connection[Any]) -> Counter[str]:
    """With how many others each value occurred."""
    pairs = connection.execute(
        "SELECT email, phone_number FROM contact"
        " WHERE email IS NOT NULL AND phone_number IS NOT NULL"
        " UNION SELECT value, other_value FROM link_evidence"
    ).fetchall()
    return Counter(value for pair in pairs for value in pair)


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize("seed", range(5))
def test_changes_are_those_between_two_graphs(
    connection: psycopg.Connection[Any], seed: int
) -> None:
    """Random requests before and after; the graph in between was recorded."""
    chosen = random.Random(seed)

    def store_requests(count: int, run_id: int, start: datetime) -> None:
        for number in range(count):
            # A few values are much more frequent than the others.
            email = int(150 * chosen.random() ** 2)
            phone = int(80 * chosen.random() ** 3)
            moment = start + timedelta(microseconds=number + 1)
            store(connection, f"p{email}@x.org", str(1000 + phone), moment, run_id)

    store_requests(50, 1, FIRST_RUN[0])
    identities_before, partners_before = identities(connection), partners(connection)
    store_requests(120, 2, SECOND_RUN[0])
    identities_now, partners_now = identities(connection), partners(connection)
    expected = []
    for primary_id, members in identities_now.items():
        before = max((len(part & members) for part in identities_before.values()), default=0)
        if len(members) >= DOUBLED_AT_LEAST and 0 < 2 * before <= len(members):
            expected.append(DoubledIdentity(primary_id, len(members), before))
    new_hubs = {
        (value, count, partners_before[value])
        for value, count in partners_now.items()
        if count > MOST_PARTNERS >= partners_before[value]
    }

    found = read(connection, top=100)

    assert found.changes.previous_run_id == 1
    assert list(found.changes.doubled) == sorted(
        expected, key=lambda one: (-one.contacts, one.primary_id)
    )
    assert {
        (one.value, one.partners, one.partners_before)
        for one in found.statistics.most_shared_new_hubs
    } == new_hubs
    assert found.statistics.new_hubs == len(new_hubs) > 0
    [added] = found.changes.added
    grown = sum(map(len, identities_now.values())) - sum(map(len, identities_before.values()))
    assert added.new_identities + added.linked_contacts == grown
    assert added.new_identities - added.merges == len(identities_now) - len(identities_before)
    assert found.verification.ok


@pytest.mark.parametrize("seed", range(8))
def test_doubled_identities_are_found_although_rules_move_contacts(
    connection: psycopg.Connection[Any], seed: int
) -> None:
    """Random requests and rules in real time; the graph in between was recorded."""
    chosen = random.Random(seed)
    player = Player(connection)
    emails = [f"p{number}@x.org" for number in range(40)]
    phones = [str(1000 + number) for number in range(30)]
    rules: list[tuple[str, ...]] = []

    def play(steps: int) -> None:
        for _ in range(steps):
            kind = chosen.random()
            if kind < 0.85:
                store(connection, chosen.choice(emails), chosen.choice(phones), now(connection))
            elif kind < 0.92 and rules:
                rule = rules.pop(chosen.randrange(len(rules)))
                player.relink(*rule) if len(rule) == 2 else player.unblock(rule)
            elif kind < 0.96:
                rules.append((chosen.choice(phones),))
                player.block(rules[-1])
            else:
                rules.append((chosen.choice(emails), chosen.choice(phones)))
                player.unlink(*rules[-1])

    add_run(connection, now(connection), None)
    play(30)
    before = identities(connection)
    connection.execute("UPDATE import_run SET finished_at = clock_timestamp()")
    add_run(connection, now(connection), None)
    play(60)
    expected = []
    for primary_id, members in identities(connection).items():
        largest = max((len(part & members) for part in before.values()), default=0)
        if len(members) >= DOUBLED_AT_LEAST and 0 < 2 * largest <= len(members):
            expected.append(DoubledIdentity(primary_id, len(members), largest))

    found = read(connection).changes

    assert list(found.doubled) == sorted(expected, key=lambda one: (-one.contacts, one.primary_id))


def now(connection: psycopg.Connection[Any]) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


@pytest.mark.usefixtures("two_runs")
def test_rules_split_and_merge_identities(connection: psycopg.Connection[Any]) -> None:
    player = Player(connection)
    for email in ("a@x.org", "b@x.org", "c@x.org"):
        store(connection, email, "1", FIRST_RUN[0])
    player.block(["1"])  # three identities of one contact each
    split = read(connection)
    assert split.statistics.identities == 3
    assert split.changes.moved_by_rules == MovedByRules(merges=0, splits=2)
    assert split.statistics.held_pairs == split.statistics.pairs == 3
    assert [(one.value, one.partners) for one in split.statistics.most_shared] == [("1", 3)]
    player.unblock(["1"])
    merged = read(connection)
    assert merged.statistics.identities == 1
    assert merged.changes.moved_by_rules == MovedByRules(merges=2, splits=2)
    assert merged.statistics.held_pairs == 0


@pytest.mark.usefixtures("two_runs")
def test_identity_that_was_merged_from_two_halves_has_doubled(
    connection: psycopg.Connection[Any],
) -> None:
    for number in range(6):
        store(connection, f"a{number}@x.org", "1", FIRST_RUN[0])
        store(connection, f"b{number}@x.org", "2", FIRST_RUN[0])
    store(connection, "a0@x.org", "2", SECOND_RUN[0])
    found = read(connection)
    assert found.changes.doubled == (DoubledIdentity(1, 12, 6),)
    assert found.changes.added == (Added(None, 0, 0, 1),)


@pytest.mark.usefixtures("two_runs")
def test_parts_that_were_merged_before_count_as_one(connection: psycopg.Connection[Any]) -> None:
    """A chain of merges in the first run: the identity was large already."""
    for number in range(12):
        store(connection, f"p{number}@x.org", str(number), FIRST_RUN[0])
    for number in range(11, 0, -1):
        store(connection, f"p{number}@x.org", str(number - 1), FIRST_RUN[0])
    store(connection, "new@x.org", "5", SECOND_RUN[0])
    found = read(connection)
    assert found.statistics.largest[0].contacts == 13
    assert found.changes.doubled == ()


@pytest.mark.usefixtures("two_runs")
def test_single_requests_come_after_the_runs(connection: psycopg.Connection[Any]) -> None:
    moment = SECOND_RUN[0]
    store(connection, "old@x.org", "1", FIRST_RUN[0], 1)
    store(connection, "single@x.org", "2", moment)
    store(connection, "run@x.org", "2", moment, 2)
    assert read(connection).changes.added == (Added(2, 0, 1, 0), Added(None, 1, 0, 0))


def test_first_run_has_nothing_to_be_compared_with(connection: psycopg.Connection[Any]) -> None:
    add_run(connection, *FIRST_RUN)
    for number in range(MOST_PARTNERS + 1):
        store(connection, f"p{number}@x.org", "1", FIRST_RUN[0], 1)
    found = read(connection)
    assert (found.changes.previous_run_id, found.changes.since) == (None, None)
    assert found.changes.added == (Added(1, 1, MOST_PARTNERS, 0),)
    assert found.changes.doubled == ()
    assert found.statistics.new_hubs == 1


def test_report_of_an_empty_graph(connection: psycopg.Connection[Any]) -> None:
    found = read(connection)
    assert found.changes.added == ()
    assert found.verification.ok


class RecordingMeter(Meter):
    """Records the phases, and what is done when it changes."""

    is_shown = True

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int]] = []

    def _changed(self, *, is_new_phase: bool) -> None:
        self.found.append((self.phase, self.done))


@pytest.mark.parametrize("has_second", [False, True])
def test_report_shows_how_far_it_is(
    connection: psycopg.Connection[Any], database_url: str, has_second: bool
) -> None:
    for number in range(40):
        store(connection, f"p{number}@x.org", "1", FIRST_RUN[0], 1)
    meter = RecordingMeter()
    with psycopg.connect(database_url, autocommit=True) as second:
        read(connection, meter=meter, second=second if has_second else None)
    assert list(dict.fromkeys(phase for phase, _ in meter.found)) == list(STEPS)
    done = [done for _, done in meter.found]
    assert done == sorted(done)
    if has_second:
        assert done[-1] <= 100
    else:
        # The verification advances by itself.
        assert len(set(done)) > len(STEPS) + 2
        assert done[-1] == 100


def test_changes_begin_when_the_run_before_ended(connection: psycopg.Connection[Any]) -> None:
    hour = timedelta(hours=1)
    add_run(connection, MIDNIGHT, MIDNIGHT + hour)
    assert beginning_of_changes(list_runs(connection, limit=2)) is None
    add_run(connection, MIDNIGHT + 2 * hour, None)
    assert beginning_of_changes(list_runs(connection, limit=2)) == MIDNIGHT + hour
    # The run before has not ended; what it stores is new as well.
    add_run(connection, MIDNIGHT + 3 * hour, MIDNIGHT + 5 * hour)
    assert beginning_of_changes(list_runs(connection, limit=2)) == MIDNIGHT + 2 * hour
    # Two runs at the same time.
    add_run(connection, MIDNIGHT + 4 * hour, MIDNIGHT + 6 * hour)
    assert beginning_of_changes(list_runs(connection, limit=2)) == MIDNIGHT + 4 * hour


@pytest.mark.usefixtures("two_runs")
def test_verification_over_a_second_connection_sees_the_same_snapshot(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    store(connection, "old@x.org", "1", FIRST_RUN[0], 1)
    with psycopg.connect(database_url, autocommit=True) as second:
        with snapshot(connection) as graph:
            with psycopg.connect(database_url, autocommit=True) as writer:
                store(writer, "late@x.org", "2", SECOND_RUN[0], 2)
            found = compile_report(graph, second=second)
        assert found.verification.contacts == found.statistics.contacts == 1
        assert found.verification.ok
        assert second.execute("SELECT 1").fetchone() == (1,)


def test_verification_ends_with_a_report_that_fails(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    """The verification waits for a lock that another session does not release."""

    class FailingMeter(Meter):
        def begin(self, phase: str) -> None:
            raise ZeroDivisionError

    with (
        psycopg.connect(database_url) as blocker,
        psycopg.connect(database_url, autocommit=True) as second,
    ):
        with snapshot(connection) as graph:
            blocker.execute("LOCK TABLE contact")
            with pytest.raises(ZeroDivisionError):
                compile_report(graph, second=second, meter=FailingMeter())
        blocker.rollback()
        assert second.closed or second.execute("SELECT 1").fetchone() == (1,)
