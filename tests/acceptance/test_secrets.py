"""Passwords are never shown, and contact data only where it was asked for."""

from __future__ import annotations

import json
import stat
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from identity_cli.cli import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

PLANTED = "hunter2/planted@secret"
ENCODED = "hunter2%2Fplanted%40secret"

COMMANDS = [
    ("identify", "--email", "a@x"),
    ("show", "--email", "a@x"),
    ("explain", "a@x"),
    ("import", "rows.csv", "--summary", "summary.json", "--json"),
    ("export",),
    ("verify",),
    ("runs",),
    ("block", "a@x.org", "--yes"),
    ("history",),
    ("db", "check"),
    ("db", "current"),
    ("db", "upgrade"),
    ("db", "url"),
]


def holds_secret(text: str) -> bool:
    return any(part in text for part in ("hunter2", "planted"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("email,phone\nvaluable@person.example,5550001\nbad,5550002x\n")
    return path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{ENCODED}@127.0.0.1:1/none",
        f"postgres://user:{PLANTED}@127.0.0.1:1/none",
        f"postgresql+psycopg://user:{ENCODED}@nowhere.invalid/none?sslmode=bogus",
        f"mysql://user:{ENCODED}@127.0.0.1/none",
    ],
)
def test_password_in_a_url_that_does_not_work(
    url: str,
    command: tuple[str, ...],
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(rows.parent)
    code = run(list(command))
    if command != ("db", "url"):  # which asks no server
        assert code in (2, 5)
    # As --debug shows it: nothing of it in the causes either.
    try:
        run([*command, "--debug"])
    except Exception:  # noqa: BLE001 - whatever it is, this is its traceback
        sys.stderr.write(traceback.format_exc())
    said = capsys.readouterr()
    assert not holds_secret(said.out)
    assert not holds_secret(said.err)


def test_password_that_works(
    database_url: str, rows: Path, run_identity: Run, tmp_path: Path
) -> None:
    """From PGPASSWORD, from a service file, from the URL: never in what is written."""
    service = tmp_path / "service.conf"
    service.write_text(f"[planted]\npassword={PLANTED}\n")
    joint = "&" if "?" in database_url else "?"
    environments: list[dict[str, str | None]] = [
        {"PGPASSWORD": PLANTED},
        {"PGSERVICEFILE": str(service), "DATABASE_URL": f"{database_url}{joint}service=planted"},
        {"DATABASE_URL": f"{database_url}{joint}password={ENCODED}"},
    ]
    assert run_identity("identify", "--email", "a@x").returncode == 0
    for environment in environments:
        for command in COMMANDS[1:4]:
            done = run_identity(*command, env=environment)
            assert done.returncode in (0, 3), done.stderr
            assert "hunter2" not in done.stdout + done.stderr
        assert "hunter2" not in (tmp_path / "summary.json").read_text()


def test_values_are_not_in_messages(rows: Path, run_identity: Run) -> None:
    done = run_identity("import", "rows.csv")
    assert done.returncode == 3
    for value in ("valuable", "person.example", "5550001", "5550002"):
        assert value not in done.stdout + done.stderr
    refused = run_identity("identify", "--email", "valuable@person.example x", "--debug")
    assert refused.returncode != 0
    for line in refused.stderr.splitlines():
        assert "valuable" not in line or line.lstrip().startswith("identity")


def test_files_with_contact_data_are_private(rows: Path, run_identity: Run, tmp_path: Path) -> None:
    options = ("--outcomes", "outcomes.jsonl", "--summary", "summary.json")
    assert run_identity("import", "rows.csv", *options).returncode == 3
    assert run_identity("export", "-o", "contacts.csv").returncode == 0
    written = ["outcomes.jsonl", "summary.json", "rows.csv.1.rejects", "contacts.csv"]
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in written} == {0o600}
    assert json.loads((tmp_path / "summary.json").read_text())["rows"]["rejected"] == 1


def test_tls_parameters_reach_the_driver(run_identity: Run, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-root.pem"
    url = f"postgresql://user@127.0.0.1:1/none?sslmode=verify-full&sslrootcert={missing}"
    done = run_identity("db", "url", env={"DATABASE_URL": url})
    assert done.returncode == 0
    assert f"sslmode=verify-full&sslrootcert={missing}" in done.stdout
