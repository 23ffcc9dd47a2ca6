"""Connections for what reads a whole identity: each in a thread of its own, a few at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from identity_cli.errors import DatabaseUnreachableError
from identity_cli.postgres.session import SERVE
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.postgres.database import Database
    from identity_cli.postgres.snapshot import Snapshot

# An identity takes up to a second of a processor, which the requests of everyone else need too.
READERS = 2
WAIT_SECONDS = 5.0

_T = TypeVar("_T")


class Readers:
    """Runs functions that read the graph, each over a connection and in a snapshot of its own."""

    def __init__(self, database: Database, *, count: int = READERS) -> None:
        self._database = database
        self._free = asyncio.Semaphore(count)

    async def read(self, work: Callable[[Snapshot], _T]) -> _T:
        """Return what the function returns. Raises `DatabaseError`."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise DatabaseUnreachableError from error
        opened: list[Snapshot] = []
        try:
            return await asyncio.to_thread(self._read, work, opened)
        except asyncio.CancelledError:
            # The service ends: it would wait for the thread, and the thread for the query.
            for graph in opened:
                await asyncio.to_thread(graph.cancel)
            raise
        finally:
            self._free.release()

    def _read(self, work: Callable[[Snapshot], _T], opened: list[Snapshot]) -> _T:
        with (
            self._database.connect(application="identity http", session=SERVE) as connection,
            snapshot(connection) as graph,
        ):
            opened.append(graph)
            return work(graph)
