"""Commands that change what links: previewed, applied in one transaction, and logged.

The commands themselves are in `rules.py`, `undo.py` and `forgetting.py`; what they do to the graph
is SQL (`postgres/sql/rules.sql` and its neighbours).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psycopg

from identity_cli.errors import PermissionDeniedError
from identity_cli.graph.core import MEMBERS, Attempts
from identity_cli.graph.masking import masked
from identity_cli.graph.profile import check_profile, effective_region
from identity_cli.meter import SILENT
from identity_cli.postgres import schema
from identity_cli.postgres.database import translated
from identity_cli.postgres.session import STEER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import LiteralString

    from identity_cli.graph.paths import Pair
    from identity_cli.meter import Meter

SCHEMA_VERSION = 1

# Of a preview: identities whose members are shown, and members of each.
_SHOWN_IDENTITIES = 5
_SHOWN_MEMBERS = 3

_OWNER = """
    SELECT pg_has_role(relowner, 'USAGE'), pg_get_userbyid(relowner)
    FROM pg_class WHERE oid = 'contact'::regclass
"""
# One command at a time. Readers of the log do not wait, nor do requests that write a hub into it.
_LOCK = "LOCK TABLE steering_command IN SHARE UPDATE EXCLUSIVE MODE"
_LOG = (
    "INSERT INTO steering_command (verb, detail, reason, run_id) VALUES (%s, %s, %s, %s)"
    " RETURNING id"
)
# Where each contact was before the commands and where it is after them.
_MOVES = """
    SELECT from_id, to_id, count(*)
    FROM (
        SELECT (array_agg(from_primary_id ORDER BY id))[1] AS from_id,
               (array_agg(to_primary_id ORDER BY id DESC))[1] AS to_id
        FROM contact_move WHERE command_id = ANY (%s) GROUP BY contact_id
    ) AS moved
    WHERE from_id IS DISTINCT FROM to_id
    GROUP BY 1, 2
"""
_SIZES = """
    SELECT id, 1 + (SELECT count(*) FROM contact AS member WHERE member.linked_id = contact.id)
    FROM contact WHERE id = ANY (%s) AND linked_id IS NULL
"""


@dataclass(frozen=True, slots=True)
class SizedIdentity:
    """An identity by its primary, with the number of its contacts.

    `members` holds values of its first contacts, in a preview and of the first identities only.
    """

    primary_id: int
    contacts: int
    members: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the document of the identity."""
        document: dict[str, Any] = {
            "primaryContactId": self.primary_id,
            "contacts": self.contacts,
        }
        if self.members:
            document["members"] = list(self.members)
        return document


class Regrouping(NamedTuple):
    """An identity that was split into others, or that others were merged into."""

    primary_id: int
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a command has changed, or would change if it is not applied.

    `moved` contacts were in another identity before. `removed` ones are in none now, `added` ones
    were in none. `before` and `after` are the identities that have lost or gained contacts, the
    largest first. `path` still joins the values of an unlinked pair; None if the command looks for
    none. `details` are the command's own part of the document.
    """

    command: str
    command_ids: tuple[int, ...]
    is_applied: bool
    reason: str | None = None
    moved: int = 0
    removed: int = 0
    added: int = 0
    before: tuple[SizedIdentity, ...] = ()
    after: tuple[SizedIdentity, ...] = ()
    split: tuple[Regrouping, ...] = ()
    merged: tuple[Regrouping, ...] = ()
    path: tuple[Pair, ...] | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the document of `--json`. Ids of a command that is not applied are not kept."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "applied": self.is_applied,
            "command_ids": list(self.command_ids) if self.is_applied else [],
            "reason": self.reason,
            "contacts": {"moved": self.moved, "removed": self.removed, "added": self.added},
            "identities": {
                "before": [identity.as_json() for identity in self.before],
                "after": [identity.as_json() for identity in self.after],
            },
            "split": [
                {"primaryContactId": one.primary_id, "into": list(one.others)} for one in self.split
            ],
            "merged": [
                {"primaryContactId": one.primary_id, "from": list(one.others)}
                for one in self.merged
            ],
            **self.details,
            **({} if self.path is None else {"path": [pair.as_json() for pair in self.path]}),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Effect:
    """What a command reports beside the identities; the parts are those of `Change`."""

    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    path: tuple[Pair, ...] | None = None


class Command(Protocol):
    """A command that changes what links. It can be run again: a conflict rolls it back."""

    @property
    def name(self) -> str:
        """The command as the user types it."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it is run, as the user says."""
        ...

    def run(self, log: CommandLog) -> Effect:
        """Change the rules in the transaction of the log. Raises `IdentityError`."""
        ...


class CommandLog:
    """The transaction of a command: its entries in the log, and the statements it needs."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.ids: list[int] = []

    def enter(
        self,
        verb: str,
        *,
        detail: str | None = None,
        reason: str | None = None,
        run_id: int | None = None,
    ) -> int:
        """Write an entry, which must not hold a value, and return its id."""
        [(entry,)] = self.rows(_LOG, verb, detail, reason, run_id)
        self.ids.append(entry)
        return int(entry)

    def rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(query, parameters).fetchall()

    def call(self, statement: LiteralString, *parameters: object) -> int:
        """Run a statement and return the number of rows that it has changed."""
        return self.connection.execute(statement, parameters).rowcount


class Steering:
    """Runs commands over one autocommit connection to a database at head.

    `region` is that of phone numbers in the values that commands name.
    """

    def __init__(self, connection: psycopg.Connection[Any], *, region: str | None = None) -> None:
        self.connection = connection
        self.region = region

    @classmethod
    @contextmanager
    def open(
        cls, database_url: str | None = None, *, region: str | None = None
    ) -> Iterator[Steering]:
        """Open the database of the URL, of `DATABASE_URL`, or the embedded one.

        Raises `ProfileMismatchError` if it holds contacts of another region than the given one.
        """
        from identity_cli.settings import open_database

        with open_database(database_url) as database:
            connection, profile = schema.connect(database, session=STEER)
            with connection:
                wanted = effective_region(region, profile)
                check_profile(profile, wanted)
                yield cls(connection, region=wanted)

    def preview(
        self, command: Command, *, with_values: bool = False, meter: Meter = SILENT
    ) -> Change:
        """Run a command, roll it back, and return what it would change.

        The first members and the path are masked without `with_values`.
        """
        change = self._retried(command, meter, keeps=False)
        with translated():
            # Those before can be read only now that the change is undone.
            before = self._with_members(change.before, with_values=with_values)
        after = _shown(change.after, with_values=with_values)
        path = change.path
        if path is not None and not with_values:
            path = tuple(
                pair._replace(value=masked(pair.value), other_value=masked(pair.other_value))
                for pair in path
            )
        return replace(change, before=before, after=after, path=path)

    def apply(self, command: Command, meter: Meter = SILENT) -> Change:
        """Run a command in one transaction and return what it has changed."""
        return self._retried(command, meter, keeps=True)

    def _retried(self, command: Command, meter: Meter, *, keeps: bool) -> Change:
        attempts = Attempts()
        while True:
            try:
                return self._run(command, meter, keeps=keeps)
            except psycopg.Error as error:
                delay = attempts.delay_after(error)
                if delay is None:
                    with translated():
                        raise
                time.sleep(delay)

    def _run(self, command: Command, meter: Meter, *, keeps: bool) -> Change:
        with self.connection.transaction(force_rollback=not keeps):
            self._check_owner()
            meter.begin("waiting")
            self.connection.execute(_LOCK)
            log = CommandLog(self.connection)
            meter.begin("applying")
            effect = command.run(log)
            meter.begin("comparing")
            change = self._change(command, log, effect, is_applied=keeps)
            if not keeps:
                change = replace(change, after=self._with_members(change.after, with_values=True))
            return change

    def _check_owner(self) -> None:
        row = self.connection.execute(_OWNER).fetchone()
        assert row is not None  # noqa: S101 - the database is at head
        is_owner, owner = row
        if not is_owner:
            raise PermissionDeniedError(
                "only the owner of the tables can change what links",
                hint=f"connect as {owner}, or as a member of that role",
            )

    def _change(
        self, command: Command, log: CommandLog, effect: Effect, *, is_applied: bool
    ) -> Change:
        moves = log.rows(_MOVES, log.ids)
        roots = sorted({root for move in moves for root in move[:2] if root is not None})
        sizes = dict(log.rows(_SIZES, roots))
        came, left = Counter[int](), Counter[int]()
        sources, targets = defaultdict[int, set[int]](set), defaultdict[int, set[int]](set)
        for source, target, contacts in moves:
            if source is not None:
                left[source] += contacts
            if target is not None:
                came[target] += contacts
            if source is not None and target is not None:
                targets[source].add(target)
                sources[target].add(source)
        before, after = [], []
        for root in roots:
            size = sizes.get(root, 0)
            stayed = size - came[root]
            if stayed:
                targets[root].add(root)
                sources[root].add(root)
            if stayed + left[root]:
                before.append(SizedIdentity(root, stayed + left[root]))
            if size:
                after.append(SizedIdentity(root, size))
        return Change(
            command=command.name,
            command_ids=tuple(log.ids),
            is_applied=is_applied,
            reason=command.reason,
            moved=sum(n for source, target, n in moves if None not in (source, target)),
            removed=sum(n for _, target, n in moves if target is None),
            added=sum(n for source, _, n in moves if source is None),
            before=_largest_first(before),
            after=_largest_first(after),
            split=_regroupings(targets),
            merged=_regroupings(sources),
            path=effect.path,
            notes=effect.notes,
            details=effect.details,
        )

    def _with_members(
        self, identities: Sequence[SizedIdentity], *, with_values: bool
    ) -> tuple[SizedIdentity, ...]:
        found = []
        for identity in identities[:_SHOWN_IDENTITIES]:
            rows = self.connection.execute(
                MEMBERS, (identity.primary_id, _SHOWN_MEMBERS)
            ).fetchall()
            values = [value for row in rows for value in row[1:3] if value is not None]
            found.append(replace(identity, members=tuple(dict.fromkeys(values))))
        shown = (*found, *identities[_SHOWN_IDENTITIES:])
        return _shown(shown, with_values=with_values)


def _shown(identities: Iterable[SizedIdentity], *, with_values: bool) -> tuple[SizedIdentity, ...]:
    if with_values:
        return tuple(identities)
    return tuple(
        replace(identity, members=tuple(map(masked, identity.members))) for identity in identities
    )


def _largest_first(identities: list[SizedIdentity]) -> tuple[SizedIdentity, ...]:
    return tuple(sorted(identities, key=lambda one: (-one.contacts, one.primary_id)))


def _regroupings(others: Mapping[int, set[int]]) -> tuple[Regrouping, ...]:
    return tuple(
        Regrouping(root, tuple(sorted(ids))) for root, ids in sorted(others.items()) if len(ids) > 1
    )
