"""A pool in front of the server: one of transactions is refused, one of sessions is used."""

from __future__ import annotations

from unittest.mock import PropertyMock, patch

import psycopg
import pytest
from proxy import Proxy, TransactionPool

from identity_cli import errors
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import RECONCILE
from identity_cli.settings import connection_parameters


def test_pool_of_transactions_is_refused_and_its_sessions_are_left_alone(
    database_url: str,
) -> None:
    with TransactionPool(connection_parameters(database_url)) as pool:
        database = Database(pool.parameters, embedded=False)
        with pytest.raises(errors.DatabaseUnsuitableError, match="pool of transactions") as caught:
            database.connect(session=RECONCILE)
        with psycopg.connect(**pool.parameters) as other:  # type: ignore[arg-type]
            assert other.execute("SHOW enable_seqscan").fetchone() == ("on",)
    assert "pool_mode = session" in (caught.value.hint or "")


def test_pool_of_sessions_is_used(database_url: str) -> None:
    """Each client has a server process, but is told another number."""
    with (
        Proxy(connection_parameters(database_url)) as proxy,
        patch("psycopg.ConnectionInfo.backend_pid", PropertyMock(return_value=99_999_999)),
        Database(proxy.parameters, embedded=False).connect(session=RECONCILE) as connection,
    ):
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.execute("SHOW enable_seqscan").fetchone() == ("off",)
        assert proxy.connections == 2


def test_server_without_a_pool_is_asked_once(database_url: str) -> None:
    with (
        Proxy(connection_parameters(database_url)) as proxy,
        Database(proxy.parameters, embedded=False).connect(),
    ):
        assert proxy.connections == 1
