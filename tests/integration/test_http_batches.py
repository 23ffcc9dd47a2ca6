"""Requests that the service sends together are answered as if each had been sent alone."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from steering import Player

from identity_cli import ContactRequest, IdentityService, errors
from identity_cli.graph import core
from identity_cli.graph.verify import verify
from identity_cli.http import service as http_service
from identity_cli.http.service import AsyncIdentityService
from identity_cli.postgres import schema
from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from identity_cli.graph.core import ConsolidatedContact, ContactCounts, Outcome

    Answer = tuple[Outcome, ConsolidatedContact | ContactCounts | None] | BaseException

Connection = psycopg.Connection[Any]
FIRST = ContactRequest("first@x.org", "1")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the batches that reach the database."""
    sizes = []
    identify_batch = core.identify_batch

    def recorded(requests: Any, *, at_most: int) -> Any:
        sizes.append(len(requests))
        return identify_batch(requests, at_most=at_most)

    monkeypatch.setattr(core, "identify_batch", recorded)
    yield sizes
    assert sizes, "nothing was sent together"


def answers(database_url: str, requests: list[ContactRequest]) -> list[Answer]:
    """The answers to requests that come at the same moment."""

    async def run() -> list[Answer]:
        async with AsyncIdentityService.open(database(database_url)) as service:
            await service.identify(FIRST)  # stores the profile: from now on there are batches
            return await asyncio.gather(*map(service.identify, requests), return_exceptions=True)

    return asyncio.run(run())


def database(url: str) -> Database:
    return Database(connection_parameters(url), embedded=False)


def names(found: list[Answer]) -> list[str]:
    return [type(one).__name__ if isinstance(one, BaseException) else one[0].name for one in found]


def people(count: int) -> list[ContactRequest]:
    return [ContactRequest(f"p{n}@x.org", str(1000 + n)) for n in range(count)]


def test_answers_hold_the_values_of_each_identity(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    found = answers(database_url, [*people(8), ContactRequest("other@x.org", "1")])
    assert names(found) == ["created"] * 8 + ["linked"]
    for n, answer in enumerate(found[:8]):
        assert not isinstance(answer, BaseException)
        assert isinstance(answer[1], core.ConsolidatedContact)
        assert answer[0].contact_id == answer[0].primary_id == answer[1].primary_id
        assert (answer[1].emails, answer[1].phone_numbers) == ([f"p{n}@x.org"], [str(1000 + n)])
    assert not isinstance(found[8], BaseException)
    assert found[8][1] == core.ConsolidatedContact(
        1, ["first@x.org", "other@x.org"], ["1"], [found[8][0].contact_id or 0]
    )
    assert sum(batches) == 9
    assert verify(connection).ok


def test_each_request_is_a_transaction_of_its_own(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    answers(database_url, people(10))
    assert max(batches) > 1
    counted = connection.execute("SELECT count(DISTINCT stored_in), count(*) FROM contact")
    assert counted.fetchone() == (11, 11)


def test_request_that_waits_for_a_lock_holds_up_no_other(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    async def run() -> tuple[list[Answer], Answer]:
        async with AsyncIdentityService.open(database(database_url)) as service:
            await service.identify(FIRST)
            with psycopg.connect(database_url) as holder:
                holder.execute("SELECT FROM contact WHERE id = 1 FOR UPDATE")
                locked, *others = [
                    asyncio.create_task(service.identify(request))
                    for request in [ContactRequest("new@x.org", "1"), *people(20)]
                ]
                async with asyncio.timeout(10):
                    found = await asyncio.gather(*others)
                assert not locked.done()
                holder.rollback()
            async with asyncio.timeout(10):
                return found, await locked

    found, locked = asyncio.run(run())
    assert names(found) == ["created"] * 20
    assert names([locked]) == ["linked"]
    assert verify(connection).ok


def test_refused_request_is_refused_alone(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no' USING ERRCODE = 'ZZ123'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON contact FOR EACH ROW"
        " WHEN (NEW.email = 'p3@x.org') EXECUTE FUNCTION refuse()"
    )
    found = answers(database_url, people(6))
    assert names(found) == ["created"] * 3 + ["RequestRefusedError"] + ["created"] * 2
    assert isinstance(found[3], errors.RequestRefusedError)
    assert "ZZ123" in found[3].reason


def test_blocked_and_forgotten_values_raise_what_they_raise_alone(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    player = Player(connection)
    player.request(["gone@x.org"], [])
    player.forget(["gone@x.org"])
    player.block(["off@x.org"])
    requests = [ContactRequest(email) for email in ("gone@x.org", "off@x.org", "new@x.org")]
    assert names(answers(database_url, requests)) == [
        "RequestForgottenError",
        "RequestBlockedError",
        "created",
    ]


def test_what_is_large_is_merged_and_read_alone(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    connection.execute(
        "INSERT INTO contact (email, phone_number, linked_id, link_precedence)"
        " SELECT 'm' || n || '@x.org', n::text, nullif(1, n), CASE n WHEN 1 THEN 'primary'"
        " ELSE 'secondary' END::link_precedence FROM generate_series(1, 150) AS n"
    )
    found = answers(database_url, [ContactRequest("m7@x.org", "9"), *people(4)])
    assert not isinstance(found[0], BaseException)
    assert isinstance(found[0][1], core.ConsolidatedContact)
    assert (found[0][0].name, len(found[0][1].emails)) == ("unchanged", 151)

    connection.execute(
        "INSERT INTO contact (email, link_precedence, created_at)"
        " VALUES ('oldest@x.org', 'primary', '2001-01-01')"
    )
    found = answers(database_url, [ContactRequest("oldest@x.org", "9"), *people(4)])
    assert names(found) == ["merged"] + ["unchanged"] * 4
    assert not isinstance(found[0], BaseException)
    assert isinstance(found[0][1], core.ConsolidatedContact)
    assert (found[0][1].emails[0], len(found[0][1].emails)) == ("oldest@x.org", 152)


def test_limit_of_the_answer_is_that_of_the_service(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    async def run() -> list[Answer]:
        async with AsyncIdentityService.open(database(database_url), contact_limit=1) as service:
            await service.identify(FIRST)
            requests = [ContactRequest("second@x.org", "1"), *people(3)]
            return await asyncio.gather(*map(service.identify, requests), return_exceptions=True)

    found = asyncio.run(run())
    assert names(found) == ["linked"] + ["created"] * 3
    assert [one[1] is None for one in found if not isinstance(one, BaseException)] == [
        *(True, False, False, False)
    ]


def test_where_partners_are_counted_each_request_goes_alone(
    database_url: str, connection: Connection, batches: list[int]
) -> None:
    Player(connection).limit(None, 2)
    requests = [ContactRequest(f"p{n}@x.org", "1") for n in range(6)]
    found = answers(database_url, requests)
    assert set(names(found)) <= {"linked", "created"}
    assert connection.execute("SELECT value FROM blocked_value WHERE is_hub").fetchall() == [("1",)]
    assert len(batches) <= 2
    assert verify(connection).ok


def test_lost_connection_of_a_batch_loses_no_request(
    database_url: str, connection: Connection, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = http_service._drive
    cut = []

    async def cut_once(target: Any, steps: Any) -> Any:
        if batches and not cut:
            cut.append(target.info.backend_pid)
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", cut)
        return await drive(target, steps)

    monkeypatch.setattr(http_service, "_drive", cut_once)

    async def run() -> list[Answer]:
        async with AsyncIdentityService.open(database(database_url)) as service:
            await service.identify(FIRST)
            found: list[Answer] = []
            for start in range(0, 40, 8):
                found += await asyncio.gather(*map(service.identify, people(40)[start : start + 8]))
            return found

    assert names(asyncio.run(run())) == ["created"] * 40
    assert cut


def test_time_of_a_batch_is_time_of_its_requests(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = http_service._drive

    async def slow_batches(target: Any, steps: Any) -> Any:
        if steps.gi_code is core.identify_batch.__code__:
            await asyncio.sleep(2.1)
            raise psycopg.OperationalError
        return await drive(target, steps)

    monkeypatch.setattr(http_service, "_drive", slow_batches)
    monkeypatch.setattr(http_service, "REQUEST_SECONDS", 2.0)
    assert names(answers(database_url, people(6))) == ["DatabaseUnreachableError"] * 6


def test_small_pool_sends_each_request_alone(database_url: str) -> None:
    async def run() -> tuple[int, list[Answer]]:
        small = http_service.SMALLEST_POOL - 1
        async with AsyncIdentityService.open(database(database_url), pool_size=small) as service:
            await service.identify(FIRST)
            found = await asyncio.gather(*map(service.identify, people(20)))
            return service.pool_figures()["pool_size"], found

    size, found = asyncio.run(run())
    assert size == http_service.SMALLEST_POOL - 1
    assert names(found) == ["created"] * 20


@pytest.fixture
def slow_disk(identity_home: Path) -> EmbeddedServer:
    """A server that writes commits to the disk only for those who wait for it."""
    server = EmbeddedServer(identity_home)
    server.start()
    schema.upgrade(Database(server.connection_parameters(), embedded=False))
    with connected(server) as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("SELECT pg_reload_conf()")
    return server


def connected(server: EmbeddedServer) -> Connection:
    return psycopg.connect(**server.connection_parameters(), autocommit=True)  # type: ignore[arg-type]


def crash(server: EmbeddedServer) -> None:
    """End the server without a checkpoint, start it again, and so let it recover."""
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().splitlines()[0]))
    postmaster.send_signal(signal.SIGQUIT)
    postmaster.wait(30)
    server.start()


def test_batches_are_on_disk_when_they_are_answered(
    slow_disk: EmbeddedServer, batches: list[int]
) -> None:
    async def run() -> list[Answer]:
        target = Database(slow_disk.connection_parameters(), embedded=False)
        async with AsyncIdentityService.open(target) as service:
            await service.identify(FIRST)
            await asyncio.sleep(0.5)
            found: list[Answer] = list(await asyncio.gather(*map(service.identify, people(16))))
            crash(slow_disk)
            return found

    assert names(asyncio.run(run())) == ["created"] * 16
    with connected(slow_disk) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (17,)


@pytest.mark.parametrize("identify", [IdentityService.identify, IdentityService.reconcile])
def test_known_request_is_on_disk_when_it_is_answered(
    slow_disk: EmbeddedServer, identify: Callable[[IdentityService, ContactRequest], object]
) -> None:
    """Another session has stored it, and does not wait for the disk."""
    with connected(slow_disk) as importing, connected(slow_disk) as connection:
        first = IdentityService(importing)
        first.identify(FIRST)
        importing.execute("SET synchronous_commit = off")
        time.sleep(0.5)
        first.identify(ContactRequest("second@x.org", "1"))
        service = IdentityService(connection, profile=first.profile)
        identify(service, ContactRequest("second@x.org", "1"))
        crash(slow_disk)
    with connected(slow_disk) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (2,)
