"""`identity report`: the file that is mailed every night."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def two_nights(run_identity: Run, tmp_path: Path) -> None:
    """Two imports: the second makes a hub, doubles an identity, and has rejects in two files."""
    (tmp_path / "monday.csv").write_text("email,phone\nlorraine@hillvalley.edu,123456\n")
    callers = "".join(f"caller{number}@x.org,123456\n" for number in range(25))
    (tmp_path / "tuesday.csv").write_text(f"email,phone\n{callers}no email,\n")
    (tmp_path / "crm.csv").write_text("email,phone\ndoc@x.org,\nbad,\nworse,\n,no number\n")
    assert run_identity("import", "monday.csv", "-q").returncode == 0
    done = run_identity("import", "tuesday.csv", "crm.csv", "-q", "--max-rejects", "9")
    assert done.returncode == 0


@pytest.mark.usefixtures("two_nights")
def test_report_has_warnings_changes_and_rejects_by_file(run_identity: Run, tmp_path: Path) -> None:
    done = run_identity("report", "-o", "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path = tmp_path / "report.html"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    assert "1 identity has at least doubled." in text
    assert "The largest, of primary 1, has 26 contacts and had 1." in text
    assert "1 value has become a hub" in text
    assert "The stored graph is correct: 27 contacts, 2 identities." in text
    digest = run_identity("verify").stdout.splitlines()[2].removeprefix("digest: ")
    assert f"<code>{digest}</code>" in text
    cells = " ".join(text.replace("<", " <").replace(">", "> ").split())
    for path_, code, rows in (
        ("tuesday.csv", "bad_email", 1),
        ("crm.csv", "bad_email", 2),
        ("crm.csv", "bad_phone", 1),
    ):
        assert (
            f'<td class="path"> {path_} </td> <td class="text"> {code} </td>'
            f' <td class="number"> {rows} </td> <td class="path"> {path_}.2.rejects </td>'
        ) in cells
    assert "123456" not in text
    assert "caller" not in text


@pytest.mark.usefixtures("two_nights")
def test_values_are_an_option(run_identity: Run) -> None:
    done = run_identity("report", "--values")
    assert done.returncode == 0
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert "123456" in done.stdout


def test_existing_file_is_replaced_only_with_force(run_identity: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    done = run_identity("report", "-o", "report.html")
    assert done.returncode == 2
    assert "use --force to replace it" in done.stderr
    assert path.read_text() == "mine"
    assert run_identity("report", "-o", "report.html", "--force").returncode == 0
    assert "The graph is empty." in path.read_text(encoding="utf-8")
    assert run_identity("report", "--force").returncode == 2
    assert run_identity("report", "-o", "nowhere/report.html").returncode == 7


def test_report_of_a_wrong_graph_shows_the_violations(run_identity: Run, database_url: str) -> None:
    assert run_identity("identify", "--email", "a@x.org", "--phone", "1").returncode == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE contact DISABLE TRIGGER USER")
        connection.execute("UPDATE contact SET anchors_phone = false")
    done = run_identity("report")
    assert done.returncode == 0
    assert "The stored graph is not correct: 1 value_without_anchor." in done.stdout
    assert "identity verify lists the contacts" in done.stdout


def test_report_needs_a_second_connection_only_to_be_faster(
    run_identity: Run, database_url: str
) -> None:
    """The role may connect once."""
    assert run_identity("identify", "--email", "a@x.org", "--phone", "1").returncode == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        role = f"{connection.info.dbname}_reader"
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
        try:
            assert run_identity("db", "grant", role, "--read-only").returncode == 0
            single = database_url + f"&user={role}&password=x"
            done = run_identity("report", env={"DATABASE_URL": single})
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The stored graph is correct: 1 contact, 1 identity." in done.stdout
