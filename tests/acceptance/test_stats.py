"""`identity stats`: what a person, a pipe and a script see."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

PEOPLE = """email,phone
lorraine@hillvalley.edu,123456
mcfly@hillvalley.edu,123456
george@hillvalley.edu,919191
biffsucks@hillvalley.edu,717171
george@hillvalley.edu,717171
nobody,
"""


@pytest.fixture
def imported(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    assert run_identity("import", "people.csv", "-q", "--max-rejects", "1").returncode == 0


def test_stats_of_an_empty_database(run_identity: Run) -> None:
    done = run_identity("stats")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("contacts: 0\nidentities: 0\n")
    assert "deduplication rate: -\n" in done.stdout
    assert "largest" not in done.stdout


@pytest.mark.usefixtures("imported")
def test_stats_into_a_pipe_are_plain_lines(run_identity: Run) -> None:
    done = run_identity("stats")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "contacts: 4" in lines
    assert "pairs of values: 5" in lines
    assert "merges: 1" in lines
    assert "deduplication rate: 60.0%" in lines
    assert "  2-3\t2\t4" in lines
    assert "  1\t2\t2\t1" in lines
    assert "  ***56\t2\t1" in lines
    assert "  g***@h***.edu\t2\t3" in lines
    assert "  1\tfinished\t6\t3\t1\t1\t0\t1" in lines
    assert "hillvalley" not in done.stdout
    assert "█" not in done.stdout


@pytest.mark.usefixtures("imported")
def test_values_and_top_are_options(run_identity: Run) -> None:
    done = run_identity("stats", "--values", "--top", "1")
    assert "  123456\t2\t1\n" in done.stdout
    assert "919191" not in done.stdout
    assert "  1\t2\t2\t1\n" in done.stdout
    assert "  3\t2\t2\t2\n" not in done.stdout
    assert run_identity("stats", "--top", "0").returncode == 2


@pytest.mark.usefixtures("imported")
def test_stats_as_json_has_the_documented_schema(run_identity: Run) -> None:
    done = run_identity("stats", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found.pop("taken_at").endswith("+00:00")
    [run] = found.pop("runs")
    assert run.pop("started_at") < run.pop("finished_at")
    assert run == {
        "run_id": 1,
        "status": "finished",
        "rows": found["rows"],
        "new_contacts": 4,
        "new_identities": 3,
        "merges": 1,
        "contacts": 4,
        "identities": 2,
    }
    assert found == {
        "schema_version": 1,
        "contacts": 4,
        "identities": 2,
        "values": {"emails": 4, "phone_numbers": 3},
        "evidence": {"pairs": 5, "held": 0, "merges": 1},
        "sizes": [
            {"least": 1, "most": 1, "identities": 0, "contacts": 0},
            {"least": 2, "most": 3, "identities": 2, "contacts": 4},
        ],
        "largest": [
            {"primary_id": 1, "contacts": 2, "emails": 2, "phone_numbers": 1},
            {"primary_id": 3, "contacts": 2, "emails": 2, "phone_numbers": 2},
        ],
        "hubs": {
            "more_than": 20,
            "count": 0,
            "values": [
                {"value": "***56", "partners": 2, "primary_id": 1},
                {"value": "***71", "partners": 2, "primary_id": 3},
                {"value": "g***@h***.edu", "partners": 2, "primary_id": 3},
            ],
        },
        "deduplication": {"requests": 5, "contacts": 4, "identities": 2, "rate": 0.6},
        "rows": {
            "read": 6,
            "created": 3,
            "linked": 1,
            "merged": 1,
            "unchanged": 0,
            "blocked": 0,
            "rejected": 1,
            "partial": 0,
        },
    }
    assert "123456" in run_identity("stats", "--json", "--values").stdout


@pytest.mark.usefixtures("imported")
def test_stats_on_a_terminal_have_bars_and_progress(database_url: str, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "identity_cli", "stats", "--database-url", database_url],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # the program has closed its end
        pass
    finally:
        os.close(leader)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "█" * 30 in text
    assert "%/s  0:00:0" in text  # the progress bar
