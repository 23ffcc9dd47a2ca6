"""The service: looking up, the profile, and what it refuses."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import psycopg
import pytest

import identity_cli
from identity_cli import ConsolidatedContact, ContactRequest, IdentityService, Outcome, errors
from identity_cli.graph import core
from identity_cli.graph.normalize import PROFILE_VERSION
from identity_cli.http import service as http_service
from identity_cli.http.service import AsyncIdentityService
from identity_cli.postgres.database import Database
from identity_cli.postgres.schema import Profile
from identity_cli.settings import connection_parameters

Connection = psycopg.Connection[Any]


def test_identify_answers_with_the_consolidated_contact(service: IdentityService) -> None:
    service.identify(ContactRequest("lorraine@hillvalley.edu", "123456"))
    contact = service.identify(ContactRequest("McFly@HillValley.edu", "12-34 56"))
    assert contact == ConsolidatedContact(
        1, ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"], ["123456"], [2]
    )


def test_values_of_the_primary_come_first(service: IdentityService) -> None:
    for email, phone in [("z@x.org", None), ("a@x.org", "1"), ("z@x.org", "1"), ("z@x.org", "2")]:
        service.reconcile(ContactRequest(email, phone))
    assert service.find(email="a@x.org") == ConsolidatedContact(
        1, ["z@x.org", "a@x.org"], ["1", "2"], [2, 3]
    )


def test_find_normalises_each_kind_of_value(service: IdentityService) -> None:
    contact = service.identify(ContactRequest("a@x.org", "123456"))
    assert service.find(email=" A@X.ORG ") == contact
    assert service.find(phone="12-34 56") == contact
    assert service.find(phone=123456) == contact
    assert service.find(contact_id=1) == contact


@pytest.mark.parametrize(
    "by", [{"email": "nobody@x.org"}, {"phone": "999"}, {"contact_id": 99}, {"contact_id": -1}]
)
def test_find_of_an_unknown_value_is_not_found(
    service: IdentityService, by: dict[str, Any]
) -> None:
    with pytest.raises(errors.ContactNotFoundError):
        service.find(**by)


def test_find_by_an_email_and_a_phone_number_needs_both_in_one_identity(
    service: IdentityService,
) -> None:
    contact = service.identify(ContactRequest("a@x.org", "1"))
    service.identify(ContactRequest("b@x.org", "2"))
    assert service.find(email="a@x.org", phone="1") == contact
    for phone in ("2", "3"):
        with pytest.raises(errors.ContactNotFoundError):
            service.find(email="a@x.org", phone=phone)


def test_find_by_a_bare_number_is_by_id_and_else_by_phone_number(
    service: IdentityService,
) -> None:
    first = service.identify(ContactRequest("a@x.org", "2"))
    second = service.identify(ContactRequest("b@x.org", "777"))
    assert service.find("1") == service.find("a@x.org") == first
    assert service.find("2") == service.find("777") == second
    assert service.find("(2)") == first
    for unknown in ("3", "778", "c@x.org"):
        with pytest.raises(errors.ContactNotFoundError):
            service.find(unknown)


def test_number_that_means_two_identities_is_reported_as_ambiguous(
    service: IdentityService,
) -> None:
    service.identify(ContactRequest("a@x.org", "2"))
    service.identify(ContactRequest("b@x.org", "1"))
    service.identify(ContactRequest("c@x.org", "3"))
    for value, is_ambiguous in (("1", True), ("2", True), ("3", False), ("a@x.org", False)):
        with service.find_stream(value) as contact:
            assert contact.is_ambiguous is is_ambiguous


@pytest.mark.parametrize(
    "by",
    [
        {},
        {"email": "a@x.org", "contact_id": 1},
        {"value": "1", "contact_id": 1},
        {"value": "1", "phone": "1"},
    ],
)
def test_find_by_none_or_two_is_wrong_usage(service: IdentityService, by: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        service.find(**by)


@pytest.mark.parametrize("by", [{"email": "  "}, {"phone": "n/a"}, {"email": "not an email"}])
def test_find_by_an_invalid_value_is_rejected(service: IdentityService, by: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequestError):
        service.find(**by)


def test_find_writes_nothing(service: IdentityService, connection: Connection) -> None:
    with pytest.raises(errors.ContactNotFoundError):
        service.find(email="a@x.org")
    assert connection.execute("SELECT count(*) FROM normalization_profile").fetchone() == (0,)


def test_id_beyond_the_range_of_the_column_is_not_found(service: IdentityService) -> None:
    with pytest.raises(errors.ContactNotFoundError):
        service.find(contact_id=2**70)


# The profile


def stored_profile(connection: Connection) -> list[tuple[int, str | None]]:
    return connection.execute("SELECT version, region FROM normalization_profile").fetchall()


def test_first_write_stores_the_profile(connection: Connection) -> None:
    IdentityService(connection, region="US").reconcile(
        ContactRequest(None, "650 253 0000", region="US")
    )
    assert stored_profile(connection) == [(PROFILE_VERSION, "US")]


def test_stream_stores_the_profile_too(service: IdentityService) -> None:
    outcomes = service.reconcile_stream([ContactRequest("a@x.org")])
    assert list(outcomes) == [Outcome("created", 1, 1)]
    assert stored_profile(service.connection) == [(PROFILE_VERSION, None)]


@pytest.mark.parametrize(
    ("stored", "region", "hint"),
    [
        ((PROFILE_VERSION, None), "US", "leave --region out"),
        ((PROFILE_VERSION, "US"), None, "use --region US"),
        ((PROFILE_VERSION, "US"), "GB", "use --region US"),
        ((PROFILE_VERSION + 1, None), None, "use the release of identity that wrote it"),
    ],
)
def test_another_profile_is_refused(
    connection: Connection,
    service: IdentityService,
    stored: tuple[int, str | None],
    region: str | None,
    hint: str,
) -> None:
    service.reconcile(ContactRequest("first@x.org"))
    connection.execute("UPDATE normalization_profile SET version = %s, region = %s", stored)
    late = IdentityService(connection, region=region)
    knowing = IdentityService(connection, profile=Profile(*stored), region=region)
    for other in (late, knowing):
        with pytest.raises(errors.ProfileMismatchError) as caught:
            other.reconcile(ContactRequest("a@x.org", region=region))
        assert f"version {stored[0]}" in str(caught.value)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(hint)
    assert connection.execute("SELECT count(*) FROM contact").fetchone() == (1,)
    assert stored_profile(connection) == [stored]


def test_older_version_is_accepted_and_stays_as_it_is(
    connection: Connection, service: IdentityService
) -> None:
    service.reconcile(ContactRequest("first@x.org"))
    connection.execute("UPDATE normalization_profile SET version = %s", [PROFILE_VERSION - 1])
    connection.execute("SELECT claim_profile(%s, NULL)", [PROFILE_VERSION])
    assert stored_profile(connection) == [(PROFILE_VERSION - 1, None)]
    with pytest.raises(psycopg.DatabaseError, match="normalisation profile") as caught:
        connection.execute("SELECT claim_profile(%s, 'US')", [PROFILE_VERSION])
    assert caught.value.sqlstate == "ID001"


def test_profile_without_contacts_is_replaced(connection: Connection) -> None:
    connection.execute("INSERT INTO normalization_profile (version, region) VALUES (1, 'US')")
    IdentityService(connection).reconcile(ContactRequest("a@x.org"))
    assert stored_profile(connection) == [(PROFILE_VERSION, None)]


def test_refused_first_request_stores_no_profile(
    connection: Connection, service: IdentityService
) -> None:
    refuse_by_trigger(connection, "P0001")
    with pytest.raises(errors.RequestRefusedError):
        service.reconcile(ContactRequest("a@x.org"))
    assert stored_profile(connection) == []
    assert service.profile is None


def test_claim_waits_no_longer_than_the_session_does(
    service: IdentityService, database_url: str
) -> None:
    with psycopg.connect(database_url) as dry_run:
        dry_run.execute("SELECT claim_profile(1, NULL)")
        service.connection.execute("SET statement_timeout = '200ms'")
        with pytest.raises(errors.DatabaseError, match="57014"):
            service.reconcile(ContactRequest("a@x.org"))
    assert service.reconcile(ContactRequest("a@x.org")).name == "created"


# What the database refuses


def refuse_by_trigger(connection: Connection, state: str) -> None:
    connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'no % here', NEW.email USING ERRCODE = '{state}';
        END $$
        """
    )
    connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON contact FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


@pytest.mark.parametrize("state", ["P0001", "ZZ123", "23514", "22023", "42501", "09000", "54000"])
def test_refusal_of_a_trigger_names_the_sqlstate_alone(
    service: IdentityService, connection: Connection, state: str
) -> None:
    refuse_by_trigger(connection, state)
    for write in (service.reconcile, service.identify):
        with pytest.raises(errors.RequestRefusedError) as caught:
            write(ContactRequest("secretvalue@x.org"))
        assert caught.value.code == "refused"
        assert state in str(caught.value)
        assert "secretvalue" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("state", ["53100", "57P04", "58030", "XX001", "25006", "0A000", "HV00N"])
def test_condition_of_the_server_is_no_refusal(
    service: IdentityService, connection: Connection, state: str
) -> None:
    refuse_by_trigger(connection, state)
    with pytest.raises(errors.DatabaseError):
        service.reconcile(ContactRequest("a@x.org"))


def test_missing_privilege_is_no_refusal(database_url: str, connection: Connection) -> None:
    role = f"reader_{uuid.uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {role}")
    try:
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        with psycopg.connect(database_url, autocommit=True) as own:
            own.execute(f"SET ROLE {role}")
            with pytest.raises(errors.PermissionDeniedError):
                IdentityService(own).reconcile(ContactRequest("a@x.org"))
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


# Large identities


def test_stream_equals_the_consolidated_contact(
    service: IdentityService, connection: Connection
) -> None:
    for email, phone in [("z@x.org", None), ("a@x.org", "1"), ("z@x.org", "1"), ("b@x.org", "1")]:
        service.reconcile(ContactRequest(email, phone))
    store = [("y@x.org", "8"), ("x@x.org", "9"), ("y@x.org", "9"), ("a@x.org", "8")]
    for email, phone in store:
        service.reconcile(ContactRequest(email, phone))
    expected = service.find(phone="8")
    with service.find_stream(phone="8") as contact:
        read = ConsolidatedContact(
            contact.primary_id,
            list(contact.emails),
            list(contact.phone_numbers),
            list(contact.secondary_ids),
        )
    assert read == expected
    assert len(expected.secondary_ids) == 4
    assert service.reconcile(ContactRequest("after@x.org")).name == "created"


def test_stream_of_an_unknown_value_is_not_found(service: IdentityService) -> None:
    with pytest.raises(errors.ContactNotFoundError), service.find_stream(email="a@x.org"):
        pass


def test_merge_above_the_sessions_limit_is_refused(
    service: IdentityService, connection: Connection
) -> None:
    service.reconcile(ContactRequest("old@x.org"))
    connection.execute(
        "INSERT INTO contact (email, link_precedence) VALUES ('young@x.org', 'primary')"
    )
    for n in range(1, 4):
        service.reconcile(ContactRequest("young@x.org", str(n)))
    merge = ContactRequest("old@x.org", "1")
    service.connection.execute("SET identity.merge_limit = 2")
    with pytest.raises(errors.MergeTooLargeError):
        service.reconcile(merge)
    assert service.retries == 0
    service.connection.execute("SET identity.merge_limit = 3")
    assert service.reconcile(merge).name == "merged"


def test_stream_is_dated_by_the_servers_clock(
    service: IdentityService, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 0)
    list(service.reconcile_stream([ContactRequest("a@x.org"), ContactRequest("b@x.org")]))
    late = connection.execute(
        "SELECT count(*) FROM contact WHERE created_at < now() - interval '1 minute'"
        " OR created_at > clock_timestamp()"
    ).fetchone()
    assert late == (0,)


def test_request_of_another_region_is_refused(service: IdentityService) -> None:
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


def test_lost_connection_is_reported_as_such(
    service: IdentityService, connection: Connection
) -> None:
    connection.execute("SELECT pg_terminate_backend(%s)", [service.connection.info.backend_pid])
    with pytest.raises(errors.ConnectionLostError):
        service.reconcile(ContactRequest("a@x.org"))


def test_read_only_database_is_reported_as_such(service: IdentityService) -> None:
    service.connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(errors.DatabaseReadOnlyError):
        service.reconcile(ContactRequest("a@x.org"))


def test_read_follows_a_concurrent_merge(service: IdentityService) -> None:
    for email, phone in [("a@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "2")]:
        service.reconcile(ContactRequest(email, phone))
    with service.connection.transaction():
        assert service._run(core.read(2)) == service._run(core.read(1))


# What others import


def test_public_names_can_be_imported() -> None:
    for name in identity_cli.__all__:
        assert getattr(identity_cli, name).__name__ == name
    with pytest.raises(AttributeError):
        identity_cli.nothing  # noqa: B018


def test_pooled_connection_keeps_its_cursor_but_no_large_identity(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_service, "_SLICE", 3)

    async def kept_cursors() -> list[object]:
        target = Database(connection_parameters(database_url), embedded=False)
        found = []
        async with AsyncIdentityService.open(target, pool_size=1) as service:
            for email in ("a@x.org", "b@x.org", "c@x.org", "c@x.org"):
                _, contact = await service.identify(ContactRequest(email, "1"))
                assert contact is not None
                async with service.pool.connection() as connection:
                    found.append(connection.kept_cursor)
        return found

    first, second, large, largest = asyncio.run(kept_cursors())
    assert first is second is not None
    assert large is largest is None
