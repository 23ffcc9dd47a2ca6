"""Rules as a user meets them: identify, import, annotate and inspect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from steering import Player

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    import psycopg

    Run = Callable[..., subprocess.CompletedProcess[str]]

ROWS = """email,phone
a@x.org,1
info@x.org,
info@x.org,2
info@x.org,00
spam7@y.org,
gone@x.org,
b@x.org,3
"""


@pytest.fixture
def player(connection: psycopg.Connection[Any]) -> Player:
    """A database with a rule of each kind."""
    player = Player(connection)
    player.block(["info@x.org", "00"])
    player.add_pattern("spam.*@y[.]org")
    player.unlink("b@x.org", "3")
    player.forget(["gone@x.org"])
    return player


@pytest.fixture
def rows(tmp_path: Path, player: Player) -> str:
    """The name of a file whose rows meet these rules."""
    (tmp_path / "rows.csv").write_text(ROWS)
    return "rows.csv"


def test_blocked_request_is_kept_and_reported(
    run_identity: Run, player: Player, connection: psycopg.Connection[Any]
) -> None:
    done = run_identity("identify", "--email", "info@x.org", "--phone", "00")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(
        "error: nothing was linked: every value of the request is blocked"
    )
    player.unblock(["info@x.org", "00"])
    done = run_identity("show", "--email", "info@x.org", "--json")
    assert json.loads(done.stdout)["contact"]["phoneNumbers"] == ["00"]


def test_first_request_of_a_database_is_kept_also_if_it_is_blocked(
    run_identity: Run, player: Player, connection: psycopg.Connection[Any]
) -> None:
    done = run_identity("identify", "--email", "info@x.org", "--region", "US")
    assert done.returncode == 4
    stored = connection.execute("SELECT email FROM set_aside_contact").fetchall()
    assert stored == [("info@x.org",)]
    profile = connection.execute("SELECT region FROM normalization_profile").fetchone()
    assert profile == ("US",)


def test_forgotten_request_stores_nothing(
    run_identity: Run, player: Player, connection: psycopg.Connection[Any]
) -> None:
    done = run_identity("identify", "--email", "gone@x.org")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: nothing was stored: every value of the request is forg")
    counts = connection.execute(
        "SELECT (SELECT count(*) FROM contact WHERE id > 0), count(*) FROM set_aside_contact"
    ).fetchone()
    assert counts == (0, 0)


def test_import_counts_blocked_rows_and_rejects_forgotten_ones(
    run_identity: Run, rows: str, tmp_path: Path
) -> None:
    done = run_identity("import", rows, "--outcomes", "outcomes.jsonl", "--json")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    counts = summary["rows"]
    assert counts == {
        "read": 7,
        "created": 3,
        "linked": 0,
        "merged": 0,
        "unchanged": 0,
        "blocked": 3,
        "rejected": 1,
        "partial": 0,
    }
    assert summary["rejected_by_code"] == {"forgotten": 1}
    assert "blocked 3" in done.stderr
    found = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [(one["line"], one["outcome"]) for one in found] == [
        (2, "created"),
        (3, "blocked"),
        (4, "created"),
        (5, "blocked"),
        (6, "blocked"),
        (8, "created"),
    ]
    assert found[1] == {
        "line": 3,
        "outcome": "blocked",
        "primaryContactId": None,
        "contactId": None,
    }
    [_, reject] = (tmp_path / "rows.csv.1.rejects").read_text().splitlines()
    assert (
        reject
        == "gone@x.org,,7,forgotten,nothing was stored: every value of the request is forgotten"
    )

    shown = run_identity("runs", "show", "1")
    assert "blocked: 3\n" in shown.stdout
    again = json.loads(run_identity("import", rows, "--json").stdout)["rows"]
    assert (again["unchanged"], again["blocked"], again["rejected"]) == (3, 3, 1)


def test_blocked_rows_do_not_fail_an_import(run_identity: Run, rows: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("email\ninfo@x.org\nspam1@y.org\n")
    done = run_identity("import", rows, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["blocked"] == 2


def test_annotation_reports_blocked_rows(run_identity: Run, rows: str) -> None:
    done = run_identity("annotate", rows)
    assert [line.rsplit(",", 1)[1] for line in done.stdout.splitlines()[1:]] == [
        "unknown",
        "blocked",
        "unknown",
        "blocked",
        "blocked",
        "unknown",
        "unknown",
    ]
    assert "blocked 3" in done.stderr


def test_inspection_reports_what_the_rules_do(
    run_identity: Run, rows: str, database_url: str, connection: psycopg.Connection[Any]
) -> None:
    done = run_identity("inspect", rows, "--database-url", database_url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rules"] == {
        "rows": {
            "blocked": 3,
            "with_blocked_value": 4,
            "forgotten": 1,
            "with_forgotten_value": 1,
            "unlinked": 1,
        },
        "values": {"blocked": 4, "pattern": 1, "forgotten": 1},
    }
    shown = run_identity("inspect", rows, "--database-url", database_url).stdout
    assert "\nrules of the database\n" in shown
    assert "  rows blocked\t3\n" in shown
    assert connection.execute("SELECT FROM set_aside_contact").fetchall() == []


def test_inspection_without_the_option_asks_no_database(run_identity: Run, rows: str) -> None:
    done = run_identity("inspect", rows, "--json")
    assert json.loads(done.stdout)["rules"] is None
    assert "rules of the database" not in run_identity("inspect", rows).stdout


def test_inspection_reads_numbers_with_the_region_of_the_database(
    run_identity: Run, database_url: str, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    run_identity("identify", "--phone", "202-555-0101", "--email", "a@x.org", "--region", "US")
    Player(connection).block(["+12025550101"])
    (tmp_path / "rows.csv").write_text("phone\n(202) 555-0101\n")
    arguments = ("inspect", "rows.csv", "--database-url", database_url, "--json")
    assert json.loads(run_identity(*arguments).stdout)["rules"]["rows"]["blocked"] == 1
    done = run_identity(*arguments, "--region", "DE")
    assert done.returncode == 5


def test_import_without_the_forget_key_names_it(
    run_identity: Run, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        connection.execute("SELECT set_config('identity.forget_key', 'secret', true)")
        Player(connection).forget(["gone@x.org"])
    (tmp_path / "rows.csv").write_text("email\nb@x.org\n")
    done = run_identity("import", "rows.csv")
    assert done.returncode == 5
    assert "IDENTITY_FORGET_KEY" in done.stderr
