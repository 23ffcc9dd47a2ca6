"""Inputs of every kind through the command: what it says, where, and what stands afterwards."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

# Prints the most memory that the command held, in KiB, then ends as it did.
MEASURED = """
import re, sys
from identity_cli.cli import run
code = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def emails(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT email FROM contact ORDER BY id").fetchall()
    return [row[0] for row in found]


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout.count("\n") == 1, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("contacts.csv", data)
    return buffer.getvalue()


ROWS = b"email,phone\na@x.org,1\nb@x.org,2\n"


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("a.csv.gz", gzip.compress(ROWS, mtime=0), ()),
        ("a.csv.zst", zstandard.compress(ROWS), ()),
        ("a.csv", ROWS.replace(b",", b"\t"), ("--delimiter", "\\t")),
        ("a.TSV", ROWS.replace(b",", b"\t"), ()),
        ("a.csv", ROWS.replace(b",", b";"), ("--delimiter", ";")),
        ("a", ROWS.replace(b",", b";"), ()),
        ("a.jsonl", b"Report of contacts\n\n" + ROWS, ()),
        ("a.xlsx", zipped(ROWS), ()),
        ("a.csv", ROWS.decode().encode("utf-16"), ()),
        ("a.csv", ROWS.decode().encode("utf-16"), ("--encoding", "utf-16")),
        (
            "a.txt",
            ROWS.replace(b"email,phone", b"Who,Number"),
            ("--input-format", "csv", "--map", "email=Who", "--map", "phone=Number"),
        ),
        ("a.ndjson", b'\xef\xbb\xbf{"E-Mail": "a@x.org", "Tel": 1}\r\n\r\n{"mail": "b@x.org"}', ()),
    ],
)
def test_ways_to_write_two_rows(
    run_identity: Run,
    database_url: str,
    tmp_path: Path,
    name: str,
    data: bytes,
    options: tuple[str, ...],
) -> None:
    (tmp_path / name).write_bytes(data)
    done = run_identity("import", name, *options)
    assert done.returncode == 0, done.stderr
    assert emails(database_url) == ["a@x.org", "b@x.org"]


def many(count: int) -> bytes:
    return b"email,phone\n" + b"".join(b"p%d@x.org,%d\n" % (i, i) for i in range(count))


@pytest.mark.parametrize(
    ("name", "data", "location", "message", "before"),
    [
        ("a.csv", b"", "a.csv", "the file is empty", 0),
        ("a.csv", b"name,note\nx,y\n", "a.csv:1", "no column is an email or a phone number", 0),
        ("a.csv", ROWS + b'"c@x.org,3\nd@x.org,4\n', "a.csv:4", "broken quoting", 2),
        ("a.csv", ROWS + b'"c"x,3\nd@x.org,4\n', "a.csv:4", "broken quoting", 2),
        ("a.csv", many(1200) + b'"c@x.org,3\n', "a.csv:1202", "broken quoting", 1200),
        ("a.csv", b"<!doctype html><html>", "a.csv", "an HTML page", 0),
        ("a.csv.gz", gzip.compress(ROWS, mtime=0)[:-4], "a.csv.gz", "ends too early", 2),
        ("a.csv.zst", zstandard.compress(ROWS) + b"x", "a.csv.zst", "is broken", 2),
    ],
    ids=["empty", "header", "unclosed", "stray", "many rows", "html", "cut off", "broken"],
)
def test_what_ends_the_reading(
    run_identity: Run,
    database_url: str,
    tmp_path: Path,
    name: str,
    data: bytes,
    location: str,
    message: str,
    before: int,
) -> None:
    """Exit code 4 and the place; the rows before it stand and are counted."""
    (tmp_path / name).write_bytes(data)
    done = run_identity("import", name, "--json", "--outcomes", "o", "--jobs", "1")
    assert done.returncode == 4
    assert re.search(
        rf"^{re.escape(location)}: error: .*{re.escape(message)}.*\n\nhint: .+\n$",
        done.stderr,
        re.MULTILINE,
    )
    found = document(done)
    assert (found["status"], found["exit_code"]) == ("failed", 4)
    assert found["rows"]["read"] == found["rows"]["created"] == before
    assert len(emails(database_url)) == before
    assert len((tmp_path / "o").read_text().splitlines()) == before


def test_mended_it_goes_on(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(ROWS + b'"c@x.org,3\n')
    assert run_identity("import", "a.csv").returncode == 4
    path.write_bytes(ROWS + b"c@x.org,3\n")
    done = run_identity("import", "a.csv", "--json")
    assert done.returncode == 0
    assert document(done)["rows"]["read"] == 3
    assert emails(database_url) == ["a@x.org", "b@x.org", "c@x.org"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("a.csv", b"email,note\n", b"\xff@x.org,\na@x.org,\xff\n"),
        ("a.csv", b"email,note\n", b"a\0@x.org,\na@x.org,\0\n"),
        ("a.csv", b"email,note\n", b"a" * 1_000_000 + b",\na@x.org," + b"n" * 1_000_000 + b"\n"),
        ("a.csv", b"email,note\n", b"a@x.org,n,x\na@x.org,\n"),
        ("a.jsonl", b"", b'{"email": "b", "email": "a@x.org"}\n{"email": "a@x.org"}\n'),
        ("a.jsonl", b"", b'{"email": [{"a": 1}]}\n{"email": "a@x.org", "x": [{}]}\n'),
        ("a.jsonl", b"", b"x" * 20_000_000 + b'\n{"email": "a@x.org"}\n'),
        ("a.jsonl", b"", b"[" * 1_000_000 + b'\n{"email": "a@x.org"}\n'),
        ("a.jsonl", b"", b'{"email": "a@x.org"}\n{"email": "b@x.or'),
    ],
    ids=["encoding", "nul", "long", "cells", "twice", "nested", "line", "deep", "cut"],
)
def test_a_bad_row_and_a_good_one(
    run_identity: Run, database_url: str, tmp_path: Path, name: str, good: bytes, bad: bytes
) -> None:
    (tmp_path / name).write_bytes(good + bad)
    input_format = name.removeprefix("a.")
    done = run_identity("import", name, "--json", "--input-format", input_format)
    assert done.returncode == 3, done.stderr
    assert document(done)["rows"]["rejected"] == 1
    assert document(done)["rows"]["created"] == 1
    assert emails(database_url) == ["a@x.org"]
    assert len(done.stderr) < 1000


def test_what_is_no_file(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(ROWS)
    (tmp_path / "folder.csv").mkdir()
    for name, words in {
        "missing.csv": "No such file",
        "folder.csv": "is a directory",
    }.items():
        done = run_identity("import", "a.csv", name)
        assert done.returncode == 2
        assert f"{name}: " in done.stderr or f"{name} " in done.stderr
        assert words in done.stderr
        assert "\n\nhint: " in done.stderr
    assert emails(database_url) == []


def test_a_named_pipe(
    start_identity: Callable[..., subprocess.Popen[str]], database_url: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    process = start_identity("import", "pipe.csv")
    (tmp_path / "pipe.csv").write_bytes(ROWS)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert emails(database_url) == ["a@x.org", "b@x.org"]


# Memory.


def peak(database_url: str, tmp_path: Path, *arguments: str, code: int, stdin: Any = None) -> int:
    """The most memory that an import held, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "import", *arguments, "-q"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": database_url},
        cwd=tmp_path,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return int(done.stderr.split()[-1]) * 1024


ACCEPTED = b"%07d@x.org," + b"n" * 1500 + b"\n"
REJECTED = b"%07d," + b"n" * 1500 + b"\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"), [(ACCEPTED, 0), (REJECTED, 3)], ids=["accepted", "rejected"]
)
def test_memory_does_not_grow_with_the_input(
    database_url: str, tmp_path: Path, line: bytes, code: int
) -> None:
    found = {}
    for size in (20, 60):
        with open(tmp_path / f"{size}.csv", "wb") as file:
            file.write(b"email,note\n")
            for i in range(size * 1_000_000 // len(line % 0)):
                # After the first few everything is a repeat: that is fast.
                file.write(line % (i % 2000))
        found[size] = peak(database_url, tmp_path, f"{size}.csv", code=code)
    # Rows wait in memory until a checkpoint, for a second at the most.
    assert found[60] <= 1.5 * found[20]
    assert found[60] < 110_000_000


@pytest.mark.parametrize(("name", "code"), [("a.csv", 4), ("a.jsonl", 3)], ids=["csv", "jsonl"])
def test_memory_of_one_line_without_end(
    database_url: str, tmp_path: Path, name: str, code: int
) -> None:
    head = b"email\n" if name == "a.csv" else b'{"email": "'
    with gzip.open(tmp_path / f"{name}.gz", "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(200):
            file.write(b"a" * 1_000_000)
    arguments = (f"{name}.gz", "--input-format", name.removeprefix("a."))
    assert peak(database_url, tmp_path, *arguments, code=code) < 150_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"email\n" + (b"," * 4_000_000 + b"\n") * 5),
        ("a.jsonl", (b'{"x": [' + b"[]," * 1_000_000 + b"0]}\n") * 2),
        ("a.jsonl", (b"{" + b",".join(b'"%d":0' % i for i in range(300_000)) + b"}\n") * 2),
    ],
    ids=["cells", "arrays", "keys"],
)
def test_memory_of_lines_that_unfold(
    database_url: str, tmp_path: Path, name: str, data: bytes
) -> None:
    with gzip.open(tmp_path / f"{name}.gz", "wb", compresslevel=1) as file:
        file.write(data)
    arguments = (f"{name}.gz", "--input-format", name.removeprefix("a."))
    assert peak(database_url, tmp_path, *arguments, code=3) < 250_000_000
