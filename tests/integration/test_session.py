"""The settings of a connection hold whatever the role, the database and the network do."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from proxy import Proxy

from identity_cli import IdentityService, errors
from identity_cli.exporter.export import export
from identity_cli.graph.verify import verify
from identity_cli.http.service import AsyncIdentityService
from identity_cli.postgres import database as database_module
from identity_cli.postgres.database import Database, engine
from identity_cli.postgres.session import (
    IMPORT,
    MIGRATE,
    READ,
    RECONCILE,
    SERVE,
    SERVE_BATCH,
)
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = psycopg.Connection[Any]

# What a role or a database may be set to, and what a connection of the program has instead.
SETTINGS = {
    "default_transaction_isolation": ("serializable", "read committed"),
    "DateStyle": ("German", "ISO, YMD"),
    "IntervalStyle": ("sql_standard", "postgres"),
    "TimeZone": ("America/Los_Angeles", "UTC"),
    "jit": ("on", "off"),
    "idle_session_timeout": ("1s", "0"),
    "idle_in_transaction_session_timeout": ("1s", "0"),
    "synchronous_commit": ("off", "on"),
    "session_replication_role": ("replica", "origin"),
}
PURPOSES = {
    "read": (READ, "0", "30s", "on"),
    "reconcile": (RECONCILE, "10min", "30s", "off"),
    "import": (IMPORT, "0", "30s", "off"),
    "serve": (SERVE, "15s", "30s", "off"),
    "migrate": (MIGRATE, "0", "0", "on"),
}


def database(url: str) -> Database:
    return Database(connection_parameters(url), embedded=False)


def show(connection: Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def set_on_database(connection: Connection, name: str, value: str) -> None:
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = '{value}'")


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_of_the_database_is_replaced(
    database_url: str, connection: Connection, name: str
) -> None:
    hostile, wanted = SETTINGS[name]
    set_on_database(connection, name, hostile)
    with psycopg.connect(database_url) as plain:
        assert show(plain, name).startswith(hostile)
    with database(database_url).connect() as own:
        assert show(own, name) == wanted
    with engine(database(database_url)).connect() as migrating:
        assert migrating.exec_driver_sql(f"SHOW {name}").scalar() == wanted


@pytest.mark.parametrize("purpose", PURPOSES)
def test_time_limits_and_plans_depend_on_the_purpose(
    database_url: str, connection: Connection, purpose: str
) -> None:
    settings, statement_timeout, lock_timeout, enable_seqscan = PURPOSES[purpose]
    for name, value in (
        ("statement_timeout", "1min"),
        ("lock_timeout", "2min"),
        ("enable_seqscan", "off" if enable_seqscan == "on" else "on"),
    ):
        set_on_database(connection, name, value)
    with database(database_url).connect(session=settings) as own:
        assert show(own, "statement_timeout") == statement_timeout
        assert show(own, "lock_timeout") == lock_timeout
        assert show(own, "enable_seqscan") == enable_seqscan


def test_transaction_timeout_is_replaced_where_the_server_has_it(
    database_url: str, connection: Connection
) -> None:
    if connection.info.server_version < 170000:
        with database(database_url).connect() as own, pytest.raises(psycopg.Error):
            show(own, "transaction_timeout")
        return
    set_on_database(connection, "transaction_timeout", "1s")
    with database(database_url).connect() as own:
        assert show(own, "transaction_timeout") == "0"


def test_stricter_synchronous_commit_is_kept(database_url: str, connection: Connection) -> None:
    set_on_database(connection, "synchronous_commit", "remote_apply")
    with database(database_url).connect() as own:
        assert show(own, "synchronous_commit") == "remote_apply"


def test_statement_timeout_of_the_database_does_not_end_verify_and_export(
    database_url: str, connection: Connection
) -> None:
    connection.execute(
        "SELECT reconcile(i || '@x.org', i::text) FROM generate_series(1, 2000) AS i"
    )
    set_on_database(connection, "statement_timeout", "500ms")
    with database(database_url).connect() as own:
        own.execute("SELECT pg_sleep(0.6)")
        assert verify(own).ok
        output = io.BytesIO()
        export(own, output, what="contacts", file_format="csv")
        assert output.getvalue().count(b"\n") == 2001


@pytest.fixture
def plain_role(connection: Connection, database_url: str) -> Iterator[Database]:
    """The database as a role that is no superuser sees it."""
    role = f"role_of_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    parameters = connection_parameters(database_url) | {"user": role, "password": "x"}
    yield Database(parameters, embedded=False)
    connection.execute(f"DROP OWNED BY {role}")
    connection.execute(f"DROP ROLE {role}")


def test_role_that_cannot_turn_triggers_on_is_refused(
    plain_role: Database, connection: Connection
) -> None:
    plain_role.connect().close()
    set_on_database(connection, "session_replication_role", "replica")
    with pytest.raises(errors.DatabaseUnsuitableError, match="session_replication_role") as caught:
        plain_role.connect()
    assert "RESET session_replication_role" in (caught.value.hint or "")


def test_pool_of_the_http_service_has_the_settings(
    database_url: str, connection: Connection
) -> None:
    for name, (hostile, _) in SETTINGS.items():
        set_on_database(connection, name, hostile)

    async def settings() -> dict[str, str]:
        async with (
            AsyncIdentityService.open(database(database_url), pool_size=1) as service,
            service.pool.connection() as pooled,
        ):
            found = {}
            for name in (*SETTINGS, "statement_timeout"):
                cursor = await pooled.execute("SELECT current_setting(%s)", (name,))
                [(found[name],)] = await cursor.fetchall()
            return found

    assert asyncio.run(settings()) == {
        **{name: wanted for name, (_, wanted) in SETTINGS.items()},
        "statement_timeout": "15s",
    }


@pytest.mark.parametrize(
    ("of_database", "durable"), [("off", "on"), ("on", "on"), ("local", "local")]
)
def test_session_of_batches_keeps_how_its_last_commit_waits(
    database_url: str, connection: Connection, of_database: str, durable: str
) -> None:
    set_on_database(connection, "synchronous_commit", of_database)
    with database(database_url).connect(session=SERVE_BATCH) as session:
        found = session.execute(
            "SELECT current_setting('synchronous_commit'),"
            " current_setting('identity.durable_commit')"
        ).fetchone()
    assert found == ("off", durable)


# The network


def socket_options(file_descriptor: int) -> dict[str, int]:
    if sys.platform != "linux":
        options = {"count": socket.TCP_KEEPCNT, "interval": socket.TCP_KEEPINTVL}
    else:
        options = {
            "count": socket.TCP_KEEPCNT,
            "interval": socket.TCP_KEEPINTVL,
            "idle": socket.TCP_KEEPIDLE,
            "user timeout": socket.TCP_USER_TIMEOUT,
        }
    with socket.socket(fileno=socket.dup(file_descriptor)) as line:
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return {
            name: line.getsockopt(socket.IPPROTO_TCP, option) for name, option in options.items()
        }


WANTED_OPTIONS = {"count": 3, "interval": 5, "idle": 10, "user timeout": 20_000}


@pytest.fixture
def target(database_url: str) -> dict[str, str]:
    return connection_parameters(database_url)


def test_connection_notices_a_network_that_swallows_packets(target: dict[str, str]) -> None:
    with Proxy(target) as proxy:
        with Database(proxy.parameters, embedded=False).connect() as connection:
            options = socket_options(connection.fileno())
        assert options == {name: WANTED_OPTIONS[name] for name in options}
        own = proxy.parameters | {"keepalives_count": "9"}
        with Database(own, embedded=False).connect() as connection:
            assert socket_options(connection.fileno())["count"] == 9


def test_pooled_connection_notices_a_network_that_swallows_packets(target: dict[str, str]) -> None:
    async def options(parameters: dict[str, str]) -> dict[str, int]:
        database = Database(parameters, embedded=False)
        async with (
            AsyncIdentityService.open(database, pool_size=1) as service,
            service.pool.connection() as pooled,
        ):
            return socket_options(pooled.fileno())

    with Proxy(target) as proxy:
        found = asyncio.run(options(proxy.parameters))
    assert found == {name: WANTED_OPTIONS[name] for name in found}


def test_server_notices_a_client_that_is_gone(server: dict[str, str], database_url: str) -> None:
    if server["host"].startswith("/"):
        # A Unix socket has no keepalives: the server shows 0. What would be set is in the SELECT.
        for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"):
            assert f"set_config('{name}'" in READ.statement
        assert "set_config('tcp_user_timeout', '20s'" in READ.statement
        return
    with database(database_url).connect() as connection:
        assert show(connection, "tcp_keepalives_idle") == "10"
        assert show(connection, "tcp_user_timeout") == "20s"


def test_connection_attempt_to_a_silent_server_ends(target: dict[str, str]) -> None:
    with Proxy(target) as proxy:
        proxy.silent.set()
        silent = Database(proxy.parameters | {"connect_timeout": "2"}, embedded=False)
        started = time.monotonic()
        with pytest.raises(errors.DatabaseUnreachableError):
            silent.connect()
        assert time.monotonic() - started < 10


def test_server_that_falls_silent_after_the_handshake_is_unreachable(
    target: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CONNECT_SECONDS", 1)

    def swallow_what_follows_the_handshake(data: bytes) -> None:
        # The first answer that has no server parameters in it.
        if b"server_version" not in data and handshake:
            proxy.silent.set()
        if b"server_version" in data:
            handshake.append(data)

    handshake: list[bytes] = []
    with Proxy(target, swallow_what_follows_the_handshake) as proxy:
        started = time.monotonic()
        with pytest.raises(errors.DatabaseUnreachableError):
            Database(proxy.parameters, embedded=False).connect()
        assert handshake
        assert time.monotonic() - started < 10


def test_statement_on_a_connection_that_was_set_up_is_not_limited(
    target: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CONNECT_SECONDS", 1)
    with Database(target, embedded=False).connect() as connection:
        connection.execute("SELECT pg_sleep(1.5)")


def test_public_service_has_the_settings(database_url: str) -> None:
    with IdentityService.open(database_url) as service:
        assert show(service.connection, "enable_seqscan") == "off"
        assert show(service.connection, "statement_timeout") == "10min"
