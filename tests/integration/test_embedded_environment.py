"""The embedded server is reached whatever the environment says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# libpq's own list, its variables that are no parameters, and those of the server's programs.
VARIABLES = sorted(
    {
        default.envvar.decode()
        for default in psycopg.pq.Conninfo.get_defaults()
        if default.envvar is not None
    }
    | {"PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGDATA", "PGCTLTIMEOUT"}
    | {"PGSERVER_POSTGRES_VERSION", "PGREALM", "PG_COLOR"}
)
HOSTILE = {"PGHOSTADDR": "127.0.0.1", "PGPORT": "6000", "PGHOST": "db.example.com", "PGGEQO": "on"}


def test_variables_of_libpq_do_not_reach_a_server_that_starts(
    prepared_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddedServer(prepared_home).stop()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, HOSTILE.get(variable, "nonsense"))
    assert_reached(prepared_home)
    assert not EmbeddedServer(prepared_home).is_running()


@pytest.fixture(scope="module")
def running_home(prepared_home: Path) -> Iterator[Path]:
    EmbeddedServer(prepared_home).start()
    yield prepared_home
    EmbeddedServer(prepared_home).stop()


@pytest.mark.parametrize("variable", VARIABLES)
def test_variable_of_libpq_does_not_reach_a_connection(
    running_home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, HOSTILE.get(variable, "nonsense"))
    assert_reached(running_home)


def assert_reached(home: Path) -> None:
    with EmbeddedServer(home) as server:
        database = Database(server.connection_parameters(), embedded=True)
        with database.connect() as connection:
            row = connection.execute("SHOW data_directory").fetchone()
            assert row == (str(server.data),)
