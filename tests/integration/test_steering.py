"""The library's commands that change what links, on a real database."""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from identity_cli import ContactRequest, IdentityService, errors
from identity_cli.graph.forgetting import Forget
from identity_cli.graph.history import read_history, read_history_of
from identity_cli.graph.paths import joining_path, propose_cut
from identity_cli.graph.rule_lists import list_blocked, list_unlinked, read_policy
from identity_cli.graph.rules import Block, Exempt, Relink, SetHubLimits, Unblock, Unlink
from identity_cli.graph.steering import Change, CommandLog, Effect, SizedIdentity, Steering
from identity_cli.graph.undo import Undo
from identity_cli.graph.values import NamedValue
from identity_cli.http.service import AsyncIdentityService
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import STEER, forget_key_query
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Connection = psycopg.Connection[Any]

KEY = "correct horse battery staple"


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(connection_parameters(database_url), embedded=False)


@pytest.fixture
def steering(database: Database) -> Iterator[Steering]:
    with database.connect(session=STEER) as connection:
        yield Steering(connection)


def values(*texts: str) -> tuple[NamedValue, ...]:
    return tuple(NamedValue(text) for text in texts)


def value(text: str) -> NamedValue:
    return NamedValue(text)


def state(connection: Connection) -> list[tuple[Any, ...]]:
    """All contacts and evidence, without the placeholders and the times of changes."""
    return connection.execute(
        "SELECT 'contact', id, email, phone_number, linked_id, initial_linked_id, anchors_email,"
        " anchors_phone, created_at FROM contact WHERE id > 0"
        " UNION ALL"
        " SELECT 'evidence', id, value, other_value, primary_id, merged_id, is_held, NULL,"
        " created_at FROM link_evidence ORDER BY 1, 2"
    ).fetchall()


def entries(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT verb, detail, reason, run_id FROM steering_command ORDER BY id"
    ).fetchall()


@pytest.fixture
def triangle(service: IdentityService) -> None:
    """One identity, a@x.org and b@x.org joined by 1 and by 2."""
    for email, phone in [("a@x.org", "1"), ("b@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "2")]:
        service.reconcile(ContactRequest(email, phone))


@pytest.mark.usefixtures("triangle")
def test_preview_is_the_change_with_members_and_keeps_nothing(
    steering: Steering, connection: Connection
) -> None:
    before = state(connection)
    command = Block(values("1", "2"), reason="shared")
    masked = steering.preview(command)
    shown = steering.preview(command, with_values=True)
    assert state(connection) == before
    assert entries(connection) == []
    assert masked.before == (SizedIdentity(1, 3, ("a***@x***.org", "***", "b***@x***.org", "***")),)
    assert shown.before[0].members[:2] == ("a@x.org", "1")
    assert [one.members for one in shown.after] == [("b@x.org",), ("a@x.org",)]

    applied = steering.apply(command)
    assert [(one.primary_id, one.contacts) for one in applied.after] == [
        (one.primary_id, one.contacts) for one in shown.after
    ]
    assert (applied.moved, applied.removed, applied.added) == (
        *(shown.moved, shown.removed, shown.added),
    )
    assert applied.split == shown.split
    assert entries(connection) == [("block", "2 values", "shared", None)]


@pytest.mark.usefixtures("triangle")
def test_change_counts_contacts_that_leave_every_identity(steering: Steering) -> None:
    blocked = steering.apply(Block(values("a@x.org", "1")))
    assert (blocked.moved, blocked.removed, blocked.added) == (2, 1, 0)
    assert blocked.before == (SizedIdentity(1, 3),)
    assert blocked.after == (SizedIdentity(2, 2),)
    unblocked = steering.apply(Unblock(values("a@x.org", "1")))
    assert (unblocked.removed, unblocked.added) == (0, 1)
    assert unblocked.before == (SizedIdentity(2, 2),)
    assert unblocked.after == (SizedIdentity(1, 3),)


@pytest.mark.usefixtures("triangle")
@pytest.mark.parametrize(
    ("command", "reverse"),
    [
        (Block(values("1", "b@x.org")), Unblock(values("b@x.org", "1"))),
        (Block(patterns=("[12]",)), Unblock(patterns=("[12]",))),
        (SetHubLimits((("hub-limit-phone", 1),)), SetHubLimits((("hub-limit-phone", None),))),
    ],
    ids=lambda command: command.name,
)
def test_command_and_its_reverse_leave_every_row_as_it_was(
    steering: Steering, connection: Connection, command: Any, reverse: Any
) -> None:
    before = state(connection)
    assert steering.apply(command).details
    assert state(connection) != before
    steering.apply(reverse)
    assert state(connection) == before


def test_each_reason_is_an_entry_and_a_value_keeps_its_first_one(
    steering: Steering, connection: Connection
) -> None:
    command = Block(
        (
            NamedValue("1", "desk"),
            NamedValue("2", "desk"),
            NamedValue("3"),
            NamedValue("3", "late"),
        ),
        ("x@.*",),
        "by hand",
    )
    change = steering.apply(command)
    assert len(change.command_ids) == 3
    assert entries(connection) == [
        ("block", "2 values", "desk", None),
        ("block", "1 value", "late", None),
        ("block", "pattern", "by hand", None),
    ]
    again = steering.apply(replace(command, reason="again"))
    assert again.command_ids == ()
    assert again.notes == ("3 values are blocked already", "the pattern 'x@.*' is blocked already")
    blocked, patterns = list_blocked(steering.connection)
    assert [(one.value, one.author.reason) for one in blocked] == [
        ("1", "desk"),
        ("2", "desk"),
        ("3", "late"),
    ]
    assert [(one.pattern, one.values) for one in patterns] == [("x@.*", 0)]


def test_pattern_that_is_named_twice_is_one(steering: Steering, connection: Connection) -> None:
    twice = ("x@.*", "x@.*")
    blocked = steering.apply(Block(patterns=twice))
    unblocked = steering.apply(Unblock(patterns=twice))
    assert blocked.details["patterns"] == unblocked.details["patterns"] == ["x@.*"]
    assert blocked.notes == ("the pattern 'x@.*' matches no value so far",)
    assert [verb for verb, *_ in entries(connection)] == ["block", "unblock"]


def test_invalid_pattern_is_wrong_usage_and_rolls_everything_back(
    steering: Steering, connection: Connection
) -> None:
    with pytest.raises(errors.UsageError, match="invalid regular expression") as refused:
        steering.apply(Block(values("1"), ("[",)))
    assert refused.value.hint
    assert entries(connection) == []
    assert list_blocked(connection) == ([], [])


def test_unblocking_reports_what_still_blocks_a_value(
    steering: Steering, service: IdentityService
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    steering.apply(Block(values("a@x.org"), ("a@.*",)))
    change = steering.apply(Unblock(values("a@x.org", "1")))
    assert change.details == {"values": ["a@x.org"], "patterns": [], "link_again": 0}
    assert change.notes == (
        "1 value is not blocked",
        "1 value is blocked by the pattern 'a@.*': use --matching to unblock it",
    )
    with pytest.raises(errors.RuleNotFoundError):
        steering.apply(Unblock(values("a@x.org")))


@pytest.mark.usefixtures("triangle")
def test_unlinking_one_way_shows_the_other_and_the_cut_ends_it(
    steering: Steering, connection: Connection
) -> None:
    change = steering.apply(Unlink(value("1"), value("a@x.org"), "mixed up"))
    path = [(pair["value"], pair["other_value"]) for pair in change.as_json()["path"]]
    assert path == [("b@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "2")]
    [pair] = propose_cut(connection, "a@x.org", "1")
    steering.apply(Unlink(value(pair.value), value(pair.other_value)))
    assert joining_path(connection, "a@x.org", "1") == []
    assert propose_cut(connection, "a@x.org", "1") == []
    first, _ = list_unlinked(connection)
    assert (first.value, first.other_value) == ("a@x.org", "1")
    again = steering.apply(Unlink(value("a@x.org"), value("1")))
    assert again.command_ids == ()
    assert again.notes == ("this pair is unlinked already",)
    steering.apply(Relink(value("a@x.org"), value("1")))
    with pytest.raises(errors.RuleNotFoundError):
        steering.apply(Relink(value("a@x.org"), value("1")))


@pytest.mark.usefixtures("triangle")
def test_preview_masks_the_path_unless_values_are_asked_for(steering: Steering) -> None:
    unlink = Unlink(value("1"), value("a@x.org"))
    masked = steering.preview(unlink)
    shown = steering.preview(unlink, with_values=True)
    assert masked.path is not None
    assert [pair[:2] for pair in masked.path] == [
        ("b***@x***.org", "***"),
        ("b***@x***.org", "***"),
        ("a***@x***.org", "***"),
    ]
    assert "b@x.org" not in str(masked.as_json())
    assert shown.path == steering.apply(unlink).path


@pytest.mark.usefixtures("triangle")
def test_nothing_joins_unknown_and_separate_values(
    connection: Connection, service: IdentityService
) -> None:
    service.reconcile(ContactRequest("c@x.org", "3"))
    assert joining_path(connection, "a@x.org", "c@x.org") == []
    assert joining_path(connection, "a@x.org", "unknown@x.org") == []
    assert joining_path(connection, "unknown@x.org", "other@x.org") == []
    assert propose_cut(connection, "a@x.org", "c@x.org") == []


@pytest.mark.usefixtures("triangle")
def test_cut_of_a_value_without_an_identity_and_of_one_value_is_refused(
    connection: Connection, steering: Steering
) -> None:
    steering.apply(Block(values("1")))
    for unknown in ("1", "unknown@x.org"):
        with pytest.raises(errors.ContactNotFoundError, match="no identity has value 2"):
            propose_cut(connection, "a@x.org", unknown)
    with pytest.raises(errors.UsageError, match="both values are the same"):
        propose_cut(connection, "a@x.org", "a@x.org")


def test_policy_keeps_the_limit_that_is_not_named(steering: Steering) -> None:
    steering.apply(SetHubLimits((("hub-limit-email", 9),)))
    change = steering.apply(SetHubLimits((("hub-limit-phone", 4),)))
    assert change.details == {"hub_limit_email": 9, "hub_limit_phone": 4, "hubs": 0}
    steering.apply(Exempt(values("1"), True, "a family"))
    policy = read_policy(steering.connection)
    assert (policy.email_limit, policy.phone_limit) == (9, 4)
    assert [(one.value, one.author.reason) for one in policy.allowed] == [("1", "a family")]
    assert steering.apply(Exempt(values("1"), True)).notes == ("1 value is allowed already",)
    steering.apply(Exempt(values("1"), False))
    with pytest.raises(errors.RuleNotFoundError):
        steering.apply(Exempt(values("1"), False))


@pytest.fixture
def run_id(database: Database, tmp_path: Path) -> int:
    """A run that has stored two people."""
    rows = tmp_path / "rows.csv"
    rows.write_text("email,phone\na@x.org,1000001\nb@x.org,1000002\na@x.org,1000002\n")
    importer = Importer(ImportPlan((str(rows),)))
    importer.run(database)
    run_id = importer.report(0, None).run_id
    assert run_id is not None
    return run_id


def test_undo_names_the_run_and_can_be_done_once(
    steering: Steering, connection: Connection, run_id: int
) -> None:
    change = steering.apply(Undo(run_id, "test data"))
    assert (change.details["run_id"], change.removed) == (run_id, 2)
    assert entries(connection) == [("undo", None, "test data", run_id)]
    assert state(connection) == []
    with pytest.raises(errors.UsageError, match="undone already") as refused:
        steering.apply(Undo(run_id))
    assert refused.value.hint == "no run is left to undo"
    for unknown in (run_id + 1, 2**64):
        with pytest.raises(errors.RunNotFoundError):
            steering.apply(Undo(unknown))


def test_undo_of_a_run_at_work_is_refused(
    steering: Steering, connection: Connection, run_id: int
) -> None:
    connection.execute("SELECT pg_advisory_lock(lock_key) FROM import_run WHERE id = %s", (run_id,))
    with pytest.raises(errors.RunBusyError):
        steering.apply(Undo(run_id))


def test_undo_waits_for_a_run_that_is_about_to_end(
    steering: Steering, connection: Connection, run_id: int
) -> None:
    connection.execute("SELECT pg_advisory_lock(lock_key) FROM import_run WHERE id = %s", (run_id,))
    end = threading.Timer(0.3, connection.execute, ("SELECT pg_advisory_unlock_all()",))
    end.start()
    assert steering.apply(Undo(run_id)).removed == 2
    end.join()


def test_value_that_only_the_past_holds_is_erased(
    steering: Steering, connection: Connection, run_id: int
) -> None:
    steering.apply(Undo(run_id))
    held = "SELECT count(*) FROM former_contact WHERE email = 'b@x.org'"
    assert connection.execute(held).fetchone() == (1,)
    change = steering.apply(Forget(values("b@x.org")))
    assert change.details["receipt"]["former_rows"] >= 1
    assert change.notes == ()
    assert connection.execute(held).fetchone() == (0,)


def test_receipt_counts_what_is_erased(
    steering: Steering, connection: Connection, run_id: int
) -> None:
    steering.apply(Unlink(value("b@x.org"), value("1000001")))
    change = steering.apply(Forget(values("b@x.org", "1000002")))
    receipt = change.details["receipt"]
    counts = {name: count for name, count in receipt.items() if isinstance(count, int)}
    assert counts == {
        "values": 2,
        "new_hashes": 2,
        "contacts_erased": 1,
        "contacts_kept": 0,
        "evidence": 1,
        "restatements": 0,
        "former_rows": 0,
        "blocked_values": 0,
        "unlinked_pairs": 1,
        "hub_exemptions": 0,
        "patterns": 0,
        "reasons": 0,
        "key_in_database": True,
    }
    assert [run["run_id"] for run in receipt["runs"]] == [run_id]
    assert connection.execute("SELECT count(*) FROM unlinked_pair").fetchone() == (0,)
    again = steering.apply(Forget(values("b@x.org")))
    assert again.details["receipt"]["new_hashes"] == 0
    assert again.notes == (
        "the database held nothing of it; a request that brings it will drop it",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a@x.org", "for A@X.org"),
        ("1000001", "for 100-0001"),
        ("+12025550100", "+1 (202) 555-0100"),
        ("+12025550100", "ticket 12, 202-555-0100"),
        ("+12025550100;ext=5", "202\u2013555\u20130100"),
        ("+4930901820", "030/901820"),
        ("a@xn--bcher-kva.example", "for A@B\u00fccher.example."),
    ],
)
def test_reason_with_the_forgotten_value_is_refused(
    steering: Steering, connection: Connection, text: str, reason: str
) -> None:
    with pytest.raises(errors.UsageError, match="the reason holds"):
        steering.apply(Forget(values(text), reason=reason))
    assert connection.execute("SELECT count(*) FROM forgotten_value").fetchone() == (0,)


@pytest.mark.parametrize("reason", ["ticket 4711", "5550 of 0100", "", "@"])
def test_reason_without_the_forgotten_value_is_kept(
    steering: Steering, connection: Connection, reason: str
) -> None:
    steering.apply(Forget(values("+12025550100", "a@x.org"), reason=reason))
    assert entries(connection) == [("forget", "2 values", reason, None)]


@pytest.mark.parametrize(
    "command",
    [
        Block(values("b@x.org", "a@x.org")),
        Unlink(value("1"), value("a@x.org")),
        Exempt(values("a@x.org"), True),
    ],
    ids=lambda command: command.name,
)
def test_rule_for_a_forgotten_value_is_refused(
    steering: Steering, connection: Connection, command: Any
) -> None:
    steering.apply(Forget(values("a@x.org")))
    with pytest.raises(errors.UsageError, match=r"value .* was forgotten"):
        steering.apply(command)
    assert [entry[0] for entry in entries(connection)] == ["forget"]


def test_history_of_a_contact_that_was_erased_is_kept(
    steering: Steering, connection: Connection, run_id: int
) -> None:
    steering.apply(Forget(values("b@x.org"), with_identity=True, reason="ticket 4711"))
    moved, merged = read_history_of(connection, "2", region=None, limit=9)
    assert (moved.event, moved.command, moved.to_primary_id) == ("moved", "forget", None)
    assert moved.reason == "ticket 4711"
    assert (merged.event, merged.from_primary_id, merged.to_primary_id) == ("merge", 2, 1)
    with pytest.raises(errors.ContactNotFoundError):
        read_history_of(connection, "b@x.org", region=None, limit=9)
    everything = read_history(connection, limit=9)
    assert sorted(event.event for event in everything) == ["command", "merge", "run"]
    assert [event.event for event in read_history(connection, limit=1)] == ["command"]


def test_history_of_a_value_names_the_commands_about_it(
    steering: Steering, connection: Connection
) -> None:
    steering.apply(Block(values("a@x.org"), reason="spam"))
    steering.apply(Unlink(value("a@x.org"), value("1")))
    steering.apply(Block(values("b@x.org")))
    events = read_history_of(connection, "A@x.org", region=None, limit=9)
    assert [(event.command, event.reason) for event in events] == [
        ("unlink", None),
        ("block", "spam"),
    ]


def test_history_lists_the_newest_of_many_commands(
    steering: Steering, connection: Connection
) -> None:
    for i in range(12):
        steering.apply(Block(values(f"p{i}@x.org")))
    newest = [event.command_id for event in read_history(connection, limit=3)]
    assert newest == [12, 11, 10]


@dataclass(frozen=True)
class Conflicting:
    """A command that meets a conflict in its first attempts."""

    sqlstate: str
    attempts: list[int]
    failures: int
    name: str = "conflicting"
    reason: str | None = None

    def run(self, log: CommandLog) -> Effect:
        log.enter("conflicting")
        self.attempts.append(1)
        if len(self.attempts) <= self.failures:
            log.connection.execute(
                "SELECT set_config('identity.sqlstate', %s, true)", (self.sqlstate,)
            )
            log.connection.execute(
                "DO $$ BEGIN RAISE EXCEPTION 'conflict'"
                " USING ERRCODE = current_setting('identity.sqlstate'); END $$"
            )
        return Effect()


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "23503", "23505", "23G01", "55P03"])
def test_command_that_meets_a_conflict_is_run_again(
    steering: Steering, connection: Connection, sqlstate: str
) -> None:
    change = steering.apply(Conflicting(sqlstate, [], failures=2))
    assert isinstance(change, Change)
    assert len(entries(connection)) == 1


def test_conflict_that_does_not_end_is_an_error(steering: Steering, connection: Connection) -> None:
    with pytest.raises(errors.RetryableError):
        steering.apply(Conflicting("23G01", [], failures=1_000))
    assert entries(connection) == []


def test_commands_run_one_after_the_other(database: Database, connection: Connection) -> None:
    def block(number: int) -> None:
        with database.connect(session=STEER) as own:
            Steering(own).apply(Block(values(*(f"p{i}@x.org" for i in range(number, number + 20)))))

    threads = [threading.Thread(target=block, args=(number,)) for number in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_blocked(connection)[0]) == 55


def test_role_that_may_read_is_told_who_the_owner_is(
    steering: Steering, connection: Connection
) -> None:
    role = f"identity_test_{uuid.uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {role}")
    try:
        steering.connection.execute(f"SET ROLE {role}")
        with pytest.raises(errors.PermissionDeniedError, match="only the owner") as refused:
            steering.apply(Block(values("1")))
        assert refused.value.hint is not None
        assert "connect as " in refused.value.hint
    finally:
        steering.connection.execute("RESET ROLE")
        connection.execute(f"DROP ROLE {role}")


# -- the key of the forgotten values ---------------------------------------------------------------


def test_statement_that_hands_the_key_over_has_it_as_a_parameter(database: Database) -> None:
    text, parameters = forget_key_query(KEY)
    assert KEY not in text
    assert parameters == (KEY,)
    assert KEY not in repr(replace(database, forget_key=KEY))


@pytest.fixture
def forgotten_with_key(database: Database) -> Database:
    """The database with its key, after a value was forgotten with it."""
    with_key = replace(database, forget_key=KEY)
    with with_key.connect(session=STEER) as connection:
        change = Steering(connection).apply(Forget(values("a@x.org")))
    assert change.details["receipt"]["key_in_database"] is False
    return with_key


@pytest.mark.parametrize("key", [None, "another"])
def test_request_without_the_key_is_refused(forgotten_with_key: Database, key: str | None) -> None:
    without = replace(forgotten_with_key, forget_key=key)
    with without.connect() as connection, pytest.raises(errors.ForgetKeyError) as refused:
        IdentityService(connection).reconcile(ContactRequest("new@x.org"))
    assert refused.value.hint is not None
    assert "IDENTITY_FORGET_KEY" in refused.value.hint


def test_import_without_the_key_stops_and_rejects_nothing(
    forgotten_with_key: Database, tmp_path: Path, connection: Connection
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("email,phone\nnew@x.org,1\n")
    plan = ImportPlan((str(rows),))
    importer = Importer(plan)
    with pytest.raises(errors.ForgetKeyError):
        importer.run(replace(forgotten_with_key, forget_key=None))
    assert importer.counts.rejected == 0
    assert state(connection) == []
    importer = Importer(plan)
    importer.run(forgotten_with_key)
    assert importer.counts.created == 1


def test_pool_of_the_http_service_has_the_key(forgotten_with_key: Database) -> None:
    async def identify(database: Database, email: str) -> str:
        async with AsyncIdentityService.open(database, pool_size=1) as service:
            outcome, _ = await service.identify(ContactRequest(email))
            return outcome.name

    assert asyncio.run(identify(forgotten_with_key, "new@x.org")) == "created"
    with pytest.raises(errors.ForgetKeyError):
        asyncio.run(identify(replace(forgotten_with_key, forget_key="another"), "b@x.org"))
