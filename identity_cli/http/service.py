"""The shared service for an event loop: the steps of `graph.core` over a pool of connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from identity_cli.errors import (
    DatabaseUnreachableError,
    IdentityError,
    SchemaNotAtHeadError,
)
from identity_cli.graph import core
from identity_cli.graph.core import (
    Attempts,
    BatchAnswer,
    ConsolidatedContact,
    ContactCounts,
    Outcome,
    ProfileClaim,
    Query,
    Rows,
    Steps,
    consolidate,
)
from identity_cli.graph.profile import check_profile, effective_region
from identity_cli.http import metrics
from identity_cli.http.batches import Batches
from identity_cli.http.readers import Readers
from identity_cli.postgres import schema
from identity_cli.postgres.database import is_connection_lost, translated
from identity_cli.postgres.schema import Profile
from identity_cli.postgres.session import (
    SERVE,
    SERVE_BATCH,
    forget_key_query,
    libpq_parameters,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Self

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.postgres.database import Database
    from identity_cli.postgres.session import SessionSettings
    from identity_cli.postgres.snapshot import Snapshot

    Pool = AsyncConnectionPool["Connection"]

POOL_SIZE = 16
POOL_SECONDS = 5.0
# Of the pool's connections, so many are for batches, and none of a pool that is smaller than this.
LANES = 2
SMALLEST_POOL = 8
# A batch that gets no connection in this time is given up: its requests go alone.
BATCH_POOL_SECONDS = 0.05
READY_SECONDS = 2.0
# A request is answered within this time and one attempt's time, also when a lock is held for long
# or the network swallows packets.
REQUEST_SECONDS = 15.0
# A consolidated contact of more contacts is refused: some megabytes for each answer.
CONTACT_LIMIT = 10_000
# A merge that has to move more contacts is refused: it could not end within the time limit, and a
# cancelled one leaves dead rows behind.
MERGE_LIMIT = 100_000
_SESSION = replace(SERVE, merge_limit=str(MERGE_LIMIT))

_READY_SETTINGS = "SET LOCAL lock_timeout = '1s'"

# Rows that are converted at a time before other requests get their turn: about a millisecond.
_SLICE = 2_000

_T = TypeVar("_T")


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that keeps a cursor: it remembers how to convert the values of its last query.

    A new cursor would find that out again, which takes a third of the time of a query.
    """

    kept_cursor: psycopg.AsyncCursor[tuple[Any, ...]] | None = None


class AsyncIdentityService:
    """`IdentityService` for many requests at a time; it raises the same errors.

    A request whose connection was lost is sent again over another one: a request that is
    reconciled twice changes nothing the second time. An embedded server that died is started
    again. Answers of more than `contact_limit` contacts are None.
    """

    def __init__(
        self,
        database: Database,
        pool: Pool,
        batch_pool: Pool | None = None,
        *,
        profile: Profile | None,
        region: str | None,
        contact_limit: int = CONTACT_LIMIT,
    ) -> None:
        self.pool = pool
        self.region = region
        self.contact_limit = contact_limit
        self._database = database
        self._readers = Readers(database)
        self._claim = ProfileClaim(profile, region)
        self._batch_pool = batch_pool
        self._batches = Batches(
            self._identify_batch, lanes=batch_pool.max_size if batch_pool else 0
        )
        self._reviving: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database: Database,
        *,
        region: str | None = None,
        pool_size: int = POOL_SIZE,
        contact_limit: int = CONTACT_LIMIT,
    ) -> AsyncIterator[Self]:
        """Open a service on the database, which is migrated if it is embedded or empty.

        Without a region, that of the stored profile is used. Raises `DatabaseError`.
        """
        profile = await asyncio.to_thread(prepare, database, region)
        parameters = {
            **libpq_parameters(database.parameters, application="identity http"),
            "autocommit": True,
        }
        lanes = LANES if pool_size >= SMALLEST_POOL else 0
        new_pool = partial(
            AsyncConnectionPool,
            connection_class=Connection,
            kwargs=parameters,
            timeout=POOL_SECONDS,
            # The pauses between its attempts double; after this time the next request starts anew.
            reconnect_timeout=POOL_SECONDS,
            open=False,
        )
        configure = partial(_configure, forget_key=database.forget_key)
        async with AsyncExitStack() as stack:
            pool: Pool = new_pool(
                min_size=pool_size - lanes, configure=partial(configure, _SESSION)
            )
            await stack.enter_async_context(pool)
            batch_pool: Pool | None = None
            if lanes:
                batch_pool = new_pool(min_size=lanes, configure=partial(configure, SERVE_BATCH))
                await stack.enter_async_context(batch_pool)
            yield cls(
                database,
                pool,
                batch_pool,
                profile=profile,
                region=effective_region(region, profile),
                contact_limit=contact_limit,
            )

    async def identify(
        self, request: ContactRequest, *, counts: bool = False
    ) -> tuple[Outcome, ConsolidatedContact | ContactCounts | None]:
        """Reconcile one request and read the identity that it led to.

        Raises `RequestRefusedError`, `RequestForgottenError`, `MergeTooLargeError`,
        `DatabaseError`, and `RequestBlockedError` if it led to none: then it is kept all the same.
        """
        self._claim.check()
        if counts:
            outcome, counted = await self._run(lambda: core.identify_counts(request), writes=True)
            self._claim.succeed()
            outcome.require_primary()  # outside of the transaction, which is kept
            return outcome, counted
        attempts = Attempts(seconds=REQUEST_SECONDS)
        answer = None
        if self._claim.stored and len(request.emails) <= 1 and len(request.phones) <= 1:
            answer = await self._batches.answer(request)
        outcome, rows, is_complete = answer or await self._identify_alone(request, attempts)
        primary_id = outcome.require_primary()  # outside of the transaction, which is kept
        if is_complete:
            return outcome, await _consolidated(rows)
        return outcome, await self._read(primary_id)

    async def find(
        self,
        request: ContactRequest | None = None,
        *,
        contact_id: int | None = None,
        counts: bool = False,
    ) -> ConsolidatedContact | ContactCounts | None:
        """Read the identity that holds the contact, or all values of the request.

        Raises `ContactNotFoundError`, also if the values lead to two identities.
        """
        lookups: list[tuple[str, object]] = [(core.ROOT_BY_ID, contact_id)]
        if request is not None:
            lookups = [(core.ROOT_BY_EMAIL, request.email), (core.ROOT_BY_PHONE, request.phone)]
        lookups = [(query, value) for query, value in lookups if value is not None]
        if counts:
            return await self._run(lambda: core.find_counts(lookups))
        return await _consolidated(
            await self._run(lambda: core.find(lookups, at_most=self.contact_limit))
        )

    async def read(self, work: Callable[[Snapshot], _T]) -> _T:
        """Return what a function reads in one snapshot; it runs in a thread.

        Raises `DatabaseError` and what the function raises.
        """
        attempts = Attempts(seconds=REQUEST_SECONDS)
        while True:
            try:
                return await self._readers.read(work)
            except DatabaseUnreachableError:
                if not await self._revive(attempts):
                    raise

    async def check(self) -> None:
        """Check that requests can be served now. Raises `DatabaseError`."""
        rows = await self._run(_state, seconds=READY_SECONDS)
        revision, version, region = rows[0] if rows else (None, None, None)
        if revision != schema.HEAD:
            raise SchemaNotAtHeadError
        if version is not None:
            check_profile(Profile(version, region), self.region)
        elif (claim := ProfileClaim(None, self.region).query()) is not None:
            # Another session may hold the profile, such as a dry run: requests would wait for it.
            await self._run(lambda: _probe(claim), seconds=READY_SECONDS, keeps=False)

    async def _read(self, primary_id: int) -> ConsolidatedContact | None:
        return await _consolidated(
            await self._run(lambda: core.read(primary_id, at_most=self.contact_limit))
        )

    async def _identify_alone(
        self, request: ContactRequest, attempts: Attempts | None = None
    ) -> BatchAnswer:
        answer = await self._run(
            lambda: core.identify(request, at_most=self.contact_limit),
            attempts=attempts,
            writes=True,
        )
        self._claim.succeed()
        return BatchAnswer(*answer)

    async def _identify_batch(
        self, requests: Sequence[ContactRequest]
    ) -> Sequence[BatchAnswer | None] | None:
        alone = [None] * len(requests)
        if len(requests) == 1 or self._batch_pool is None:
            return [await self._identify_alone(request) for request in requests]
        try:
            async with self._batch_pool.connection(BATCH_POOL_SECONDS) as connection:
                batch = await _drive(
                    connection, core.identify_batch(requests, at_most=self.contact_limit)
                )
        except (PoolTimeout, PoolClosed, TooManyRequests):
            return alone
        except psycopg.Error as error:  # if it does not end, each request meets it by itself
            metrics.RETRIES.inc(len(requests))
            return alone if is_connection_lost(error) else None
        if batch is None:
            return None
        metrics.RETRIES.inc(batch.conflicts)
        return batch.answers

    def pool_figures(self) -> dict[str, int]:
        """Return the figures of psycopg_pool over all connections."""
        figures = Counter(self.pool.get_stats())
        if self._batch_pool is not None:
            figures.update(self._batch_pool.get_stats())
        return figures

    async def _run(
        self,
        steps: Callable[[], Steps[_T]],
        *,
        seconds: float = REQUEST_SECONDS,
        attempts: Attempts | None = None,
        writes: bool = False,
        keeps: bool = True,
    ) -> _T:
        attempts = attempts or Attempts(seconds=seconds)
        while True:
            try:
                connection = await self.pool.getconn(min(POOL_SECONDS, attempts.remaining()))
            except (PoolTimeout, PoolClosed, TooManyRequests) as error:
                if isinstance(error, PoolTimeout) and await self._revive(attempts):
                    continue
                raise DatabaseUnreachableError from error
            try:
                return await self._run_on(connection, steps(), writes=writes, keeps=keeps)
            except psycopg.Error as error:
                lost = is_connection_lost(error)
                delay = attempts.delay_after(error, reconnects=True)
                if delay is None:
                    with translated():
                        failure = await _drive(
                            connection, core.explain(error, self.region, writes=writes)
                        )
                    raise failure from error
            finally:
                await self.pool.putconn(connection)
            metrics.RETRIES.inc()
            if lost:
                await self._revive(attempts)
            await asyncio.sleep(delay)

    async def _run_on(
        self, connection: Connection, steps: Steps[_T], *, writes: bool, keeps: bool
    ) -> _T:
        claim = self._claim.query() if writes else None
        if claim is None and keeps:
            return await _drive(connection, steps)
        async with connection.transaction(force_rollback=not keeps):
            if claim is not None:
                await connection.execute(*claim)
            return await _drive(connection, steps)

    async def _revive(self, attempts: Attempts) -> bool:
        """Start an embedded server that died; wait for it no longer than the attempts may take.

        Returns whether the request can be tried again.
        """
        if not self._database.embedded:
            return False
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._start_server())
        await asyncio.wait([self._reviving], timeout=attempts.remaining())
        return self._reviving.done() and attempts.remaining() > 0

    async def _start_server(self) -> None:
        with suppress(IdentityError):  # the request's next attempt reports it
            await asyncio.to_thread(self._database.revive)


def prepare(database: Database, region: str | None) -> Profile | None:
    """Check that the database can be served with this region; return its stored profile.

    An embedded or empty database is migrated. Raises `DatabaseError`.
    """
    connection, profile = schema.connect(database)
    connection.close()
    check_profile(profile, effective_region(region, profile))
    return profile


async def _configure(
    session: SessionSettings, connection: Connection, *, forget_key: str | None
) -> None:
    with translated():
        await connection.execute(session.statement)
        if forget_key is not None:
            await connection.execute(*forget_key_query(forget_key))


async def _drive(connection: Connection, steps: Steps[_T]) -> _T:
    try:
        query = next(steps)
        while True:
            query = steps.send(await _fetch(connection, query))
    except StopIteration as stop:
        result: _T = stop.value
        return result


async def _fetch(connection: Connection, query: Query) -> list[tuple[Any, ...]]:
    cursor = connection.kept_cursor or connection.cursor()
    connection.kept_cursor = None
    await cursor.execute(*query)
    if cursor.rownumber is None:
        return []
    rows = part = await cursor.fetchmany(_SLICE)
    if len(part) < _SLICE:  # a cursor holds its rows: megabytes for a large identity
        connection.kept_cursor = cursor
    while len(part) == _SLICE:
        await asyncio.sleep(0)
        part = await cursor.fetchmany(_SLICE)
        rows += part
    return rows


def _state() -> Steps[Rows]:
    rows = yield Query(schema.STATE)
    return rows


def _probe(claim: Query) -> Steps[None]:
    yield Query(_READY_SETTINGS)
    yield claim


async def _consolidated(rows: Rows | None) -> ConsolidatedContact | None:
    if rows is None or len(rows) < _SLICE:
        return None if rows is None else consolidate(rows)
    return await asyncio.to_thread(consolidate, rows)
