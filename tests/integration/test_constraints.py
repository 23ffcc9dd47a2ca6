"""What can be typed into psql: the database itself refuses a bad graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from model import Evidence, Row, problems

from identity_cli import ContactRequest, IdentityService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def stored(cloned_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Connection]:
    """Identity 1 is 1, 2, 5 (lorraine, mcfly, doc); identity 3 is 3, 4 (george, biff); 6 is alone.

    2 carries the phone number that 1 anchors, 5 the email that 2 anchors; 4 was primary once.
    """
    with cloned_database() as url, psycopg.connect(url, autocommit=True) as connection:
        service = IdentityService(connection)
        for email, phone in [
            ("lorraine@x.org", "123456"),
            ("mcfly@x.org", "123456"),
            ("george@x.org", "919191"),
            ("biff@x.org", "717171"),
            ("mcfly@x.org", "555"),
            ("jennifer@x.org", "888"),
            ("george@x.org", "717171"),
        ]:
            service.reconcile(ContactRequest(email, phone))
        assert [row.linked_id for row in _rows(connection)] == [None, 1, None, 3, 1, None]
        yield connection


@pytest.fixture
def graph(stored: Connection) -> Iterator[Connection]:
    """The same for every test: nothing is deferred to the end of a transaction."""
    with stored.transaction(force_rollback=True):
        yield stored
        assert problems(_rows(stored), []) in ([], [UNCONNECTED])


UNCONNECTED = "the evidence connects other identities than the links"


def _rows(connection: Connection) -> list[Row]:
    found = connection.execute(
        "SELECT id, email, phone_number, linked_id, link_precedence::text FROM contact ORDER BY id"
    )
    return [Row(*row) for row in found]


INSERT = "INSERT INTO contact (email, phone_number, linked_id, link_precedence)"

REFUSED = {
    "a secondary of a secondary": f"{INSERT} VALUES ('new@x.org', NULL, 2, 'secondary')",
    "a secondary of nothing": f"{INSERT} VALUES ('new@x.org', NULL, 99, 'secondary')",
    "a secondary of itself": "INSERT INTO contact (id, email, linked_id, link_precedence)"
    " OVERRIDING SYSTEM VALUE VALUES (99, 'new@x.org', 99, 'secondary')",
    "a secondary without link": f"{INSERT} VALUES ('new@x.org', NULL, NULL, 'secondary')",
    "a primary with a link": f"{INSERT} VALUES ('new@x.org', NULL, 1, 'primary')",
    "no identifier": f"{INSERT} VALUES (NULL, NULL, NULL, 'primary')",
    "an empty email": f"{INSERT} VALUES ('', NULL, NULL, 'primary')",
    "an empty phone number": f"{INSERT} VALUES (NULL, '', NULL, 'primary')",
    "an empty email beside a phone number": f"{INSERT} VALUES ('', '999', NULL, 'primary')",
    "an empty phone number beside an email": f"{INSERT} VALUES ('new@x.org', '', NULL, 'primary')",
    "no precedence": f"{INSERT} VALUES ('new@x.org', NULL, NULL, NULL)",
    "another precedence": f"{INSERT} VALUES ('new@x.org', NULL, NULL, 'tertiary')",
    "another precedence in capitals": f"{INSERT} VALUES ('new@x.org', NULL, NULL, 'PRIMARY')",
    "an email of another identity": f"{INSERT} VALUES ('george@x.org', '999', NULL, 'primary')",
    "a phone number of another identity":
    f"{INSERT} VALUES ('new@x.org', '123456', 3, 'secondary')",
    "a known email anchored again": f"{INSERT} VALUES ('mcfly@x.org', '999', 1, 'secondary')",
    "a known phone number anchored again":
    f"{INSERT} VALUES ('new@x.org', '123456', 1, 'secondary')",
    "one new value in two rows": f"{INSERT} VALUES ('new@x.org', '998', NULL, 'primary'),"
    " ('new@x.org', '999', NULL, 'primary')",
    "an email of another identity that is not anchored":
    "INSERT INTO contact (email, phone_number, linked_id, link_precedence, anchors_email)"
    " VALUES ('george@x.org', '999', 1, 'secondary', false)",
    "a phone number of another identity that is not anchored":
    "INSERT INTO contact (email, phone_number, linked_id, link_precedence, anchors_phone)"
    " VALUES ('new@x.org', '919191', 1, 'secondary', false)",
    "a new primary with a phone number that is not anchored":
    "INSERT INTO contact (email, phone_number, link_precedence, anchors_phone)"
    " VALUES ('new@x.org', '123456', 'primary', false)",
    "an email that nobody anchors":
    "INSERT INTO contact (email, phone_number, linked_id, link_precedence, anchors_email)"
    " VALUES ('new@x.org', '999', 1, 'secondary', false)",
    "a phone number that nobody anchors":
    "INSERT INTO contact (phone_number, link_precedence, anchors_phone)"
    " VALUES ('999', 'primary', false)",
    "a row with the id of another": "INSERT INTO contact (id, email, link_precedence)"
    " OVERRIDING SYSTEM VALUE VALUES (1, 'new@x.org', 'primary')",
    "linked_precedence by hand":
    "INSERT INTO contact (email, linked_id, link_precedence, linked_precedence)"
    " VALUES ('new@x.org', 2, 'secondary', 'secondary')",
    "updated linked_precedence": "UPDATE contact SET linked_precedence = NULL WHERE id = 2",
    "moved to a secondary": "UPDATE contact SET linked_id = 4 WHERE id = 2",
    "moved to nothing": "UPDATE contact SET linked_id = 99 WHERE id = 2",
    "moved to itself": "UPDATE contact SET linked_id = 2 WHERE id = 2",
    "moved to another primary without its phone number":
    "UPDATE contact SET linked_id = 3 WHERE id = 2",
    "moved to another primary without its email": "UPDATE contact SET linked_id = 3 WHERE id = 5",
    "both carriers moved, their anchor not":
    "UPDATE contact SET linked_id = 3 WHERE id IN (2, 5)",
    "a link taken off": "UPDATE contact SET linked_id = NULL WHERE id = 2",
    "a secondary called primary": "UPDATE contact SET link_precedence = 'primary' WHERE id = 2",
    "a secondary made primary":
    "UPDATE contact SET link_precedence = 'primary', linked_id = NULL WHERE id = 2",
    "a primary called secondary": "UPDATE contact SET link_precedence = 'secondary' WHERE id = 1",
    "a primary given a link": "UPDATE contact SET linked_id = 3 WHERE id = 1",
    "a primary linked to itself":
    "UPDATE contact SET linked_id = 1, link_precedence = 'secondary' WHERE id = 1",
    "a merge without the secondaries":
    "UPDATE contact SET linked_id = 3, link_precedence = 'secondary' WHERE id = 1",
    "a merge of all but one":
    "UPDATE contact SET linked_id = 3, link_precedence = 'secondary' WHERE id IN (1, 2)",
    "a merge with a secondary":
    "UPDATE contact SET linked_id = 4, link_precedence = 'secondary' WHERE id IN (1, 2, 5)",
    "a merge with two identities at once":
    "UPDATE contact SET linked_id = CASE id WHEN 2 THEN 6 ELSE 3 END, link_precedence = 'secondary'"
    " WHERE id IN (1, 2, 5)",
    "a merge that changes the email of an anchor":
    "UPDATE contact SET linked_id = 3, link_precedence = 'secondary',"
    " email = CASE id WHEN 2 THEN 'new@x.org' ELSE email END WHERE id IN (1, 2, 5)",
    "a merge that leaves a promoted secondary with a carried phone number":
    "UPDATE contact SET linked_id = CASE id WHEN 1 THEN 3 END,"
    " link_precedence = CASE id WHEN 1 THEN 'secondary' ELSE 'primary' END::link_precedence"
    " WHERE id IN (1, 2, 5)",
    "two primaries linked to each other":
    "UPDATE contact SET linked_id = 4 - id, link_precedence = 'secondary' WHERE id IN (1, 3)",
    "an anchor's email changed": "UPDATE contact SET email = 'new@x.org' WHERE id = 2",
    "an anchor's phone number changed": "UPDATE contact SET phone_number = '999' WHERE id = 1",
    "an anchor's phone number taken off": "UPDATE contact SET phone_number = NULL WHERE id = 1",
    "an email changed to another identity's":
    "UPDATE contact SET email = 'george@x.org' WHERE id = 1",
    "a carried phone number changed": "UPDATE contact SET phone_number = '919191' WHERE id = 2",
    "a carried phone number changed to a new one":
    "UPDATE contact SET phone_number = '999' WHERE id = 2",
    "an email made empty": "UPDATE contact SET email = '' WHERE id = 1",
    "both identifiers taken off":
    "UPDATE contact SET email = NULL, phone_number = NULL WHERE id = 6",
    "an anchor raised": "UPDATE contact SET anchors_phone = false WHERE id = 1",
    "an anchor raised that nobody else carries":
    "UPDATE contact SET anchors_email = false WHERE id = 6",
    "a second anchor dropped": "UPDATE contact SET anchors_phone = true WHERE id = 2",
    "no word on anchors": "UPDATE contact SET anchors_email = NULL WHERE id = 1",
    "all phone numbers the same": "UPDATE contact SET phone_number = '1'",
    "an id changed under its secondaries":
    "UPDATE contact SET id = 99 WHERE id = 1",
    "a primary with secondaries deleted": "DELETE FROM contact WHERE id = 1",
    "an anchor deleted whose value another carries": "DELETE FROM contact WHERE id = 2",
    "every primary deleted": "DELETE FROM contact WHERE link_precedence = 'primary'",
    "no created_at": "UPDATE contact SET created_at = NULL WHERE id = 1",
    "a link to a placeholder": "INSERT INTO contact (id, email, link_precedence)"
    " VALUES (-1, 'held@x.org', 'primary');"
    " UPDATE contact SET linked_id = -1, link_precedence = 'secondary' WHERE id = 1",
    "a pair kept twice": "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
    " VALUES ('george@x.org', '717171', 3, now())",
    "a pair in the other order":
    "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
    " VALUES ('123456', 'george@x.org', 3, now())",
    "two emails in the other order":
    "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
    " VALUES ('b@x.org', 'a@x.org', 3, now())",
    "two phone numbers in the other order":
    "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
    " VALUES ('2', '10', 3, now())",
    "a pair of a value and itself":
    "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
    " VALUES ('2', '2', 3, now())",
    "evidence of half a pair":
    "INSERT INTO link_evidence (value, primary_id, created_at) VALUES ('a@x.org', 1, now())",
    "two profiles": "INSERT INTO normalization_profile (version, region) VALUES (1, 'US')",
    "a profile beside the one":
    "INSERT INTO normalization_profile (only_row, version) VALUES (false, 1)",
    "a run with another status":
    "INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at)"
    " VALUES ('paused', '[]', '', 1, '{}', now())",
    "a request without identifier": "SELECT reconcile(NULL, NULL)",
    "a request with an empty email": "SELECT reconcile('', '999')",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(graph: Connection, name: str) -> None:
    before = _everything(graph)
    with pytest.raises(psycopg.DatabaseError) as caught, graph.transaction():
        graph.execute(REFUSED[name])
    assert (caught.value.sqlstate or "")[:2] in {"22", "23", "42"}
    if name != "linked_precedence by hand" and "linked_precedence =" not in REFUSED[name]:
        assert (caught.value.sqlstate or "")[:2] != "42", "a mistake in the statement itself"
    assert _everything(graph) == before


def _everything(connection: Connection) -> list[Any]:
    tables = ("contact", "link_evidence", "normalization_profile", "import_run")
    return [connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables]


ACCEPTED = {
    "a stranger": (f"{INSERT} VALUES ('new@x.org', '999', NULL, 'primary')", {7: None}),
    "a newcomer with a new email":
    (f"{INSERT} VALUES ('new@x.org', NULL, 1, 'secondary')", {7: 1}),
    "a newcomer with a known phone number that it does not anchor": (
        "INSERT INTO contact (email, phone_number, linked_id, link_precedence, anchors_phone)"
        " VALUES ('new@x.org', '123456', 1, 'secondary', false)", {7: 1}),
    "a merge": (
        "UPDATE contact SET linked_id = 1, link_precedence = 'secondary'"
        " WHERE id = 3 OR linked_id = 3", {3: 1, 4: 1}),
    "a merge of one that is alone": (
        "UPDATE contact SET linked_id = 1, link_precedence = 'secondary' WHERE id = 6", {6: 1}),
    "a secondary that shares nothing made primary again": (
        "UPDATE contact SET linked_id = NULL, link_precedence = 'primary' WHERE id = 4", {4: None}),
    "deleted_at": ("UPDATE contact SET deleted_at = now() WHERE id IN (1, 2)", {}),
    "a value that nobody else carries changed":
    ("UPDATE contact SET email = 'new@x.org' WHERE id = 6", {}),
    "a carrier deleted": ("DELETE FROM contact WHERE id = 5", {5: 0}),
    "one that is alone deleted": ("DELETE FROM contact WHERE id = 6", {6: 0}),
    "a whole identity deleted": ("DELETE FROM contact WHERE id IN (1, 2, 5)", {1: 0, 2: 0, 5: 0}),
    "the same written again": ("UPDATE contact SET email = email, linked_id = linked_id", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(graph: Connection, name: str) -> None:
    statement, changes = ACCEPTED[name]
    expected = {1: None, 2: 1, 3: None, 4: 3, 5: 1, 6: None} | changes
    graph.execute(statement)
    # A statement that was refused has used ids up, too.
    assert {min(row.id, 7): row.linked_id for row in _rows(graph)} == {
        id_: linked_id for id_, linked_id in expected.items() if linked_id != 0
    }


def test_a_refusal_of_one_identifier_in_two_identities_says_what_to_do(graph: Connection) -> None:
    with (
        pytest.raises(psycopg.IntegrityError) as caught,
        graph.transaction(),
    ):
        graph.execute(REFUSED["a secondary made primary"])
    assert caught.value.sqlstate == "23G01"
    assert caught.value.diag.message_primary == "an identifier would lead to two identities"
    assert "reconcile()" in (caught.value.diag.message_hint or "")


def test_a_refusal_shows_no_identifier_in_its_message(graph: Connection) -> None:
    for statement in REFUSED.values():
        with pytest.raises(psycopg.DatabaseError) as caught, graph.transaction():
            graph.execute(statement)
        assert "@x.org" not in (caught.value.diag.message_primary or "")


def test_the_model_would_have_seen_it() -> None:
    good = [Row(1, "a", "1", None, "primary"), Row(2, "b", "1", 1, "secondary")]
    assert problems(good, []) == []
    for bad in (
        [good[0], good[1]._replace(linked_id=2)],
        [good[0], good[1]._replace(linked_id=9)],
        [good[0], good[1]._replace(linked_id=None)],
        [good[0], good[1]._replace(precedence="primary")],
        [good[0], good[1]._replace(phone="2")],
        [good[0]._replace(linked_id=2, precedence="secondary"), good[1]],
        [good[0], good[0]._replace(id=2)],
    ):
        assert problems(bad, []) != []
    for evidence in (
        [Evidence("a", "1", 1, None)],
        [Evidence("a", "2", 1, None)],
        [Evidence("a", "2", 1, None)] * 2,
        [Evidence("b", "1", 1, 1)],
    ):
        assert problems(good, evidence) != []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE contact SET phone_number = '222', anchors_phone = false WHERE email = 'a@x.org'",
        "INSERT INTO contact (email, phone_number, linked_id, link_precedence, anchors_email,"
        " anchors_phone) VALUES ('a@x.org', '222', 1, 'secondary', false, false)",
    ],
)
def test_contact_that_shows_an_unlinked_pair_is_refused(
    connection: Connection, statement: str
) -> None:
    for pair in (("a@x.org", None), ("b@x.org", "222")):
        connection.execute("SELECT reconcile(%s, %s)", pair)
    connection.execute("SELECT unlink_pair('a@x.org', '222', 1)")
    connection.execute("SELECT reconcile('a@x.org', 'b@x.org', two_emails => true)")
    with pytest.raises(psycopg.IntegrityError) as caught:
        connection.execute(statement)  # type: ignore[arg-type]
    assert caught.value.sqlstate == "23G01"
