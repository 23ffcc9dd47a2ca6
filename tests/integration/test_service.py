"""The service: looking up, the profile, and what it refuses."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import identity_cli
from identity_cli import ConsolidatedContact, ContactRequest, IdentityService, Outcome, errors
from identity_cli.graph.normalize import PROFILE_VERSION
from identity_cli.postgres.schema import Profile

Connection = psycopg.Connection[Any]


def test_identify_answers_with_the_consolidated_contact(service: IdentityService) -> None:
    service.identify(ContactRequest("lorraine@hillvalley.edu", "123456"))
    contact = service.identify(ContactRequest("McFly@HillValley.edu", "12-34 56"))
    assert contact == ConsolidatedContact(
        1, ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"], ["123456"], [2]
    )


def test_the_primarys_own_values_come_first(service: IdentityService) -> None:
    for email, phone in [("z@x.org", None), ("a@x.org", "1"), ("z@x.org", "1"), ("z@x.org", "0")]:
        service.reconcile(ContactRequest(email, phone))
    assert service.find(email="a@x.org") == ConsolidatedContact(
        1, ["z@x.org", "a@x.org"], ["1", "0"], [2, 3]
    )


def test_find_by_each_and_as_it_was_typed(service: IdentityService) -> None:
    contact = service.identify(ContactRequest("a@x.org", "123456"))
    assert service.find(email=" A@X.ORG ") == contact
    assert service.find(phone="12-34 56") == contact
    assert service.find(phone=123456) == contact
    assert service.find(contact_id=1) == contact


@pytest.mark.parametrize(
    "by", [{"email": "nobody@x.org"}, {"phone": "999"}, {"contact_id": 99}, {"contact_id": -1}]
)
def test_what_is_not_there(service: IdentityService, by: dict[str, Any]) -> None:
    with pytest.raises(errors.ContactNotFoundError):
        service.find(**by)


@pytest.mark.parametrize(
    "by", [{}, {"email": "a@x.org", "phone": "1"}, {"email": "a@x.org", "contact_id": 1}]
)
def test_find_by_exactly_one(service: IdentityService, by: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        service.find(**by)


@pytest.mark.parametrize("by", [{"email": "  "}, {"phone": "n/a"}, {"email": "not an email"}])
def test_find_by_what_is_no_identifier(service: IdentityService, by: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequestError):
        service.find(**by)


def test_find_writes_nothing(service: IdentityService, connection: Connection) -> None:
    with pytest.raises(errors.ContactNotFoundError):
        service.find(email="a@x.org")
    assert connection.execute("SELECT count(*) FROM normalization_profile").fetchone() == (0,)


def test_an_id_beyond_the_columns_range_is_not_there(service: IdentityService) -> None:
    with pytest.raises(errors.ContactNotFoundError):
        service.find(contact_id=2**70)


# The profile


def stored_profile(connection: Connection) -> list[tuple[int, str | None]]:
    return connection.execute("SELECT version, region FROM normalization_profile").fetchall()


def test_the_first_write_stores_the_profile(connection: Connection) -> None:
    IdentityService(connection, region="US").reconcile(
        ContactRequest(None, "650 253 0000", region="US")
    )
    assert stored_profile(connection) == [(PROFILE_VERSION, "US")]


def test_a_stream_stores_the_profile_too(service: IdentityService) -> None:
    outcomes = service.reconcile_stream([ContactRequest("a@x.org")])
    assert list(outcomes) == [Outcome("created", 1, 1)]
    assert stored_profile(service.connection) == [(PROFILE_VERSION, None)]


@pytest.mark.parametrize(
    ("stored", "region", "mend"),
    [
        ((PROFILE_VERSION, None), "US", "leave --region out"),
        ((PROFILE_VERSION, "US"), None, "give --region US"),
        ((PROFILE_VERSION, "US"), "GB", "give --region US"),
        ((PROFILE_VERSION + 1, None), None, "use the release of identity that wrote it"),
    ],
)
def test_another_profile_is_refused(
    connection: Connection, stored: tuple[int, str | None], region: str | None, mend: str
) -> None:
    connection.execute(
        "INSERT INTO normalization_profile (version, region) VALUES (%s, %s)", stored
    )
    service = IdentityService(connection, region=region)
    with pytest.raises(errors.ProfileMismatchError) as caught:
        service.reconcile(ContactRequest("a@x.org", region=region))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(mend)
    assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)
    assert stored_profile(connection) == [stored]


def test_a_profile_that_came_first_meanwhile_is_seen(connection: Connection) -> None:
    service = IdentityService(connection, profile=None)
    connection.execute("INSERT INTO normalization_profile (version, region) VALUES (1, 'US')")
    with pytest.raises(errors.ProfileMismatchError):
        service.claim()


def test_a_request_of_another_region_is_refused(service: IdentityService) -> None:
    request = ContactRequest(None, "650 253 0000", region="US")
    with pytest.raises(errors.UsageError):
        service.reconcile(request)
    with pytest.raises(errors.UsageError):
        list(service.reconcile_stream([request]))


def test_find_uses_the_stored_region(connection: Connection) -> None:
    service = IdentityService(connection, region="US")
    contact = service.identify(ContactRequest(None, "650 253 0000", region="US"))
    reader = IdentityService(connection, profile=Profile(PROFILE_VERSION, "US"))
    assert contact.phone_numbers == ["+16502530000"]
    assert reader.find(phone="(650) 253-0000") == contact


# The session


def test_open_migrates_an_empty_database(empty_database_url: str) -> None:
    with IdentityService.open(empty_database_url) as service:
        assert service.identify(ContactRequest("a@x.org")).primary_id == 1
    with IdentityService.open(empty_database_url, region=None) as service:
        assert service.profile == Profile(PROFILE_VERSION, None)
        assert service.reconcile(ContactRequest("a@x.org")) == Outcome("unchanged", 1, None)


def test_open_reads_database_url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    with IdentityService.open() as service:
        assert service.connection.info.dbname in database_url


def test_a_lost_connection_is_said_so(service: IdentityService, connection: Connection) -> None:
    connection.execute("SELECT pg_terminate_backend(%s)", [service.connection.info.backend_pid])
    with pytest.raises(errors.ConnectionLostError):
        service.reconcile(ContactRequest("a@x.org"))


def test_a_read_only_database_is_said_so(service: IdentityService) -> None:
    service.connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(errors.DatabaseReadOnlyError):
        service.reconcile(ContactRequest("a@x.org"))


def test_reading_an_identity_that_was_merged_meanwhile(service: IdentityService) -> None:
    for email, phone in [("a@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "2")]:
        service.reconcile(ContactRequest(email, phone))
    assert service._read(2).primary_id == 1


# What others import


def test_the_public_names() -> None:
    for name in identity_cli.__all__:
        assert getattr(identity_cli, name).__name__ == name
    with pytest.raises(AttributeError):
        identity_cli.nothing  # noqa: B018
