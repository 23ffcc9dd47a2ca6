"""What verify finds, and that it finds nothing in a graph that is right."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from graph import UNGUARDED
from memory import peak_of

from identity_cli import ContactRequest, IdentityService
from identity_cli.graph.verify import LISTED, Violation, verify

if TYPE_CHECKING:
    import psycopg

# The ids of these are 1 to 5.
PEOPLE = (
    ("lorraine@hillvalley.edu", "123456"),  # contact 1
    ("mcfly@hillvalley.edu", "123456"),  # 2, secondary of 1
    ("george@hillvalley.edu", "919191"),  # 3
    ("biffsucks@hillvalley.edu", "717171"),  # 4, which gives way to 3
    ("george@hillvalley.edu", "717171"),
    ("doc@hillvalley.edu", None),  # 5
)


@pytest.fixture
def people(service: IdentityService) -> None:
    for email, phone in PEOPLE:
        service.reconcile(ContactRequest(email, phone))


def digest(connection: psycopg.Connection[Any]) -> str:
    """The contract's words once more, from a plain SELECT."""
    identities: dict[int, set[str]] = defaultdict(set)
    for contact_id, linked_id, email, phone in connection.execute(
        "SELECT id, linked_id, email, phone_number FROM contact"
    ):
        lines = identities[linked_id or contact_id]
        lines |= {f"email:{email}"} if email else set()
        lines |= {f"phone:{phone}"} if phone else set()
    ones = sorted(
        hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
        for lines in identities.values()
    )
    return "sha256:" + hashlib.sha256("\n".join(ones).encode()).hexdigest()


def test_an_empty_graph_is_right(connection: psycopg.Connection[Any]) -> None:
    nothing = "sha256:" + hashlib.sha256(b"").hexdigest()
    assert verify(connection).as_json() == {
        "ok": True,
        "contacts": 0,
        "identities": 0,
        "digest": nothing,
        "violations": [],
    }


@pytest.mark.usefixtures("people")
def test_a_right_graph(connection: psycopg.Connection[Any]) -> None:
    found = verify(connection)
    assert found.ok
    assert (found.contacts, found.identities) == (5, 3)
    assert found.digest == digest(connection)
    assert connection.info.transaction_status == 0


def test_random_requests_leave_a_right_graph(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    draw = random.Random(2)
    requests = [
        ContactRequest(f"{draw.choice('aàz🙂')}{draw.randrange(120)}@x.org", draw.randrange(1, 150))
        for _ in range(400)
    ]
    list(service.reconcile_stream(requests))
    found = verify(connection)
    assert found.violations == ()
    assert found.digest == digest(connection)


def test_several_values_of_a_kind_leave_a_right_graph(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    draw = random.Random(3)
    for _ in range(200):
        emails = [f"{draw.randrange(200)}@x.org" for _ in range(draw.randrange(4))]
        phones = [draw.randrange(1, 200) for _ in range(draw.randrange(4))]
        if emails or phones:
            service.reconcile(ContactRequest(emails=emails, phones=phones))
    found = verify(connection)
    assert found.violations == ()
    assert found.digest == digest(connection)
    kinds = connection.execute(
        "SELECT DISTINCT strpos(value, '@') > 0, strpos(other_value, '@') > 0 FROM link_evidence"
        " ORDER BY 1, 2"
    ).fetchall()
    assert kinds == [(False, False), (True, False), (True, True)]


def test_the_digest_knows_neither_ids_nor_order(
    service: IdentityService, connection: psycopg.Connection[Any]
) -> None:
    for email, phone in PEOPLE:
        service.reconcile(ContactRequest(email, phone))
    forward = verify(connection).digest
    connection.execute("TRUNCATE contact, link_evidence")
    for email, phone in reversed(PEOPLE):
        service.reconcile(ContactRequest(email, phone))
    assert verify(connection).digest == forward
    service.reconcile(ContactRequest("doc@hillvalley.edu", "1955"))
    assert verify(connection).digest != forward


PLANTED = [
    # Statement, then the (code, contact id) of everything that it must bring up.
    pytest.param(
        "UPDATE contact SET linked_id = 999 WHERE id = 2",
        {
            ("dangling_link", 2),
            ("identifier_in_two_identities", 2),
            ("unmerged", 2),
        },
        id="dangling_link",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = 4 WHERE id = 4",
        {("self_link", 4), ("unmerged", 4)},
        id="self_link",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = 2, link_precedence = 'secondary',"
        " linked_precedence = 'primary', created_at = now() WHERE id = 5",
        {("link_to_secondary", 5), ("link_without_evidence", 5)},
        id="link_to_secondary",
    ),
    pytest.param(
        "UPDATE contact SET link_precedence = 'primary' WHERE id = 2",
        {("primary_with_link", 2)},
        id="primary_with_link",
    ),
    pytest.param(
        "UPDATE contact SET link_precedence = 'secondary' WHERE id = 5",
        {("secondary_without_link", 5)},
        id="secondary_without_link",
    ),
    pytest.param(
        "UPDATE contact SET linked_precedence = 'secondary' WHERE id = 2",
        {("wrong_linked_precedence", 2)},
        id="wrong_linked_precedence",
    ),
    pytest.param(
        "UPDATE contact SET created_at = '1955-11-05' WHERE id = 4",
        {("primary_not_oldest", 4)},
        id="primary_not_oldest",
    ),
    pytest.param(
        "UPDATE contact SET created_at = (SELECT created_at FROM contact WHERE id = 3),"
        " id = 0 WHERE id = 4; UPDATE link_evidence SET merged_id = 0",
        {("primary_not_oldest", 0)},
        id="primary_not_oldest by id",
    ),
    pytest.param(
        "UPDATE contact SET email = NULL WHERE id = 5",
        {("no_identifier", 5)},
        id="no_identifier",
    ),
    pytest.param(
        "UPDATE contact SET phone_number = '' WHERE id = 5",
        {("empty_identifier", 5)},
        id="empty_identifier",
    ),
    pytest.param(
        "UPDATE contact SET phone_number = '123456', anchors_phone = false WHERE id = 5",
        {("identifier_in_two_identities", 5), ("unmerged", 5)},
        id="identifier_in_two_identities",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = NULL, link_precedence = 'primary',"
        " linked_precedence = NULL WHERE id = 4",
        {("unmerged", 4)},
        id="unmerged",
    ),
    pytest.param(
        "DELETE FROM link_evidence",
        {("link_without_evidence", 4)},
        id="link_without_evidence",
    ),
    pytest.param(
        "UPDATE contact SET anchors_email = false WHERE id = 5",
        {("value_without_anchor", 5)},
        id="value_without_anchor, email",
    ),
    pytest.param(
        "UPDATE contact SET anchors_phone = false WHERE id = 1",
        {("value_without_anchor", 1)},
        id="value_without_anchor, phone",
    ),
    pytest.param(
        "UPDATE contact SET anchors_phone = true WHERE id = 2",
        {("value_anchored_twice", 1)},
        id="value_anchored_twice",
    ),
    pytest.param(
        "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
        " VALUES ('nobody@x.org', '123456', 1, now()), ('doc@hillvalley.edu', '000', 5, now())",
        {("evidence_of_unknown_value", None)},
        id="evidence_of_unknown_value",
    ),
    pytest.param(
        "UPDATE link_evidence SET primary_id = 999",
        {("evidence_of_unknown_contact", None)},
        id="evidence_of_unknown_contact, primary",
    ),
    pytest.param(
        "UPDATE link_evidence SET merged_id = -1",
        {("evidence_of_unknown_contact", None)},
        id="evidence_of_unknown_contact, merged",
    ),
    pytest.param(
        "UPDATE link_evidence SET merged_id = 5",
        {("evidence_in_another_identity", 5)},
        id="evidence_in_another_identity",
    ),
    pytest.param(
        "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
        " VALUES ('doc@hillvalley.edu', '123456', 1, now())",
        {("unmerged", 5)},
        id="unmerged by evidence",
    ),
    pytest.param(
        "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
        " VALUES ('doc@hillvalley.edu', 'lorraine@hillvalley.edu', 1, now())",
        {("unmerged", 5)},
        id="unmerged by evidence of two emails",
    ),
    pytest.param(
        "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
        " VALUES ('123456', '919191', 1, now())",
        {("unmerged", 3)},
        id="unmerged by evidence of two phone numbers",
    ),
    pytest.param(
        "INSERT INTO link_evidence (value, other_value, primary_id, created_at)"
        " VALUES ('123456', '999', 1, now()), ('a@x.org', 'doc@hillvalley.edu', 5, now())",
        {("evidence_of_unknown_value", None)},
        id="evidence of two alike, one unknown",
    ),
    pytest.param(
        "UPDATE contact SET linked_id = 1 WHERE id = 4",
        {("link_without_evidence", 4), ("unmerged", 4)},
        id="linked to the wrong identity",
    ),
]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(("statement", "expected"), PLANTED)
def test_each_violation_is_found(
    connection: psycopg.Connection[Any], statement: str, expected: set[tuple[str, int | None]]
) -> None:
    connection.execute(UNGUARDED)
    assert verify(connection).ok
    connection.execute(statement)
    found = verify(connection)
    assert not found.ok
    assert {(one.code, one.contact_id) for one in found.violations} == expected
    for one in found.violations:
        for value in ("hillvalley", "123456", "717171", "nobody"):
            assert value not in one.message


@pytest.mark.usefixtures("people")
def test_a_message_names_the_ids(connection: psycopg.Connection[Any]) -> None:
    connection.execute(UNGUARDED)
    connection.execute("DELETE FROM link_evidence")
    found = verify(connection)
    assert found.violations == (
        Violation("link_without_evidence", 4, "it is linked to contact 3, no evidence joins them"),
    )
    assert "violationCounts" not in found.as_json()


def test_many_violations_are_counted_and_the_first_are_listed(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute(UNGUARDED)
    connection.execute(
        "INSERT INTO contact (email, link_precedence, anchors_email)"
        " SELECT g || '@x.org', 'primary', g % 2 = 0 FROM generate_series(1, 1000) g"
    )
    found = verify(connection)
    assert found.is_cut
    assert found.counts == {"value_without_anchor": 500}
    assert len(found.violations) == LISTED
    assert found.as_json()["violationCounts"] == {"value_without_anchor": 500}


def test_gaps_between_ids(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO contact (id, email, phone_number, linked_id, link_precedence, anchors_phone)"
        " VALUES (7, 'a@x.org', '1', NULL, 'primary', true),"
        " (40, 'b@x.org', '2', NULL, 'primary', true),"
        " (9000000000000000000, 'c@x.org', '1', 7, 'secondary', false)"
    )
    found = verify(connection)
    assert found.violations == ()
    assert (found.contacts, found.identities) == (3, 2)
    assert found.digest == digest(connection)


def test_it_holds_a_few_bytes_a_contact(connection: psycopg.Connection[Any]) -> None:
    contacts = 20_000
    connection.execute(
        "INSERT INTO contact (email, phone_number, link_precedence)"
        f" SELECT g || '@x.org', g, 'primary' FROM generate_series(1, {contacts}) g"
    )
    found = []
    peak = peak_of(lambda: found.append(verify(connection)))
    assert found[0].identities == contacts
    # 1.5 GB for 10 million contacts.
    assert peak < 150 * contacts
