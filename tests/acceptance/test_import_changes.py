"""An import that is killed, then tried again with something changed: nothing is trusted blindly."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

ROWS = 20_000
# Checkpoints are a second apart; a test has no time for that.
PROGRAM = """
import sys
from identity_cli.importer import pipeline
pipeline.CHECKPOINT_SECONDS = 0.05
from identity_cli.cli import main
main(sys.argv[1:])
"""
CHANGED = "changed@example.com"


def rows(changed_at: int | None = None, *, other_at: int | None = None) -> str:
    """Rows as they come from an export; a change keeps the length."""
    lines = [f"user{i:06d}@example.com,{5550000000 + i}" for i in range(1, ROWS + 1)]
    if changed_at is not None:
        lines[changed_at] = f"{CHANGED},{5550000000 + changed_at}"
    if other_at is not None:
        lines.insert(other_at, "stranger@example.com,1")
    return "email,phone\n" + "\n".join(lines) + "\n"


class Import:
    """The same command on one kind of input, started as often as a test likes."""

    def __init__(self, kind: str, folder: Path, url: str) -> None:
        self.kind = kind
        self.folder = folder
        self.url = url

    def write(self, text: str) -> list[str]:
        """Write the input; return the arguments that name it."""
        if self.kind == "gzip":
            (self.folder / "rows.csv.gz").write_bytes(gzip.compress(text.encode(), 1, mtime=0))
            return ["rows.csv.gz"]
        if self.kind == "two files":
            lines = text.splitlines(keepends=True)
            (self.folder / "a.csv").write_text("".join(lines[:5000]))
            (self.folder / "b.csv").write_text(lines[0] + "".join(lines[5000:]))
            return ["a.csv", "b.csv"]
        (self.folder / "rows.csv").write_text(text)
        return ["-", "--input-format", "csv"] if self.kind == "pipe" else ["rows.csv"]

    def start(self, text: str, *options: str) -> subprocess.Popen[str]:
        arguments = [*self.write(text), "--json", *options]
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "import", *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "DATABASE_URL": self.url},
            stdin=reader,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        os.close(reader)
        self.feeder = subprocess.Popen(
            ["cat", str(self.folder / "rows.csv")] if self.kind == "pipe" else ["true"],
            stdout=writer,
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        if self.kind != "pipe":
            self.feeder.wait()
        return process

    def kill_after(self, read: int, text: str, *options: str) -> int:
        """Kill the command once a checkpoint has so many rows; return how many it has."""
        process = self.start(text, *options)
        with psycopg.connect(self.url, autocommit=True) as watcher:
            while (checkpoint := saved(watcher)) < read:
                assert process.poll() is None, process.communicate()
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            self.feeder.wait()
            checkpoint = saved(watcher)
        assert read <= checkpoint < ROWS
        return checkpoint

    def run(self, text: str, *options: str) -> tuple[dict[str, Any], str]:
        process = self.start(text, *options)
        out, said = process.communicate(timeout=120)
        self.feeder.wait()
        assert process.returncode == 0, said
        summary: dict[str, Any] = json.loads(out)
        return summary, said


def saved(watcher: psycopg.Connection[Any]) -> int:
    row = watcher.execute(
        "SELECT coalesce(max((checkpoint -> 'counts' ->> 'read')::int), 0) FROM import_run"
    ).fetchone()
    return int(row[0]) if row is not None else 0


def stored(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT email FROM contact").fetchall()}


KINDS = [
    "file",
    pytest.param("gzip", marks=pytest.mark.slow),
    "pipe",
    pytest.param("two files", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", KINDS)
def test_same_input_is_resumed(kind: str, tmp_path: Path, database_url: str) -> None:
    command = Import(kind, tmp_path, database_url)
    checkpoint = command.kill_after(7000, rows())
    summary, said = command.run(rows())
    assert f"resuming run 1 after {checkpoint} rows" in said
    assert summary["run_id"] == 1
    assert (summary["rows"]["read"], summary["rows"]["created"]) == (ROWS, ROWS)
    assert len(stored(database_url)) == ROWS


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("file", 5),
        pytest.param("file", 3000, marks=pytest.mark.slow),
        ("file", 6500),
        ("pipe", 5),
        ("pipe", 6500),
        pytest.param("gzip", 6500, marks=pytest.mark.slow),
        pytest.param("two files", 6500, marks=pytest.mark.slow),
    ],
)
def test_changed_row_is_found_however_the_input_comes(
    kind: str, place: int, tmp_path: Path, database_url: str
) -> None:
    command = Import(kind, tmp_path, database_url)
    command.kill_after(7000, rows())
    summary, said = command.run(rows(place))
    assert "changed since the interrupted run; starting over" in said
    assert (summary["run_id"], summary["rows"]["read"]) == (2, ROWS)
    assert CHANGED in stored(database_url)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_before_the_checkpoint_that_are_new_are_not_lost(
    kind: str, tmp_path: Path, database_url: str
) -> None:
    command = Import(kind, tmp_path, database_url)
    command.kill_after(7000, rows())
    summary, _ = command.run(rows(other_at=4000))
    assert summary["rows"]["read"] == ROWS + 1
    assert "stranger@example.com" in stored(database_url)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_row_beyond_the_checkpoint_is_imported(
    kind: str, tmp_path: Path, database_url: str
) -> None:
    """What is on record for a line counts only if its values are the same."""
    command = Import(kind, tmp_path, database_url)
    checkpoint = command.kill_after(7000, rows())
    summary, said = command.run(rows(checkpoint + 20))
    assert f"resuming run 1 after {checkpoint} rows" in said
    assert summary["rows"]["read"] == ROWS
    assert CHANGED in stored(database_url)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (["--map", "phone=phone"], ["--map", "phone=email", "--map", "email=phone"], "--map"),
        (["--encoding", "utf-8"], ["--encoding", "latin-1"], "--encoding"),
        (["--delimiter", ","], [], "--delimiter"),
    ],
    ids=["map", "encoding", "delimiter"],
)
def test_changed_option_starts_over(
    before: list[str], after: list[str], named: str, tmp_path: Path, database_url: str
) -> None:
    command = Import("file", tmp_path, database_url)
    command.kill_after(7000, rows(), *before)
    process = command.start(rows(), *after)
    out, said = process.communicate(timeout=120)
    assert f"with other values of {named}; starting over" in said
    assert json.loads(out)["rows"]["read"] == ROWS


def test_file_that_becomes_shorter_while_it_is_read_fails(
    tmp_path: Path, database_url: str
) -> None:
    command = Import("file", tmp_path, database_url)
    process = command.start(rows() * 10)
    with psycopg.connect(database_url, autocommit=True) as watcher:
        while saved(watcher) < 1000:
            time.sleep(0.005)
    os.truncate(tmp_path / "rows.csv", 0)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert "it became shorter while it was read" in said
    summary = json.loads(out)
    assert (summary["status"], summary["error"]["code"]) == ("failed", "input_unreadable")
    assert summary["rows"]["read"] >= 1000


def test_server_that_is_older_than_the_client_ends_the_import(
    tmp_path: Path, database_url: str
) -> None:
    """As after the failover to a standby that was behind, or a restored backup."""
    command = Import("file", tmp_path, database_url)
    process = command.start(rows())
    with psycopg.connect(database_url, autocommit=True) as admin:
        while saved(admin) < 2000:
            time.sleep(0.005)
        row = admin.execute("SELECT checkpoint FROM import_run").fetchone()
        assert row is not None
        older = saved(admin)
        while saved(admin) == older:
            time.sleep(0.005)
        # Nothing of the run is at work while its server becomes an older one.
        process.send_signal(signal.SIGSTOP)
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'identity import' AND datname = current_database()"
        )
        admin.execute("UPDATE import_run SET checkpoint = %s", (json.dumps(row[0]),))
        process.send_signal(signal.SIGCONT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 5, said
    assert "the database has lost rows of this run" in said
    assert re.search(rf"reads again after row {older}\b", said)
    assert json.loads(out)["error"]["code"] == "server_went_back"
    summary, again = command.run(rows())
    assert f"resuming run 1 after {older} rows" in again
    assert summary["rows"]["read"] == ROWS
    assert len(stored(database_url)) == ROWS


def test_older_of_two_contacts_is_the_primary_after_a_kill(
    tmp_path: Path, database_url: str
) -> None:
    """One connection waits for a lock while the other goes on; then both are killed."""
    lines = [f"user{i}@example.com,{5550000000 + i}" for i in range(4000)]
    lines[10] = "older@example.com,1"
    lines[3900] = "newer@example.com,2"
    text = "email,phone\n" + "\n".join([*lines, "older@example.com,2"]) + "\n"
    command = Import("file", tmp_path, database_url)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT reconcile('older@example.com', '1')")
        process = command.start(text, "--jobs", "2")
        time.sleep(2)
        process.kill()
        process.communicate()
        other.rollback()
    command.run(text, "--jobs", "2")
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT email FROM contact WHERE id = (SELECT coalesce(linked_id, id) FROM contact"
            " WHERE email = 'newer@example.com')"
        ).fetchall()
    assert found == [("older@example.com",)]


def who_is_who(url: str) -> tuple[list[Any], list[Any]]:
    """Return each contact with its primary, by values, and the contacts in order of age."""
    with psycopg.connect(url) as connection:
        links = connection.execute(
            "SELECT c.email, c.phone_number, p.email, p.phone_number FROM contact c"
            " JOIN contact p ON p.id = coalesce(c.linked_id, c.id) ORDER BY 1, 2"
        ).fetchall()
        ages = connection.execute(
            "SELECT email, phone_number FROM contact ORDER BY created_at, run_id, line"
        ).fetchall()
    return links, ages


# Killed ten times, and still at work after each of them.
ROWS = 200_000


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "jobs"), [(1, "3"), (2, "1")])
def test_large_import_killed_ten_times_and_changed_twice_ends_as_the_last_input(
    seed: int,
    jobs: str,
    tmp_path: Path,
    database_url: str,
    cloned_database: Callable[[], AbstractContextManager[str]],
) -> None:
    draw = random.Random(seed)
    lines = [
        f"p{draw.randrange(150_000)}@example.com,{draw.randrange(150_000)}" for _ in range(ROWS)
    ]
    # Repeats among the first rows, which can be exchanged without another graph coming of it.
    lines[1000:1010] = lines[:10]

    def text() -> str:
        return "email,phone\n" + "\n".join(lines) + "\n"

    command = Import("file", tmp_path, database_url)
    for number in range(10):
        if number == 3:  # beyond what was read
            lines[-1] = "last@example.com,1"
        if number == 6 and jobs == "1":  # among what was read: it starts over
            lines[1000:1010] = reversed(lines[:10])
        elif number == 6:
            lines[-2] = "last@example.com,2"
        process = command.start(text(), "--jobs", jobs)
        time.sleep(draw.uniform(0.8, 2.0))
        process.kill()
        process.communicate()
    _, said = command.run(text(), "--jobs", jobs)
    assert f"resuming run {2 if jobs == '1' else 1} after" in said
    found = who_is_who(database_url)
    with cloned_database() as other:
        (tmp_path / "undisturbed").mkdir()
        summary, _ = Import("file", tmp_path / "undisturbed", other).run(text(), "--jobs", "1")
        assert summary["rows"]["read"] == ROWS
        assert found == who_is_who(other)
