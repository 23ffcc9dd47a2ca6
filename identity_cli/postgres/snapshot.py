"""Read the whole graph as of one moment, streamed in constant memory."""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from psycopg import Error, capabilities
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Literal

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from typing import LiteralString

    import psycopg

# Times look the same whatever the server and the role are set to. The first statement that reads,
# the empty SELECT, takes the snapshot.
_ISOLATION = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
_FORMATS = """
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD';
    SELECT
"""
_CHUNK = 1000
_CANCEL_SECONDS = 5


class Snapshot:
    """A read-only transaction that sees the graph as of one moment.

    `on_rows` is called now and then with the number of rows that were read since the last time.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.on_rows: Callable[[int], None] | None = None
        self._streams: list[Generator[tuple[Any, ...]]] = []

    def rows(
        self, query: LiteralString, parameters: Mapping[str, object] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query as the server sends them; read all before the next query."""
        stream = self._stream(query, parameters)
        self._streams.append(stream)
        return stream

    def cancel(self) -> None:
        """Cancel the query that another thread is waiting for, if there is one."""
        with suppress(Error):
            self.connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def close(self) -> None:
        """End queries that were not read to the end; the connection would wait for them."""
        for stream in self._streams:
            stream.close()

    def _stream(
        self, query: LiteralString, parameters: Mapping[str, object] | None
    ) -> Generator[tuple[Any, ...]]:
        # Older client libraries return the rows one by one.
        size = _CHUNK if capabilities.has_stream_chunked() else 1
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            rows = cast(
                "Generator[tuple[Any, ...]]",
                cursor.stream(query, parameters, binary=True, size=size),
            )
            if self.on_rows is None:
                yield from rows
                return
            with closing(rows):
                while chunk := list(islice(rows, _CHUNK)):
                    yield from chunk
                    self.on_rows(len(chunk))


@contextmanager
def snapshot(connection: psycopg.Connection[Any]) -> Iterator[Snapshot]:
    """Open a read-only transaction; the connection must not be in one already."""
    with translated(), connection.transaction():
        connection.execute(_ISOLATION + _FORMATS)
        graph = Snapshot(connection)
        try:
            yield graph
        finally:
            graph.close()
            _leave_idle(connection)


@contextmanager
def same_snapshot(graph: Snapshot, connection: psycopg.Connection[Any]) -> Iterator[Snapshot]:
    """Open a transaction over another connection that sees the graph as of the same moment."""
    with translated():
        row = graph.connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
        with connection.transaction():
            connection.execute(_ISOLATION)
            connection.execute(SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(row[0])))
            connection.execute(_FORMATS)
            other = Snapshot(connection)
            try:
                yield other
            finally:
                other.close()
                _leave_idle(connection)


def _leave_idle(connection: psycopg.Connection[Any]) -> None:
    # A signal may interrupt a query before its answer. Such a connection cannot roll back, and the
    # server would finish a query that nobody reads.
    if connection.info.transaction_status == TransactionStatus.ACTIVE:
        with suppress(Error):
            connection.cancel_safe(timeout=_CANCEL_SECONDS)
        connection.close()
