"""The load: one transaction that stores the computed rows, or nothing.

Rows are copied into tables without indexes, triggers and foreign keys, which are made again behind
them; what the triggers would have checked is checked by counts over the whole tables. Into a graph
that is large beside what is new, rows are copied with all indexes in place, so that readers need
not wait.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.errors import DeadlockDetected, LockNotAvailable

from identity_cli.backfill.aside import has_rules, hold, release_placeholders, taken_ids
from identity_cli.backfill.rows import RowCopier, row_count
from identity_cli.backfill.splits.load import has_limits, store_splits
from identity_cli.backfill.target import TABLES
from identity_cli.errors import DatabaseError, RetryableError, TargetUnsuitableError
from identity_cli.graph.profile import (
    CLAIM_PROFILE,
    check_profile,
    claim_parameters,
    profile_mismatch,
    wanted_profile,
)
from identity_cli.postgres import schema, sqlstates
from identity_cli.postgres.database import translate, translated
from identity_cli.postgres.differences import TRIGGERS
from identity_cli.postgres.models import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import LiteralString

    from identity_cli.backfill.work import WorkDirectory
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter
    from identity_cli.postgres.clock import ServerClock

# With fewer new rows than this share of those held, the indexes are kept.
_FEW_NEW_ROWS = 0.2
# What a load stores and indexes at least, for the estimate of how long others wait.
_ROWS_PER_SECOND = 100_000
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"
_LOCK_PAUSE_SECONDS = 1.0
# A clock that was set back; beyond that, new contacts would have to be dated in the future.
_MOST_AHEAD_US = 10_000_000

# One command that changes rules, or one load, at a time.
_LOCK_RULES = "LOCK TABLE steering_command IN SHARE UPDATE EXCLUSIVE MODE"
_LOCK_WRITERS = "LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE"
_LOCK_READERS = "LOCK TABLE contact, link_evidence IN ACCESS EXCLUSIVE MODE"
_NEWER_RUN = """
    SELECT EXISTS (SELECT FROM contact WHERE run_id > %(run)s)
        OR EXISTS (SELECT FROM link_evidence WHERE run_id > %(run)s)
"""
_NEWEST_US = """
    SELECT (extract(epoch FROM max(created_at)) * 1000000)::bigint
    FROM (SELECT max(created_at) AS created_at FROM contact
          UNION ALL SELECT max(created_at) FROM link_evidence) AS newest
"""
# For the sorts of the indexes, and for the checks, unless there is more already.
_MORE_MEMORY = """
    SELECT set_config(name, least, true)
    FROM (VALUES ('maintenance_work_mem', '256MB'), ('work_mem', '64MB')) AS setting (name, least)
    WHERE pg_size_bytes(current_setting(name)) < pg_size_bytes(least)
"""
# The planner has to know the new rows.
_ANALYZE = "ANALYZE contact, link_evidence"
# The foreign key is validated by one query. Both sides are in the order of ids, or nearly: merging
# takes half the time of hashing.
_MERGE = "SET LOCAL enable_hashjoin = off"
_HASH_AGAIN = "SET LOCAL enable_hashjoin TO DEFAULT"
# Indexes in another tablespace would be made again in the default one, and a subscriber of a
# publication finds a row by the primary key.
_NEEDS_INDEXES = """
    SELECT EXISTS (SELECT FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                   WHERE indrelid = ANY (%(tables)s::regclass[]) AND reltablespace <> 0)
        OR EXISTS (SELECT FROM pg_publication_tables
                   JOIN pg_class ON relname = tablename
                   JOIN pg_namespace ON pg_namespace.oid = relnamespace AND nspname = schemaname
                   WHERE pg_class.oid = ANY (%(tables)s::regclass[]))
"""
# Foreign keys first: they rely on the others.
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid), contype::text
    FROM pg_constraint
    WHERE conrelid = ANY (%(tables)s::regclass[]) AND contype IN ('p', 'u', 'f')
        AND conname = ANY (%(names)s)
    ORDER BY contype <> 'f', contype DESC, conname
"""
_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = ANY (%(tables)s::regclass[]) AND relname = ANY (%(names)s)
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    ORDER BY relname
"""
_ENABLED_TRIGGERS = """
    SELECT quote_ident(tgname), tgenabled::text FROM pg_trigger
    WHERE tgrelid = 'contact'::regclass AND tgname = ANY (%s) AND tgenabled IN ('O', 'A')
"""
_COPY_CONTACTS = (
    "COPY contact (id, email, phone_number, linked_id, initial_linked_id, anchors_email,"
    " anchors_phone, line, created_at, updated_at, run_id, link_precedence)"
    " FROM STDIN (FORMAT binary"
)
_COPY_EVIDENCE = (
    "COPY link_evidence (id, value, other_value, primary_id, merged_id, line, created_at, run_id,"
    " is_held) FROM STDIN (FORMAT binary"
)
_MOVED = (
    "CREATE TEMPORARY TABLE moved_contact (id bigint, linked_id bigint, updated_at timestamptz)"
    " ON COMMIT DROP"
)
_COPY_MOVED = "COPY moved_contact (id, linked_id, updated_at) FROM STDIN (FORMAT binary"
_MOVE = """
    UPDATE contact SET linked_id = moved.linked_id, link_precedence = 'secondary',
                       updated_at = moved.updated_at,
                       stored_in = written_in(stored_in, contact.xmin)
    FROM moved_contact AS moved WHERE moved.id = contact.id
"""
# What the guard triggers check, for all rows at once.
_STRAY_VALUES = """
    SELECT (SELECT count(*) FROM contact AS c
            LEFT JOIN contact AS a ON a.email = c.email AND a.anchors_email
            WHERE c.email IS NOT NULL AND NOT c.anchors_email
                AND coalesce(a.linked_id, a.id) IS DISTINCT FROM coalesce(c.linked_id, c.id))
         + (SELECT count(*) FROM contact AS c
            LEFT JOIN contact AS a ON a.phone_number = c.phone_number AND a.anchors_phone
            WHERE c.phone_number IS NOT NULL AND NOT c.anchors_phone
                AND coalesce(a.linked_id, a.id) IS DISTINCT FROM coalesce(c.linked_id, c.id))
         + (SELECT count(*) FROM contact AS c
            JOIN unlinked_pair ON value = c.email AND other_value = c.phone_number)
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load has stored: the ids that were given out, and the time that line 0 stands for."""

    first_marks: tuple[int, int]
    marks: tuple[int, int]
    base_us: int


@dataclass(slots=True)
class _Definitions:
    """What is dropped before the rows are copied, as the catalog describes it."""

    constraints: list[tuple[str, str, str, str]] = field(default_factory=list)
    indexes: list[tuple[str, str]] = field(default_factory=list)


class Load:
    """The transaction of one load, over a connection in autocommit mode.

    Writers wait from `begin` on, `finish` commits. Until then nobody sees any of it.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        work: WorkDirectory,
        *,
        switch: StopSwitch,
        say: Callable[[str], None],
        meter: Meter,
        begin_step: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._work = work
        self._switch = switch
        self._say = say
        self._meter = meter
        self._begin_step = begin_step

    def begin(self, run_id: int, region: str | None) -> None:
        """Lock the tables against writers, and check that the database is still a target.

        Raises `TargetUnsuitableError`, `ProfileMismatchError`, and `RetryableError` if a newer run
        has stored something meanwhile.
        """
        self._execute("BEGIN")
        self._lock(_LOCK_RULES, _LOCK_WRITERS)
        _, profile = schema.read_state(self._connection)
        check_profile(profile, region)
        if self._row(_NEWER_RUN, run=run_id) != (False,):
            raise RetryableError("another import has begun and stored contacts meanwhile")

    def store(self, run_id: int, region: str | None, marks: tuple[int, int]) -> Loaded:
        """Store the computed rows; `marks` are the last ids given out so far.

        Raises `DatabaseError` if PostgreSQL finds a row that is not right.
        """
        manifest = self._work.require_manifest()
        self._row(_MORE_MEMORY)
        rows = {name: row_count(self._work.result(name)) for name in (*TABLES, "moved")}
        base_us = self._base_us(run_id)
        new = rows["contact"] + rows["link_evidence"]
        held = manifest.held
        held_rows = 0 if held is None else held.contacts + held.evidence
        keeps_indexes = self._row(_NEEDS_INDEXES, tables=list(TABLES)) == (True,) or (
            new < _FEW_NEW_ROWS * held_rows
        )
        is_ruled = has_rules(self._work)
        if rows["contact"] or (is_ruled and any(self._work.counts().values())):
            self._claim_profile(region)
        copier = RowCopier(self._connection, self._work, self._switch, run_id, base_us, marks)
        if keeps_indexes:
            with self._without_triggers():
                if is_ruled:
                    release_placeholders(self._execute, copier)
                self._copy(copier, freeze=False)
                self._move(copier, rows["moved"])
                self._apply_rules(copier)
                self._execute(_ANALYZE)
                self._check()
        else:
            self._say(
                "readers wait, too, while rows are stored and indexes made: about"
                f" {_seconds((new + held_rows) / _ROWS_PER_SECOND)}"
            )
            self._lock(_LOCK_READERS)
            with self._without_triggers(), self._without_indexes():
                if is_ruled:
                    release_placeholders(self._execute, copier)
                if held is None:
                    self._execute("TRUNCATE contact, link_evidence")
                self._copy(copier, freeze=held is None)
                self._move(copier, rows["moved"])
                self._apply_rules(copier)
            self._check()
        contact_ids = taken_ids(self._work) if is_ruled else rows["contact"]
        last = (marks[0] + contact_ids, marks[1] + rows["link_evidence"])
        return Loaded(marks, last, base_us)

    def finish(
        self,
        clock: ServerClock,
        loaded: Loaded,
        lines: int,
        before_commit: Callable[[], None],
    ) -> None:
        """Wait until no row is dated in the future, move the sequences on, and commit."""
        self._begin_step("commit")
        while (ahead := loaded.base_us + lines - clock.now_us()) > 0:
            self._switch.check()
            time.sleep(min(0.2, ahead / 1_000_000))
        before_commit()
        for table, mark in zip(TABLES, loaded.marks, strict=True):
            if mark > 0:
                # Restarted, the sequence belongs to this transaction: a rollback takes it back.
                self._execute(
                    sql.SQL("ALTER TABLE {} ALTER COLUMN id RESTART WITH {}").format(
                        sql.Identifier(table), sql.Literal(mark + 1)
                    )
                )
                self._row(
                    "SELECT setval(pg_get_serial_sequence(%(t)s, 'id'), %(m)s)", t=table, m=mark
                )
        self._execute("COMMIT")

    def cancel(self) -> None:
        """End what the server is doing, and undo everything."""
        connection = self._connection
        with suppress(psycopg.Error):
            connection.cancel_safe()
        with suppress(psycopg.Error):
            connection.close()

    def _base_us(self, run_id: int) -> int:
        """Return the time of line 0: that of the run, but after everything that is held."""
        started = self._row(
            "SELECT (extract(epoch FROM started_at) * 1000000)::bigint,"
            " (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            " FROM import_run WHERE id = %(run)s",
            run=run_id,
        )
        assert started is not None  # noqa: S101 - the run has begun
        newest = self._row(_NEWEST_US)
        newest_us = newest[0] if newest is not None else None
        if newest_us is None:
            return int(started[0])
        if newest_us > started[1] + _MOST_AHEAD_US:
            raise TargetUnsuitableError(
                "the database holds contacts that are dated in the future",
                hint="use identity import",
            )
        return max(int(started[0]), int(newest_us) + 1)

    def _claim_profile(self, region: str | None) -> None:
        try:
            self._connection.execute(CLAIM_PROFILE, claim_parameters(region))
        except psycopg.Error as error:
            if error.sqlstate == sqlstates.PROFILE_MISMATCH:
                raise profile_mismatch(None, wanted_profile(region)) from error
            raise translate(error) from error

    def _copy(self, copier: RowCopier, *, freeze: bool) -> None:
        end = ", FREEZE)" if freeze else ")"
        self._begin_step("contacts")
        copier.copy(_COPY_CONTACTS + end, "contact", self._meter.part("contacts"))
        self._begin_step("evidence")
        copier.copy(_COPY_EVIDENCE + end, "link_evidence", self._meter.part("evidence"))

    def _move(self, copier: RowCopier, moved: int) -> None:
        if moved:
            self._execute(_MOVED)
            copier.copy(f"{_COPY_MOVED})", "moved", self._meter.part("evidence"))
            self._execute("ANALYZE moved_contact")
            self._execute(_MOVE)

    def _apply_rules(self, copier: RowCopier) -> None:
        """Store what does not link, and the identities that hubs have split."""
        if has_rules(self._work):
            hold(self._execute, copier)
        if has_limits(self._work):
            store_splits(self._execute, copier)

    def _check(self) -> None:
        self._begin_step("checks")
        if self._row(_STRAY_VALUES) != (0,):
            raise DatabaseError(
                "the computed rows would let a value lead to two identities; nothing was stored",
                hint="use identity import; this is a defect, please report it",
            )

    @contextmanager
    def _without_triggers(self) -> Iterator[None]:
        with translated():
            triggers = self._connection.execute(_ENABLED_TRIGGERS, (list(TRIGGERS),)).fetchall()
        for name, _ in triggers:
            self._execute(sql.SQL(f"ALTER TABLE contact DISABLE TRIGGER {name}"))
        yield
        for name, enabled in triggers:
            always = "ALWAYS " if enabled == "A" else ""
            self._execute(sql.SQL(f"ALTER TABLE contact ENABLE {always}TRIGGER {name}"))

    @contextmanager
    def _without_indexes(self) -> Iterator[None]:
        dropped = self._drop()
        yield
        self._begin_step("indexes")
        part = self._meter.part("indexes")
        made = [c for c in dropped.constraints if c[3] != "f"]
        links = [c for c in dropped.constraints if c[3] == "f"]
        part.expect(len(dropped.constraints) + len(dropped.indexes), "steps")
        for table, name, definition, _ in made:
            self._execute(sql.SQL(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"))
            part.advance(1)
        for _, definition in dropped.indexes:
            self._execute(sql.SQL(definition))
            part.advance(1)
        self._execute(_ANALYZE)
        self._execute(_MERGE)
        for table, name, definition, _ in links:
            self._execute(sql.SQL(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"))
            part.advance(1)
        self._execute(_HASH_AGAIN)

    def _drop(self) -> _Definitions:
        tables = [metadata.tables[name] for name in TABLES]
        names = [str(one.name) for table in tables for one in table.constraints]
        names += [str(one.name) for table in tables for one in table.indexes]
        parameters = {"tables": list(TABLES), "names": names}
        with translated():
            found = _Definitions(
                self._connection.execute(_CONSTRAINTS, parameters).fetchall(),
                self._connection.execute(_INDEXES, parameters).fetchall(),
            )
        for table, name, _, _ in found.constraints:
            self._execute(sql.SQL(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        for index, _ in found.indexes:
            self._execute(sql.SQL(f"DROP INDEX {index}"))
        return found

    def _lock(self, *statements: LiteralString) -> None:
        """Take locks, without keeping others waiting behind this transaction for long."""
        has_said = False
        self._execute("SAVEPOINT without_lock")
        while True:
            try:
                with self._switch:
                    self._connection.execute(_LOCK_TIMEOUT)
                    for statement in statements:
                        self._connection.execute(statement)
            except (LockNotAvailable, DeadlockDetected):
                self._execute("ROLLBACK TO without_lock")
                if not has_said:
                    self._say("waiting until nobody else uses the tables")
                has_said = True
                time.sleep(_LOCK_PAUSE_SECONDS)
            except psycopg.Error as error:
                raise translate(error) from error
            else:
                self._execute("RELEASE without_lock")
                return

    def _execute(self, statement: Any) -> None:
        self._switch.check()
        with translated(), self._switch:
            self._connection.execute(statement)

    def _row(self, query: LiteralString, **parameters: object) -> tuple[Any, ...] | None:
        self._switch.check()
        with translated(), self._switch:
            return self._connection.execute(query, parameters).fetchone()


def _seconds(seconds: float) -> str:
    return f"{max(1, round(seconds)):,} s"
