"""INT and TERM stop an import between two rows; the same command goes on and ends the same."""

from __future__ import annotations

import fcntl
import json
import signal
import termios
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def mixed_lines(count: int) -> list[str]:
    """People, links, merges, repeats and some bad rows."""
    return ["email,phone"] + [
        f"bad{i},1" if i % 101 == 0 else f"p{i * 7919 % 3000}@x.org,{i * 104729 % 2500}"
        for i in range(count)
    ]


def graph(database_url: str) -> list[Any]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT id, email, phone_number, linked_id, link_precedence::text, line FROM contact"
            " ORDER BY id"
        ).fetchall()


def evidence(database_url: str) -> list[Any]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT value, other_value, primary_id, merged_id, line FROM link_evidence ORDER BY id"
        ).fetchall()


def wait_for_rows(database_url: str, count: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for _ in range(600):
            found = connection.execute("SELECT count(*) FROM contact").fetchone()
            if found is not None and found[0] >= count:
                return
            time.sleep(0.05)
    raise AssertionError("the import does not get on")


@pytest.fixture
def other_database(
    cloned_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[str]:
    """For a run that nobody stops."""
    with cloned_database() as url:
        yield url


ARGUMENTS = ("--outcomes", "o", "--rejects", "r", "--summary", "s", "--jobs", "1")


def everything(database_url: str, folder: Path) -> dict[str, list[Any]]:
    """Return all that a run has left, its ids replaced by their rank.

    A statement that is cancelled by the stop leaves a gap in the ids.
    """
    contacts = graph(database_url)
    rank = {row[0]: number for number, row in enumerate(contacts, 1)} | {None: None}
    outcomes = [json.loads(line) for line in (folder / "o").read_text().splitlines()]
    for outcome in outcomes:
        for name in ("primaryContactId", "contactId"):
            outcome[name] = rank[outcome[name]]
    return {
        "graph": [
            (rank[contact_id], email, phone, rank[linked], *rest)
            for contact_id, email, phone, linked, *rest in contacts
        ],
        "evidence": [
            (email, phone, rank[primary], rank[merged], line)
            for email, phone, primary, merged, line in evidence(database_url)
        ],
        "outcomes": outcomes,
        "rejects": (folder / "r").read_text().splitlines(),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), SIGNALS[1:])
def test_stopped_in_a_big_file(
    run_identity: Run,
    start_identity: Start,
    database_url: str,
    other_database: str,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    (tmp_path / "a.csv").write_text("\n".join(mixed_lines(20_000)))
    process = start_identity("import", "a.csv", *ARGUMENTS)
    wait_for_rows(database_url, 500)
    process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert out == ""
    assert "Traceback" not in said
    summary = json.loads((tmp_path / "s").read_text())
    assert (summary["status"], summary["exit_code"]) == ("stopped", code)
    read = summary["rows"]["read"]
    assert 0 < read < 20_000
    assert read == sum(summary["rows"].values()) - read - summary["rows"]["partial"]
    accepted = read - summary["rows"]["rejected"]
    assert len((tmp_path / "o").read_text().splitlines()) == accepted
    assert summary["rows"]["created"] + summary["rows"]["linked"] == len(graph(database_url))

    done = run_identity("import", "a.csv", *ARGUMENTS, "--json")
    assert done.returncode == 3, done.stderr
    assert f"resuming run 1 after {read} rows" in done.stderr
    counts = json.loads(done.stdout)["rows"]
    found = everything(database_url, tmp_path)

    whole = run_identity(
        "import", "a.csv", *ARGUMENTS, "--json", env={"DATABASE_URL": other_database}
    )
    assert json.loads(whole.stdout)["rows"] == counts
    assert found == everything(other_database, tmp_path)


@pytest.mark.parametrize(("number", "code"), SIGNALS[:1])
def test_stopped_while_a_pipe_is_slow(
    run_identity: Run,
    start_identity: Start,
    database_url: str,
    other_database: str,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    text = "\n".join(mixed_lines(12_000)) + "\n"
    arguments = ("import", "-", "--input-format", "csv", *ARGUMENTS)
    process = start_identity(*arguments)
    assert process.stdin is not None
    process.stdin.write(text[:150_000])
    process.stdin.flush()
    wait_for_rows(database_url, 500)
    process.send_signal(number)
    assert process.wait(10) == code
    summary = json.loads((tmp_path / "s").read_text())
    assert (summary["status"], summary["exit_code"]) == ("stopped", code)
    assert summary["rows"]["read"] >= 500

    done = run_identity(*arguments, "--json", input=text)
    assert done.returncode == 3, done.stderr
    counts = json.loads(done.stdout)["rows"]
    assert counts["read"] == 12_000
    found = everything(database_url, tmp_path)

    whole = run_identity(*arguments, "--json", input=text, env={"DATABASE_URL": other_database})
    assert json.loads(whole.stdout)["rows"] == counts
    assert found == everything(other_database, tmp_path)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_stopped_before_anything_came(
    start_identity: Start, database_url: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start_identity("import", "-", "--input-format", "csv", "--summary", "s", "--json")
    assert process.stdin is not None
    process.stdin.write("email\na@x.org\n")
    process.stdin.flush()
    unread = bytearray(b"\1\0\0\0")
    while any(unread):
        time.sleep(0.02)
        fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
    time.sleep(0.1)  # it is waiting for more then
    process.send_signal(number)
    process.wait(10)
    assert process.stdout is not None
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.returncode == code, said
    assert "unexpected" not in said
    summary = json.loads((tmp_path / "s").read_text())
    assert summary == json.loads(process.stdout.read())
    assert (summary["status"], summary["exit_code"]) == ("stopped", code)


def test_pipe_that_differs_is_read_from_its_beginning(
    run_identity: Run, start_identity: Start, database_url: str, tmp_path: Path
) -> None:
    text = "\n".join(mixed_lines(12_000)) + "\n"
    arguments = ("import", "-", "--input-format", "csv", "--rejects", "r")
    process = start_identity(*arguments)
    assert process.stdin is not None
    process.stdin.write(text[:150_000])
    process.stdin.flush()
    wait_for_rows(database_url, 500)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    # The same beginning, and two other people behind it: one in what was read, one after it.
    place = text.index("\n", 40_000)
    changed = f"{text[:place]}\nstranger@x.org,1000000{text[place:]}newcomer@x.org,2000000\n"
    done = run_identity(*arguments, "--json", input=changed)
    assert done.returncode == 3, done.stderr
    assert "standard input has changed since the interrupted run; starting over" in done.stderr
    assert json.loads(done.stdout)["rows"]["read"] == 12_002
    emails = {row[1] for row in graph(database_url)}
    assert {"stranger@x.org", "newcomer@x.org"} <= emails


def test_same_file_twice_at_once_is_busy(
    run_identity: Run, start_identity: Start, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("\n".join(mixed_lines(1000)))
    (tmp_path / "b.csv").write_text("\n".join(mixed_lines(40_000)))
    (tmp_path / "copy.csv").write_text("\n".join(mixed_lines(40_000)))
    process = start_identity("import", "b.csv", "--json", "--jobs", "1")
    wait_for_rows(database_url, 500)
    done = run_identity("import", "copy.csv", "--json")
    assert done.returncode == 6, done.stderr
    assert "run 1" in done.stderr
    assert "\n\nhint: " in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["exit_code"], summary["error"]["code"]) == (6, "input_busy")
    # Another input is none of its business.
    assert run_identity("import", "a.csv").returncode == 3
    out, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert json.loads(out)["rows"]["read"] == 40_000


def test_streams_that_begin_alike_are_both_imported(
    run_identity: Run, start_identity: Start, database_url: str
) -> None:
    lines = mixed_lines(6000)
    arguments = ("import", "-", "--input-format", "csv", "--json", "--max-rejects", "100%")
    process = start_identity(*arguments)
    assert process.stdin is not None
    process.stdin.write("\n".join(lines))
    process.stdin.flush()
    wait_for_rows(database_url, 500)
    done = run_identity(*arguments, input="\n".join([*lines, "second@x.org,1", ""]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["read"] == 6001
    out, said = process.communicate("\nfirst@x.org,2\n", timeout=60)
    assert process.returncode == 0, said
    assert json.loads(out)["rows"]["read"] == 6001
    assert {"first@x.org", "second@x.org"} <= {row[1] for row in graph(database_url)}


def test_rows_of_a_slow_pipe_are_stored_as_they_come(
    start_identity: Start, database_url: str
) -> None:
    process = start_identity("import", "-", "--input-format", "csv")
    assert process.stdin is not None
    process.stdin.write("email,phone\n")
    for number in range(3):
        process.stdin.write(f"p{number}@x.org,{number}\n")
        process.stdin.flush()
        wait_for_rows(database_url, number + 1)
        time.sleep(0.5)
    with psycopg.connect(database_url) as connection:
        gaps = connection.execute(
            "SELECT extract(epoch FROM created_at - lag(created_at) OVER (ORDER BY id)) > 0.3,"
            " created_at <= clock_timestamp() FROM contact ORDER BY id"
        ).fetchall()
    assert gaps == [(None, True), (True, True), (True, True)]
    process.communicate(timeout=30)
    assert process.returncode == 0
