"""`--since` and `--as-of` as a shell sees them."""

from __future__ import annotations

import csv
import io
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from identity_cli import ContactRequest, IdentityService

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    Run = Callable[..., subprocess.CompletedProcess[str]]

REPLAY = Path(__file__).parents[2] / "docs" / "replay.py"
FOREIGN = "since:cae201c9:1-1-1-1:1:1:"


@pytest.fixture
def first_run(run_identity: Run, tmp_path: Path) -> None:
    """Run 1: contacts 1 and 3 are primaries, 2 is a secondary of 1."""
    rows = tmp_path / "monday.csv"
    rows.write_text("email,phone\na@x.org,1111111\nb@x.org,1111111\nc@x.org,3333333\n")
    assert run_identity("import", rows, "-q").returncode == 0


@pytest.fixture
def merge(first_run: None, run_identity: Run) -> None:
    """Contact 3 becomes a secondary of 1, and 4 is new."""
    for email, phone in (("c@x.org", "1111111"), ("d@x.org", "4444444")):
        assert run_identity("identify", "--email", email, "--phone", phone).returncode == 0


def test_changes_are_followed_from_token_to_token(
    first_run: None, run_identity: Run, tmp_path: Path
) -> None:
    done = run_identity("export", "-o", "contacts.csv", "--token-file", "token")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    token_file = tmp_path / "token"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    for request in (("c@x.org", "1111111"), ("d@x.org", "4444444")):
        run_identity("identify", "--email", request[0], "--phone", request[1])
        since = token_file.read_text().strip()
        done = run_identity(
            "export", "--what", "changes", "--since", since, "--token-file", "token",
            "-o", "changes.csv", "--force",
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert token_file.read_text().strip() != since
        replayed = subprocess.run(
            [sys.executable, REPLAY, "contacts.csv", "changes.csv"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        assert replayed == run_identity("export").stdout.encode()
        (tmp_path / "contacts.csv").write_bytes(replayed)
    done = run_identity("export", "--what", "changes", "--since", token_file.read_text().strip())
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.startswith("token: since:")


def test_changes_say_what_was_before(merge: None, run_identity: Run) -> None:
    done = run_identity("export", "--what", "changes", "--since", "1")
    moved, new = csv.DictReader(io.StringIO(done.stdout))
    assert (moved["change"], moved["id"], moved["linked_id"], moved["primary_id"]) == (
        "moved", "3", "1", "1",
    )  # fmt: skip
    assert (moved["old_email"], moved["old_phone_number"], moved["old_primary_id"]) == (
        "c@x.org", "3333333", "3",
    )  # fmt: skip
    assert (new["change"], new["id"], new["primary_id"], new["old_primary_id"]) == (
        "new", "4", "4", "",
    )  # fmt: skip
    assert run_identity("block", "4444444", "d@x.org", "--yes").returncode == 0
    token = done.stderr.removeprefix("token: ").strip()
    done = run_identity("export", "--what", "changes", "--since", token, "--format", "jsonl")
    [gone] = map(json.loads, done.stdout.splitlines())
    assert (gone["change"], gone["id"], gone["email"], gone["primaryId"]) == ("gone", 4, None, None)
    assert (gone["oldEmail"], gone["oldPhoneNumber"], gone["oldPrimaryId"]) == (
        "d@x.org", "4444444", 4,
    )  # fmt: skip


def test_redirects_lead_from_former_primaries(merge: None, run_identity: Run) -> None:
    done = run_identity("export", "--what", "redirects", "--since", "1")
    assert done.stdout == "id,primary_id,status\n3,1,moved\n"
    assert run_identity("block", "d@x.org", "4444444", "--yes").returncode == 0
    done = run_identity("export", "--what", "redirects", "--format", "jsonl")
    assert list(map(json.loads, done.stdout.splitlines())) == [
        {"id": 3, "primaryId": 1, "status": "moved"},
        {"id": 4, "primaryId": None, "status": "blocked"},
    ]
    assert run_identity("forget", "d@x.org", "4444444", "--yes").returncode == 0
    done = run_identity("export", "--what", "redirects")
    assert done.stdout == "id,primary_id,status\n3,1,moved\n4,,gone\n"
    # It was no primary yet when the run ended.
    done = run_identity("export", "--what", "redirects", "--since", "1")
    assert done.stdout == "id,primary_id,status\n3,1,moved\n"


def test_without_since_everything_is_new(merge: None, run_identity: Run, tmp_path: Path) -> None:
    done = run_identity("export", "--what", "changes", "-o", "changes.parquet")
    assert done.stderr.startswith("token: since:")
    table = pq.read_table(tmp_path / "changes.parquet").to_pylist()
    assert [(row["change"], row["id"], row["primary_id"]) for row in table] == [
        ("new", 1, 1), ("new", 2, 1), ("new", 3, 1), ("new", 4, 4),
    ]  # fmt: skip
    assert str(table[0]["created_at"].tzinfo) == "UTC"
    assert table[0]["old_primary_id"] is None


def test_formulas_of_the_past_are_safe_too(run_identity: Run, service: IdentityService) -> None:
    service.reconcile(ContactRequest("=cmd@x.org", "+4412345678"))
    token = run_identity("export", "--what", "changes").stderr.removeprefix("token: ").strip()
    assert run_identity("block", "=cmd@x.org", "+4412345678", "--yes").returncode == 0
    done = run_identity("export", "--what", "changes", "--since", token, "--excel-safe")
    [gone] = csv.DictReader(io.StringIO(done.stdout))
    assert (gone["old_email"], gone["old_phone_number"]) == ("'=cmd@x.org", "'+4412345678")


def test_the_graph_as_it_was(merge: None, run_identity: Run) -> None:
    done = run_identity("export", "--as-of", "1")
    links = [(row["id"], row["linked_id"]) for row in csv.DictReader(io.StringIO(done.stdout))]
    assert links == [("1", ""), ("2", "1"), ("3", "")]
    done = run_identity("export", "--as-of", "1", "--what", "identities")
    assert [json.loads(line)["contact"]["emails"] for line in done.stdout.splitlines()] == [
        ["a@x.org", "b@x.org"], ["c@x.org"],
    ]  # fmt: skip
    assert '<edge source="2" target="1"/>' in run_identity(
        "export", "--as-of", "1", "--format", "graphml"
    ).stdout.replace("\n", "")
    done = run_identity("show", "c@x.org", "--as-of", "1", "--json")
    assert json.loads(done.stdout)["contact"] == {
        "primaryContatctId": 3,
        "emails": ["c@x.org"],
        "phoneNumbers": ["3333333"],
        "secondaryContactIds": [],
    }
    done = run_identity("show", "--email", "a@x.org", "--phone", "1111111", "--as-of", "1")
    assert done.stdout.splitlines()[-1] == "secondaries: 2"
    done = run_identity("explain", "3", "--as-of", "1", "--json")
    assert [branch["value"] for branch in json.loads(done.stdout)["tree"]] == ["c@x.org", "3333333"]
    done = run_identity("explain", "a@x.org", "b@x.org", "--as-of", "1")
    assert "monday.csv:3" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "d@x.org"),
        ("show", "4"),
        ("show", "--email", "a@x.org", "--phone", "3333333"),
        ("explain", "d@x.org"),
        ("explain", "a@x.org", "d@x.org"),
    ],
)
def test_what_was_not_there_yet_is_not_found(
    arguments: tuple[str, ...], merge: None, run_identity: Run
) -> None:
    done = run_identity(*arguments, "--as-of", "1")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: no such contact at that time\n\nhint: ")


def test_two_identities_of_that_time(merge: None, run_identity: Run) -> None:
    assert run_identity("explain", "a@x.org", "c@x.org").returncode == 0
    done = run_identity("explain", "a@x.org", "c@x.org", "--as-of", "1", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["hops"] is None
    assert "were two identities at that time" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "1"),
        ("--what", "identities", "--since", "1"),
        ("--what", "changes", "--as-of", "1"),
        ("--what", "redirects", "--as-of", "1"),
        ("--what", "changes", "--format", "graphml"),
        ("--what", "changes", "--since", ""),
        ("--what", "changes", "--since", "yesterday"),
        ("--what", "changes", "--since", "2020-01-01"),
        ("--what", "changes", "--since", FOREIGN[:-1]),
        ("--as-of", "2999-01-01T00:00Z"),
        ("--as-of", "1", "--token-file", "token"),
        ("--token-file", "-"),
        ("-o", "out.csv", "--token-file", "out.csv"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], run_identity: Run, tmp_path: Path) -> None:
    done = run_identity("export", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "\n\nhint: " in done.stderr
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize("since", ["7", FOREIGN])
def test_a_moment_that_is_not_known_is_not_found(since: str, run_identity: Run) -> None:
    for arguments in (("--what", "changes", "--since", since), ("--as-of", since)):
        done = run_identity("export", *arguments)
        assert (done.returncode, done.stdout) == (4, "")
        assert "\n\nhint: " in done.stderr


def test_a_token_goes_to_standard_output_if_the_data_does_not(
    first_run: None, run_identity: Run, tmp_path: Path
) -> None:
    done = run_identity("export", "-o", "contacts.csv", "--token-file", "-")
    assert done.stdout.startswith("since:")
    assert (tmp_path / "contacts.csv").exists()


def test_a_token_that_cannot_be_written(first_run: None, run_identity: Run, tmp_path: Path) -> None:
    done = run_identity("export", "-o", "contacts.csv", "--token-file", "nowhere/token")
    assert done.returncode == 7
    assert "\n\nhint: " in done.stderr
    # The export is complete, and the older token is still good for it.
    assert len((tmp_path / "contacts.csv").read_text().splitlines()) == 4


def test_an_export_that_was_cut_off_leaves_the_old_token(
    connection: psycopg.Connection[Any],
    start_identity: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    connection.execute(
        "INSERT INTO contact (email, phone_number, link_precedence)"
        " SELECT g || '@x.org', g, 'primary' FROM generate_series(1, 100000) g"
    )
    (tmp_path / "token").write_text("old\n")
    process = start_identity("export", "--what", "changes", "--token-file", "token")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("change,id")
    process.stdout.close()
    assert process.wait(60) != 0
    assert (tmp_path / "token").read_text() == "old\n"
