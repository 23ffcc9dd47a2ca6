"""What one request, one connection or one folder refuses does not end an import."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from identity_cli.postgres import roles
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]


def trigger(connection: psycopg.Connection[Any], body: str, *, kind: str = "") -> None:
    connection.execute(
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}"
        f" RETURN NEW; END $$; CREATE {kind} TRIGGER refuse"
        f" {'AFTER' if kind else 'BEFORE'} INSERT ON contact"
        f" {'DEFERRABLE INITIALLY DEFERRED' if kind else ''} FOR EACH ROW"
        " EXECUTE FUNCTION refuse()"
    )


@pytest.mark.parametrize("kind", ["", "CONSTRAINT"], ids=["trigger", "deferred"])
@pytest.mark.parametrize("state", ["P0001", "MY001", "42501", "23514", "22023"])
def test_refused_row_is_a_reject_with_its_line(
    run_identity: Run,
    connection: psycopg.Connection[Any],
    tmp_path: Path,
    state: str,
    kind: str,
) -> None:
    trigger(
        connection,
        f"IF NEW.email = 'c@x.org' THEN RAISE 'no c@x.org' USING ERRCODE = '{state}'; END IF;",
        kind=kind,
    )
    (tmp_path / "a.csv").write_text("email\n" + "".join(f"{c}@x.org\n" for c in "abcdefgh"))
    done = run_identity("import", "a.csv", "--json")
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["status"], summary["rows"]["created"]) == ("finished", 7)
    assert summary["rejected_by_code"] == {"refused": 1}
    reject = f"a.csv:4: rejected: refused: the database refused the request (SQLSTATE {state})"
    assert reject in done.stderr
    assert "c@x.org" not in done.stderr


def test_status_of_a_run_that_fails_at_its_end_is_failed(
    run_identity: Run, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    trigger(connection, "RAISE 'disk' USING ERRCODE = '53100';")
    (tmp_path / "a.csv").write_text("email\n" + "".join(f"{c}@x.org\n" for c in "abcdefgh"))
    done = run_identity("import", "a.csv", "--summary", "s.json")
    assert done.returncode == 5
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["status"], summary["error"]["code"]) == ("failed", "database_full")
    [shown] = json.loads(run_identity("runs", "--json").stdout)
    assert (shown["status"], shown["error"]["code"]) == ("failed", "database_full")


def test_import_goes_on_with_the_connections_that_there_are(
    run_identity: Run, connection: psycopg.Connection[Any], database_url: str, tmp_path: Path
) -> None:
    role = f"identity_test_{uuid.uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 2")
    try:
        roles.grant(connection, role, read_only=False)
        parameters = connection_parameters(database_url) | {"user": role, "password": "x"}
        url = Database(parameters, embedded=False).url
        lines = "".join(f"user{i}@example.com,{i}\n" for i in range(3000))
        (tmp_path / "a.csv").write_text("email,phone\n" + lines)
        environment = {"DATABASE_URL": url, "PGPASSWORD": "x"}
        done = run_identity("import", "a.csv", "--jobs", "4", "--json", env=environment)
        assert done.returncode == 0, done.stderr
        assert "continuing with 1 of 4 connections" in done.stderr
        assert json.loads(done.stdout)["rows"]["created"] == 3000
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_term_during_a_long_wait_ends_within_seconds(
    start_identity: Start, run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    lines = "".join(f"user{i}@example.com,{i}\n" for i in range(5000))
    (tmp_path / "a.csv").write_text("email,phone\n" + lines)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT reconcile('user2000@example.com', NULL)")
        process = start_identity("import", "a.csv", "--json", "--jobs", "1")
        time.sleep(3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=30)
        assert process.returncode == 143, said
        assert time.monotonic() - started < 10
        read = json.loads(out)["rows"]["read"]
        assert 0 < read <= 2000
        other.rollback()
    again = run_identity("import", "a.csv", "--json", "--jobs", "1")
    assert f"resuming run 1 after {read} rows" in again.stderr
    assert json.loads(again.stdout)["rows"]["created"] == 5000


def test_many_inputs_are_opened_one_at_a_time(
    run_identity: Run, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    names = [f"{i}.csv" for i in range(1100)]
    for i, name in enumerate(names):
        (tmp_path / name).write_text(f"email\nuser{i}@example.com\n")
    started = time.monotonic()
    done = run_identity("import", *names, "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30
    assert json.loads(done.stdout)["rows"]["created"] == 1100
    # A fact of any input leads back to its file and line.
    found = connection.execute(
        "SELECT input ->> 'path', line - (input ->> 'first_line')::int FROM contact"
        " JOIN import_run ON import_run.id = run_id, jsonb_array_elements(inputs) AS input"
        " WHERE email = 'user700@example.com' AND (input ->> 'first_line')::int < line"
        " ORDER BY (input ->> 'first_line')::int DESC LIMIT 1"
    ).fetchall()
    assert found == [("700.csv", 2)]


def test_second_night_with_rejects_beside_the_inputs(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "contacts.csv").write_text("email\na@x.org\nbad\n")
    for night in (1, 2):
        names = sorted(path.name for path in tmp_path.glob("*.csv"))
        assert run_identity("import", *names).returncode == 3
        assert (tmp_path / f"contacts.csv.{night}.rejects").exists()
    assert run_identity("import", "contacts.csv", "--rejects", "r").returncode == 3
    (tmp_path / "contacts.csv").write_text("email\na@x.org\n")
    assert run_identity("import", "contacts.csv", "--rejects", "r").returncode == 0
    assert not (tmp_path / "r").exists()


def test_rejects_of_a_pipe_without_a_folder_go_to_the_current_one(
    start_identity: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "pipes"
    folder.mkdir()
    os.mkfifo(folder / "rows.csv")
    process = start_identity("import", "pipes/rows.csv")
    writer = threading.Thread(
        target=(folder / "rows.csv").write_text, args=("email\na@x.org\nbad\n",)
    )
    writer.start()
    _, said = process.communicate(timeout=30)
    writer.join()
    assert process.returncode == 3, said
    assert (tmp_path / "rows.csv.1.rejects").read_text().splitlines()[1].startswith("bad,")


@pytest.mark.parametrize(("least", "code"), [(3, 3), (2, 0)])
def test_import_of_fewer_rows_than_expected_is_an_error(
    run_identity: Run, tmp_path: Path, least: int, code: int
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\nb@x.org\n")
    done = run_identity("import", "a.csv", "--json", "--min-rows", least)
    assert done.returncode == code, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error and error["code"]) == ("too_few_rows" if code else None)


@pytest.mark.parametrize(("share", "code"), [("49%", 3), ("50%", 0)])
def test_rejects_may_be_limited_by_their_share(
    run_identity: Run, tmp_path: Path, share: str, code: int
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\nbad\n")
    assert run_identity("import", "a.csv", "--max-rejects", share).returncode == code


def test_mapped_key_that_no_row_has_is_an_error_at_the_end(
    run_identity: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"email": "a@x.org", "mobile_no": 1}\n')
    done = run_identity("import", "a.jsonl", "--map", "phone=moblie_no", "--json")
    assert done.returncode == 4, done.stderr
    assert "no row has the key 'moblie_no'" in done.stderr
    assert json.loads(done.stdout)["rows"]["created"] == 1
