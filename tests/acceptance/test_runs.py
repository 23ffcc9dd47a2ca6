"""`identity runs`: what was imported, when, and how it ended."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

HEADER = "run\tstarted\tstatus\tread\trejected\trows/s\tinput"


def test_no_runs(run_identity: Run) -> None:
    done = run_identity("runs")
    assert (done.returncode, done.stdout) == (0, f"{HEADER}\n")
    done = run_identity("runs", "--json")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    done = run_identity("runs", "show", "1")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr == "error: no run 1\n\nhint: identity runs lists them\n"


def test_runs(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email,phone\na@x.org,1\nbad,\n")
    (tmp_path / "b\t[red].csv").write_text("email\nb@x.org\n")
    assert run_identity("import", "a.csv", "-q").returncode == 3
    assert run_identity("import", "a.csv", "b\t[red].csv", "-q").returncode == 3
    assert run_identity("import", "a.csv", "--dry-run", "-q").returncode == 3

    done = run_identity("runs")
    assert (done.returncode, done.stderr) == (0, "")
    header, second, first = done.stdout.splitlines()
    assert header == HEADER
    cells = first.split("\t")
    assert (cells[0], cells[2:5], cells[6]) == ("1", ["finished", "2", "1"], "a.csv")
    assert datetime.fromisoformat(cells[1]).tzinfo is not None
    assert float(cells[5]) > 0
    assert second.startswith("2\t")

    found = json.loads(run_identity("runs", "--json").stdout)
    assert [one["run_id"] for one in found] == [2, 1]
    assert found[0]["input"] == ["a.csv", "b\t[red].csv"]
    assert found[0]["rows"]["unchanged"] == 1
    assert found[1]["status"] == "finished"
    assert found[1]["rows"] == {
        "read": 2,
        "created": 1,
        "linked": 0,
        "merged": 0,
        "unchanged": 0,
        "blocked": 0,
        "rejected": 1,
        "partial": 0,
    }
    assert datetime.fromisoformat(found[1]["started_at"]) <= datetime.fromisoformat(
        found[1]["finished_at"]
    )
    assert found[1]["seconds"] > 0

    done = run_identity("runs", "show", "1", "--json")
    assert json.loads(done.stdout) == found[1]
    done = run_identity("runs", "show", "1")
    assert "status: finished\n" in done.stdout
    done = run_identity("runs", "--limit", "1", "--json")
    assert [one["run_id"] for one in json.loads(done.stdout)] == [2]
    assert run_identity("runs", "--limit", "0").returncode == 2


def test_a_run_that_goes_on_and_one_that_died(
    run_identity: Run, start_identity: Start, database_url: str
) -> None:
    process = start_identity("import", "-", "--input-format", "csv")
    assert process.stdin is not None
    text = "email\n" + "".join(f"p{i}@x.org\n" for i in range(8000))
    process.stdin.write(text)
    process.stdin.flush()
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(600):
            if connection.execute("SELECT FROM contact LIMIT 1").rowcount:
                break
            time.sleep(0.05)
        shown = json.loads(run_identity("runs", "show", "1", "--json").stdout)
        assert (shown["status"], shown["finished_at"]) == ("running", None)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for _ in range(200):
            shown = json.loads(run_identity("runs", "show", "1", "--json").stdout)
            if shown["status"] != "running":
                break
            time.sleep(0.05)
    assert shown["status"] == "died"
    assert run_identity("runs").stdout.splitlines()[1].split("\t")[2] == "died"
    done = run_identity("import", "-", "--input-format", "csv", "--json", input=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run_id"] == 1
    assert json.loads(done.stdout)["rows"]["created"] == 8000
    shown = json.loads(run_identity("runs", "show", "1", "--json").stdout)
    assert (shown["status"], shown["rows"]["read"]) == ("finished", 8000)


def test_run_that_failed_is_shown_with_its_inputs_and_its_error(
    run_identity: Run, tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    (tmp_path / "b.csv").write_text("email\nb@x.org\n")
    assert run_identity("import", "a.csv", "b.csv", "-q").returncode == 0
    error = {"code": "output", "message": "cannot write o.jsonl", "hint": "make room"}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE import_run SET status = 'failed', error = %s,"
            " inputs = jsonb_set(inputs, '{1,first_line}', '2')",
            (json.dumps(error),),
        )
    shown = run_identity("runs", "show", "1")
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert "run: 1" in lines
    assert "status: failed" in lines
    assert "read: 2" in lines
    assert "input 1: a.csv" in lines
    assert "input 2: b.csv (its line 1 is line 3 of the run)" in lines
    assert "error: output: cannot write o.jsonl" in lines
    assert "hint: make room" in lines
    document = json.loads(run_identity("runs", "show", "1", "--json").stdout)
    assert document["error"] == error
    assert document["inputs"][1] == {"path": "b.csv", "first_line": 2}


def test_runs_of_a_role_with_another_date_style_are_listed(
    run_identity: Run, tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    assert run_identity("import", "a.csv", "-q").returncode == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET DateStyle = 'German'")
    listed = run_identity("runs")
    assert (listed.returncode, listed.stderr) == (0, "")
    shown = json.loads(run_identity("runs", "show", "1", "--json").stdout)
    assert datetime.fromisoformat(shown["started_at"]).tzinfo is not None
