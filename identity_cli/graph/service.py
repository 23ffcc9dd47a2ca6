"""The shared service: the command line, the import and HTTP reconcile through it.

The rule itself is the SQL function `reconcile` (`sql/reconcile.sql`).
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import psycopg

from identity_cli.errors import (
    ContactNotFoundError,
    DatabaseError,
    InvalidRequestError,
    UsageError,
)
from identity_cli.graph.normalize import ContactRequest, normalize_email, normalize_phone
from identity_cli.graph.profile import claim_profile
from identity_cli.postgres import schema
from identity_cli.postgres.database import RETRYABLE, translate, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from identity_cli.postgres.schema import Profile

OutcomeName = Literal["created", "linked", "merged", "unchanged"]

RECONCILE = (
    "SELECT outcome, primary_id, contact_id FROM reconcile(%s, %s, clock_timestamp(), NULL, NULL)"
)
MEMBERS = "SELECT id, email, phone_number, linked_id FROM members(%(primary)s)"
# Both in one: the columns of MEMBERS, then those of RECONCILE.
IDENTIFY = (
    "SELECT id, email, phone_number, linked_id, outcome, primary_id, contact_id"
    " FROM identify(%s, %s)"
)
ROOT_BY_ID = "SELECT coalesce(linked_id, id) FROM contact WHERE id = %s"
ROOT_BY_EMAIL = "SELECT coalesce(linked_id, id) FROM contact WHERE email = %s AND anchors_email"
ROOT_BY_PHONE = (
    "SELECT coalesce(linked_id, id) FROM contact WHERE phone_number = %s AND anchors_phone"
)

# A session's plans are made while the tables are small and kept while they grow: never a scan.
# The rule looks again after it has waited for a lock, and has to see what the other one did.
# A lock is waited for so long at most, then the request is tried again; a statement is a batch.
SESSION_SETTINGS = """
    SET enable_seqscan = off; SET jit = off; SET default_transaction_isolation = 'read committed';
    SET lock_timeout = '30s'; SET statement_timeout = '10min'
"""

_CALL = "CALL reconcile_batch(%b::text[], %b::text[], %b::bigint[], %b::bigint, %b::bigint[], %b)"
ATTEMPTS = 20
_STREAM_BATCH = 500


class Outcome(NamedTuple):
    """What one request did. `contact_id` is None when no row was stored."""

    name: OutcomeName
    primary_id: int
    contact_id: int | None


class Refusal(NamedTuple):
    """A request that the database refuses whatever is tried."""

    sqlstate: str


class RunRequest(NamedTuple):
    """A request of a run, its line counted through all inputs of the run, and its time.

    `run_line` is None for a request that comes from no file. The time is in microseconds since
    1970.
    """

    request: ContactRequest
    run_line: int | None
    request_time_us: int


@dataclass(frozen=True, slots=True)
class ConsolidatedContact:
    """All that is known of one identity; the primary's own values come first."""

    primary_id: int
    emails: list[str]
    phone_numbers: list[str]
    secondary_ids: list[int]

    def as_json(self) -> dict[str, Any]:
        """The document of the protocol, its spelling included."""
        return {
            "contact": {
                "primaryContatctId": self.primary_id,
                "emails": self.emails,
                "phoneNumbers": self.phone_numbers,
                "secondaryContactIds": self.secondary_ids,
            }
        }


def consolidate(rows: Sequence[Sequence[Any]]) -> ConsolidatedContact:
    """The consolidated contact of (id, email, phone number, …) rows, the primary's first."""
    return ConsolidatedContact(
        rows[0][0],
        list(dict.fromkeys(row[1] for row in rows if row[1] is not None)),
        list(dict.fromkeys(row[2] for row in rows if row[2] is not None)),
        [row[0] for row in rows[1:]],
    )


class IdentityService:
    """Reconciles contact requests over one connection to a database at head.

    The first request that is written stores the normalisation profile (`region`); a database
    with another one raises `ProfileMismatchError`.
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
        self.profile = profile
        self.retries = 0
        self._claimed = False
        with translated():
            connection.execute(SESSION_SETTINGS)

    @classmethod
    @contextmanager
    def open(
        cls, database_url: str | None = None, *, region: str | None = None
    ) -> Iterator[IdentityService]:
        """A service on the database of the URL, of `DATABASE_URL`, or the embedded one."""
        from identity_cli.settings import open_database

        with open_database(database_url) as database:
            connection, profile = schema.connect(database)
            with connection:
                yield cls(connection, profile=profile, region=region)

    def claim(self) -> None:
        """Hold the database to this service's profile, once."""
        if not self._claimed:
            claim_profile(self.connection, self.profile, self.region)
            self._claimed = True

    def reconcile(self, request: ContactRequest) -> Outcome:
        """Reconcile one request in a transaction of its own."""
        self._check_region(request)
        self.claim()
        for attempt in count():
            try:
                row = self.connection.execute(RECONCILE, (request.email, request.phone)).fetchone()
            except psycopg.Error as error:
                time.sleep(retry_delay(error, attempt))
                self.retries += 1
            else:
                assert row is not None  # noqa: S101 - a function call returns one row
                return Outcome(*row)
        raise AssertionError("unreachable")

    def identify(self, request: ContactRequest) -> ConsolidatedContact:
        """Reconcile one request and read the identity that it led to."""
        return self._read(self.reconcile(request).primary_id)

    def find(
        self,
        *,
        email: str | None = None,
        phone: str | int | None = None,
        contact_id: int | None = None,
    ) -> ConsolidatedContact:
        """The identity of exactly one of these, without writing anything.

        Raises `ContactNotFoundError`, `InvalidRequestError`.
        """
        if sum(value is not None for value in (email, phone, contact_id)) != 1:
            raise UsageError(
                "look up by exactly one of email, phone number and id",
                hint="give --email, --phone or --id",
            )
        value: str | int | None
        if contact_id is not None:
            query, value = ROOT_BY_ID, contact_id
        elif email is not None:
            query, value = ROOT_BY_EMAIL, normalize_email(email)
        else:
            region = self.profile.region if self.profile else self.region
            query, value = ROOT_BY_PHONE, normalize_phone(phone, region)
        if value is None:
            raise InvalidRequestError("no_identifier", "no email and no phone number")
        with translated():
            row = self.connection.execute(query, (value,)).fetchone()
        if row is None:
            raise ContactNotFoundError(hint="identity export lists every contact")
        return self._read(row[0])

    def reconcile_stream(self, requests: Iterable[ContactRequest]) -> Iterator[Outcome]:
        """Reconcile requests in order, each in a transaction of its own; outcomes in order.

        They travel in batches, so an outcome comes out some hundreds of requests after its
        request went in. Raises `DatabaseError` at a request that the database refuses; the others
        of its batch stand.
        """
        self.claim()
        remaining = iter(requests)
        clock = 0
        while batch := list(islice(remaining, _STREAM_BATCH)):
            clock = max(clock + 1, time.time_ns() // 1000)
            numbered = []
            for request in batch:
                self._check_region(request)
                numbered.append(RunRequest(request, None, clock))
                clock += 1
            try:
                outcomes = self.reconcile_batch(numbered, run_id=None)
            except psycopg.Error as error:
                raise translate(error) from error
            for outcome in outcomes:
                if isinstance(outcome, Refusal):
                    raise DatabaseError(f"PostgreSQL refused a request ({outcome.sqlstate})")
                yield outcome

    def reconcile_batch(
        self, batch: Sequence[RunRequest], run_id: int | None, *, commit_each: bool = True
    ) -> list[Outcome | Refusal]:
        """One CALL for a batch: a transaction for each request, or none with `commit_each` off.

        Raises driver errors as they are; a part of the batch may stand all the same.
        """
        row = self.connection.execute(
            _CALL,
            (
                [item.request.email for item in batch],
                [item.request.phone for item in batch],
                [item.request_time_us for item in batch],
                run_id,
                [item.run_line for item in batch],
                commit_each,
            ),
            binary=True,
        ).fetchone()
        assert row is not None  # noqa: S101 - CALL returns its INOUT parameters
        names, primary_ids, contact_ids, retries = row
        self.retries += retries
        outcomes: list[Outcome | Refusal] = list(map(Outcome, names, primary_ids, contact_ids))
        for i, primary_id in enumerate(primary_ids) if None in primary_ids else ():
            if primary_id is None:
                outcomes[i] = Refusal(names[i].removeprefix("refused "))
        return outcomes

    def _check_region(self, request: ContactRequest) -> None:
        if request.region != self.region:
            raise UsageError(
                f"the request was normalised with region {request.region},"
                f" the service has {self.region}",
                hint="give the same region to ContactRequest and to IdentityService",
            )

    def _read(self, primary_id: int) -> ConsolidatedContact:
        while True:
            with translated():
                rows = self.connection.execute(MEMBERS, {"primary": primary_id}).fetchall()
            if not rows:
                raise ContactNotFoundError
            linked_id = rows[0][3]
            if linked_id is None:
                return consolidate(rows)
            # A merge has moved the identity since its primary was looked up.
            primary_id = linked_id


def retry_delay(error: psycopg.Error, attempt: int) -> float:
    """Seconds until the same request is sent again after its attempt number `attempt`, from 0.

    Raises the error of this package when it is not to be sent again.
    """
    if not isinstance(error, RETRYABLE) or attempt >= ATTEMPTS - 1:
        raise translate(error) from error
    # With jitter, so that two that collided do not collide again.
    return random.uniform(0, min(0.001 * 2**attempt, 0.1))  # noqa: S311 - not for secrets
