"""The shared service over one connection: the command line and the import reconcile through it.

The rule itself is the SQL function `reconcile` (`postgres/sql/reconcile.sql`). The service for an
event loop (`identity_cli.http.service`) runs the same steps.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import psycopg
from psycopg import IsolationLevel

from identity_cli.errors import UsageError
from identity_cli.graph import core
from identity_cli.graph.batches import Answers, Refusal, RequestColumns, RunRequest
from identity_cli.graph.core import (
    ATTEMPTS,
    Attempts,
    ConsolidatedContact,
    Found,
    Outcome,
    ProfileClaim,
    Query,
    Steps,
    consolidate,
)
from identity_cli.graph.normalize import PROFILE_VERSION, ContactRequest
from identity_cli.graph.profile import effective_region
from identity_cli.graph.references import Reference, read_lookup
from identity_cli.postgres import schema
from identity_cli.postgres.clock import ServerClock
from identity_cli.postgres.database import translated
from identity_cli.postgres.session import RECONCILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from identity_cli.postgres.schema import Profile

__all__ = [
    "ATTEMPTS",
    "ConsolidatedContact",
    "ContactStream",
    "IdentityService",
    "Outcome",
    "Refusal",
    "RunRequest",
    "consolidate",
]

_CALL = (
    "CALL reconcile_batch(%b::text, %b::text, %b::text, %b::bigint, %b::text, %b, %b::integer,"
    " %b::text)"
)
# The values of an identity without duplicates, in the order of the consolidated contact.
_VALUES = """
    SELECT value FROM (
        SELECT DISTINCT ON ({column})
               {column} AS value, linked_id IS NOT NULL AS is_secondary, created_at, id
        FROM contact WHERE (id = %(primary)s OR linked_id = %(primary)s) AND {column} IS NOT NULL
        ORDER BY {column}, linked_id IS NOT NULL, created_at, id
    ) AS first_of_each ORDER BY is_secondary, created_at, id
"""
_SECONDARY_IDS = "SELECT id FROM contact WHERE linked_id = %(primary)s ORDER BY created_at, id"
_STREAM_BATCH = 500
_ROWS_PER_FETCH = 5_000

_T = TypeVar("_T")


class ContactStream(NamedTuple):
    """A consolidated contact that is read while it is printed: each part once, in this order.

    `is_ambiguous` reports whether the value that was looked up stands for another identity, too.
    """

    primary_id: int
    emails: Iterator[str]
    phone_numbers: Iterator[str]
    secondary_ids: Iterator[int]
    is_ambiguous: bool = False


class IdentityService:
    """Reconciles contact requests over one autocommit connection to a database at head.

    The request that stores the first contact stores the normalisation profile (`region`) too; a
    database with another one raises `ProfileMismatchError`.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        *,
        profile: Profile | None = None,
        region: str | None = None,
    ) -> None:
        self.connection = connection
        self.region = region
        self.retries = 0
        self._claim = ProfileClaim(profile, region)

    @classmethod
    @contextmanager
    def open(
        cls, database_url: str | None = None, *, region: str | None = None
    ) -> Iterator[IdentityService]:
        """Open a service on the database of the URL, of `DATABASE_URL`, or the embedded one.

        Without a region, that of the stored profile is used.
        """
        from identity_cli.settings import open_database

        with open_database(database_url) as database:
            connection, profile = schema.connect(database, session=RECONCILE)
            with connection:
                yield cls(connection, profile=profile, region=effective_region(region, profile))

    @property
    def profile(self) -> Profile | None:
        """The stored profile, None as long as the database is not known to hold a contact."""
        return self._claim.stored

    def reconcile(self, request: ContactRequest) -> Outcome:
        """Reconcile one request in a transaction of its own.

        Raises `RequestRefusedError`, `RequestForgottenError`, `ProfileMismatchError`,
        `DatabaseError`.
        """
        return self._write(request, lambda: core.reconcile(request))

    def identify(self, request: ContactRequest) -> ConsolidatedContact:
        """Reconcile one request and read the identity that it led to.

        Raises `RequestBlockedError` if it led to none; the request is kept all the same.
        """
        outcome, rows = self._write(request, lambda: core.identify(request))
        outcome.require_primary()  # outside of the transaction, which is kept
        assert rows is not None  # noqa: S101 - without a limit there are never too many
        return consolidate(rows)

    @contextmanager
    def identify_stream(self, request: ContactRequest) -> Iterator[ContactStream]:
        """Reconcile one request and stream the identity that it led to.

        Raises `RequestBlockedError` if it led to none; the request is kept all the same.
        """
        primary_id = self.reconcile(request).require_primary()
        with self._stream(core.resolve([Reference("id", primary_id)])) as contact:
            yield contact

    def find(
        self,
        value: str | None = None,
        *,
        email: str | None = None,
        phone: str | int | None = None,
        contact_id: int | None = None,
    ) -> ConsolidatedContact:
        """Return the identity of a value, of an id, or of an email and a phone number.

        A value with an @ is an email; a bare number is the id of a contact or, if no contact has
        it, a phone number; anything else is a phone number. An email and a phone number together
        must lead to the same identity. Nothing is written.

        Raises `ContactNotFoundError`, `InvalidRequestError`.
        """
        found = self._found(value, email, phone, contact_id)
        with translated():
            rows = self._run(_read(found))
        assert rows is not None  # noqa: S101 - without a limit there are never too many
        return consolidate(rows)

    @contextmanager
    def find_stream(
        self,
        value: str | None = None,
        *,
        email: str | None = None,
        phone: str | int | None = None,
        contact_id: int | None = None,
    ) -> Iterator[ContactStream]:
        """Stream what `find` returns, in the memory of a few thousand contacts."""
        with self._stream(self._found(value, email, phone, contact_id)) as contact:
            yield contact

    def reconcile_stream(self, requests: Iterable[ContactRequest]) -> Iterator[Outcome]:
        """Reconcile requests in order, each in a transaction of its own; outcomes in order.

        They travel in batches, so an outcome comes out some hundreds of requests after its
        request went in. Raises `RequestRefusedError` at a request that the database refuses, and
        `RequestForgottenError` at a forgotten one; the others of its batch are kept.
        """
        remaining = iter(requests)
        self._claim.check()
        clock = ServerClock(self.connection)
        request_time_us = 0
        while batch := list(islice(remaining, _STREAM_BATCH)):
            request_time_us = max(request_time_us + 1, clock.now_us())
            numbered = []
            for request in batch:
                self._check_region(request)
                numbered.append(RunRequest(request, None, request_time_us))
                request_time_us += 1
            with translated():
                outcomes = self.reconcile_batch(numbered, run_id=None)
            for outcome in outcomes:
                if isinstance(outcome, Refusal):
                    raise outcome.as_error()
                yield outcome

    def reconcile_batch(
        self, batch: Sequence[RunRequest], run_id: int | None, *, commit_each: bool = True
    ) -> list[Outcome | Refusal]:
        """Reconcile a batch with one CALL: one transaction per request, or none without commits.

        Raises driver errors as they are; a part of the batch may be stored all the same.
        """
        return self.reconcile_columns(
            RequestColumns.of(batch), run_id, commit_each=commit_each
        ).outcomes()

    def reconcile_columns(
        self, columns: RequestColumns, run_id: int | None, *, commit_each: bool = True
    ) -> Answers:
        """Reconcile a batch as `reconcile_batch` does, without an object for each request."""
        claims = commit_each and self.profile is None
        emails, phones, times, lines = columns.as_parameters()
        row = self.connection.execute(
            _CALL,
            (
                *(emails, phones, times, run_id, lines, commit_each),
                PROFILE_VERSION if claims else None,
                self.region,
            ),
            binary=True,
        ).fetchone()
        assert row is not None  # noqa: S101 - CALL returns its INOUT parameters
        *found, retries = row
        answers = Answers(*found)
        self.retries += retries
        if claims and answers.have_primary:
            self._claim.succeed()
        return answers

    def _write(self, request: ContactRequest, steps: Callable[[], Steps[_T]]) -> _T:
        self._check_region(request)
        self._claim.check()
        attempts = Attempts()
        while True:
            try:
                result = self._run(steps(), claim=self._claim.query())
            except psycopg.Error as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    with translated():
                        failure = self._run(core.explain(error, self.region, writes=True))
                    raise failure from error
                time.sleep(delay)
                self.retries += 1
            else:
                self._claim.succeed()
                return result

    def _run(self, steps: Steps[_T], *, claim: Query | None = None) -> _T:
        with self.connection.transaction() if claim else nullcontext():
            if claim:
                self.connection.execute(*claim)
            try:
                query = next(steps)
                while True:
                    query = steps.send(self.connection.execute(*query).fetchall())
            except StopIteration as stop:
                result: _T = stop.value
                return result

    @contextmanager
    def _stream(self, steps: Steps[Found]) -> Iterator[ContactStream]:
        # One snapshot: the parts belong to the same moment.
        previous = self.connection.isolation_level
        self.connection.isolation_level = IsolationLevel.REPEATABLE_READ
        try:
            with translated(), self.connection.transaction():
                found = self._run(steps)
                primary_id = found.primary_id
                yield ContactStream(
                    primary_id,
                    self._values(_VALUES.format(column="email"), primary_id),
                    self._values(_VALUES.format(column="phone_number"), primary_id),
                    self._values(_SECONDARY_IDS, primary_id),
                    found.is_ambiguous,
                )
        finally:
            if not self.connection.closed:
                self.connection.isolation_level = previous

    def _values(self, query: str, primary_id: int) -> Iterator[Any]:
        with self.connection.cursor(name="values") as cursor:
            cursor.itersize = _ROWS_PER_FETCH
            cursor.execute(query, {"primary": primary_id})
            for (value,) in cursor:
                yield value

    def _found(
        self,
        value: str | None,
        email: str | None,
        phone: str | int | None,
        contact_id: int | None,
    ) -> Steps[Found]:
        region = self.profile.region if self.profile else self.region
        references, all_of_them = read_lookup(
            value, email=email, phone=phone, contact_id=contact_id, region=region
        )
        return core.resolve_all(references) if all_of_them else core.resolve(references)

    def _check_region(self, request: ContactRequest) -> None:
        if request.region != self.region:
            raise UsageError(
                f"the request was normalised with region {request.region},"
                f" the service has {self.region}",
                hint="pass the same region to ContactRequest and to IdentityService",
            )


def _read(found: Steps[Found]) -> Steps[core.Rows | None]:
    primary_id = (yield from found).primary_id
    return (yield from core.read(primary_id))
