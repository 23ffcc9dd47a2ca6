"""A run's connections: the journal's and the lanes', opened, lost, and opened again."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.errors import (
    DatabaseUnreachableError,
    IdentityError,
    InputBusyError,
    PermissionDeniedError,
    RetryableError,
)
from identity_cli.graph.preview import DRY_RUN_ID
from identity_cli.graph.profile import effective_region
from identity_cli.graph.service import IdentityService
from identity_cli.importer.lanes import Lane
from identity_cli.postgres import schema
from identity_cli.postgres.database import translated
from identity_cli.postgres.session import IMPORT
from identity_cli.postgres.sqlstates import MAY_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.runs import RunJournal
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.postgres.database import Database
    from identity_cli.postgres.schema import Profile

# How long a server may be unreachable before a run that has begun gives up.
_PATIENCE_SECONDS = 60.0
_APPLICATION = "identity import"


class Patience:
    """Waits for an unreachable server, longer and longer, and says so once."""

    def __init__(self, seconds: float, say: Callable[[str], None], switch: StopSwitch) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._say = say
        self._switch = switch
        self._pause = 0.0

    def wait_after(self, error: Exception) -> None:
        """Wait a little; raise the error when the time is over.

        Raises `StopRequestedError` if a stop was requested.
        """
        self._switch.check()
        if time.monotonic() >= self._deadline:
            raise error
        if not self._pause:
            self._say(f"{error}; trying again for {self._seconds:.0f} s")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause or 0.05, 2.0)


# The process id of a server process, and when it started: the number may come again.
Backend = tuple[int, Any]


class Session:
    """The connections of one run, from the first one to its end.

    `connection` is the journal's. `lanes` is empty until `open_lanes`. `region` is the default
    region of phone numbers: the plan's, else the database's. `backends` are the server processes
    behind the run's connections; a session that follows a lost one gets the same set.
    """

    def __init__(
        self,
        database: Database,
        plan: ImportPlan,
        switch: StopSwitch,
        say: Callable[[str], None],
        backends: set[Backend],
    ) -> None:
        self.lanes: list[Lane] = []
        self._database = database
        self._plan = plan
        self._switch = switch
        self._say = say
        self._retries = 0
        self._backends = backends
        self.connection, self.profile = self._connect_first()
        self.region = effective_region(plan.region, self.profile)

    def _connect_first(self) -> tuple[psycopg.Connection[Any], Profile | None]:
        patience = Patience(self._plan.timeout or 0.0, self._say, self._switch)
        while True:
            try:
                connection, profile = schema.connect(
                    self._database, application=_APPLICATION, session=IMPORT
                )
            except DatabaseUnreachableError as error:
                patience.wait_after(error)
            else:
                break
        with translated():
            row = connection.execute(MAY_WRITE).fetchone()
        if row is None or not row[0]:
            connection.close()
            raise PermissionDeniedError(
                "this role may not store contacts",
                hint="let the owner of the database run: identity db grant ROLE",
            )
        return connection, profile

    @property
    def retries(self) -> int:
        """How often a request was tried again because a concurrent one got in its way."""
        return self._retries + sum(lane.service.retries for lane in self.lanes)

    def add_retries(self, retries: int) -> None:
        """Count what an interrupted run had counted by its checkpoint."""
        self._retries += retries

    def open_lanes(self, journal: RunJournal, wanted: int) -> None:
        """Open connections until there are as many as wanted, or as many as the server takes.

        Raises `DatabaseUnreachableError` if not even one can be opened.
        """
        while len(self.lanes) < wanted:
            try:
                connection = self._database.connect(application=_APPLICATION, session=IMPORT)
            except DatabaseUnreachableError as error:
                if not self.lanes:
                    raise
                self._say(f"continuing with {len(self.lanes)} of {wanted} connections: {error}")
                return
            self._remember(connection)
            journal.join_workers(connection)
            self.lanes.append(self._lane(connection, journal.run_id))

    def use_one_connection(self) -> None:
        """Let the journal's connection do the work too: a dry run is one transaction."""
        self.lanes = [self._lane(self.connection, DRY_RUN_ID)]

    def _lane(self, connection: psycopg.Connection[Any], run_id: int | None) -> Lane:
        service = IdentityService(connection, profile=self.profile, region=self.region)
        with translated():
            if not (self._plan.durable or self._plan.dry_run):
                connection.execute("SET synchronous_commit = off")
        return Lane(service, run_id=run_id, commit_each=not self._plan.dry_run)

    def reconnect(self, journal: RunJournal, error: Exception) -> None:
        """Wait until the server is back, then take the run's locks again.

        Raises `DatabaseUnreachableError` or `InputBusyError` when the time is over, and
        `StopRequestedError`.
        """
        seconds = _PATIENCE_SECONDS if self._plan.timeout is None else self._plan.timeout
        patience = Patience(seconds, self._say, self._switch)
        for lane in self.lanes:
            lane.disconnect()
        self.close()
        patience.wait_after(error)
        while True:
            try:
                self._database.revive()
                self.connection = self._database.connect(application=_APPLICATION, session=IMPORT)
                self.end_lost_backends()
                journal.connection = self.connection
                self._take_locks(journal)
                self.open_lanes(journal, self._plan.jobs or 1)
            except (DatabaseUnreachableError, InputBusyError, RetryableError) as failure:
                self.close()
                patience.wait_after(failure)
            else:
                return

    def _take_locks(self, journal: RunJournal) -> None:
        if journal.run_id is not None:
            journal.lock_inputs()
            if not journal.lock_run(journal.run_id):
                raise InputBusyError("the run's own connection still holds its lock")
            journal.end_workers(journal.run_id)

    def _remember(self, connection: psycopg.Connection[Any]) -> None:
        with translated():
            row = connection.execute(
                "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ).fetchone()
        if row is not None:
            self._backends.add((row[0], row[1]))

    def end_lost_backends(self) -> None:
        """End what the run's lost connections have left on the server, before taking its locks.

        After a network partition the server may not know yet that they are dead, and they hold
        the locks.
        """
        with translated():
            for pid, start in self._backends:
                self.connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE pid = %s AND backend_start = %s AND usename = current_user",
                    (pid, start),
                )
        self._backends.clear()
        self._remember(self.connection)

    def cancel(self, seconds: float) -> None:
        """End the batches at work between two requests; cut what does not end within the time."""
        deadline = time.monotonic() + seconds
        for lane in self.lanes:
            lane.cancel()
        for lane in self.lanes:
            if not lane.wait_until_idle(max(0.0, deadline - time.monotonic())):
                lane.disconnect()

    def close(self) -> None:
        """Close all connections; a dry run is rolled back with them."""
        self._retries = self.retries
        while self.lanes:
            self.lanes.pop().close()
        with suppress(psycopg.Error, IdentityError):
            self.connection.close()
