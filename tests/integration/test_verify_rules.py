"""What verify finds where rules say what of the evidence links."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from steering import Player

from identity_cli.graph.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

# Nothing refuses what is planted from here on.
UNGUARDED = """
    ALTER TABLE contact DISABLE TRIGGER USER;
    ALTER TABLE contact DROP CONSTRAINT contact_links_to_a_primary;
    ALTER TABLE contact DROP CONSTRAINT contact_primary_has_no_link;
    ALTER TABLE blocked_value DROP CONSTRAINT blocked_value_pattern_id_fkey;
    ALTER TABLE blocked_value DROP CONSTRAINT blocked_value_has_a_reason;
    DROP INDEX contact_email_anchor;
    DROP INDEX contact_phone_anchor;
"""


@pytest.fixture
def player(connection: psycopg.Connection[Any]) -> Player:
    """A graph with every kind of rule."""
    player = Player(connection)
    for email, phone in (
        ("a@x.org", "1111111"),  # contact 1 shows the email, as the phone number is blocked
        ("b@x.org", "1111111"),  # 2 shows the email
        ("c@x.org", "2222222"),  # 3 shows the email, as the pair is unlinked
        ("spam@x.org", "3333333"),  # 4 shows the phone number, as the email matches the pattern
        ("e@x.org", "4444444"),  # 5, 6 and 7 show the emails, as the phone number is a hub
        ("f@x.org", "4444444"),
        ("g@x.org", "4444444"),
        ("a@x.org", "3333333"),  # evidence that merges 4 into 1
        ("b@x.org", "4444444"),  # held evidence
    ):
        player.request([email], [phone])
    player.add_pattern("spam.*")
    player.block(["1111111", "never@x.org"])
    player.unlink("c@x.org", "2222222")
    player.unlink("reserved@x.org", "5555555")
    player.limit(None, 3)
    return player


def test_a_graph_with_every_kind_of_rule_is_right(player: Player) -> None:
    player.check()
    found = verify(player.connection)
    assert found.violations == ()
    assert found.digest == player.truth.digest()


# Statement, then the (code, contact id) of everything that it must bring up.
PLANTED = [
    pytest.param(
        "INSERT INTO blocked_value (value, command_id) VALUES ('2222222', 1)",
        {("rule_not_applied", 8)},
        id="a blocked value is shown",
    ),
    pytest.param(
        "DELETE FROM blocked_value WHERE value = 'spam@x.org'",
        {("rule_not_applied", None)},
        id="a value of a pattern is not marked",
    ),
    pytest.param(
        "DELETE FROM blocked_value WHERE value = '4444444'",
        {("rule_not_applied", None)},
        id="a hub is not marked",
    ),
    pytest.param(
        "UPDATE blocked_value SET is_hub = false, command_id = 1 WHERE value = '4444444'",
        {("rule_not_applied", None)},
        id="a blocked hub is not marked as one",
    ),
    pytest.param(
        "UPDATE blocked_value SET is_hub = true WHERE value = '1111111'",
        {("rule_not_applied", None)},
        id="a blocked value is marked as a hub",
    ),
    pytest.param(
        "UPDATE blocked_value SET pattern_id = 1 WHERE value = '1111111'",
        {("rule_not_applied", None)},
        id="a value is marked by a pattern that does not match",
    ),
    pytest.param(
        "INSERT INTO blocked_value (value, pattern_id) VALUES ('h@x.org', 7)",
        {("rule_not_applied", None)},
        id="an unknown value is marked by a pattern that does not exist",
    ),
    pytest.param(
        "DELETE FROM block_pattern",
        {("rule_not_applied", None), ("value_not_shown", 4)},
        id="a value is marked without its pattern",
    ),
    pytest.param(
        "INSERT INTO block_pattern (pattern, command_id) VALUES ('c@x', 1)",
        set(),
        id="a pattern matches whole values",
    ),
    pytest.param(
        "INSERT INTO block_pattern (pattern, command_id) VALUES ('.@x|c@x.org', 1)",
        {("rule_not_applied", 3)},
        id="a pattern of alternatives",
    ),
    pytest.param(
        "UPDATE link_policy SET phone_limit = 4",
        {("rule_not_applied", None)}
        | {(code, id_) for code in ("value_not_shown", "unmerged") for id_ in (5, 6, 7)}
        | {("wrongly_held_evidence", None), ("evidence_of_unknown_value", None)},
        id="a limit is raised",
    ),
    pytest.param(
        "UPDATE link_policy SET email_limit = 1",
        {("rule_not_applied", 1), ("rule_not_applied", 2), ("link_without_evidence", 4)}
        | {("wrongly_held_evidence", None)},
        id="a limit is set",
    ),
    pytest.param(
        "UPDATE link_policy SET phone_limit = NULL",
        {("rule_not_applied", None)}
        | {(code, id_) for code in ("value_not_shown", "unmerged") for id_ in (5, 6, 7)}
        | {("wrongly_held_evidence", None), ("evidence_of_unknown_value", None)}
        | {("wrong_partner_count", contact_id) for contact_id in (None, 1, 2, 3, 4, 5, 6, 7, 8)},
        id="partners are counted without a limit",
    ),
    pytest.param(
        "INSERT INTO hub_exemption (value, command_id) VALUES ('4444444', 1)",
        {("rule_not_applied", None)}
        | {(code, id_) for code in ("value_not_shown", "unmerged") for id_ in (5, 6, 7)}
        | {("wrongly_held_evidence", None), ("evidence_of_unknown_value", None)},
        id="a hub is exempt",
    ),
    pytest.param(
        "UPDATE partner_count SET partners = 2 WHERE value = 'c@x.org'",
        {("wrong_partner_count", 3)},
        id="wrong_partner_count",
    ),
    pytest.param(
        "DELETE FROM partner_count WHERE value = '2222222'",
        {("wrong_partner_count", 8)},
        id="wrong_partner_count, missing",
    ),
    pytest.param(
        "INSERT INTO partner_count (value, partners) VALUES ('stale@x.org', 1)",
        {("wrong_partner_count", None)},
        id="wrong_partner_count, stale",
    ),
    pytest.param(
        "INSERT INTO unlinked_pair (value, other_value, command_id)"
        " VALUES ('a@x.org', '3333333', 1)",
        {("link_without_evidence", 4), ("wrongly_held_evidence", None)},
        id="an unlinked pair links by evidence",
    ),
    pytest.param(
        "DELETE FROM unlinked_pair WHERE value = 'c@x.org'",
        {("value_not_shown", 3), ("unmerged", 8)},
        id="a pair is kept apart without a rule",
    ),
    pytest.param(
        "UPDATE contact SET phone_number = '2222222', anchors_phone = false WHERE id = 3",
        {
            ("rule_not_applied", 3),
            ("set_aside_without_rule", 3),
            ("identifier_in_two_identities", 8),
        },
        id="a contact shows both values of an unlinked pair",
    ),
    pytest.param(
        "DELETE FROM contact WHERE id = 3",
        {("value_not_shown", 3)},
        id="a contact shows none of the values of an unlinked pair",
    ),
    pytest.param(
        "DELETE FROM contact WHERE phone_number = '1111111'",
        {("placeholder_missing", None)},
        id="placeholder_missing, blocked",
    ),
    pytest.param(
        "DELETE FROM contact WHERE email = 'never@x.org'",
        {("placeholder_missing", None)},
        id="placeholder_missing, blocked before it was stated",
    ),
    pytest.param(
        "DELETE FROM contact WHERE phone_number = '5555555'",
        {("placeholder_missing", None)},
        id="placeholder_missing, reserved",
    ),
    pytest.param(
        "UPDATE contact SET anchors_phone = false WHERE phone_number = '1111111'",
        {("placeholder_missing", None)},
        id="a placeholder does not anchor its value",
    ),
    pytest.param(
        "INSERT INTO contact (id, email, link_precedence) VALUES (-99, 'never@x.org', 'primary')",
        {("value_anchored_twice", None)},
        id="two placeholders of a value",
    ),
    pytest.param(
        "INSERT INTO contact (id, email, link_precedence) VALUES (-99, 'h@x.org', 'primary')",
        {("placeholder_without_rule", None)},
        id="placeholder_without_rule",
    ),
    pytest.param(
        "INSERT INTO contact (id, email, link_precedence) VALUES (-99, 'c@x.org', 'primary')",
        {("placeholder_without_rule", 3)},
        id="placeholder_without_rule, of a contact's value",
    ),
    pytest.param(
        "UPDATE contact SET phone_number = '6666666' WHERE id = -2;"
        " UPDATE contact SET linked_id = 1, link_precedence = 'secondary' WHERE id = -7",
        {
            ("placeholder_like_a_contact", -2),
            ("placeholder_like_a_contact", -7),
            ("placeholder_without_rule", None),
        },
        id="placeholder_like_a_contact",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = -3, link_precedence = 'secondary' WHERE id = 3",
        {("dangling_link", 3)},
        id="linked to a placeholder",
    ),
    pytest.param(
        "UPDATE link_evidence SET is_held = true WHERE id = 1",
        {("wrongly_held_evidence", None)},
        id="wrongly_held_evidence, held",
    ),
    pytest.param(
        "UPDATE link_evidence SET is_held = false WHERE id = 2",
        {("wrongly_held_evidence", None)},
        id="wrongly_held_evidence, not held",
    ),
    pytest.param(
        "UPDATE link_evidence SET primary_id = NULL",
        {("evidence_without_primary", None)},
        id="evidence_without_primary",
    ),
    pytest.param(
        "UPDATE link_evidence SET primary_id = 999",
        {("evidence_of_unknown_contact", None)},
        id="evidence_of_unknown_contact",
    ),
    pytest.param(
        "UPDATE link_evidence SET merged_id = -3 WHERE id = 2",
        {("evidence_of_unknown_contact", None)},
        id="evidence names a placeholder",
    ),
    pytest.param(
        "UPDATE link_evidence SET merged_id = 3 WHERE id = 1",
        {("evidence_in_another_identity", 3)},
        id="evidence_in_another_identity",
    ),
    pytest.param(
        "UPDATE contact SET email = 'z@x.org' WHERE id = 3",
        {("value_not_stored", 3), ("value_not_shown", 3)},
        id="value_not_stored",
    ),
    pytest.param(
        "UPDATE set_aside_contact SET phone_number = NULL WHERE id = 3",
        {("set_aside_without_rule", 3), ("wrong_partner_count", 3), ("wrong_partner_count", 8)},
        id="set_aside_without_rule",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = 1, link_precedence = 'secondary' WHERE id = 2",
        {("link_without_evidence", 2)},
        id="a split that was not done",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = NULL, link_precedence = 'primary' WHERE id = 4",
        {("unmerged", 4)},
        id="a merge that was not done",
    ),
]


@pytest.mark.parametrize(("statement", "expected"), PLANTED)
def test_each_violation_is_found(
    player: Player, statement: str, expected: set[tuple[str, int | None]]
) -> None:
    player.connection.execute(UNGUARDED)
    assert verify(player.connection).ok
    player.connection.execute(statement)  # type: ignore[arg-type]
    found = verify(player.connection)
    assert {(one.code, one.contact_id) for one in found.violations} == expected
    for one in found.violations:
        for value in ("@x", "111", "222", "333", "444", "555", "666"):
            assert value not in one.message


def test_the_digest_counts_what_is_linked(player: Player) -> None:
    with_rules = verify(player.connection)
    assert (with_rules.contacts, with_rules.identities) == (8, 7)
    player.connection.execute("DELETE FROM contact WHERE id < 0; DELETE FROM set_aside_contact")
    assert verify(player.connection).digest == with_rules.digest


def _block_and_unblock(player: Player) -> None:
    player.unblock(["1111111"])
    player.block(["a@x.org", "b@x.org"])
    player.unblock(["a@x.org", "b@x.org"])


def _unlink_and_relink(player: Player) -> None:
    player.relink("c@x.org", "2222222")
    player.unlink("a@x.org", "3333333")
    player.request(["a@x.org"], ["3333333"])
    player.unlink("a@x.org", "c@x.org")
    player.request(["a@x.org", "c@x.org"], [])
    player.request(["reserved@x.org"], ["5555555"])


def _change_patterns(player: Player) -> None:
    player.add_pattern("[ab]@.*|44+")
    player.remove_pattern("spam.*")
    player.request(["b@x.org"], ["4444444"])


def _change_limits(player: Player) -> None:
    player.limit(1, None)
    player.request(["e@x.org"], ["7777777"])
    player.exempt("e@x.org", is_exempt=True)
    player.limit(None, None)


def _undo_a_run(player: Player) -> None:
    player.start_run()
    player.request(["c@x.org"], ["3333333"], in_run=True)
    player.request(["h@x.org"], ["1111111"], in_run=True)
    player.undo()


def _forget(player: Player) -> None:
    player.forget(["a@x.org", "4444444"])
    player.request(["a@x.org"], ["8888888"])


@pytest.mark.parametrize(
    "change",
    [
        _block_and_unblock,
        _unlink_and_relink,
        _change_patterns,
        _change_limits,
        _undo_a_run,
        _forget,
    ],
)
def test_commands_leave_a_right_graph(player: Player, change: Callable[[Player], None]) -> None:
    change(player)
    player.check()
    found = verify(player.connection)
    assert found.violations == ()
    assert found.digest == player.truth.digest()


@pytest.mark.parametrize("seed", range(4))
def test_random_steps_leave_a_right_graph(connection: psycopg.Connection[Any], seed: int) -> None:
    draw = random.Random(seed)
    emails = [f"{letter}@x.org" for letter in "abcdefghij"]
    phones = [str(digit) * 7 for digit in range(1, 9)]
    values = emails + phones
    player = Player(connection)
    patterns = ["[ab]@.*", "1+", ".*f@x.*"]
    steps: list[tuple[int, Callable[[], object]]] = [
        (
            12,
            lambda: player.request(
                draw.sample(emails, draw.randint(1, 2)),
                draw.sample(phones, draw.randint(0, 2)),
                in_run=draw.random() < 0.4,
            ),
        ),
        (2, lambda: player.block(draw.sample(values, 2))),
        (2, lambda: player.unblock(draw.sample(values, 6))),
        (2, lambda: player.unlink(*draw.sample(values, 2))),
        (1, lambda: player.relink(*draw.sample(values, 2))),
        (1, lambda: player.add_pattern(draw.choice(patterns))),
        (1, lambda: player.remove_pattern(draw.choice(patterns))),
        (1, lambda: player.limit(draw.choice([None, 2, 5]), draw.choice([None, 2, 5]))),
        (1, lambda: player.exempt(draw.choice(values), is_exempt=draw.random() < 0.6)),
        (1, player.start_run),
        (1, player.undo),
    ]
    weights, calls = zip(*steps, strict=True)
    for call in draw.choices(calls, weights, k=60):
        call()
        found = verify(connection)
        assert found.violations == ()
        assert found.digest == player.truth.digest()
