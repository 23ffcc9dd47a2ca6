"""`identity inspect` as a subprocess: no database, plain text and JSON, exit codes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[2] / "samples"
NO_DATABASE = {"DATABASE_URL": "postgresql://localhost:1/none"}


def test_file_is_described_without_a_database(run_identity: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Mail,note\nA@x.org,x\nbad,y\n")
    done = run_identity("inspect", "a.csv", env=NO_DATABASE)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "format: csv\n" in done.stdout
    assert "  Mail\temail\n" in done.stdout
    assert "  2\ta@x.org\t\n" in done.stdout
    assert "  3\tbad_email\tan email needs exactly one @\n" in done.stdout
    assert done.stdout.endswith(
        "import it with\n  identity import a.csv --input-format csv --delimiter , --encoding utf-8"
        " --map email=Mail\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_json_is_one_document(run_identity: Any) -> None:
    done = run_identity("inspect", SAMPLES / "messy.csv", "--json", env=NO_DATABASE)
    document = json.loads(done.stdout)
    assert document["rows"]["read"] == 13
    assert document["complete"] is True
    assert document["error"] is None


def test_shown_command_imports_what_the_short_one_imports(
    run_identity: Any, cloned_database: Any
) -> None:
    path = SAMPLES / "contacts.csv"
    command = json.loads(run_identity("inspect", path, "--json").stdout)["command"]
    digests = []
    for arguments in (["import", str(path)], shlex.split(command)[1:]):
        with cloned_database() as url:
            assert run_identity(*arguments, "-q", env={"DATABASE_URL": url}).returncode == 0
            verified = run_identity("verify", "--json", env={"DATABASE_URL": url})
            digests.append(json.loads(verified.stdout)["digest"])
    assert digests[0] == digests[1]


def test_standard_input_is_read(run_identity: Any) -> None:
    done = run_identity("inspect", "-", "--input-format", "csv", input="email\na@x.org\n")
    assert "input: -\n" in done.stdout
    assert "identity import - " in done.stdout


def test_all_rows_are_read_only_with_all(run_identity: Any, tmp_path: Path) -> None:
    rows = "".join(f"{n}@x.org\n" for n in range(10_001))
    (tmp_path / "a.csv").write_text(f"email\n{rows}")
    short = run_identity("inspect", "a.csv")
    assert "read 10000 " in short.stdout
    assert "(of the first 10,000)" in short.stdout
    assert "read 10001 " in run_identity("inspect", "a.csv", "--all").stdout


def test_unreadable_file_ends_with_4_after_what_was_read(run_identity: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('email\na@x.org\n"b\n')
    done = run_identity("inspect", "a.csv")
    assert done.returncode == 4
    assert "a@x.org" in done.stdout
    assert done.stderr.startswith("a.csv:3: error: ")


def test_missing_file_is_wrong_usage(run_identity: Any) -> None:
    done = run_identity("inspect", "none.csv")
    assert (done.returncode, done.stdout) == (2, "")
