"""The shared service for an event loop: the same SQL and the same retries over a pool."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from identity_cli.errors import ContactNotFoundError, DatabaseUnreachableError, SchemaNotAtHeadError
from identity_cli.graph.normalize import PROFILE_VERSION
from identity_cli.graph.profile import claim_profile, profile_mismatch
from identity_cli.graph.service import (
    ATTEMPTS,
    IDENTIFY,
    MEMBERS,
    RECONCILE,
    ROOT_BY_EMAIL,
    ROOT_BY_ID,
    ROOT_BY_PHONE,
    ConsolidatedContact,
    Outcome,
    consolidate,
    retry_delay,
)
from identity_cli.http import metrics
from identity_cli.postgres import schema
from identity_cli.postgres.database import is_connection_lost, translated
from identity_cli.postgres.schema import Profile
from identity_cli.postgres.session import SERVE, libpq_parameters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import Self

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.postgres.database import Database

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]
    Pool = AsyncConnectionPool[Connection]

POOL_SIZE = 16
POOL_SECONDS = 5.0
READY_SECONDS = 2.0

# Each value has one anchor, and it is in the identity: no need to tell values apart.
_COUNTS = """
    SELECT count(email) FILTER (WHERE anchors_email),
           count(phone_number) FILTER (WHERE anchors_phone),
           count(*) - 1,
           max(linked_id) FILTER (WHERE id = %(primary)s)
    FROM contact WHERE id = %(primary)s OR linked_id = %(primary)s
    HAVING count(*) > 0
"""

# Rows that are made at a stretch before other requests get their turn: about a millisecond.
_SLICE = 2_000

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ContactCounts:
    """How large an identity is."""

    primary_id: int
    emails: int
    phone_numbers: int
    secondary_ids: int

    def as_json(self) -> dict[str, Any]:
        return {
            "contact": {
                "primaryContatctId": self.primary_id,
                "emails": self.emails,
                "phoneNumbers": self.phone_numbers,
                "secondaryContactIds": self.secondary_ids,
            }
        }


class AsyncIdentityService:
    """`IdentityService` for many requests at a time; it raises the same errors.

    What was sent over a connection that was lost is sent again over another one: a request
    that is reconciled twice changes nothing the second time.
    """

    def __init__(
        self, database: Database, pool: Pool, *, profile: Profile | None, region: str | None
    ) -> None:
        self.pool = pool
        self.region = region
        self._database = database
        self._profile = profile
        self._claimed = profile is not None
        self._claiming = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database: Database, *, region: str | None = None, pool_size: int = POOL_SIZE
    ) -> AsyncIterator[Self]:
        """A service on the database, which is migrated when it is embedded or empty.

        The region of the stored profile holds when none is given. Raises `DatabaseError`.
        """
        profile = await asyncio.to_thread(prepare, database, region)
        parameters = {
            **libpq_parameters(database.parameters, application="identity http"),
            "autocommit": True,
        }
        pool: Pool = AsyncConnectionPool(
            kwargs=parameters,
            min_size=pool_size,
            timeout=POOL_SECONDS,
            # Its pauses double; given up soon, the next request starts them afresh.
            reconnect_timeout=POOL_SECONDS,
            configure=_configure,
            open=False,
        )
        async with pool:
            yield cls(database, pool, profile=profile, region=profile.region if profile else region)

    async def identify(
        self, request: ContactRequest, *, counts: bool = False
    ) -> tuple[Outcome, ConsolidatedContact | ContactCounts]:
        """Reconcile one request, then read the identity that it led to."""
        await self._claim()

        async def work(
            connection: Connection,
        ) -> tuple[Outcome, ConsolidatedContact | ContactCounts]:
            values = (request.email, request.phone)
            if counts:
                [row] = await _fetch(connection, RECONCILE, values)
                outcome = Outcome(*row)
                return outcome, await _read(connection, outcome.primary_id, counts)
            rows = await _fetch(connection, IDENTIFY, values)
            outcome = Outcome(*rows[0][4:])
            if rows[0][3] is not None:  # a merge came between, as in _read
                return outcome, await _read(connection, rows[0][3], counts)
            return outcome, await _consolidated(rows)

        return await self._run(work)

    async def find(
        self,
        request: ContactRequest | None = None,
        *,
        contact_id: int | None = None,
        counts: bool = False,
    ) -> ConsolidatedContact | ContactCounts:
        """The identity that holds the contact, or all values of the request; writes nothing.

        Raises `ContactNotFoundError`, also when the values lead to two identities.
        """
        if request is None:
            wanted: list[tuple[str, object]] = [(ROOT_BY_ID, contact_id)]
        else:
            wanted = [(ROOT_BY_EMAIL, request.email), (ROOT_BY_PHONE, request.phone)]

        async def work(connection: Connection) -> ConsolidatedContact | ContactCounts:
            roots = [
                await _fetch(connection, query, (value,))
                for query, value in wanted
                if value is not None
            ]
            if not roots[0] or roots[0] != roots[-1]:
                raise ContactNotFoundError
            return await _read(connection, roots[0][0][0], counts)

        return await self._run(work)

    async def check(self) -> None:
        """Raises `DatabaseError` when requests cannot be served now."""

        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            return await _fetch(connection, schema.STATE)

        rows = await self._run(work, seconds=READY_SECONDS)
        revision, version, region = rows[0] if rows else (None, None, None)
        if revision != schema.HEAD:
            raise SchemaNotAtHeadError
        wanted = Profile(PROFILE_VERSION, self.region)
        if version is not None and Profile(version, region) != wanted:
            raise profile_mismatch(Profile(version, region), wanted)

    async def _claim(self) -> None:
        if self._claimed:
            return
        async with self._claiming:
            if not self._claimed:
                await asyncio.to_thread(self._claim_profile)
                self._claimed = True

    def _claim_profile(self) -> None:
        with self._database.connect(session=SERVE) as connection:
            claim_profile(connection, self._profile, self.region)

    async def _run(
        self, work: Callable[[Connection], Awaitable[_T]], *, seconds: float = POOL_SECONDS
    ) -> _T:
        for attempt in count():
            try:
                connection = await self.pool.getconn(seconds)
            except (PoolTimeout, PoolClosed, TooManyRequests) as error:
                raise DatabaseUnreachableError from error
            try:
                return await work(connection)
            except psycopg.Error as error:
                lost = is_connection_lost(error) and attempt < ATTEMPTS
                delay = 0.0 if lost else retry_delay(error, attempt)
            finally:
                await self.pool.putconn(connection)
            metrics.RETRIES.inc()
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")


def prepare(database: Database, region: str | None) -> Profile | None:
    """See that the database can be served with this region; the profile that it has.

    An embedded or empty database is migrated. Raises `DatabaseError`.
    """
    connection, profile = schema.connect(database)
    connection.close()
    if profile is not None:
        wanted = Profile(PROFILE_VERSION, region or profile.region)
        if profile != wanted:
            raise profile_mismatch(profile, wanted)
    return profile


async def _configure(connection: Connection) -> None:
    with translated():
        await connection.execute(SERVE.statement)


async def _fetch(
    connection: Connection, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(query, parameters)
    rows = part = await cursor.fetchmany(_SLICE)
    while len(part) == _SLICE:
        await asyncio.sleep(0)
        part = await cursor.fetchmany(_SLICE)
        rows += part
    return rows


async def _read(
    connection: Connection, primary_id: int, counts: bool
) -> ConsolidatedContact | ContactCounts:
    while True:
        rows = await _fetch(connection, _COUNTS if counts else MEMBERS, {"primary": primary_id})
        if not rows:
            raise ContactNotFoundError
        linked_id = rows[0][3]
        if linked_id is None:
            break
        # A merge has moved the identity since its primary was looked up.
        primary_id = linked_id
    if counts:
        return ContactCounts(primary_id, *rows[0][:3])
    return await _consolidated(rows)


async def _consolidated(rows: list[tuple[Any, ...]]) -> ConsolidatedContact:
    if len(rows) < _SLICE:
        return consolidate(rows)
    return await asyncio.to_thread(consolidate, rows)
