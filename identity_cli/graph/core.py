"""What the synchronous and the asynchronous service share: queries, answers, retries, the claim.

A function of this module that needs the database is a generator: it yields queries, is sent their
rows, and returns its result. Each service runs it over its own kind of connection.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from identity_cli.errors import (
    ContactNotFoundError,
    ContactSetAsideError,
    IdentityError,
    MergeTooLargeError,
    RequestBlockedError,
    RequestForgottenError,
    RequestRefusedError,
    ValueBlockedError,
)
from identity_cli.graph.profile import (
    CLAIM_PROFILE,
    check_profile,
    claim_parameters,
    profile_mismatch,
    wanted_profile,
)
from identity_cli.postgres import schema, sqlstates
from identity_cli.postgres.database import is_conflict, is_connection_lost, is_retryable, translate
from identity_cli.postgres.schema import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.graph.references import Reference

OutcomeName = Literal["created", "linked", "merged", "unchanged", "blocked"]

# How often one request is sent. By the next attempt the concurrent request has usually committed,
# so more than five conflicts in a row are rare and 50 mean that the conflict does not end. The
# request then fails: `RetryableError`, or `RequestRefusedError` if a constraint was violated each
# time. reconcile.sql and reconcile_batch.sql hold the same number; a test compares them.
ATTEMPTS = 50

RECONCILE = (
    "SELECT outcome, primary_id, contact_id, contact_ids"
    " FROM reconcile_request(%s::text[], %s::text[])"
)
MEMBERS = "SELECT id, email, phone_number, linked_id FROM members(%s, %s)"
# Both in one round trip: the columns of MEMBERS, then those of RECONCILE.
IDENTIFY = (
    "SELECT id, email, phone_number, linked_id, outcome, primary_id, contact_id, contact_ids"
    " FROM identify(%s::text[], %s::text[], %s)"
)
# The same for one value of each kind, or NULL: psycopg takes longest for lists.
IDENTIFY_PAIR = IDENTIFY.replace("%s::text[]", "ARRAY[%s::text]")
# For a request that stored nothing; identify() and identify_batch() do it themselves.
_WAIT_FOR_DISK = "SELECT wait_for_disk()"
# Many of these requests, each in a transaction of its own, and the contacts of their identities.
IDENTIFY_BATCH = "CALL identify_batch(%s, %s, %s)"
# An identity of more contacts is read by itself.
_BATCH_CONTACTS = 100
# Each value of an identity has one anchor in it, so counting the anchors counts distinct values.
COUNTS = """
    SELECT count(email) FILTER (WHERE anchors_email),
           count(phone_number) FILTER (WHERE anchors_phone),
           count(*) - 1,
           max(linked_id) FILTER (WHERE id = %(primary)s)
    FROM contact WHERE id = %(primary)s OR linked_id = %(primary)s
    HAVING count(*) > 0
"""
# A contact with a negative id is a placeholder: it reserves a value that a rule names.
ROOT_BY_ID = "SELECT coalesce(linked_id, id) FROM contact WHERE id = %s AND id > 0"
ROOT_BY_EMAIL = (
    "SELECT coalesce(linked_id, id) FROM contact WHERE email = %s AND anchors_email AND id > 0"
)
ROOT_BY_PHONE = (
    "SELECT coalesce(linked_id, id) FROM contact"
    " WHERE phone_number = %s AND anchors_phone AND id > 0"
)
ROOTS = {"id": ROOT_BY_ID, "email": ROOT_BY_EMAIL, "phone": ROOT_BY_PHONE}
_NO_ROOT = 0  # ids begin at 1
_IS_BLOCKED = "SELECT FROM blocked_value WHERE value = %s"
# For each look-up: what explains that it found nothing, and the error then.
_HIDDEN: dict[str, tuple[str, type[ContactNotFoundError], str]] = {
    ROOT_BY_ID: (
        "SELECT FROM set_aside_contact WHERE id = %s",
        ContactSetAsideError,
        "the contact is set aside: its values are blocked",
    ),
    ROOT_BY_EMAIL: (_IS_BLOCKED, ValueBlockedError, "the email is blocked"),
    ROOT_BY_PHONE: (_IS_BLOCKED, ValueBlockedError, "the phone number is blocked"),
}


class Query(NamedTuple):
    """A statement and its parameters."""

    text: str
    parameters: Sequence[Any] | dict[str, Any] = ()


Rows: TypeAlias = "Sequence[tuple[Any, ...]]"
_T = TypeVar("_T")
Steps: TypeAlias = Generator[Query, Rows, _T]


class Outcome(NamedTuple):
    """The outcome of one request.

    `primary_id` is None if all values are blocked. `contact_id` is the first contact that was
    stored, None if there was none. `contact_ids` has all of them if they were several.
    """

    name: OutcomeName
    primary_id: int | None
    contact_id: int | None
    contact_ids: tuple[int, ...] = ()

    def require_primary(self) -> int:
        """Return the id of the primary. Raises `RequestBlockedError` if there is none."""
        if self.primary_id is None:
            raise RequestBlockedError
        return self.primary_id


@dataclass(frozen=True, slots=True)
class ConsolidatedContact:
    """All values of one identity; the primary's own values come first."""

    primary_id: int
    emails: list[str]
    phone_numbers: list[str]
    secondary_ids: list[int]

    def as_json(self) -> dict[str, Any]:
        """Return the document of the protocol, its spelling included."""
        return _document(self.primary_id, self.emails, self.phone_numbers, self.secondary_ids)


@dataclass(frozen=True, slots=True)
class ContactCounts:
    """The number of values of one identity."""

    primary_id: int
    emails: int
    phone_numbers: int
    secondary_ids: int

    def as_json(self) -> dict[str, Any]:
        """Return the document of the protocol with counts instead of values."""
        return _document(self.primary_id, self.emails, self.phone_numbers, self.secondary_ids)


def _document(primary_id: int, emails: Any, phone_numbers: Any, ids: Any) -> dict[str, Any]:
    return {
        "contact": {
            "primaryContatctId": primary_id,
            "emails": emails,
            "phoneNumbers": phone_numbers,
            "secondaryContactIds": ids,
        }
    }


def consolidate(rows: Rows) -> ConsolidatedContact:
    """Return the consolidated contact of (id, email, phone number, …) rows, the primary's first."""
    return ConsolidatedContact(
        rows[0][0],
        list(dict.fromkeys(row[1] for row in rows if row[1] is not None)),
        list(dict.fromkeys(row[2] for row in rows if row[2] is not None)),
        [row[0] for row in rows[1:]],
    )


class Attempts:
    """The attempts of one request: how many, and until when it may be sent again."""

    def __init__(
        self, *, seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._deadline = None if seconds is None else clock() + seconds
        self._failed = 0

    def remaining(self) -> float:
        """Return the seconds until the deadline, 0 after it."""
        if self._deadline is None:
            return float("inf")
        return max(0.0, self._deadline - self._clock())

    def delay_after(self, error: psycopg.Error, *, reconnects: bool = False) -> float | None:
        """Return the seconds to wait before the next attempt, None if there is none.

        With `reconnects` a lost connection is replaced: such an attempt is limited by the deadline
        alone, because as many connections as a pool holds may have been lost at once.
        """
        if not self.remaining():
            return None
        if reconnects and is_connection_lost(error):
            return 0.0
        self._failed += 1
        if not is_retryable(error) or self._failed >= ATTEMPTS:
            return None
        # Random, so that two requests that collided do not collide again.
        longest = min(0.001 * 2 ** (self._failed - 1), 0.1)
        return random.uniform(0, longest)  # noqa: S311 - not for secrets


class ProfileClaim:
    """What a service knows about the stored profile, and the claim that stores it."""

    def __init__(self, stored: Profile | None, region: str | None) -> None:
        self.stored = stored
        self.region = region

    def check(self) -> None:
        """Check the stored profile before anything is written. Raises `ProfileMismatchError`."""
        check_profile(self.stored, self.region)

    def query(self) -> Query | None:
        """Return what has to run in the same transaction before a request, None if nothing."""
        if self.stored is not None:
            return None
        return Query(CLAIM_PROFILE, claim_parameters(self.region))

    def succeed(self) -> None:
        """Remember that a request was reconciled: the database holds a contact of this profile."""
        self.stored = wanted_profile(self.region)


def reconcile(request: ContactRequest) -> Steps[Outcome]:
    """Reconcile one request. Raises `RequestForgottenError`; nothing is stored then."""
    [row] = yield Query(RECONCILE, _lists(request))
    outcome = _outcome(*row)
    if outcome.contact_id is None:
        yield Query(_WAIT_FOR_DISK)
    return outcome


def identify(
    request: ContactRequest, *, at_most: int | None = None
) -> Steps[tuple[Outcome, Rows | None]]:
    """Reconcile one request and return the rows of the identity; None if there are too many.

    A blocked request has no rows. Raises `RequestForgottenError`.
    """
    limit = None if at_most is None else at_most + 1
    if len(request.emails) <= 1 and len(request.phones) <= 1:
        rows = yield Query(IDENTIFY_PAIR, (request.email, request.phone, limit))
    else:
        rows = yield Query(IDENTIFY, (*_lists(request), limit))
    outcome = _outcome(*rows[0][4:])
    if outcome.primary_id is None:
        return outcome, []
    if rows[0][3] is not None:  # a merge has moved the identity, as in `read`
        return outcome, (yield from read(rows[0][3], at_most=at_most))
    return outcome, _limited(rows, at_most)


class BatchAnswer(NamedTuple):
    """The answer to a request of a batch; without all `rows` they have to be read by themselves."""

    outcome: Outcome
    rows: Rows | None
    is_complete: bool = True


class BatchAnswers(NamedTuple):
    """The answers to a batch, None for each request that has to be sent alone.

    `conflicts` is the number of these that met a concurrent transaction.
    """

    answers: list[BatchAnswer | None]
    conflicts: int


def identify_batch(
    requests: Sequence[ContactRequest], *, at_most: int
) -> Steps[BatchAnswers | None]:
    """Reconcile requests, each in a transaction of its own, and read their identities.

    A request has at most one value of each kind. Rows are None if there are more than `at_most`.
    Returns None if the database takes no batches.
    """
    emails = "\n".join([request.email or "" for request in requests])
    phones = "\n".join([request.phone or "" for request in requests])
    [row] = yield Query(IDENTIFY_BATCH, (emails, phones, _BATCH_CONTACTS + 1))
    outcomes, primary_ids, contact_ids, sqlstates, *members = row
    if outcomes is None:
        return None
    rows: list[list[tuple[Any, ...]]] = [[] for _ in requests]
    for place, *contact in zip(*(column or () for column in members), strict=True):
        rows[place - 1].append(tuple(contact))
    # The batch may have ended before its last request.
    answers: list[BatchAnswer | None] = [None] * len(requests)
    for i, (name, primary_id, stored) in enumerate(
        zip(outcomes, primary_ids, contact_ids, strict=True)
    ):
        if name is None or name == "forgotten":
            continue
        ids = [int(contact_id) for contact_id in stored.split()] if stored else []
        outcome = _outcome(name, primary_id, ids[0] if ids else None, ids if ids[1:] else None)
        # The first row has a linked_id if a merge has moved the identity meanwhile.
        is_complete = primary_id is None or (
            0 < len(rows[i]) <= _BATCH_CONTACTS and rows[i][0][3] is None
        )
        answers[i] = BatchAnswer(outcome, _limited(rows[i], at_most), is_complete)
    return BatchAnswers(answers, sum(map(is_conflict, sqlstates or ())))


def identify_counts(request: ContactRequest) -> Steps[tuple[Outcome, ContactCounts | None]]:
    """Reconcile one request and count the values of the identity; None if it is blocked."""
    outcome = yield from reconcile(request)
    if outcome.primary_id is None:
        return outcome, None
    return outcome, (yield from count(outcome.primary_id))


def find_root(lookups: Sequence[tuple[str, object]]) -> Steps[int]:
    """Return the primary's id of the one identity that all look-ups lead to.

    Raises `ContactNotFoundError`, also if they lead to several identities, or to none because a
    rule blocks a value.
    """
    roots: set[int] = set()
    for text, value in lookups:
        rows = yield Query(text, (value,))
        roots.add(rows[0][0] if rows else _NO_ROOT)
    if len(roots) != 1 or _NO_ROOT in roots:
        raise (yield from not_found(lookups))
    return roots.pop()


def not_found(lookups: Sequence[tuple[str, object]]) -> Steps[ContactNotFoundError]:
    """Return the error of look-ups that do not lead to one identity.

    It names the first of them that a rule keeps from leading to any.
    """
    for text, value in lookups:
        query, error, message = _HIDDEN[text]
        if (yield Query(query, (value,))):
            return error(message)
    return ContactNotFoundError(hint="run identity export to list all contacts")


class Found(NamedTuple):
    """A reference that leads to an identity.

    `is_ambiguous` reports whether the same text stands for another identity, too.
    """

    reference: Reference
    primary_id: int
    is_ambiguous: bool = False


def resolve(references: Sequence[Reference]) -> Steps[Found]:
    """Return the first of the references that leads to an identity.

    Raises `ContactNotFoundError`.
    """
    found: Found | None = None
    for reference in references:
        if reference.kind == "id" and int(reference.value) <= _NO_ROOT:
            continue
        rows = yield Query(ROOTS[reference.kind], (reference.value,))
        if not rows or rows[0][0] <= _NO_ROOT:  # a placeholder belongs to no identity
            continue
        if found is None:
            found = Found(reference, rows[0][0])
        elif rows[0][0] != found.primary_id:
            found = found._replace(is_ambiguous=True)
    if found is None:
        raise (yield from not_found([(ROOTS[kind], value) for kind, value in references]))
    return found


def resolve_all(references: Sequence[Reference]) -> Steps[Found]:
    """Return the one identity that all of the references lead to.

    Raises `ContactNotFoundError`, also if they lead to several identities.
    """
    primary_id = yield from find_root([(ROOTS[kind], value) for kind, value in references])
    return Found(references[0], primary_id)


def find(
    lookups: Sequence[tuple[str, object]], *, at_most: int | None = None
) -> Steps[Rows | None]:
    """Return the rows of the identity that all look-ups lead to; None if there are too many."""
    root = yield from find_root(lookups)
    return (yield from read(root, at_most=at_most))


def find_counts(lookups: Sequence[tuple[str, object]]) -> Steps[ContactCounts]:
    """Count the values of the identity that all look-ups lead to."""
    root = yield from find_root(lookups)
    return (yield from count(root))


def read(primary_id: int, *, at_most: int | None = None) -> Steps[Rows | None]:
    """Return the rows of an identity, its primary's first; None if there are more than `at_most`.

    Raises `ContactNotFoundError`.
    """
    while True:
        rows = yield Query(MEMBERS, (primary_id, None if at_most is None else at_most + 1))
        if not rows:
            raise ContactNotFoundError
        linked_id = rows[0][3]
        if linked_id is None:
            return _limited(rows, at_most)
        # A merge has moved the identity since its primary was looked up.
        primary_id = linked_id


def count(primary_id: int) -> Steps[ContactCounts]:
    """Count the values of an identity. Raises `ContactNotFoundError`."""
    while True:
        rows = yield Query(COUNTS, {"primary": primary_id})
        if not rows:
            raise ContactNotFoundError
        emails, phone_numbers, secondary_ids, linked_id = rows[0]
        if linked_id is None:
            return ContactCounts(primary_id, emails, phone_numbers, secondary_ids)
        primary_id = linked_id


def explain(error: psycopg.Error, region: str | None, *, writes: bool) -> Steps[IdentityError]:
    """Return the error of this package for a request that failed for good.

    Neither a value nor the message of a trigger, which may hold one, becomes part of it.
    """
    state = error.sqlstate
    if state == sqlstates.PROFILE_MISMATCH:
        rows = yield Query(schema.STATE)
        _, version, stored_region = rows[0] if rows else (None, None, None)
        stored = None if version is None else Profile(version, stored_region)
        return profile_mismatch(stored, wanted_profile(region))
    if state == sqlstates.MERGE_TOO_LARGE:
        return MergeTooLargeError()
    if writes and state is not None and sqlstates.is_about_request(state):
        if state == sqlstates.INSUFFICIENT_PRIVILEGE:
            [(may_write,)] = yield Query(sqlstates.MAY_WRITE)
            if not may_write:
                return translate(error)
        return RequestRefusedError(state)
    return translate(error)


def _lists(request: ContactRequest) -> tuple[list[str], list[str]]:
    return list(request.emails), list(request.phones)


def _outcome(
    name: OutcomeName | Literal["forgotten"],
    primary_id: int | None,
    contact_id: int | None,
    contact_ids: list[int] | None,
) -> Outcome:
    if name == "forgotten":
        raise RequestForgottenError
    if primary_id is None:
        # It may have linked before its last pair made its values hubs.
        return Outcome("blocked", None, None)
    return Outcome(name, primary_id, contact_id, tuple(contact_ids or ()))


def _limited(rows: Rows, at_most: int | None) -> Rows | None:
    return None if at_most is not None and len(rows) > at_most else rows
