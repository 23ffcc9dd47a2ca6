"""`identity export` and `identity verify` as a shell sees them."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from identity_cli import ContactRequest, IdentityService

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psycopg

    Run = Callable[..., subprocess.CompletedProcess[str]]

COMMAND = (sys.executable, "-m", "identity_cli")


@pytest.fixture
def people(service: IdentityService) -> None:
    for email, phone in (
        ("lorraine@hillvalley.edu", "123456"),
        ("mcfly@hillvalley.edu", "123456"),
        ("george@hillvalley.edu", "919191"),
        ("biffsucks@hillvalley.edu", "717171"),
        ("george@hillvalley.edu", "717171"),
    ):
        service.reconcile(ContactRequest(email, phone))


@pytest.fixture
def crowd(connection: psycopg.Connection[Any]) -> None:
    """More than fits into any pipe."""
    connection.execute(
        "INSERT INTO contact (email, phone_number, link_precedence)"
        " SELECT g || '@x.org', g, 'primary' FROM generate_series(1, 100000) g"
    )


def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DATABASE_URL": database_url,
        "LANG": "C.UTF-8",
    }


@pytest.mark.usefixtures("people")
def test_export_to_standard_output(run_identity: Run) -> None:
    contacts = run_identity("export")
    assert contacts.returncode == 0
    assert contacts.stderr == ""
    lines = contacts.stdout.splitlines()
    assert lines[0] == (
        "id,email,phone_number,linked_id,link_precedence,created_at,updated_at,deleted_at"
    )
    assert [line.split(",")[:5] for line in lines[1:]] == [
        ["1", "lorraine@hillvalley.edu", "123456", "", "primary"],
        ["2", "mcfly@hillvalley.edu", "123456", "1", "secondary"],
        ["3", "george@hillvalley.edu", "919191", "", "primary"],
        ["4", "biffsucks@hillvalley.edu", "717171", "3", "secondary"],
    ]
    assert run_identity("export", "-o", "-").stdout == contacts.stdout

    identities = run_identity("export", "--what", "identities")
    assert [json.loads(line) for line in identities.stdout.splitlines()] == [
        json.loads(run_identity("show", "--id", number, "--json").stdout) for number in (1, 3)
    ]


@pytest.mark.usefixtures("people")
def test_export_to_a_file(run_identity: Run, tmp_path: Path) -> None:
    path = tmp_path / "graph.jsonl"
    first = run_identity("export", "-o", path)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    written = path.read_text("utf-8")
    assert written == run_identity("export", "--format", "jsonl").stdout
    assert json.loads(written.splitlines()[1])["linkedId"] == 1

    # Refused before the database is asked.
    nowhere = {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    again = run_identity("export", "-o", path, env=nowhere)
    assert again.returncode == 2
    assert again.stderr == f"error: {path} exists already\n\nhint: use --force to replace it\n"
    assert run_identity("export", "-o", path, "--force").returncode == 0
    assert path.read_text("utf-8") == written

    failed = run_identity("export", "-o", path, "--force", env=nowhere)
    assert failed.returncode == 5
    assert path.read_text("utf-8") == written
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["graph.jsonl"]


@pytest.mark.usefixtures("people")
def test_parquet_into_a_pipe(database_url: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [*COMMAND, "export", "--format", "parquet"],
        env=environment(database_url, tmp_path),
        capture_output=True,
        check=True,
    )
    table = pq.read_table(io.BytesIO(result.stdout))
    assert table.column("id").to_pylist() == [1, 2, 3, 4]


def test_parquet_to_a_terminal_is_refused(database_url: str, tmp_path: Path) -> None:
    terminal, process_end = pty.openpty()
    try:
        result = subprocess.run(
            [*COMMAND, "export", "--format", "parquet"],
            env=environment(database_url, tmp_path),
            stdout=process_end,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(process_end)
        os.close(terminal)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Parquet cannot be shown on a terminal\n\nhint: ")


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "xlsx"),
        ("--what", "people"),
        ("--format", "jsonl", "--excel-safe"),
        ("--force",),
    ],
)
def test_wrong_usage(run_identity: Run, options: tuple[str, ...]) -> None:
    result = run_identity("export", *options)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "\n\nhint: " in result.stderr


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet", "graphml"])
def test_a_closed_pipe_is_quiet(database_url: str, tmp_path: Path, file_format: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "export", "--format", file_format],
        env=environment(database_url, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert len(process.stdout.read(10)) == 10
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(30) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.usefixtures("people")
def test_a_full_disk_is_reported(database_url: str, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*COMMAND, "export"],
            env=environment(database_url, tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 7
    assert result.stderr.startswith(
        "error: cannot write standard output: No space left on device\n\nhint: "
    )


@pytest.mark.parametrize("path", [".", "none/graph.csv"])
def test_export_to_a_place_without_file_is_an_output_error(run_identity: Run, path: str) -> None:
    result = run_identity("export", "-o", path)
    assert (result.returncode, result.stdout) == (7, "")
    assert result.stderr.startswith("error: ")
    assert "\n\nhint: " in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_no_file(
    connection: psycopg.Connection[Any],
    start_identity: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    # The export waits for the lock, so that the signal finds it at work.
    folder = tmp_path / "out"
    folder.mkdir()
    with connection.transaction():
        connection.execute("LOCK TABLE contact IN ACCESS EXCLUSIVE MODE")
        process = start_identity("export", "-o", folder / "graph.csv")
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'contact'::regclass"
        )
        deadline = time.monotonic() + 30
        while connection.execute(waiting).fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(list(folder.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(30) == code
        assert list(folder.iterdir()) == []
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.usefixtures("people")
def test_verify(run_identity: Run) -> None:
    plain = run_identity("verify")
    assert plain.returncode == 0
    assert plain.stderr == "the graph is correct\n"
    document = run_identity("verify", "--json")
    found = json.loads(document.stdout)
    assert document.stdout.count("\n") == 1
    assert found == {
        "ok": True,
        "contacts": 4,
        "identities": 2,
        "digest": found["digest"],
        "violations": [],
    }
    assert plain.stdout == f"contacts: 4\nidentities: 2\ndigest: {found['digest']}\n"


@pytest.mark.usefixtures("people")
def test_engines_of_verify_print_the_same(run_identity: Run) -> None:
    done = run_identity("verify", "--engine", "duckdb")
    other = run_identity("verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, other.stdout, other.stderr)


def test_engine_that_is_not_installed(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['duckdb'] = None\n")
    done = run_identity("verify", "--engine", "duckdb", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert "--engine duckdb needs the extra 'backfill'" in done.stderr
    assert "pip install 'identity-cli[backfill]'" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_engine_ends_at_once(
    connection: psycopg.Connection[Any],
    tmp_path: Path,
    run_identity: Run,
    number: signal.Signals,
    code: int,
) -> None:
    """A signal while DuckDB is at work, for minutes if nothing stopped it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading\n"
        "from identity_cli.backfill import verification\n"
        "verification._ANCHORS = 'CREATE TABLE anchor AS SELECT a.range FROM range(9000000) a,'"
        " ' range(900000) b WHERE hash(a.range * b.range) % 1000003 = 5'\n"
        f"threading.Timer(3, os.kill, (os.getpid(), {int(number)})).start()\n"
    )
    before = time.monotonic()
    done = run_identity("verify", "--engine", "duckdb", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - before < 20


@pytest.mark.usefixtures("people")
def test_verify_finds_what_was_planted(
    run_identity: Run, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("DELETE FROM link_evidence")
    plain = run_identity("verify")
    assert plain.returncode == 3
    assert plain.stdout.splitlines()[3:] == [
        "link_without_evidence: contact 4: it is linked to contact 3, no evidence joins them"
    ]
    assert plain.stderr == "violations: 1 link_without_evidence\n"
    document = run_identity("verify", "--json")
    assert document.returncode == 3
    found = json.loads(document.stdout)
    assert found["ok"] is False
    assert found["violations"] == [
        {
            "code": "link_without_evidence",
            "contactId": 4,
            "message": "it is linked to contact 3, no evidence joins them",
        }
    ]


@pytest.mark.parametrize("command", ["export", "verify"])
def test_help_shows_an_example(run_identity: Run, command: str) -> None:
    for flag in ("-h", "--help"):
        result = run_identity(command, flag)
        assert result.returncode == 0
        assert f"Example:\n    identity {command}" in result.stdout


def test_their_modules_do_without_sqlalchemy() -> None:
    program = (
        "import sys, identity_cli.exporter.export, identity_cli.exporter.graphml,"
        " identity_cli.graph.verify, identity_cli.postgres.snapshot;"
        " sys.exit('sqlalchemy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
