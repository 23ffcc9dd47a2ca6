"""A reader's look at the whole graph: one snapshot, streamed in constant memory."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from psycopg import Error, capabilities
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import LiteralString

    import psycopg

# Times come out the same whatever the server and the role are set to. The moment of the snapshot is
# that of the first statement that reads: the empty SELECT.
_SETTINGS = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD';
    SELECT
"""
_CHUNK = 1000
_CANCEL_SECONDS = 5


class Snapshot:
    """The graph as it was at one moment."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._streams: list[Generator[tuple[Any, ...]]] = []

    def rows(self, query: LiteralString) -> Iterator[tuple[Any, ...]]:
        """The rows of a query as the server sends them. Read them to the end before the next."""
        stream = self._stream(query)
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """End what was not read to its end: the connection waits for it."""
        for stream in self._streams:
            stream.close()

    def _stream(self, query: LiteralString) -> Generator[tuple[Any, ...]]:
        # Older client libraries hand the rows out one by one.
        size = _CHUNK if capabilities.has_stream_chunked() else 1
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            yield from cursor.stream(query, binary=True, size=size)


@contextmanager
def snapshot(connection: psycopg.Connection[Any]) -> Iterator[Snapshot]:
    """One read-only transaction; the connection must not be in one already."""
    with translated(), connection.transaction():
        connection.execute(_SETTINGS)
        graph = Snapshot(connection)
        try:
            yield graph
        finally:
            graph.close()
            _leave_idle(connection)


def _leave_idle(connection: psycopg.Connection[Any]) -> None:
    # A signal may come between a question and its answer. Such a connection takes no ROLLBACK, and
    # the server would work on for nobody.
    if connection.info.transaction_status == TransactionStatus.ACTIVE:
        with suppress(Error):
            connection.cancel_safe(timeout=_CANCEL_SECONDS)
        connection.close()
