"""Requests and rules in any order: the identities are those of a computation from scratch."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from steered import Request
from steering import PATTERNS, VALUES, Player, Step, empty, play, random_request, random_script

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    Connection = psycopg.Connection[Any]

# The database is emptied inside the test, so one for all examples is right.
one_database = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

requests = st.lists(st.randoms(use_true_random=False).map(random_request), max_size=12)
values = st.sampled_from(VALUES)
limits = st.sampled_from([None, 1, 2, 3])
rules = st.lists(
    st.one_of(
        st.tuples(st.just("block"), st.tuples(st.lists(values, min_size=1)), st.just({})),
        st.tuples(
            st.just("unlink"),
            st.lists(values, min_size=2, max_size=2, unique=True).map(tuple),
            st.just({}),
        ),
        st.tuples(st.just("add_pattern"), st.tuples(st.sampled_from(PATTERNS)), st.just({})),
        st.tuples(st.just("limit"), st.tuples(limits, limits), st.just({})),
    ),
    max_size=5,
)

_ROWS = """
    SELECT id, email, phone_number, linked_id, link_precedence::text, initial_linked_id, run_id,
           line, created_at, anchors_email, anchors_phone
    FROM contact WHERE id > 0 ORDER BY id
"""
_EVIDENCE = """
    SELECT value, other_value, is_held, primary_id, merged_id, run_id, line, created_at
    FROM link_evidence ORDER BY value, other_value
"""


def rows(connection: Connection) -> list[Any]:
    return connection.execute(_ROWS).fetchall() + connection.execute(_EVIDENCE).fetchall()


def requested(connection: Connection, script: list[Step]) -> Player:
    """Play the steps on an empty database."""
    empty(connection)
    player = Player(connection)
    play(player, script)
    return player


@pytest.mark.parametrize(
    "seeds", [range(25), pytest.param(range(100, 150), marks=pytest.mark.slow)]
)
def test_random_scripts_keep_to_the_rules(connection: Connection, seeds: range) -> None:
    for seed in seeds:
        requested(connection, random_script(random.Random(seed)))


class Identifying(Player):
    """Sends requests as HTTP does; compares the contacts in an answer with the stored identity."""

    def request(
        self, emails: Sequence[str], phones: Sequence[str], *, in_run: bool = False
    ) -> tuple[Any, ...]:
        rows = self.connection.execute(
            "SELECT * FROM identify(%s, %s, NULL)", (list(emails), list(phones))
        ).fetchall()
        _, primary_id, *_ = answer = rows[0][4:]
        members = self.connection.execute("SELECT * FROM members(%s, NULL)", (primary_id,))
        assert [row[:4] for row in rows] == (members.fetchall() or [(None,) * 4])
        self.truth.requests.append(Request(tuple(emails), tuple(phones)))
        return answer


@pytest.mark.parametrize("seed", range(10))
def test_answer_has_the_contacts_of_the_identity(connection: Connection, seed: int) -> None:
    player = Identifying(connection)
    for name, arguments, named in random_script(random.Random(seed)):
        getattr(player, name)(*arguments, **named)


def test_answer_to_a_new_value_that_is_unlinked_from_an_identity_has_the_identity(
    connection: Connection,
) -> None:
    player = Identifying(connection)
    player.request(["a@x.org"], ["1"])
    player.request(["a@x.org"], ["2"])
    player.unlink("a@x.org", "3")

    outcome, primary_id, contact_id, _ = player.request(["a@x.org"], ["3"])

    assert (outcome, primary_id, contact_id) == ("created", 1, 3)


@given(requests, rules, st.randoms(use_true_random=False))
@one_database
def test_order_of_requests_and_rules_does_not_matter(
    connection: Connection, requests: list[Step], rules: list[Step], draw: random.Random
) -> None:
    before = requested(connection, [*requests, *rules])
    shuffled = list(requests)
    draw.shuffle(shuffled)
    places = sorted(draw.randrange(len(shuffled) + 1) for _ in rules)
    for place, rule in reversed(list(zip(places, rules, strict=True))):
        shuffled.insert(place, rule)
    expected = before.identities()
    assert requested(connection, shuffled).identities() == expected


@given(requests, rules, st.lists(values, min_size=1, max_size=3, unique=True))
@one_database
def test_block_and_unblock_leave_every_row(
    connection: Connection, requests: list[Step], rules: list[Step], blocked: list[str]
) -> None:
    player = requested(connection, [*rules, *requests])
    blocked = [value for value in blocked if value not in player.truth.blocked]
    before = rows(connection)
    play(player, [("block", (blocked,), {}), ("unblock", (blocked,), {})])
    assert rows(connection) == before


@given(requests, limits, limits)
@one_database
def test_limits_on_and_off_leave_every_row(
    connection: Connection, requests: list[Step], emails: int | None, phones: int | None
) -> None:
    player = requested(connection, requests)
    before = rows(connection)
    play(player, [("limit", (emails, phones), {}), ("limit", (None, None), {})])
    assert rows(connection) == before


@given(requests, st.lists(values, min_size=2, max_size=2, unique=True))
@one_database
def test_unlink_and_relink_leave_every_contact(
    connection: Connection, requests: list[Step], pair: list[str]
) -> None:
    player = requested(connection, requests)
    before = rows(connection)
    play(player, [("unlink", tuple(pair), {}), ("relink", tuple(pair), {})])
    after = rows(connection)
    # A value that no contact showed any more has got one of its own, which stays and anchors it.
    assert {row[:9] for row in before} <= {row[:9] for row in after}
    assert len(after) <= len(before) + 1


@given(requests, requests, rules)
@one_database
def test_undone_run_has_never_been(
    connection: Connection, requests: list[Step], run: list[Step], rules: list[Step]
) -> None:
    outside = [(name, arguments, {"in_run": False}) for name, arguments, _ in requests]
    inside = [(name, arguments, {"in_run": True}) for name, arguments, _ in run]
    player = requested(connection, [*outside, *rules])
    before = rows(connection)
    play(player, [("start_run", (), {}), *inside, ("undo", (), {})])
    assert rows(connection) == before


@given(requests, requests, st.lists(values, min_size=1, max_size=2, unique=True), rules)
@one_database
def test_nothing_of_a_forgotten_value_is_stored(
    connection: Connection,
    requests: list[Step],
    later: list[Step],
    gone: list[str],
    rules: list[Step],
) -> None:
    empty(connection)
    player = Player(connection)
    rules = [rule for rule in rules if rule[0] != "add_pattern"]
    play(player, [*requests, *rules, ("forget", (gone,), {}), *later])
    texts = connection.execute("""
        SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0
            AND atttypid IN ('text'::regtype, 'jsonb'::regtype)
    """).fetchall()
    assert ("contact", "email") in texts
    for table, column in texts:
        query = f"SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL"
        for (text,) in connection.execute(query):  # type: ignore[arg-type]
            assert not any(value in text for value in gone), (table, column)


@pytest.mark.parametrize("are_known", [True, False])
@pytest.mark.parametrize(
    ("emails", "phones"),
    [
        (["a@x.org"], ["1"]),
        (["a@x.org", "b@x.org"], []),
        (["b@x.org", "a@x.org"], []),
        ([], ["1", "2"]),
        ([], ["2", "1"]),
    ],
)
def test_answer_to_an_unlinked_pair_is_that_of_its_first_value(
    connection: Connection, emails: list[str], phones: list[str], *, are_known: bool
) -> None:
    player = Player(connection)
    first, second = values = [*emails, *phones]
    if are_known:
        for value in values:
            player.request(*([[value], []] if "@" in value else [[], [value]]))
    player.unlink(first, second)
    for _ in range(2):
        outcome, primary_id, *_ = player.request(emails, phones)
        player.check()
        found = connection.execute(
            "SELECT id FROM contact WHERE %s IN (email, phone_number)", (first,)
        ).fetchone()
        assert found == (primary_id,)
        assert outcome == ("unchanged" if are_known else "created")
        are_known = True


@pytest.mark.parametrize("are_known", [False, True])
@pytest.mark.parametrize(
    ("emails", "phones", "other"),
    [
        (["info@x.org"], ["1"], "1"),
        (["a@x.org"], ["771"], "a@x.org"),
        (["info@x.org", "z@x.org"], [], "z@x.org"),
        ([], ["1", "771"], "1"),
    ],
)
def test_answer_to_an_unlinked_pair_that_a_pattern_meets_first_is_that_of_the_other_value(
    connection: Connection, emails: list[str], phones: list[str], other: str, *, are_known: bool
) -> None:
    player = Player(connection)
    player.add_pattern("info.*")
    player.add_pattern("77.*")
    player.unlink(*emails, *phones)
    if are_known:
        player.request(*([[other], []] if "@" in other else [[], [other]]))
    for _ in range(2):
        outcome, primary_id, *_ = player.request(emails, phones)
        player.check()
        found = connection.execute(
            "SELECT id FROM contact WHERE %s IN (email, phone_number)", (other,)
        ).fetchone()
        assert found == (primary_id,)
        assert outcome == ("unchanged" if are_known else "created")
        are_known = True


def test_forgotten_value_is_in_no_reason_pattern_or_file_name(connection: Connection) -> None:
    player = Player(connection)
    player.request(["zed@corp.org"], ["+12025551234"])
    player.start_run()
    connection.execute(
        "UPDATE import_run SET inputs = %s, checkpoint = %s",
        ('[{"path": "Zed@corp.org.csv"}]', '{"rejects": "12025551234.rejects"}'),
    )
    connection.execute(
        "INSERT INTO steering_command (verb, reason)"
        " VALUES ('block', 'desk (202) 555-1234'), ('block', 'room 5'), ('block', 'room 15')"
    )
    player.add_pattern("ZED@corp[.]org|Zed@corp\\.org")
    player.remove_pattern("e0.*")
    player.forget(["zed@corp.org", "+12025551234", "5"])
    reasons = connection.execute("SELECT reason FROM steering_command WHERE verb = 'block'")
    assert sorted(reasons.fetchall(), key=str) == [("room 15",), (None,), (None,)]
    assert connection.execute("SELECT count(*) FROM block_pattern").fetchone() == (0,)
    stored = connection.execute("SELECT inputs, checkpoint FROM import_run").fetchone()
    assert stored == ([{"path": "forgotten.csv"}], {"rejects": "forgotten.rejects"})


def test_two_alike_that_come_in_the_other_order_make_a_hub(connection: Connection) -> None:
    player = Player(connection)
    player.limit(1, None)
    player.exempt("a@x.org", is_exempt=True)
    player.request(["a@x.org"], [])
    # The second email occurs with the phone number, and with the first one.
    player.request(["b@x.org", "a@x.org"], ["100"])
    player.check()
    assert player.identities() == {frozenset(("a@x.org", "100"))}
