"""Connections: which servers will do, and what is said of those that will not."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from unittest.mock import PropertyMock, patch

import psycopg
import pytest

from identity_cli import errors
from identity_cli.postgres.database import Database, engine, is_connection_lost, translated
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "hunter2secret"  # planted


def database(url: str) -> Database:
    return Database(connection_parameters(url), embedded=False)


def test_a_connection_is_in_autocommit_and_says_who_it_is(database_url: str) -> None:
    with database(database_url).connect() as connection:
        assert connection.autocommit
        assert connection.execute("SHOW application_name").fetchone() == ("identity",)
        assert connection.execute("SHOW client_encoding").fetchone() == ("UTF8",)
    with database(f"{database_url}&application_name=mine").connect() as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("mine",)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_nobody_listens(closed_port: int) -> None:
    url = f"postgresql://app:{PASSWORD}@127.0.0.1:{closed_port}/people"
    with pytest.raises(errors.DatabaseUnreachableError) as caught:
        database(url).connect()
    said = str(caught.value)
    assert said.startswith(f"the database at 127.0.0.1:{closed_port}/people is unreachable: ")
    assert PASSWORD not in said
    assert "\n" not in said
    assert caught.value.__cause__ is None
    assert "DATABASE_URL" in (caught.value.hint or "")


def test_no_such_host() -> None:
    with pytest.raises(errors.DatabaseUnreachableError) as caught:
        database(f"postgresql://app:{PASSWORD}@no-such-host.invalid/people").connect()
    assert PASSWORD not in str(caught.value)


def test_no_such_socket(tmp_path: Path) -> None:
    with pytest.raises(errors.DatabaseUnreachableError) as caught:
        database(f"postgresql:///people?host={tmp_path}").connect()
    assert "\n" not in str(caught.value)


def test_no_such_database(server: dict[str, str]) -> None:
    missing = Database(server | {"dbname": "no_such_database"}, embedded=False)
    with pytest.raises(errors.DatabaseUnreachableError, match="no_such_database"):
        missing.connect()


def test_no_such_role(server: dict[str, str]) -> None:
    missing = Database(server | {"user": "no_such_role", "password": PASSWORD}, embedded=False)
    with pytest.raises(errors.DatabaseUnreachableError, match="is unreachable") as caught:
        missing.connect()
    assert PASSWORD not in str(caught.value)


def test_a_server_that_is_too_old(database_url: str) -> None:
    with (
        patch("psycopg.ConnectionInfo.server_version", PropertyMock(return_value=140010)),
        pytest.raises(errors.DatabaseUnsuitableError, match="PostgreSQL 14") as caught,
    ):
        database(database_url).connect()
    assert "15" in (caught.value.hint or "")


def test_an_encoding_that_cannot_hold_every_value(server: dict[str, str]) -> None:
    name = "identity_test_latin1"
    with psycopg.connect(**server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")
        admin.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
            " TEMPLATE template0"
        )
        try:
            with pytest.raises(errors.DatabaseUnsuitableError, match="LATIN1") as caught:
                Database(server | {"dbname": name}, embedded=False).connect()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert "UTF8" in (caught.value.hint or "")


def test_a_driver_error_of_the_server_shows_no_value(connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO contact (email, link_precedence) VALUES ('a@x.org', 'primary')")
    with pytest.raises(errors.RetryableError) as caught, translated():
        connection.execute(
            "INSERT INTO contact (email, link_precedence) VALUES ('a@x.org', 'primary')"
        )
    assert "a@x.org" not in str(caught.value)
    assert "23505" in str(caught.value)


def test_a_closed_connection_is_a_lost_one(database_url: str) -> None:
    with database(database_url).connect() as connection:
        pass
    with pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT 1")
    assert is_connection_lost(caught.value)


def test_an_engine_over_the_same_database(database_url: str) -> None:
    with engine(database(database_url)).connect() as connection:
        assert connection.exec_driver_sql("SELECT current_database()").scalar() in database_url
