"""An import whose connections are lost, while the server believes that they are alive."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from graph import contact_rows, problems_of
from proxy import Proxy

from identity_cli import errors
from identity_cli.graph.run_list import list_runs
from identity_cli.graph.verify import verify
from identity_cli.importer import ledger, pipeline
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer, Progress
from identity_cli.importer.runs import RunJournal
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from identity_cli.importer.report import ImportReport

    Connection = psycopg.Connection[Any]

ROWS = 400
WINDOW = 20


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BATCH", WINDOW)
    monkeypatch.setattr(pipeline, "CHECKPOINT_SECONDS", 0.0)
    # A list of five is full after three windows, and what is counted twice is not seen in it.
    monkeypatch.setattr(ledger, "_FIRST_REJECTS", 2 * ROWS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Good rows, and in each window a rejected and a partial one."""
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["email", "phone"])
        for i in range(ROWS):
            email = f"bad{i}" if i % WINDOW in {1, 2} else f"p{i}@x.org"
            writer.writerow([email, "" if i % WINDOW == 1 else 5_550_000 + i - i % 3])
    return path


class PartitionedImport:
    """An import through a proxy, which loses its clients after these windows.

    There is no checkpoint once so many rows have been answered.
    """

    def __init__(self, proxy: Proxy, *after: int, checkpoints_until: int = ROWS) -> None:
        self._proxy = proxy
        self._after = after
        self._checkpoints_until = checkpoints_until
        self._windows = 0
        self.losses = 0

    def run(self, plan: ImportPlan, said: list[str] | None = None) -> ImportReport:
        importer = Importer(plan, say=(said if said is not None else []).append)
        importer.run(Database(self._proxy.parameters, embedded=False), self._show)
        return importer.report(3)

    def _show(self, progress: Progress) -> None:
        self._windows += 1
        if progress.counts.read >= self._checkpoints_until:
            pipeline.CHECKPOINT_SECONDS = 1000.0
        if self._windows in self._after:
            self.losses += 1
            self._proxy.lose_clients()


def backends(connection: Connection) -> int:
    """How many connections of imports the server believes to be alive."""
    return connection.execute(
        "SELECT FROM pg_stat_activity WHERE application_name = 'identity import'"
        " AND datname = current_database()"
    ).rowcount


@pytest.mark.parametrize("jobs", [1, 3])
def test_import_ends_its_own_connections_that_the_server_keeps(
    database_url: str, connection: Connection, path: Path, jobs: int
) -> None:
    with Proxy(connection_parameters(database_url)) as proxy:
        partitioned = PartitionedImport(proxy, 2, 4)
        said: list[str] = []
        report = partitioned.run(ImportPlan((str(path),), jobs=jobs, timeout=20), said)
        left = backends(connection)
    assert report.status == "finished"
    assert (report.run_id, report.rows["read"]) == (1, ROWS)
    assert partitioned.losses == 2
    assert left <= jobs + 1  # the last ones may be about to end
    assert any("trying again" in text for text in said)
    assert [run.state for run in list_runs(connection, limit=9)] == ["finished"]
    assert problems_of(connection) == []
    assert verify(connection).violations == ()


def test_import_that_is_cut_off_before_it_begins_ends_its_own_connection(
    database_url: str, connection: Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_interrupted = RunJournal.find_interrupted
    losses = [1, 2]

    def lose_once(journal: RunJournal) -> Any:
        # The lock of the inputs is taken, and its holder lost.
        if losses:
            losses.pop()
            proxy.lose_clients()
        return find_interrupted(journal)

    monkeypatch.setattr(RunJournal, "find_interrupted", lose_once)
    with Proxy(connection_parameters(database_url)) as proxy:
        report = PartitionedImport(proxy).run(ImportPlan((str(path),), timeout=20))
    assert (report.status, report.rows["read"]) == ("finished", ROWS)
    assert losses == []


def test_restart_is_refused_while_the_server_keeps_a_dead_run(
    database_url: str, connection: Connection, path: Path
) -> None:
    with Proxy(connection_parameters(database_url)) as proxy:
        with pytest.raises(errors.DatabaseUnreachableError):
            PartitionedImport(proxy, 4).run(ImportPlan((str(path),), timeout=0))
        [dead] = list_runs(connection, limit=9)
        assert (dead.status, dead.state) == ("running", "running")
        database = Database(connection_parameters(database_url), embedded=False)
        with pytest.raises(errors.InputBusyError, match="run 1"):
            Importer(ImportPlan((str(path),), restart=True)).run(database)
    # The server has noticed it now.
    restarted = Importer(ImportPlan((str(path),), restart=True))
    states: list[list[str]] = []

    def show(_progress: Progress) -> None:
        states.append([run.state for run in list_runs(connection, limit=9)])

    for _ in range(200):
        if not backends(connection):
            break
        connection.execute("SELECT pg_sleep(0.05)")
    restarted.run(database, show)
    # A lock of its own tells a run that is alive from one that is not, on the same input.
    assert states[0] == ["running", "died"]
    assert restarted.run_id == 2
    assert [run.state for run in list_runs(connection, limit=9)] == ["finished", "died"]
    assert verify(connection).violations == ()


@pytest.mark.parametrize(("jobs", "after"), [(1, 8), (3, 4)])
@pytest.mark.parametrize("checkpoints_until", [0, WINDOW, ROWS])
def test_rejects_and_outcomes_are_as_without_the_loss(
    cloned_database: Callable[[], AbstractContextManager[str]],
    path: Path,
    tmp_path: Path,
    jobs: int,
    after: int,
    checkpoints_until: int,
) -> None:
    found = []
    for losses in ((), (after,)):
        outcomes, rejects = tmp_path / f"outcomes{len(found)}", tmp_path / f"rejects{len(found)}"
        plan = ImportPlan(
            (str(path),), jobs=jobs, timeout=20, outcomes=str(outcomes), rejects=str(rejects)
        )
        with cloned_database() as url, Proxy(connection_parameters(url)) as proxy:
            partitioned = PartitionedImport(proxy, *losses, checkpoints_until=checkpoints_until)
            report = partitioned.run(plan)
            assert partitioned.losses == len(losses)
            with psycopg.connect(url) as connection:
                contacts = contact_rows(connection)
        found.append(
            (
                report.first_rejects,
                report.rejected_by_code,
                report.rows,
                rejects.read_text(),
                [outcome_without_ids(line) for line in outcomes.read_text().splitlines()],
                sorted((row.email or "", row.phone or "") for row in contacts),
            )
        )
    undisturbed, disturbed = found
    assert disturbed == undisturbed
    first_rejects, codes, rows, text, *_ = undisturbed
    lines = [line for i in range(0, ROWS, WINDOW) for line in (i + 3, i + 4)]
    assert [reject.line for reject in first_rejects] == lines
    windows = ROWS // WINDOW
    assert (rows["rejected"], rows["partial"]) == (windows, windows)
    assert codes == {"bad_email": 2 * windows}
    assert text.count("\n") == 1 + 2 * windows


def outcome_without_ids(line: str) -> tuple[int, str]:
    """A lost transaction leaves a gap in the ids."""
    outcome = json.loads(line)
    return outcome["line"], outcome["outcome"]


def test_run_that_resumes_leaves_the_same_run_of_another_database_alone(
    cloned_database: Callable[[], AbstractContextManager[str]],
) -> None:
    with (
        cloned_database() as one,
        cloned_database() as other,
        psycopg.connect(one, autocommit=True) as alive,
        psycopg.connect(other, autocommit=True) as dead,
        psycopg.connect(other, autocommit=True) as resuming,
    ):
        for connection in (alive, dead):
            journal = RunJournal(connection, [], {})
            journal.run_id = 1
            journal.join_workers(connection)
        RunJournal(resuming, [], {}).end_workers(1)
        assert alive.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            dead.execute("SELECT 1")
