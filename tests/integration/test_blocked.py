"""Placeholders and contacts that are set aside are in no answer, no export and no note."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any, get_args

import pytest
from steering import Player

from identity_cli import ContactRequest, IdentityService
from identity_cli.errors import ContactNotFoundError, ContactSetAsideError, ValueBlockedError
from identity_cli.exporter.export import FileFormat, What, export
from identity_cli.graph.core import Outcome
from identity_cli.graph.hubs import find_hubs
from identity_cli.graph.lookup import find_primaries
from identity_cli.importer.checkpoints import Checkpoint
from identity_cli.importer.runs import RunJournal
from identity_cli.postgres import schema
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    import psycopg


@pytest.fixture
def player(connection: psycopg.Connection[Any]) -> Player:
    """Contact 1 shows an email, contact 3 nothing: the other values are blocked."""
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])
    player.request(["b@x.org"], ["1111111"])  # 2, which becomes a primary
    player.request(["blocked@x.org"], ["1111111"])  # 3
    player.block(["1111111", "blocked@x.org", "never@x.org"])
    player.unlink("reserved@x.org", "5555555")
    return player


@pytest.mark.usefixtures("player")
@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"phone": "1111111"}, ValueBlockedError, "the phone number is blocked"),
        ({"email": "blocked@x.org"}, ValueBlockedError, "the email is blocked"),
        ({"email": "never@x.org"}, ValueBlockedError, "the email is blocked"),
        ({"contact_id": 3}, ContactSetAsideError, "the contact is set aside"),
        ({"email": "reserved@x.org"}, ContactNotFoundError, "No such contact"),
        ({"contact_id": -1}, ContactNotFoundError, "No such contact"),
        ({"contact_id": 99}, ContactNotFoundError, "No such contact"),
    ],
)
def test_a_look_up_reports_why_there_is_no_identity(
    service: IdentityService,
    wanted: dict[str, Any],
    error: type[ContactNotFoundError],
    message: str,
) -> None:
    with pytest.raises(ContactNotFoundError, match=message) as caught:
        service.find(**wanted)
    assert type(caught.value) is error
    assert ("block --list" in (caught.value.hint or "")) == (error is not ContactNotFoundError)
    with pytest.raises(error), service.find_stream(**wanted):
        pass


def test_an_id_that_was_a_primary_leads_to_its_identity(
    player: Player, service: IdentityService
) -> None:
    assert service.find(contact_id=2).primary_id == 2
    player.unblock(["1111111"])
    assert service.find(contact_id=2).primary_id == 1
    assert service.find(contact_id=2).emails == ["a@x.org", "b@x.org"]


@pytest.mark.parametrize(
    ("what", "file_format"),
    [
        (what, file_format)
        for what in get_args(What)
        for file_format in get_args(FileFormat)
        # Redirects have no values, and changes are no graph.
        if what != "redirects" and (what, file_format) != ("changes", "graphml")
    ],
)
def test_an_export_has_what_is_shown_only(
    player: Player, what: What, file_format: FileFormat
) -> None:
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    exported = io.BytesIO()
    export(player.connection, exported, what=what, file_format=file_format)
    content = exported.getvalue()
    assert b"a@x.org" in content
    for hidden in (b"1111111", b"blocked", b"never", b"reserved", b"5555555"):
        assert hidden not in content


def test_a_value_that_is_blocked_leads_nowhere(player: Player) -> None:
    requests = [
        ContactRequest("blocked@x.org", "1111111"),
        ContactRequest("a@x.org", "1111111"),
        ContactRequest("reserved@x.org", "5555555"),
    ]
    with snapshot(player.connection) as graph:
        assert find_primaries(graph, requests) == [None, {1}, set()]


def test_held_evidence_makes_no_hub(connection: psycopg.Connection[Any]) -> None:
    player = Player(connection)
    for number in range(21):
        player.request(["a@x.org"], [f"100000{number:02}"])
        player.request([f"{number}@x.org"], ["1111111"])
    assert [hub.value for hub in find_hubs(connection, (0, 0)).named] == ["1111111", "a@x.org"]
    player.block(["1111111"])
    assert [hub.value for hub in find_hubs(connection, (0, 0)).named] == ["a@x.org"]


@pytest.mark.parametrize("seed", range(3))
def test_hubs_are_the_same_if_all_contacts_are_read(
    connection: psycopg.Connection[Any], seed: int
) -> None:
    draw = random.Random(seed).randrange
    player = Player(connection)
    marks = [(0, 0)]
    for _ in range(6):
        for _ in range(30):
            emails = [f"{draw(120)}@x.org" if draw(3) else f"{draw(2)}@hub.org"]
            player.request(emails, [f"555{draw(120):04}" if draw(4) else f"10000{draw(2):02}"])
        marks.append(
            connection.execute(
                "SELECT (SELECT max(id) FROM contact), (SELECT max(id) FROM link_evidence)"
            ).fetchone()  # type: ignore[arg-type]
        )
    found = [find_hubs(connection, mark) for mark in marks]
    assert found[0].named
    assert [find_hubs(connection, mark, reads_all=True) for mark in marks] == found


def test_rules_alone_do_not_bind_the_profile(connection: psycopg.Connection[Any]) -> None:
    schema_state = connection.execute(schema.STATE)
    assert schema_state.fetchone() == (schema.HEAD, None, None)
    connection.execute("SELECT claim_profile(2, 'US')")
    player = Player(connection)
    player.block(["never@x.org"])
    assert connection.execute(schema.STATE).fetchone() == (schema.HEAD, None, None)
    player.request(["a@x.org"], [])
    assert connection.execute(schema.STATE).fetchone() == (schema.HEAD, 2, "US")


def test_a_resumed_run_finds_what_rules_hide(connection: psycopg.Connection[Any]) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])  # contact 1
    player.block(["1111111"])
    player.start_run()
    player.request(["b@x.org"], ["1111111"], in_run=True)  # contact 2, on line 2
    player.request(["a@x.org", "b@x.org"], [], in_run=True)  # line 3
    player.request(["a@x.org"], ["1111111"], in_run=True)  # line 4
    journal = RunJournal(connection, [], {})
    [journal.run_id] = player.runs
    records = journal.records(Checkpoint())
    stored = records.outcome(2, ContactRequest("b@x.org", "1111111"), journal.are_unknown)
    assert stored == Outcome("created", None, 2)
    assert records.outcome(4, ContactRequest("a@x.org", "1111111"), journal.are_unknown) is None
    assert journal.primary_at(ContactRequest("a@x.org", "1111111"), 4, []) == 1
    assert journal.primary_at(ContactRequest(None, "1111111"), 4, []) is None
    player.unlink("a@x.org", "b@x.org")
    player.unblock(["1111111"])
    player.unlink("b@x.org", "1111111")
    assert journal.primary_at(ContactRequest("a@x.org", "1111111"), 4, []) == 1
    assert journal.primary_at(ContactRequest("b@x.org", "1111111"), 4, []) == 2


def test_held_evidence_is_no_answer_of_a_resumed_run(connection: psycopg.Connection[Any]) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])
    player.request(["b@x.org"], ["2222222"])
    player.block(["2222222"])
    player.start_run()
    player.request(["a@x.org"], ["2222222"], in_run=True)
    assert connection.execute("SELECT is_held FROM link_evidence").fetchall() == [(True,)]
    journal = RunJournal(connection, [], {})
    [journal.run_id] = player.runs
    assert (
        journal.records(Checkpoint()).outcome(
            3, ContactRequest("a@x.org", "2222222"), journal.are_unknown
        )
        is None
    )
