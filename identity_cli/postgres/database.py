"""Connections to PostgreSQL, and the one place that translates driver errors."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors as pg

from identity_cli.errors import (
    ConnectionLostError,
    DatabaseError,
    DatabaseFullError,
    DatabaseReadOnlyError,
    DatabaseUnreachableError,
    DatabaseUnsuitableError,
    ForgetKeyError,
    IdentityError,
    PermissionDeniedError,
    RetryableError,
    SchemaNotAtHeadError,
)
from identity_cli.postgres import sqlstates
from identity_cli.postgres.session import (
    CONNECT_SECONDS,
    MIGRATE,
    READ,
    SessionSettings,
    forget_key_query,
    libpq_parameters,
    unsuitable_session,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

OLDEST_SERVER = 150000  # PostgreSQL 15

# The same request can be sent again after these: a deadlock, a conflict with a concurrent
# transaction, a primary that was merged between the look-up and the foreign key, a value that
# another request stored, a lock that took too long. `is_retryable` knows one more.
_RETRYABLE = (
    pg.DeadlockDetected,
    pg.SerializationFailure,
    pg.ForeignKeyViolation,
    pg.UniqueViolation,
    pg.LockNotAvailable,
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database to connect to; `parameters` are libpq's."""

    parameters: dict[str, str]
    embedded: bool
    # Starts the embedded server again if it has died.
    revive: Callable[[], None] = lambda: None
    # The key of the forgotten values, if it is not in the database.
    forget_key: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The host, port and name, without user and password."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the local socket"
        port = self.parameters.get("port")
        name = self.parameters.get("dbname")
        return f"{host}{f':{port}' if port else ''}{f'/{name}' if name else ''}"

    @property
    def url(self) -> str:
        """A URL for psql and others, without the password."""
        from urllib.parse import quote, urlencode

        rest = {k: v for k, v in self.parameters.items() if "password" not in k}
        user, host, port, name = (rest.pop(key, "") for key in ("user", "host", "port", "dbname"))
        if host.startswith("/") or "," in host:  # a socket's folder, several hosts
            rest |= {"host": host, "port": port}
            host = port = ""
        if ":" in host:
            host = f"[{host}]"
        authority = f"{f'{quote(user)}@' if user else ''}{host}{f':{port}' if port else ''}"
        # libpq does not read a + as a space.
        query = urlencode({k: v for k, v in rest.items() if v}, safe="/", quote_via=quote)
        return f"postgresql://{authority}/{quote(name)}{f'?{query}' if query else ''}"

    def connect(
        self, *, application: str = "identity", session: SessionSettings = READ
    ) -> psycopg.Connection[Any]:
        """Open an autocommit connection with these settings to a server that can hold the graph.

        Raises `DatabaseUnreachableError`, `DatabaseUnsuitableError`.
        """
        parameters = libpq_parameters(self.parameters, application=application)
        try:
            connection = psycopg.connect(**parameters, autocommit=True)
        except psycopg.Error as error:
            raise self._unreachable(error) from None  # chained, it would show the parameters
        try:
            self._check_server(connection)
            self._configure(connection, session)
        except BaseException:
            connection.close()
            raise
        return connection

    def _configure(self, connection: psycopg.Connection[Any], session: SessionSettings) -> None:
        # A pooler invents the process id that it reports to a client. Nothing is set then: the
        # settings of a pool of transactions would stay with other clients.
        own = f"{session.statement} WHERE pg_backend_pid() = {connection.info.backend_pid}"
        try:
            with _hanging_up_after(connection, CONNECT_SECONDS):
                direct = connection.execute(own).fetchone() is not None
            if not direct:
                self._check_pooler(connection)
                connection.execute(session.statement)
            if self.forget_key is not None:
                connection.execute(*forget_key_query(self.forget_key))
        except psycopg.Error as error:
            raise unsuitable_session(error) or self._unreachable(error) from None

    def _check_pooler(self, first: psycopg.Connection[Any]) -> None:
        """Raise `DatabaseUnsuitableError` if two clients get the same server process in turns.

        A pool of transactions gives a session's settings, locks and prepared statements to others.
        """
        parameters = libpq_parameters(self.parameters, application="identity pool check")
        try:
            with (
                psycopg.connect(**parameters, autocommit=True) as second,
                _hanging_up_after(second, CONNECT_SECONDS),
            ):
                pids = [_server_pid(client) for client in (second, first, second, first)]
        except psycopg.Error:
            return  # a pool of sessions that has no other session left
        if pids[0] != pids[2] or pids[1] != pids[3] or pids[0] == pids[1]:
            raise DatabaseUnsuitableError(
                f"the database at {self.place} is behind a pool of transactions",
                hint="connect to the server's own port, or set pool_mode = session in PgBouncer",
            )

    def _unreachable(self, error: psycopg.Error) -> DatabaseError:
        said = error.diag.message_primary or str(error).strip()
        reason = said.partition("\n")[0].rpartition("failed: ")[2]
        return DatabaseUnreachableError(
            f"the database at {self.place} is unreachable: {reason}",
            hint="check that the server runs and that --database-url or DATABASE_URL is right",
        )

    def _check_server(self, connection: psycopg.Connection[Any]) -> None:
        if connection.info.server_version < OLDEST_SERVER:
            raise DatabaseUnsuitableError(
                f"the server is PostgreSQL {connection.info.server_version // 10000}",
                hint="use PostgreSQL 15 or newer",
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise DatabaseUnsuitableError(
                f"the database's encoding is {encoding}, which cannot hold every value",
                hint="create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            )


def _server_pid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
    return int(row[0])


@contextmanager
def _hanging_up_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Break the connection if the block takes longer.

    The settings of TCP notice a network that swallows packets, but not a proxy or a stopped
    server that acknowledges them and never answers.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        timer = threading.Timer(seconds, line.shutdown, (socket.SHUT_RDWR,))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


@contextmanager
def translated() -> Iterator[None]:
    """Translate driver errors that are raised in the block."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> IdentityError:
    """Return the error of this package for a driver error, by its class and SQLSTATE.

    It leaves out the server's DETAIL and CONTEXT, which repeat values.
    """
    state = error.sqlstate or ""
    message = error.diag.message_primary or "the server gave no reason"
    if is_retryable(error):
        return RetryableError(f"a concurrent request got in the way ({state})")
    if state == sqlstates.FORGET_KEY:
        return ForgetKeyError()
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return DatabaseReadOnlyError()
    if isinstance(error, (pg.UndefinedTable, pg.UndefinedFunction, pg.UndefinedColumn)):
        return SchemaNotAtHeadError("the database lacks a part of the schema")
    if isinstance(error, pg.InsufficientPrivilege):
        return PermissionDeniedError(
            message, hint="connect as a role that has the privilege, or grant it"
        )
    if isinstance(error, (pg.DiskFull, pg.OutOfMemory)):
        return DatabaseFullError(message)
    if is_connection_lost(error):
        return ConnectionLostError(
            f"the connection to the database was lost: {message}",
            hint="run the same command again when the server is back",
        )
    return DatabaseError(f"PostgreSQL refused: {message} ({state})")


def is_retryable(error: psycopg.Error) -> bool:
    """Return whether the same request can be sent again.

    The guard is violated where a command has moved a value since it was looked up.
    """
    return error.sqlstate is not None and is_conflict(error.sqlstate)


def is_conflict(sqlstate: str) -> bool:
    """Return whether errors with this SQLSTATE are retryable."""
    return sqlstate == sqlstates.GUARD_VIOLATION or any(
        sqlstate == error.sqlstate for error in _RETRYABLE
    )


def is_connection_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is gone, as opposed to the statement having failed."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    # 08: connection; 57P: terminated, crashed, shutting down, starting up.
    return state.startswith("08") or state in {"57P01", "57P02", "57P03", "57P05"}


def engine(database: Database) -> Engine:
    """Return an SQLAlchemy engine over the same connections, for Alembic."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    def connect() -> psycopg.Connection[Any]:
        connection = database.connect(session=MIGRATE)
        connection.autocommit = False
        return connection

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
