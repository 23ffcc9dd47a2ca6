"""Progress of every long command: bars on a terminal, events for programs, metrics in a file."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/progress.schema.json").read_text())
# Each long command, with its phases; the last event has done all of the total, if that is known.
COMMANDS: dict[tuple[str, ...], list[str]] = {
    ("backfill", "contacts.csv"): [
        *("reading", "held rows", "computing"),
        *("contacts", "evidence", "checks", "commit"),
    ],
    ("import", "contacts.jsonl"): ["rows", "shared values"],
    ("import", "contacts.jsonl", "--dry-run", "-q"): ["rows", "shared values", "preview"],
    ("annotate", "contacts.csv", "-o", "annotated.csv", "--force"): ["rows"],
    ("inspect", "contacts.csv"): ["rows"],
    ("verify",): ["counting", "contacts", "graph", "values", "links", "evidence", "digest"],
    ("verify", "--engine", "duckdb"): ["contacts", "graph", "values", "links", "digest"],
    ("stats",): ["contacts", "evidence", "identities", "shared values", "runs"],
    ("report", "-o", "report.html", "--force"): [
        *("contacts", "evidence", "identities", "shared values", "runs"),
        *("changes", "verification"),
    ],
    ("export", "-o", "out.csv", "--force"): ["counting", "contacts"],
    ("export", "-o", "out.jsonl", "--force", "--what", "identities"): ["counting", "identities"],
    ("export", "-o", "out.graphml", "--force"): ["counting", "contacts"],
    ("export", "-o", "out.parquet", "--force"): ["counting", "contacts"],
    ("block", "info@x.org", "--yes"): ["waiting", "applying", "comparing"],
    ("unblock", "info@x.org", "--yes"): ["waiting", "applying", "comparing"],
    ("unlink", "a@x.org", "5551234", "--yes"): ["waiting", "applying", "comparing"],
    ("relink", "a@x.org", "5551234", "--yes"): ["waiting", "applying", "comparing"],
    ("policy", "set", "hub-limit-phone", "4", "--yes"): ["waiting", "applying", "comparing"],
    ("policy", "allow", "5551234", "--yes"): ["waiting", "applying", "comparing"],
    ("policy", "disallow", "5551234", "--yes"): ["waiting", "applying", "comparing"],
    ("policy", "off", "--yes"): ["waiting", "applying", "comparing"],
    ("forget", "info@x.org", "--yes"): ["waiting", "applying", "comparing"],
    ("undo", "3", "--yes"): ["waiting", "applying", "comparing"],
}
WITHOUT_TOTAL = {"block", "unblock", "unlink", "relink", "policy", "forget", "undo"}


def events(text: str) -> list[dict[str, Any]]:
    """Return the events among the other lines, as the documentation says how to find them."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for event in found:
        jsonschema_rs.validate(SCHEMA, event)
    return found


def in_order(phases: list[str]) -> list[str]:
    """Return each phase once; one that comes again later comes twice."""
    return [phase for phase, _ in groupby(phases)]


def test_every_long_command_writes_events(run_identity: Run, tmp_path: Path) -> None:
    for name in ("contacts.csv", "contacts.jsonl"):
        shutil.copy(ROOT / "samples" / name, tmp_path)
    assert run_identity("import", "contacts.csv", "-q").returncode == 0
    for command, phases in COMMANDS.items():
        done = run_identity(*command, "--progress", "json")
        assert done.returncode == 0, (command, done.stderr)
        found = events(done.stderr)
        assert in_order([event["phase"] for event in found]) == phases, command
        name = " ".join(command[:2] if command[0] == "policy" else command[:1])
        assert {event["command"] for event in found} == {name.replace("policy off", "policy set")}
        assert [event["done"] for event in found] == sorted(event["done"] for event in found)
        last = found[-1]
        if command[0] in WITHOUT_TOTAL:
            assert last["total"] is None
        else:
            assert last["done"] == last["total"], command
            assert last["total"] > 0
            assert last["eta"] == 0
        assert not any(line.startswith("{") for line in done.stdout.splitlines()), command


def test_halves_of_a_backfill_report_their_own_phases(run_identity: Run, tmp_path: Path) -> None:
    shutil.copy(ROOT / "samples/contacts.csv", tmp_path)
    phases = {
        ("compute", "contacts.csv"): ["reading", "computing"],
        ("load",): ["contacts", "evidence", "indexes", "checks", "commit"],
    }
    for command, expected in phases.items():
        done = run_identity("backfill", *command, "--work", "work", "--progress", "json")
        assert done.returncode == 0, done.stderr
        found = events(done.stderr)
        assert in_order([event["phase"] for event in found]) == expected
        assert {event["command"] for event in found} == {f"backfill {command[0]}"}
        assert [event["done"] for event in found] == sorted(event["done"] for event in found)
        assert found[-1]["done"] == found[-1]["total"] == 100


def test_rows_of_an_export_are_its_total(run_identity: Run, tmp_path: Path) -> None:
    shutil.copy(ROOT / "samples/contacts.csv", tmp_path)
    run_identity("import", "contacts.csv", "-q")
    done = run_identity("export", "--progress", "json")
    contacts = len(done.stdout.splitlines()) - 1
    assert [event["total"] for event in events(done.stderr)] == [None, contacts, contacts]


def test_upgrade_reports_every_revision(run_identity: Run, empty_database_url: str) -> None:
    environment = {"DATABASE_URL": empty_database_url}
    done = run_identity("db", "upgrade", "--progress", "json", env=environment)
    assert done.returncode == 0, done.stderr
    found = events(done.stderr)
    revisions = sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("0*.py"))
    assert in_order([event["phase"] for event in found]) == [
        *(f"revision {revision}" for revision in revisions),
        "constraints",
    ]
    assert found[-1]["done"] == found[-1]["total"] == len(revisions) + 1
    again = run_identity("db", "upgrade", "--progress", "json", env=environment)
    assert in_order([event["phase"] for event in events(again.stderr)]) == ["constraints"]


def on_terminal(database_url: str, folder: Path, *arguments: str) -> str:
    """Run a command with standard error on a terminal; return what it wrote there."""
    leader, follower = pty.openpty()
    try:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm"}
        with subprocess.Popen(
            [sys.executable, "-m", "identity_cli", *arguments],
            env=environment | {"DATABASE_URL": database_url, "COLUMNS": "80"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=follower,
            cwd=folder,
        ) as process:
            os.close(follower)
            found = b""
            while True:
                try:
                    found += os.read(leader, 4096)
                except OSError:  # the process has closed it
                    break
            assert process.wait(60) == 0
    finally:
        os.close(leader)
    return found.decode()


@pytest.mark.parametrize(
    "command",
    [
        ("verify",),
        ("stats",),
        ("report",),
        ("export", "-o", "x.csv"),
        ("import", "contacts.jsonl"),
        ("annotate", "contacts.csv"),
    ],
    ids=lambda command: command[0],
)
def test_bar_on_a_terminal_has_the_rate_and_the_time_left(
    run_identity: Run, database_url: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    for name in ("contacts.csv", "contacts.jsonl"):
        shutil.copy(ROOT / "samples" / name, tmp_path)
    run_identity("import", "contacts.csv", "-q")
    shown = on_terminal(database_url, tmp_path, *command)
    assert "/s  0:00:0" in shown
    assert " left" in shown
    (tmp_path / "x.csv").unlink(missing_ok=True)
    assert "\x1b[?25l" not in on_terminal(database_url, tmp_path, *command, "--progress", "none")


def test_no_bar_is_drawn_over_an_export_to_standard_output(
    database_url: str, tmp_path: Path
) -> None:
    assert on_terminal(database_url, tmp_path, "export") == ""


def metrics(path: Path) -> dict[str, float]:
    """Return the samples without labels beside the file's, as Prometheus' own parser reads them."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
        if set(sample.labels) == {"file"}
    }


def test_metrics_of_import_and_verify(
    run_identity: Run, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\nbad\n")
    before = time.time()
    done = run_identity("import", "a.csv", "--metrics", "import.prom")
    assert done.returncode == 3
    found = metrics(tmp_path / "import.prom")
    assert found["identity_import_exit_code"] == 3
    assert before - 1 < found["identity_import_finished_timestamp_seconds"] < time.time() + 1
    assert run_identity("verify", "--metrics", "verify.prom").returncode == 0
    found = metrics(tmp_path / "verify.prom")
    assert (found["identity_verify_exit_code"], found["identity_verify_contacts"]) == (0, 1)
    connection.execute("SET session_replication_role = replica")
    connection.execute("UPDATE contact SET email = 'b@x.org', anchors_email = false")
    assert run_identity("verify", "--metrics", "verify.prom").returncode == 3
    found = metrics(tmp_path / "verify.prom")
    assert found["identity_verify_exit_code"] == 3
    assert found["identity_verify_violations"] > 0
    assert sorted(os.listdir(tmp_path)) == [
        *("a.csv", "a.csv.1.rejects", "import.prom", "verify.prom"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("import", "missing.csv"), 2),
        (("import", "a.csv", "--jobs", "x"), 2),
        (("import", "a.csv", "--no-such-option"), 2),
        (("import", "a.csv", "--max-rejects", "x"), 2),
        (("import", "a.csv", "--database-url", "postgresql://127.0.0.1:1/x"), 5),
        (("import", "a.csv", "--summary", "/dev/full"), 7),
        (("import", "broken.csv"), 4),
        (("verify", "--no-such-option"), 2),
        (("verify", "--database-url", "postgresql://127.0.0.1:1/x"), 5),
    ],
    ids=lambda one: str(one) if isinstance(one, int) else " ".join(one),
)
def test_failure_has_metrics_with_its_exit_code(
    run_identity: Run, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    (tmp_path / "broken.csv").write_text('email\n"a@x.org\n')
    done = run_identity(*arguments, "--metrics", "m.prom")
    assert done.returncode == code, done.stderr
    assert metrics(tmp_path / "m.prom")[f"identity_{arguments[0]}_exit_code"] == code


def test_metrics_never_replace_an_input_or_another_result(
    run_identity: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    for arguments in (("--metrics", "a.csv"), ("--metrics", "s", "--summary", "s")):
        for wrong in ((), ("--jobs", "x")):
            done = run_identity("import", "a.csv", *arguments, *wrong)
            assert done.returncode == 2
            assert (tmp_path / "a.csv").read_text() == "email\na@x.org\n"
    assert run_identity("import", "a.csv", "--metrics", "nowhere/m.prom").returncode == 7
    assert run_identity("verify", "--metrics", "nowhere/m.prom").returncode == 7


def test_metrics_that_cannot_be_written_do_not_hide_an_error(
    run_identity: Run, tmp_path: Path
) -> None:
    done = run_identity("import", "missing.csv", "--metrics", "/dev/full")
    assert done.returncode == 2
    assert "error: missing.csv" in done.stderr
    assert "note: cannot write /dev/full" in done.stderr
    assert run_identity("verify", "--metrics", "/dev/full").returncode == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_verification_has_metrics(
    start_identity: Start,
    connection: psycopg.Connection[Any],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    with connection.transaction():
        connection.execute("LOCK TABLE link_evidence IN ACCESS EXCLUSIVE MODE")
        process = start_identity("verify", "--metrics", "m.prom", "--progress", "json")
        assert process.stderr is not None
        # It counts what there is to read, and waits for the lock.
        deadline = time.monotonic() + 30
        while not connection.execute(
            "SELECT FROM pg_locks WHERE relation = 'link_evidence'::regclass AND NOT granted"
        ).rowcount:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) == code
    found = metrics(tmp_path / "m.prom")
    assert found["identity_verify_exit_code"] == code
    assert "identity_verify_contacts" not in found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_import_has_metrics(
    start_identity: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start_identity("import", "-", "--input-format", "csv", "--metrics", "m.prom")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("email\n" + "".join(f"p{i}@x.org\n" for i in range(3000)))
    process.stdin.flush()
    assert "emails from" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(30) == code
    assert metrics(tmp_path / "m.prom")["identity_import_exit_code"] == code
