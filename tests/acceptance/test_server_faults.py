"""A server that is away, full, read-only or unsuitable, a full disk: clear errors, no loss."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from identity_cli.postgres import roles, schema
from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

ROWS = 15_000
FEW_ROWS = 2_000


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Enough of them to do something while they are read."""
    return write_rows(tmp_path, ROWS)


@pytest.fixture
def few_rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path, FEW_ROWS)


def write_rows(folder: Path, many: int) -> Path:
    path = folder / "rows.csv"
    lines = (f"user{i}@example.com,555{i:06d}\n" for i in range(many))
    path.write_text("email,phone\n" + "".join(lines))
    return path


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM contact").fetchone()
    assert row is not None
    return int(row[0])


def stop_for(server: EmbeddedServer, seconds: float) -> None:
    server.stop()
    time.sleep(seconds)
    server.ensure_running()


@pytest.fixture
def own_server(identity_home: Path) -> Iterator[EmbeddedServer]:
    """A server that a test may stop, reached by URL as any other."""
    with EmbeddedServer(identity_home) as server:
        schema.upgrade(Database(server.connection_parameters(), embedded=False))
        yield server


def url_of(server: EmbeddedServer) -> str:
    return f"postgresql://postgres@/identity?host={server.connection_parameters()['host']}"


def wait_for_rows(url: str, process: subprocess.Popen[str]) -> None:
    while count(url) == 0:
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.slow
def test_server_gone_for_a_while(
    own_server: EmbeddedServer, rows: Path, start_identity: Start
) -> None:
    url = url_of(own_server)
    process = start_identity("import", "rows.csv", "--json", env={"DATABASE_URL": url})
    wait_for_rows(url, process)
    stop_for(own_server, 2)
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "trying again for 60 s" in said
    assert json.loads(printed)["rows"]["created"] == ROWS
    assert count(url) == ROWS


@pytest.mark.slow
def test_server_gone_for_longer_than_the_patience(
    own_server: EmbeddedServer, rows: Path, start_identity: Start, run_identity: Run
) -> None:
    url = url_of(own_server)
    command = ("import", "rows.csv", "--json", "--timeout", "1")
    process = start_identity(*command, env={"DATABASE_URL": url})
    wait_for_rows(url, process)
    own_server.stop()
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 5, said
    assert json.loads(printed)["status"] == "failed"
    assert "\nhint: " in said
    own_server.ensure_running()
    again = run_identity(*command, env={"DATABASE_URL": url})
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["rows"]["created"] == ROWS
    assert count(url) == ROWS


def test_server_that_is_started_late(
    own_server: EmbeddedServer, few_rows: Path, start_identity: Start, run_identity: Run
) -> None:
    url = url_of(own_server)
    own_server.stop()
    at_once = run_identity("import", "rows.csv", env={"DATABASE_URL": url})
    assert at_once.returncode == 5
    process = start_identity("import", "rows.csv", "--timeout", "60", env={"DATABASE_URL": url})
    assert process.stderr is not None
    assert "trying again for 60 s" in process.stderr.readline()
    own_server.ensure_running()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert count(url) == FEW_ROWS


def test_no_connection_left(
    connection: psycopg.Connection[Any], database_url: str, few_rows: Path, start_identity: Start
) -> None:
    role = f"identity_test_{uuid.uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    try:
        roles.grant(connection, role, read_only=False)
        parameters = connection_parameters(database_url) | {"user": role, "password": "x"}
        url = Database(parameters, embedded=False).url
        environment: dict[str, str | None] = {"DATABASE_URL": url, "PGPASSWORD": "x"}
        process = start_identity("import", "rows.csv", "--timeout", "60", env=environment)
        time.sleep(1.5)
        assert process.poll() is None
        connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert count(database_url) == FEW_ROWS
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_read_only_database(
    connection: psycopg.Connection[Any], few_rows: Path, run_identity: Run
) -> None:
    """As a standby is."""
    run_identity("identify", "--email", "a@x")
    name = sql.Identifier(connection.info.dbname)
    connection.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name)
    )
    for command in (("identify", "--email", "b@x"), ("import", "rows.csv")):
        done = run_identity(*command)
        assert done.returncode == 5
        assert "read-only" in done.stderr
        assert "\nhint: " in done.stderr
    assert run_identity("show", "--email", "a@x").returncode == 0
    assert run_identity("verify").returncode == 0


def test_database_of_another_encoding(
    server: dict[str, str], few_rows: Path, run_identity: Run
) -> None:
    name = f"identity_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(**server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        try:
            url = Database(server | {"dbname": name}, embedded=False).url
            done = run_identity("import", "rows.csv", env={"DATABASE_URL": url})
        finally:
            admin.execute(f"DROP DATABASE {name}")
    assert done.returncode == 5
    assert "SQL_ASCII" in done.stderr
    assert "ENCODING 'UTF8'" in done.stderr


def test_disk_of_the_server_is_full(
    connection: psycopg.Connection[Any], few_rows: Path, run_identity: Run
) -> None:
    """After some rows the server says so; when there is room again the same command ends it."""
    connection.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.line > 1200 THEN RAISE 'no space left on device' USING ERRCODE = '53100';"
        " END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON contact"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    done = run_identity("import", "rows.csv", "--json", "--jobs", "1")
    assert done.returncode == 5, done.stderr
    assert "no space left" in done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    connection.execute("DROP TRIGGER full_disk ON contact")
    again = run_identity("import", "rows.csv", "--json", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["rows"]["created"] == FEW_ROWS


@pytest.mark.parametrize("option", ["--outcomes", "--rejects"])
def test_disk_for_the_results_is_full(option: str, few_rows: Path, run_identity: Run) -> None:
    few_rows.write_text(few_rows.read_text() + "".join(f"nobody{i},\n" for i in range(3000)))
    done = run_identity("import", "rows.csv", option, "/dev/full", "--json")
    assert done.returncode == 7
    failed = json.loads(done.stdout)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "output")
    [shown] = json.loads(run_identity("runs", "--json").stdout)
    assert (shown["status"], shown["error"]["code"]) == ("failed", "output")
    assert "error: cannot write /dev/full: No space left on device" in done.stderr
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    again = run_identity("import", "rows.csv", option, "room", "--json", "--restart")
    assert again.returncode == 3, again.stderr
    summary = json.loads(again.stdout)
    assert summary["rows"]["created"] + summary["rows"]["unchanged"] == FEW_ROWS


def test_summary_that_cannot_be_written(few_rows: Path, run_identity: Run) -> None:
    done = run_identity("import", "rows.csv", "--summary", "no/such/folder/summary.json")
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert run_identity("import", "rows.csv").returncode == 0


def test_table_locked_for_a_while(database_url: str, few_rows: Path, start_identity: Start) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE contact IN EXCLUSIVE MODE")
        process = start_identity("import", "rows.csv")
        release = threading.Timer(2, other.rollback)
        release.start()
        _, said = process.communicate(timeout=120)
        release.join()
    assert process.returncode == 0, said
    assert count(database_url) == FEW_ROWS
