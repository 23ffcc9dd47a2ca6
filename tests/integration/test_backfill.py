"""The load of a backfill, its work directory, and what they refuse."""

from __future__ import annotations

import json
import os
import threading
import time
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from backfills import as_csv, graph, messy_rows, stored, without_runs
from psycopg import sql

from identity_cli import ContactRequest, errors
from identity_cli.backfill import run as backfill_run
from identity_cli.backfill.assignment import BackfillPlan
from identity_cli.backfill.load import Load
from identity_cli.backfill.run import Backfill
from identity_cli.backfill.work import open_work
from identity_cli.graph.service import IdentityService
from identity_cli.graph.verify import verify
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.importer.stop import StopSwitch
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import RECONCILE
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Clone = Callable[[], AbstractContextManager[str]]


def target(url: str) -> Database:
    return Database(connection_parameters(url), embedded=False)


def plan_for(*paths: Path, work: Path | None = None, **options: Any) -> BackfillPlan:
    reading = ImportPlan(tuple(map(str, paths)), **options)
    return BackfillPlan(reading, None if work is None else str(work), "200MB", 2)


def backfill(url: str, *paths: Path, work: Path | None = None, **options: Any) -> Backfill:
    done = Backfill(plan_for(*paths, work=work, **options))
    done.run(target(url))
    return done


def imported(url: str, *paths: Path) -> None:
    importer = Importer(ImportPlan(tuple(map(str, paths)), jobs=1))
    importer.run(target(url))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return as_csv(tmp_path / "a.csv", messy_rows(11, 200))


@pytest.fixture
def other_url(cloned_database: Clone) -> Iterator[str]:
    with cloned_database() as url:
        yield url


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER audit AFTER INSERT ON contact FOR EACH ROW EXECUTE FUNCTION log()",
            "the trigger audit on contact",
        ),
        (
            "CREATE TABLE orders (contact bigint REFERENCES contact)",
            "the foreign key orders_contact_fkey on orders",
        ),
        (
            "CREATE VIEW grouped AS SELECT id, email, count(*) FROM contact GROUP BY id",
            "the view grouped",
        ),
        (
            "CREATE RULE silent AS ON INSERT TO link_evidence DO ALSO NOTHING",
            "the rule silent on link_evidence",
        ),
    ],
)
def test_what_others_have_attached_is_refused_before_anything_is_read(
    database_url: str, file: Path, statement: str, named: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
    with pytest.raises(errors.TargetUnsuitableError, match=named) as raised:
        backfill(database_url, file)
    assert raised.value.hint is not None
    # The fix that the hint names is enough.
    fix = raised.value.hint.removeprefix("run ").partition(",")[0]
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM import_run").fetchone() == (0,)
        connection.execute(fix)  # type: ignore[call-overload]
    assert backfill(database_url, file).status == "finished"


def test_a_disabled_trigger_stays_disabled(database_url: str, file: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER audit AFTER INSERT ON contact FOR EACH ROW EXECUTE FUNCTION log();"
            "ALTER TABLE contact DISABLE TRIGGER audit"
        )
        query = (
            "SELECT tgname, tgenabled::text FROM pg_trigger"
            " WHERE tgrelid = 'contact'::regclass AND NOT tgisinternal ORDER BY tgname"
        )
        before = connection.execute(query).fetchall()
        backfill(database_url, file)
        assert connection.execute(query).fetchall() == before
    assert ("audit", "D") in before


def test_a_role_that_does_not_own_the_tables_is_refused(
    database_url: str, file: Path, tmp_path: Path
) -> None:
    from identity_cli.postgres.roles import grant

    role = f"identity_test_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        try:
            grant(connection, role, read_only=False)
            parameters = connection_parameters(database_url) | {"user": role}
            with pytest.raises(errors.PermissionDeniedError, match="owns the tables"):
                Backfill(plan_for(file)).run(Database(parameters, embedded=False))
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_the_owner_needs_to_be_no_superuser(
    database_url: str, other_url: str, file: Path, server: dict[str, str]
) -> None:
    role = f"identity_owner_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        named = sql.Identifier(role)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(named))
        try:
            row = connection.execute("SELECT current_database()").fetchone()
            assert row is not None
            database = sql.Identifier(row[0])
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, named))
            connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(named))
            for (table,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace"
            ).fetchall():
                connection.execute(
                    sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), named)
                )
            for url in (database_url, other_url):
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute("SELECT forget_values(ARRAY['p1.0@x.org', 'p2.0@x.org'], 1)")
            parameters = connection_parameters(database_url) | {"user": role}
            Backfill(plan_for(file)).run(Database(parameters, embedded=False))
        finally:
            connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(named))
            connection.execute(sql.SQL("DROP ROLE {}").format(named))
    imported(other_url, file)
    assert stored(database_url) == stored(other_url)


def test_another_region_than_that_of_the_contacts_is_refused(
    database_url: str, file: Path, tmp_path: Path
) -> None:
    numbers = as_csv(tmp_path / "us.csv", [("a@x.org", "", "202-555-0143", "")])
    backfill(database_url, numbers, region="US")
    with pytest.raises(errors.ProfileMismatchError):
        backfill(database_url, file, region="DE")
    done = backfill(database_url, numbers)
    assert done.counts.unchanged == 1


def test_a_database_that_is_not_at_head_is_refused(database_url: str, file: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(errors.SchemaNotAtHeadError):
        backfill(database_url, file)


def test_contacts_of_the_future_are_refused(database_url: str, file: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO contact (email, link_precedence, created_at)"
            " VALUES ('a@x.org', 'primary', now() + interval '1 day')"
        )
    with pytest.raises(errors.TargetUnsuitableError, match="future"):
        backfill(database_url, file)


def test_readers_see_the_old_graph_until_the_load_has_ended(
    database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    waited: list[float] = []
    readers: list[threading.Thread] = []
    finish = Load.finish

    def read() -> None:
        started = time.monotonic()
        with psycopg.connect(database_url) as connection:
            seen.append(connection.execute("SELECT count(*) > 0 FROM contact").fetchone())
        waited.append(time.monotonic() - started)

    def finish_slowly(self: Load, *arguments: Any) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute("SELECT FROM contact")
        readers.append(threading.Thread(target=read))
        readers[0].start()
        time.sleep(0.5)
        assert not seen
        finish(self, *arguments)

    monkeypatch.setattr(Load, "finish", finish_slowly)
    backfill(database_url, file)
    readers[0].join()
    assert seen == [(True,)]
    assert waited[0] > 0.4


def test_readers_go_on_while_a_few_rows_are_loaded(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = messy_rows(12, 400)
    imported(database_url, as_csv(tmp_path / "first.csv", rows))
    counts: list[Any] = []
    finish = Load.finish

    def finish_while_others_read(self: Load, *arguments: Any) -> None:
        with psycopg.connect(database_url) as connection:
            counts.append(connection.execute("SELECT count(*) FROM contact").fetchone())
            connection.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute(
                    "INSERT INTO contact (email, link_precedence) VALUES ('n', 'primary')"
                )
        finish(self, *arguments)

    with psycopg.connect(database_url) as connection:
        before = connection.execute("SELECT count(*) FROM contact").fetchone()
    monkeypatch.setattr(Load, "finish", finish_while_others_read)
    done = backfill(database_url, as_csv(tmp_path / "more.csv", [("new@x.org", "", "1", "")]))
    assert counts == [before]
    assert done.counts.created == 1


def test_a_load_that_fails_leaves_everything_as_it_was(
    database_url: str, other_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_url) as connection:
        schema = connection.execute(_SCHEMA).fetchall()

    def fail(_self: Load, *_arguments: Any) -> None:
        raise errors.DatabaseFullError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Load, "finish", fail)
        with pytest.raises(errors.DatabaseFullError):
            backfill(database_url, file)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)
        assert connection.execute(_SCHEMA).fetchall() == schema
        assert connection.execute("SELECT status, error ->> 'code' FROM import_run").fetchall() == [
            ("failed", "database_full")
        ]
    backfill(database_url, file)
    imported(other_url, file)
    assert without_runs(graph(database_url)) == without_runs(graph(other_url))
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute(_SCHEMA).fetchall() == schema
        assert verify(connection).ok


_SCHEMA = """
    SELECT 1, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 2, conname::text, pg_get_constraintdef(oid) || convalidated FROM pg_constraint
    WHERE conrelid <> 0
    UNION ALL
    SELECT 3, tgname::text, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1, 2, 3
"""


def test_ids_follow_those_that_were_given_out(
    database_url: str, other_url: str, file: Path
) -> None:
    for url in (database_url, other_url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT setval(pg_get_serial_sequence('contact', 'id'), 70)")
            connection.execute("SELECT setval(pg_get_serial_sequence('link_evidence', 'id'), 9)")
    backfill(database_url, file)
    imported(other_url, file)
    held = graph(database_url)
    assert held == graph(other_url)
    assert held["contacts"][0][0] == 71


def test_inputs_without_a_single_request(database_url: str, tmp_path: Path) -> None:
    empty = as_csv(tmp_path / "empty.csv", [])
    bad = as_csv(tmp_path / "bad.csv", [("none", "", "", "")])
    done = backfill(database_url, empty, bad)
    assert (done.counts.read, done.counts.rejected) == (1, 1)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM normalization_profile").fetchone() == (0,)


def test_the_first_input_that_cannot_be_read_is_reported_and_nothing_is_loaded(
    database_url: str, file: Path, tmp_path: Path
) -> None:
    cut = as_csv(tmp_path / "cut.csv.gz", messy_rows(13, 3000))
    cut.write_bytes(cut.read_bytes()[:-100])
    (tmp_path / "page.csv").write_text("<html><body>not found</body></html>")
    with pytest.raises(errors.InputUnreadableError) as raised:
        backfill(database_url, file, cut, tmp_path / "page.csv")
    assert raised.value.location.startswith(str(cut))
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)


def test_a_mapped_key_that_no_row_has_ends_before_the_load(
    database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"email": "a@x.org"}\n')
    from identity_cli.importer.formats import InputOptions

    options = InputOptions(mapping=(("email", "email"), ("phone", "fone")))
    with pytest.raises(errors.InputUnreadableError, match="'fone'"):
        backfill(database_url, path, options=options)


class TestWorkDirectory:
    """What is done stays done, and other work is not mixed with it."""

    def test_inputs_that_were_read_are_not_read_again(
        self, database_url: str, other_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = [as_csv(tmp_path / f"{i}.csv", messy_rows(20 + i, 100)) for i in range(3)]
        good = files[2].read_bytes()
        files[2].write_bytes(b"<html>")
        work = tmp_path / "w"
        with pytest.raises(errors.InputUnreadableError):
            backfill(database_url, *files, work=work)
        kept = {path: path.stat().st_mtime_ns for path in (work / "parts").iterdir()}
        assert len(kept) == 2
        files[2].write_bytes(good)
        with pytest.raises(errors.UsageError, match=r"2\.csv has changed since") as raised:
            backfill(database_url, *files, work=work)
        assert raised.value.hint is not None
        assert "--restart" in raised.value.hint
        files[2].write_bytes(b"<html>")
        with pytest.raises(errors.InputUnreadableError):
            backfill(database_url, *files, work=work)
        assert {path: path.stat().st_mtime_ns for path in (work / "parts").iterdir()} == kept
        files[2].write_bytes(good)
        backfill(database_url, *files, work=work, restart=True)
        imported(other_url, *files)
        assert without_runs(graph(database_url)) == without_runs(graph(other_url))

    def test_a_file_that_keeps_its_size_is_compared_by_its_content(
        self, database_url: str, file: Path, tmp_path: Path
    ) -> None:
        work = tmp_path / "w"
        Backfill(plan_for(file, work=work)).compute(None)
        manifest = json.loads((work / "manifest.json").read_bytes())
        manifest["reports"][0]["content"] = "0" * 64
        (work / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(errors.UsageError, match="has changed since"):
            backfill(database_url, file, work=work)

    def test_other_options_are_refused(self, file: Path, tmp_path: Path) -> None:
        work = tmp_path / "w"
        Backfill(plan_for(file, work=work)).compute(None)
        with pytest.raises(errors.UsageError, match="other options for reading: region"):
            Backfill(plan_for(file, work=work, region="US")).compute(None)

    def test_two_at_once_are_refused(self, database_url: str, file: Path, tmp_path: Path) -> None:
        with open_work(str(tmp_path / "w")), pytest.raises(errors.InputBusyError):
            backfill(database_url, file, work=tmp_path / "w")

    def test_another_directory_is_left_alone(
        self, database_url: str, file: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "mine"
        (folder / "parts").mkdir(parents=True)
        (folder / "parts" / "engine.txt").write_text("keep")
        with pytest.raises(errors.UsageError, match="not empty"):
            backfill(database_url, file, work=folder, restart=True)
        assert [path.name for path in folder.iterdir()] == ["parts"]
        with pytest.raises(errors.UsageError, match="not the work directory"):
            Backfill(plan_for(work=folder)).load(target(database_url))

    def test_a_temporary_one_is_removed(
        self, database_url: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        backfill(database_url, file)
        monkeypatch.setattr(backfill_run, "check_target", _fail)
        with pytest.raises(ZeroDivisionError):
            backfill(database_url, file)
        assert not list(tmp_path.glob("identity-backfill-*"))


def _fail(_connection: object) -> None:
    raise ZeroDivisionError


def test_a_stop_ends_the_run_and_the_same_backfill_resumes(
    database_url: str, other_url: str, file: Path, tmp_path: Path
) -> None:
    switch = StopSwitch()
    stopped = Backfill(
        plan_for(file, work=tmp_path / "w"),
        switch,
        lambda text: switch.request() if "locking" in text else None,
    )
    stopped.run(target(database_url))
    assert stopped.status == "stopped"
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT status FROM import_run").fetchall() == [("stopped",)]
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)
    backfill(database_url, file, work=tmp_path / "w")
    imported(other_url, file)
    assert without_runs(graph(database_url)) == without_runs(graph(other_url))


def test_requests_of_others_before_the_load_count_as_held(
    database_url: str, other_url: str, file: Path, service: IdentityService
) -> None:
    request = ContactRequest("p1.0@x.org", "5559999")

    def reconcile(text: str) -> None:
        if "locking" in text:
            service.reconcile(request)

    Backfill(plan_for(file), say=reconcile).run(target(database_url))
    with target(other_url).connect(session=RECONCILE) as connection:
        IdentityService(connection).reconcile(request)
    imported(other_url, file)
    assert stored(database_url) == stored(other_url)


def test_tables_in_a_publication_keep_their_indexes(
    database_url: str, other_url: str, file: Path
) -> None:
    query = "SELECT oid FROM pg_class WHERE relname LIKE '%contact%' ORDER BY oid"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION everything FOR TABLE contact, link_evidence")
        before = connection.execute(query).fetchall()
        backfill(database_url, file)
        assert connection.execute(query).fetchall() == before
    imported(other_url, file)
    assert stored(database_url) == stored(other_url)


def test_a_run_that_was_committed_is_not_marked_as_failed(
    database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Load.finish

    def lose_the_answer(self: Load, *arguments: Any) -> None:
        finish(self, *arguments)
        raise errors.ConnectionLostError

    monkeypatch.setattr(Load, "finish", lose_the_answer)
    with pytest.raises(errors.ConnectionLostError):
        backfill(database_url, file)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT status, error FROM import_run").fetchall() == [
            ("finished", None)
        ]


def test_a_process_that_dies_while_it_reads_is_reported(
    database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = BaseProcess.start

    def start_and_kill(self: BaseProcess) -> None:
        start(self)
        self.kill()

    monkeypatch.setattr(BaseProcess, "start", start_and_kill)
    with pytest.raises(errors.IdentityError, match="has ended unexpectedly"):
        backfill(database_url, file)


def test_an_import_that_began_meanwhile_is_not_overtaken(
    database_url: str, file: Path, tmp_path: Path
) -> None:
    other = as_csv(tmp_path / "other.csv", [("o@x.org", "", "1", "")])

    def import_other(text: str) -> None:
        if "locking" in text:
            imported(database_url, other)

    with pytest.raises(errors.RetryableError, match="another import"):
        Backfill(plan_for(file), say=import_other).run(target(database_url))
    done = backfill(database_url, file)
    assert done.status == "finished"
