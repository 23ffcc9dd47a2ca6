"""A reader's look at the whole graph: one snapshot, streamed in constant memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import capabilities
from psycopg.rows import tuple_row

from identity_cli.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    import psycopg

# Times come out the same whatever the server and the role are set to.
_SETTINGS = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD'
"""
_CHUNK = 1000


@contextmanager
def snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """One read-only transaction; the connection must not be in one already."""
    with translated(), connection.transaction():
        connection.execute(_SETTINGS)
        yield


def rows(connection: psycopg.Connection[Any], query: LiteralString) -> Iterator[tuple[Any, ...]]:
    """The rows of a query inside `snapshot` as the server sends them; one query at a time."""
    # Older client libraries hand the rows out one by one.
    size = _CHUNK if capabilities.has_stream_chunked() else 1
    with connection.cursor(row_factory=tuple_row) as cursor:
        yield from cursor.stream(query, binary=True, size=size)
