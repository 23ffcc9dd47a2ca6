"""Standard output and standard error that are full, closed, or a pipe that nobody reads."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., subprocess.CompletedProcess[str]]

# Each command, and its exit code when all is well.
COMMANDS: dict[tuple[str, ...], int] = {
    ("--help",): 0,
    ("--version",): 0,
    ("import", "--help"): 0,
    ("identify", "--email", "a@x.org", "--json"): 0,
    ("show", "--email", "a@x.org"): 0,
    ("show", "--like", "a%"): 0,
    ("explain", "a@x.org"): 0,
    ("explain", "a@x.org", "1", "--json"): 0,
    ("explain", "1", "--format", "svg"): 0,
    ("import", "a.csv", "--json"): 3,
    ("import", "a.csv", "--outcomes", "-"): 3,
    ("import", "a.csv", "--summary", "-"): 3,
    ("inspect", "a.csv"): 0,
    ("inspect", "a.csv", "--json"): 0,
    ("annotate", "a.csv"): 0,
    ("export",): 0,
    ("export", "--what", "identities"): 0,
    ("export", "-o", "-"): 0,
    ("export", "-o", "/dev/stdout"): 0,
    ("verify",): 0,
    ("verify", "--json"): 0,
    ("verify", "--progress", "json"): 0,
    ("runs",): 0,
    ("runs", "show", "1"): 0,
    ("db", "current"): 0,
}
SILENT_COMMANDS: dict[tuple[str, ...], int] = {
    ("import", "a.csv", "--summary", "summary.json"): 3,
    ("import", "a.csv", "-q"): 3,
    ("import", "missing.csv"): 2,
    ("import", "a.csv", "--jobs", "x"): 2,
    ("show", "--email", "nobody@x.org"): 4,
    ("explain", "nobody@x.org"): 4,
}
STATES = ("full", "closed", "unread pipe")


def shell(arguments: tuple[str, ...], redirection: str) -> list[str]:
    command = [sys.executable, "-m", "identity_cli", *arguments]
    return ["bash", "-c", f'"$@" {redirection}', "-", *command]


@pytest.fixture
def run_redirected(database_url: str, tmp_path: Path) -> Any:
    """Runs a command with one of its streams in a state; the other one is captured."""
    (tmp_path / "a.csv").write_text("email\na@x.org\nbad\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DATABASE_URL": database_url,
        "IDENTITY_HOME": str(tmp_path / "home"),
        "PYTHONWARNINGS": "error::ResourceWarning",
    }

    def run(
        arguments: tuple[str, ...], stream: str = "", state: str = "", stdout: Any = None
    ) -> subprocess.CompletedProcess[bytes]:
        number = {"stdout": 1, "stderr": 2}.get(stream, 0)
        redirection = {"full": f"{number}>/dev/full", "closed": f"{number}>&-"}.get(state, "")
        streams: dict[str, Any] = {"stdout": stdout or subprocess.PIPE, "stderr": subprocess.PIPE}
        writer = None
        if state == "unread pipe":
            reader, writer = os.pipe()
            os.close(reader)
            streams[stream] = writer
        try:
            return subprocess.run(
                shell(arguments, redirection),
                cwd=tmp_path,
                env=environment,
                check=False,
                timeout=60,
                **streams,
            )
        finally:
            if writer is not None:
                os.close(writer)

    run(("identify", "--email", "a@x.org"))
    run(("import", "a.csv", "-q"))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_data_that_cannot_be_written_ends_every_command(run_redirected: Any, state: str) -> None:
    for arguments in COMMANDS:
        done = run_redirected(arguments, "stdout", state)
        said = done.stderr.decode()
        assert "Traceback" not in said, arguments
        assert "Exception ignored" not in said, arguments
        if state == "unread pipe":
            assert done.returncode == 141, (arguments, said)
            assert "error:" not in said, arguments
        else:
            assert done.returncode == 7, (arguments, said)
            assert "hint:" in said, arguments


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_messages_that_cannot_be_written_change_nothing(
    run_redirected: Any, tmp_path: Path, state: str
) -> None:
    for arguments, code in itertools.chain(COMMANDS.items(), SILENT_COMMANDS.items()):
        (tmp_path / "summary.json").unlink(missing_ok=True)
        done = run_redirected(arguments, "stderr", state)
        assert done.returncode == code, arguments
        assert done.stderr in (None, b""), arguments
        if "summary.json" in arguments:
            assert json.loads((tmp_path / "summary.json").read_bytes())["exit_code"] == code
        if "export" in arguments or "verify" in arguments:
            assert done.stdout == run_redirected(arguments).stdout, arguments


@pytest.mark.parametrize("state", STATES)
def test_standard_output_without_data_does_not_matter(run_redirected: Any, state: str) -> None:
    for arguments, code in SILENT_COMMANDS.items():
        done = run_redirected(arguments, "stdout", state)
        assert done.returncode == code, (arguments, done.stderr)


@pytest.mark.parametrize("name", ["PYTHONIOENCODING", "LC_ALL"])
def test_data_is_utf_8_whatever_the_locale_is(run_identity: Start, name: str) -> None:
    value = {"PYTHONIOENCODING": "latin-1:strict", "LC_ALL": "C"}[name]
    environment = {name: value, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    email = "j\u00fcrgen\u0142@x.org"
    done = run_identity("identify", "--email", email, "--json", env=environment)
    if name == "PYTHONIOENCODING":
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["contact"]["emails"] == [email]
    else:
        # The argument itself is not text in this locale; what is stored before is.
        run_identity("identify", "--email", email)
        done = run_identity("export", "--format", "jsonl", env=environment)
        assert email in done.stdout


def test_message_that_standard_error_cannot_encode_is_escaped(run_identity: Start) -> None:
    done = run_identity(
        "import", "\u0142.csv", env={"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    )
    assert done.returncode == 2
    assert "\\u0142.csv" in done.stderr
    assert "hint:" in done.stderr


@pytest.mark.parametrize("option", ["--summary", "--outcomes", "--rejects"])
def test_result_into_a_log_keeps_what_the_log_held(
    run_redirected: Any, tmp_path: Path, option: str
) -> None:
    log = tmp_path / "log"
    log.write_text("held\n")
    done = run_redirected(("import", "a.csv", option, "/dev/fd/3"), "", "")
    assert done.returncode == 7  # nothing is open there
    with open(log, "ab") as stdout:
        done = run_redirected(("import", "a.csv", "-q", option, "/dev/stdout"), stdout=stdout)
    assert done.returncode == 3
    held, *rest = log.read_text().splitlines()
    assert held == "held"
    assert rest


@pytest.mark.parametrize(
    "arguments",
    [("--jobs", "x"), ("--no-such-option",), ("--min-rows", "-1"), ("--jobs", "x", "--dry-run")],
)
@pytest.mark.parametrize("summary", [("--summary", "s.json"), ("--summary=s.json",)])
def test_wrong_usage_replaces_an_old_summary(
    run_identity: Start, tmp_path: Path, arguments: tuple[str, ...], summary: tuple[str, ...]
) -> None:
    (tmp_path / "s.json").write_text('{"status": "finished"}')
    done = run_identity("import", "a.csv", *arguments, *summary)
    assert done.returncode == 2
    written = json.loads((tmp_path / "s.json").read_bytes())
    assert (written["status"], written["exit_code"]) == ("failed", 2)
    assert written["error"]["code"] == "usage"
    assert written["error"]["message"] in done.stderr
    assert written["error"]["hint"] == "identity import --help"


def test_missing_input_replaces_an_old_summary(run_identity: Start, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"status": "finished"}')
    done = run_identity("import", "missing.csv", "--summary", "s.json")
    assert done.returncode == 2
    written = json.loads((tmp_path / "s.json").read_bytes())
    assert (written["status"], written["exit_code"]) == ("failed", 2)
    assert f"error: {written['error']['message']}\n" in done.stderr
    assert f"hint: {written['error']['hint']}\n" in done.stderr


def test_quiet_import_with_rejects_says_how_many_and_where(
    run_identity: Start, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\nbad\n")
    done = run_identity("import", "a.csv", "-q", "--rejects", "bad.csv")
    assert (done.returncode, done.stdout, done.stderr) == (
        3,
        "",
        "error: 1 of 2 rows were rejected: see bad.csv\n",
    )
    done = run_identity("import", "a.csv", "-q", "--max-rejects", "1", "--rejects", "bad.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_rejected_row_is_printed_with_its_place_and_its_code(
    run_identity: Start, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\nbad\n")
    done = run_identity("import", "a.csv")
    assert "\na.csv:3: rejected: bad_email: " in done.stderr
