"""`identity import` as a user and a script see it: streams, documents, files and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from model import Model, Row, stored_partition

from identity_cli import ContactRequest
from identity_cli.cli import run
from identity_cli.importer.formats import InputOptions, open_reader
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

SAMPLES = Path(__file__).parents[2] / "samples"
OUTCOMES = ("created", "linked", "merged", "unchanged")


def rows(database_url: str) -> list[Row]:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT id, email, phone_number, linked_id, link_precedence::text FROM contact"
            " ORDER BY id"
        ).fetchall()
    return [Row(*row) for row in found]


def model_of(path: Path) -> Model:
    model = Model()
    source = Source(str(path))
    for row in open_reader(source, InputOptions()).rows():
        request = ContactRequest(emails=row.emails, phones=row.phones)
        model.reconcile(request.email, request.phone)
    source.close()
    return model


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one document on standard output."""
    assert done.stdout.count("\n") == 1, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", ["contacts.csv", "contacts.jsonl"])
def test_a_sample(run_identity: Run, database_url: str, tmp_path: Path, name: str) -> None:
    shutil.copy(SAMPLES / name, tmp_path)
    done = run_identity("import", name)
    assert (done.returncode, done.stdout) == (0, "")
    model = model_of(SAMPLES / name)
    assert rows(database_url) == model.rows()
    assert "read 112 " in done.stderr
    assert "rejected 0  partial 0\n" in done.stderr
    assert re.search(
        r"finished in [0-9.]+ s, [0-9,]+ rows/s\nnote: to undo this run: identity undo \d+\n$",
        done.stderr,
    )
    assert os.listdir(tmp_path) == [name]

    again = run_identity("import", name)
    assert (again.returncode, again.stdout) == (0, "")
    assert "unchanged 112 " in again.stderr
    assert rows(database_url) == model.rows()


def test_the_document(run_identity: Run, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "messy.csv", tmp_path)
    done = run_identity(
        *("import", "messy.csv", "--json", "--summary", "s.json", "--outcomes", "o.jsonl")
    )
    assert done.returncode == 3
    summary = document(done)
    assert json.loads((tmp_path / "s.json").read_text()) == summary
    assert set(summary) == {
        *("schema_version", "run_id", "status", "exit_code", "dry_run", "input", "rows"),
        *("retries", "started_at", "finished_at", "seconds", "rows_per_second", "options"),
        *("columns", "local_phone_numbers", "shared_values", "rejects", "rejected_by_code"),
        *("preview", "error"),
    }
    assert {key: summary[key] for key in ("schema_version", "run_id", "status", "exit_code")} == {
        "schema_version": 1,
        "run_id": 1,
        "status": "finished",
        "exit_code": 3,
    }
    assert (summary["dry_run"], summary["input"]) == (False, ["messy.csv"])
    assert summary["seconds"] > 0
    counts = summary["rows"]
    assert counts == {
        "read": 13,
        "created": 10,
        "linked": 1,
        "merged": 0,
        "unchanged": 0,
        "blocked": 0,
        "rejected": 2,
        "partial": 5,
    }
    assert counts["read"] == sum(counts[name] for name in (*OUTCOMES, "rejected"))
    outcomes = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert outcomes == [
        {"line": 2, "outcome": "created", "primaryContactId": 1, "contactId": 1},
        {"line": 4, "outcome": "created", "primaryContactId": 2, "contactId": 2},
        {"line": 5, "outcome": "linked", "primaryContactId": 1, "contactId": 3},
        *(
            {"line": line, "outcome": "created", "primaryContactId": id_, "contactId": id_}
            for id_, line in enumerate((6, 7, 9, 10, 11, 12, 14, 16), 4)
        ),
    ]
    # The first few, then how many and where.
    named = re.findall(r"^messy\.csv:(\d+): rejected: (\w+): ", done.stderr, re.MULTILINE)
    assert named == [
        ("3", "no_identifier"),
        ("4", "bad_email"),
        ("6", "bad_phone"),
        ("7", "too_long"),
        ("10", "control_character"),
    ]
    assert (
        "error: 2 of 13 rows were rejected, 5 were imported without a bad value:"
        " see messy.csv.1.rejects\n"
    ) in done.stderr
    rejects = (tmp_path / "messy.csv.1.rejects").read_bytes()
    assert (
        b"\nBiff Tannen,biff.hillvalley.edu,209-555-0101,bad_email: no @,4,bad_email,a" in rejects
    )
    assert b"clara\xff@hillvalley.edu" in rejects
    for name in ("s.json", "o.jsonl", "messy.csv.1.rejects"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_values_of_rejected_rows_stay_off_the_terminal(run_identity: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"email,phone\nsecret\x1b[31m,1\nsecret@@x,1\n,secret\nsecret\0@x.org,\n")
    done = run_identity("import", "a.csv")
    assert done.returncode == 3
    assert "2 of 4 rows were rejected, 2 were imported without a bad value" in done.stderr
    assert "secret" not in done.stderr
    assert "\x1b" not in done.stderr


def test_corrected_rejects_file_is_imported_directly(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email,phone\na@x.org,1\nb,2\nc@x.org,1,9\n")
    done = run_identity("import", "a.csv", "--json")
    assert done.returncode == 3
    counts = document(done)["rows"]
    assert (counts["created"], counts["rejected"], counts["partial"]) == (2, 1, 1)
    rejects = tmp_path / "a.csv.1.rejects"
    lines = rejects.read_text().splitlines()
    assert len(lines) == 3
    # Nothing was corrected: rejected again, with the same columns.
    assert run_identity("import", rejects.name, "-q").returncode == 3
    assert (tmp_path / f"{rejects.name}.2.rejects").read_text().splitlines()[0] == lines[0]
    rejects.write_text("\n".join([lines[0], lines[1].replace("b,", "b@x.org,"), "c@x.org,1,,,"]))
    done = run_identity("import", rejects.name)
    assert done.returncode == 0, done.stderr
    assert [row[1:3] for row in rows(database_url)] == [
        ("a@x.org", "1"),
        (None, "2"),
        ("b@x.org", "2"),
        ("c@x.org", "1"),
    ]


@pytest.mark.parametrize(("most", "code"), [(0, 3), (2, 3), (3, 0)])
def test_max_rejects(run_identity: Run, tmp_path: Path, most: int, code: int) -> None:
    (tmp_path / "a.jsonl").write_text('{"email": "a@x.org"}\n[]\n{\n{"email": "b"}\n')
    done = run_identity("import", "a.jsonl", "--max-rejects", most, "--rejects", "r", "--json")
    assert done.returncode == code
    assert document(done)["exit_code"] == code
    assert len((tmp_path / "r").read_text().splitlines()) == 3
    assert not (tmp_path / "a.jsonl.1.rejects").exists()


def test_quiet(run_identity: Run, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "messy.csv", tmp_path)
    done = run_identity("import", "messy.csv", "-q")
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(
        r"error: \d of 13 rows were rejected, \d were imported without a bad value:"
        r" see messy\.csv\.1\.rejects\n",
        done.stderr,
    )


def test_standard_input(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    text = "email,phone\na@x.org,1\nbad,\n"
    done = run_identity("import", "-", "--json", input=text)
    assert done.returncode == 3
    assert document(done)["input"] == ["-"]
    assert "-:3: rejected: bad_email: " in done.stderr
    assert len(rows(database_url)) == 1


def test_several_inputs(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email,phone\na@x.org,1\n\nbad\n")
    (tmp_path / "b.jsonl").write_text('{"email": "c@x.org", "phone": "1"}\n[1]\n')
    done = run_identity("import", "a.csv", "b.jsonl", "--outcomes", "o", "--json")
    assert done.returncode == 3
    assert document(done)["rows"]["read"] == 4
    outcomes = [json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]
    assert [(one["input"], one["line"]) for one in outcomes] == [("a.csv", 2), ("b.jsonl", 1)]
    assert (tmp_path / "a.csv.1.rejects").exists()
    assert (tmp_path / "b.jsonl.1.rejects").exists()
    # Lines are counted through all inputs.
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT run_id, line FROM contact ORDER BY id").fetchall()
    assert found == [(1, 2), (1, 5)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--outcomes", "a.csv"),
        ("--outcomes", "link.csv"),
        ("--rejects", "a.csv"),
        ("--rejects", "./x/../a.csv"),
        ("--summary", "a.csv"),
        ("--rejects", "r", "--outcomes", "r"),
        ("--rejects", "r", "--summary", "r"),
        ("--outcomes", "r", "--summary", "./r"),
        ("--rejects", "r", "a.csv.rejects.csv"),
        ("-", "-", "--input-format", "csv"),
        ("--map", "mail=x"),
        ("--map", "email"),
        ("--map", "email="),
        ("--delimiter", ";;"),
        ("--encoding", "utf-9"),
        ("--region", "XX"),
        ("--jobs", "0"),
        ("--max-rejects", "-1"),
        ("--input-format", "xml"),
        ("--database-url", "mysql://x"),
        ("./a.csv",),
        ("--outcomes", "none/o"),
        ("--summary", "none/s"),
        ("--rejects", "none/r"),
        ("missing.csv",),
        ("x",),
    ],
    ids=" ".join,
)
def test_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    """Exit code 2 and the mend, before a database or a file is touched."""
    monkeypatch.setenv("DATABASE_URL", "postgresql:///nowhere?host=/nowhere")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    text = "email,phone\na@x.org,1\nbad,2\n"
    for name in ("a.csv", "a.csv.rejects.csv", "a.txt"):
        (tmp_path / name).write_text(text)
    (tmp_path / "link.csv").symlink_to("a.csv")
    code = run(["import", "a.csv", *arguments])
    said = capsys.readouterr()
    writes_nowhere = "none/" in arguments[-1]
    assert code == (7 if writes_nowhere else 2), said.err
    assert said.out == ""
    assert re.fullmatch(r"error: .+\n\nhint: .+\n", said.err)
    for name in ("a.csv", "a.csv.rejects.csv", "a.txt"):
        assert (tmp_path / name).read_text() == text, name
    assert len(os.listdir(tmp_path)) == 5


def test_nothing_to_import(run_identity: Run) -> None:
    assert run_identity("import").returncode == 2


def test_a_database_out_of_reach(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    url = "postgresql://someone:secret@/nowhere?host=/nowhere"
    done = run_identity("import", "a.csv", "--json", env={"DATABASE_URL": url})
    assert done.returncode == 5
    assert document(done)["status"] == "failed"
    assert document(done)["exit_code"] == 5
    assert "hint: " in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_another_profile(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("phone\n(209) 555-0101\n+1 209 555 0101\n12\n")
    done = run_identity("import", "a.csv", "--region", "us", "--json")
    assert done.returncode == 3
    assert document(done)["rows"]["unchanged"] == 1
    assert [row.phone for row in rows(database_url)] == ["+12095550101"]
    done = run_identity("import", "a.csv", "--json", "--region", "GB")
    assert done.returncode == 5
    assert document(done)["rows"]["read"] == 0
    assert "--region US" in done.stderr
    # The database's region is used where none is given.
    done = run_identity("import", "a.csv", "--json")
    assert document(done)["rows"]["unchanged"] == 2
    assert len(rows(database_url)) == 1


def test_a_dry_run(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "messy.csv", tmp_path)
    done = run_identity("import", "messy.csv", "--dry-run", "--json")
    assert done.returncode == 3
    assert document(done)["dry_run"] is True
    assert document(done)["run_id"] is None
    assert document(done)["rows"]["linked"] == 1
    assert "nothing was kept" in done.stderr
    assert os.listdir(tmp_path) == ["messy.csv"]
    with psycopg.connect(database_url) as connection:
        for table in ("contact", "link_evidence", "import_run", "normalization_profile"):
            assert connection.execute(f"SELECT FROM {table}").fetchall() == []
    done = run_identity("import", "messy.csv", "--dry-run", "--rejects", "r", "--outcomes", "o")
    assert done.returncode == 3
    assert sorted(os.listdir(tmp_path)) == ["messy.csv", "o", "r"]


def test_a_dry_run_prints_what_it_would_change(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email,phone\nann@x.org,5550101\nbob@y.org,5550102\n")
    assert run_identity("import", "a.csv", "-q").returncode == 0
    (tmp_path / "b.csv").write_text("email,phone\nnew@z.org,5550103\nann@x.org,5550102\n")
    done = run_identity("import", "b.csv", "--dry-run", "--json", "--summary", "s.json")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert (
        "the largest identity that grows would have 2 contacts (1 before): primary 1,"
        " a***@x***.org, ***01, b***@y***.org, ***02" in lines
    )
    assert "1 row would join identities" in lines
    assert "  b.csv:3\t1 + 1" in lines
    # Neither the messages nor the summaries have values.
    for text in (done.stdout, done.stderr, (tmp_path / "s.json").read_text()):
        assert "ann@x.org" not in text
        assert "5550102" not in text
    preview = document(done)["preview"]
    assert json.loads((tmp_path / "s.json").read_text())["preview"] == preview
    assert preview == {
        "merges": {"rows": 1, "sizes": [{"least": 2, "most": 3, "rows": 1}]},
        "bridges": [{"input": "b.csv", "line": 3, "sizes": [1, 1]}],
        "largest_identity": {
            "primary_id": 1,
            "contacts": 2,
            "contacts_before": 1,
            "members": ["a***@x***.org", "***01", "b***@y***.org", "***02"],
        },
        "hubs": {"limit_email": None, "limit_phone": None, "count": 0},
        "values": [],
    }
    done = run_identity("import", "b.csv", "--dry-run", "--values")
    assert "primary 1, ann@x.org, 5550101, bob@y.org, 5550102\n" in done.stderr
    assert "would" not in run_identity("import", "b.csv", "--dry-run", "-q").stderr


def test_values_are_for_a_dry_run(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    done = run_identity("import", "a.csv", "--values")
    assert done.returncode == 2
    assert "hint: use it with --dry-run" in done.stderr


def test_dry_run_that_does_not_reach_its_end_has_no_preview(
    run_identity: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text('email\na@x.org\n"b@x.org\n')
    done = run_identity("import", "a.csv", "--dry-run", "--json")
    assert done.returncode == 4
    assert document(done)["preview"] is None


def test_outcomes_into_a_pipe(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    done = run_identity("import", "a.csv", "--outcomes", "/dev/stdout", "-q")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "created"


def test_a_name_that_is_no_text(
    start_identity: Callable[..., subprocess.Popen[str]], database_url: str, tmp_path: Path
) -> None:
    name = os.fsdecode(b"a\xff.csv")
    (tmp_path / name).write_text("email\na@x.org\nbad\n")
    process = start_identity("import", name, "--summary", "s", "--outcomes", "o")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 3, said
    assert (tmp_path / f"{name}.1.rejects").exists()
    assert len(rows(database_url)) == 1
    assert json.loads((tmp_path / "s").read_text())["input"] == [name]


def test_five_requests_with_any_number_of_jobs(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    shutil.copy(SAMPLES / "contacts.csv", tmp_path)
    done = run_identity("import", "contacts.csv", "--jobs", "4", "--outcomes", "o")
    assert done.returncode == 0, done.stderr
    found = rows(database_url)
    assert stored_partition(found) == model_of(SAMPLES / "contacts.csv").partition()
    lines = [json.loads(line)["line"] for line in (tmp_path / "o").read_text().splitlines()]
    assert lines == list(range(2, 114))
    assert run_identity("verify").returncode == 0


# The terminal.


def on_a_terminal(command: list[str], env: dict[str, str], cwd: Path) -> str:
    """What the command writes to standard error when that is a terminal."""
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # its other end is closed
                return
            if not data:
                return
            seen.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        command, env=env, cwd=cwd, stderr=theirs, stdout=subprocess.PIPE, timeout=60, check=False
    )
    os.close(theirs)
    reader.join(10)
    os.close(ours)
    assert done.returncode == 0
    assert done.stdout == b""
    return seen.decode()


def test_progress_on_a_terminal_only(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    lines = "".join(f"p{i}@x.org,{i}\n" for i in range(4000))
    (tmp_path / "a.csv").write_text(f"email,phone\n{lines}")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "DATABASE_URL": database_url,
    }
    command = [sys.executable, "-m", "identity_cli", "import", "a.csv"]
    seen = on_a_terminal(command, env, tmp_path)
    assert "\x1b[" in seen
    assert "rows" in seen
    assert re.search(r"created +4,000", seen)
    quiet = on_a_terminal([*command, "-q"], env, tmp_path)
    assert quiet == ""

    done = run_identity("import", "a.csv", env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
