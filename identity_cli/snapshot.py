"""A reader's look at the whole graph: one snapshot, streamed in constant memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg.rows import tuple_row

from identity_cli.database import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    import psycopg

# Times come out the same whatever the server and the role are set to. A cursor is read to its end:
# without the fraction the planner would go for a quick first row.
_SETTINGS = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD';
    SET LOCAL cursor_tuple_fraction = 1
"""


@contextmanager
def snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """One read-only transaction; the connection must not be in one already."""
    with translated(), connection.transaction():
        connection.execute(_SETTINGS)
        yield


def batches(
    connection: psycopg.Connection[Any], query: LiteralString, *, size: int = 10_000
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a query inside `snapshot`, `size` at a time; one query at a time."""
    with connection.cursor("snapshot", row_factory=tuple_row) as cursor:
        cursor.execute(query, binary=True)
        while batch := cursor.fetchmany(size):
            yield batch


def rows(connection: psycopg.Connection[Any], query: LiteralString) -> Iterator[tuple[Any, ...]]:
    """The rows of a query inside `snapshot`; one query at a time."""
    for batch in batches(connection, query):
        yield from batch
