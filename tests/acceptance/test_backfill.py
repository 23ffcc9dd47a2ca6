"""`identity backfill` beside `identity import --jobs 1`, as a user and a script see them."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from backfills import (
    as_csv,
    as_json,
    as_json_lines,
    as_parquet,
    as_vcards,
    graph,
    messy_rows,
    stored,
    without_runs,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    Clone = Callable[[], AbstractContextManager[str]]

SAMPLES = Path(__file__).parents[2] / "samples"
REAL = Path(__file__).parents[1] / "files" / "real"


@pytest.fixture
def imported_url(cloned_database: Clone) -> Iterator[str]:
    """A second database, into which a test imports what it backfills into the first."""
    with cloned_database() as url:
        yield url


def both(
    run: Run,
    imported_url: str,
    tmp_path: Path,
    *arguments: object,
    code: int = 0,
    env: dict[str, str] | None = None,
) -> tuple[Any, Any]:
    """Import files into one database and backfill them into the other; return the summaries."""
    found = []
    for command, url in (("import", {"DATABASE_URL": imported_url}), ("backfill", {})):
        options = ["--jobs", "1"] if command == "import" else []
        done = run(command, *arguments, *options, "--json", env=url | (env or {}))
        assert done.returncode == code, done.stderr
        found.append((json.loads(done.stdout), rejects_files(tmp_path)))
    (imported, imported_rejects), (backfilled, backfilled_rejects) = found
    assert backfilled_rejects == imported_rejects
    for document in (imported, backfilled):
        for name in ("started_at", "finished_at", "seconds", "rows_per_second"):
            del document[name]
    assert backfilled == imported
    return imported, backfilled


def rejects_files(folder: Path) -> dict[str, bytes]:
    """Return the rejects files of a folder, which are removed."""
    found = {}
    for path in folder.rglob("*.rejects"):
        found[path.name] = path.read_bytes()
        path.unlink()
    return found


def same(run: Run, url: str, imported_url: str) -> None:
    """Check that two databases hold the same, and that the program reports the same of them."""
    assert stored(url) == stored(imported_url)
    for command in (
        ("verify", "--json"),
        ("export", "--what", "identities"),
        ("export", "--format", "csv"),
        ("db", "check"),
    ):
        outputs = [run(*command, env={"DATABASE_URL": one}) for one in (url, imported_url)]
        assert outputs[0].returncode == 0, outputs[0].stdout + outputs[0].stderr
        texts = [output.stdout for output in outputs]
        if "csv" in command:
            texts = [without_times(text) for text in texts]
        assert texts[0] == texts[1]


def without_times(text: str) -> Any:
    """Return the rows of an export of contacts without the columns of times."""
    return [
        [cell for i, cell in enumerate(row) if i not in {5, 6}]
        for row in csv.reader(text.splitlines())
    ]


@pytest.mark.parametrize(
    "name",
    [
        "contacts.csv",
        "contacts.jsonl",
        "google-contacts.csv",
        "hubspot-contacts.csv",
        "address-book.vcf",
    ],
)
def test_a_sample_is_stored_as_import_stores_it(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path, name: str
) -> None:
    shutil.copy(SAMPLES / name, tmp_path)
    more = ["--region", "US", "--max-rejects", "5"]
    both(run_identity, imported_url, tmp_path, name, *more)
    assert stored(database_url) == stored(imported_url)


def test_the_messy_sample_has_the_same_rejects(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    shutil.copy(SAMPLES / "messy.csv", tmp_path)
    imported, _ = both(run_identity, imported_url, tmp_path, "messy.csv", code=3)
    assert imported["rows"]["rejected"] == 2
    assert stored(database_url) == stored(imported_url)


@pytest.mark.parametrize("strict", [[], ["--strict"]])
def test_values_that_are_normal_beside_others_in_one_file(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path, strict: list[str]
) -> None:
    """Files that are read in blocks, with and without quotes; of one, all rows are read alone."""
    rows = [(email, phone) for email, _, phone, _ in messy_rows(17, 900)]
    files = []
    for number, (quoting, end) in enumerate(
        [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_MINIMAL, "\n\n")]
    ):
        files.append(f"{number}.csv")
        with open(tmp_path / files[-1], "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=quoting, lineterminator=end)
            writer.writerows([("Email", "Phone"), *rows[number * 300 : number * 300 + 300]])
    imported, _ = both(run_identity, imported_url, tmp_path, *files, *strict, code=3)
    assert imported["rows"]["read"] == 900
    assert imported["rows"]["rejected"] > 20
    assert stored(database_url) == stored(imported_url)


def test_real_files_of_many_programs(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    files = sorted(path.name for path in REAL.iterdir() if path.suffix in {".csv", ".vcf"})
    for name in files:
        shutil.copy(REAL / name, tmp_path)
    both(run_identity, imported_url, tmp_path, *files, "--region", "US", "--max-rejects", "100%")
    assert stored(database_url) == stored(imported_url)


def test_files_of_every_format(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    rows = messy_rows(1, 1200)
    files = [
        as_csv(tmp_path / "a.csv", rows[:200]),
        as_csv(tmp_path / "b.csv.gz", rows[200:400], delimiter=";", quote=csv.QUOTE_ALL),
        as_json_lines(tmp_path / "c.jsonl", rows[400:600]),
        as_json(tmp_path / "d.json", rows[600:800]),
        as_parquet(tmp_path / "e.parquet", rows[800:1000]),
        as_vcards(tmp_path / "f.vcf", rows[1000:]),
    ]
    names = [file.name for file in files]
    imported, _ = both(run_identity, imported_url, tmp_path, *names, code=3)
    assert imported["rows"]["merged"] > 20
    assert imported["rows"]["partial"] > 20
    assert len(imported["rejects"]) == 6
    same(run_identity, database_url, imported_url)


def test_options_for_reading_and_a_rejects_file(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.txt").write_bytes(
        "\n".join(
            [
                "made by a machine",
                "id|mail|fon|land",
                "1|Ann@x.org|0171 123456|DE",
                "2|none given|555-0101|US",
                "3|b\xe9@x.org|12|US",
                "4|ann@x.org|202-555-0143|United States",
                "5|c@x.org|not a number|DE",
            ]
        ).encode("latin-1")
    )
    options = ["--delimiter", "|", "--encoding", "latin-1", "--map", "email=mail", "--map"]
    options += ["phone=fon", "--region", "US", "--region-column", "land", "--skip-lines", "1"]
    options += ["--null", "none given", "--strict", "--input-format", "csv"]
    both(
        run_identity, imported_url, tmp_path, "odd.txt", *options, "--rejects", "r.rejects", code=3
    )
    same(run_identity, database_url, imported_url)


def test_a_held_target_gets_what_an_import_adds(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    rows = messy_rows(2, 900, people=150)
    as_csv(tmp_path / "first.csv", rows[:300])
    as_csv(tmp_path / "second.csv", rows[300:])
    for url in (database_url, imported_url):
        done = run_identity(
            "import",
            "first.csv",
            "--jobs",
            "1",
            "-q",
            "--max-rejects",
            "100%",
            env={"DATABASE_URL": url},
        )
        assert done.returncode == 0, done.stderr
    rejects_files(tmp_path)
    imported, _ = both(run_identity, imported_url, tmp_path, "second.csv", code=3)
    assert imported["rows"]["merged"] > 10
    same(run_identity, database_url, imported_url)


def test_forgotten_values_are_left_out_of_files_of_every_format(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    rows = messy_rows(5, 1200, people=60)
    as_csv(tmp_path / "first.csv", rows[:200])
    files = [
        as_csv(tmp_path / "a.csv.gz", rows[200:400], delimiter=";", quote=csv.QUOTE_ALL),
        as_json_lines(tmp_path / "b.jsonl", rows[400:600]),
        as_json(tmp_path / "c.json", rows[600:800]),
        as_parquet(tmp_path / "d.parquet", rows[800:1000]),
        as_vcards(tmp_path / "e.vcf", rows[1000:]),
    ]
    forgotten = [f"p{person}.{n}@x.org" for person in range(9) for n in range(2)]
    forgotten += [f"p{person}.{n}@y.org" for person in range(5) for n in range(3)]
    forgotten += [f"555{person:05}{n}" for person in range(5) for n in range(2)]
    key = {"IDENTITY_FORGET_KEY": "correct horse battery staple"}
    for url in (database_url, imported_url):
        env = {"DATABASE_URL": url, **key}
        run_identity("import", "first.csv", "--jobs", "1", env=env)
        done = run_identity("forget", *forgotten, "--yes", env=env)
        assert done.returncode == 0, done.stderr
    rejects_files(tmp_path)
    names = [file.name for file in files]
    refused = run_identity("backfill", *names)
    assert refused.returncode == 5
    assert refused.stdout == ""
    hint = "hint: set IDENTITY_FORGET_KEY to the key that identity forget was first run with"
    assert hint in refused.stderr
    assert "note: " not in refused.stderr
    imported, _ = both(run_identity, imported_url, tmp_path, *names, code=3, env=key)
    assert imported["rejected_by_code"]["forgotten"] > 200
    assert min(imported["rows"][name] for name in ("linked", "merged", "partial")) > 0
    same(run_identity, database_url, imported_url)


def test_a_few_rows_into_a_large_target_keep_its_indexes(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    rows = messy_rows(3, 1000, people=150)
    as_csv(tmp_path / "first.csv", rows[:950])
    as_csv(tmp_path / "second.csv", rows[950:])
    for url in (database_url, imported_url):
        run_identity("import", "first.csv", "--jobs", "1", env={"DATABASE_URL": url})
    rejects_files(tmp_path)
    with psycopg.connect(database_url) as connection:
        before = connection.execute("SELECT 'contact_email_anchor'::regclass::oid").fetchall()
    both(run_identity, imported_url, tmp_path, "second.csv", "--max-rejects", "100%")
    with psycopg.connect(database_url) as connection:
        after = connection.execute("SELECT 'contact_email_anchor'::regclass::oid").fetchall()
    assert after == before
    assert stored(database_url) == stored(imported_url)


def test_computed_and_loaded_apart(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(4, 300))
    nowhere: dict[str, str | None] = {"DATABASE_URL": "postgresql://nowhere.invalid/x"}
    done = run_identity("backfill", "compute", "a.csv", "--work", "w", "--json", env=nowhere)
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["rejects"] == "w/rejects/00000.rejects"
    assert document["run_id"] is None
    assert document["rows"]["created"] > 0
    rejects = (tmp_path / "w/rejects/00000.rejects").read_bytes()
    os.remove(tmp_path / "a.csv")
    done = run_identity("backfill", "load", "--work", "w", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == document["rows"]
    assert (tmp_path / "a.csv.1.rejects").read_bytes() == rejects
    as_csv(tmp_path / "a.csv", messy_rows(4, 300))
    run_identity("import", "a.csv", "--jobs", "1", env={"DATABASE_URL": imported_url})
    assert stored(database_url) == stored(imported_url)


def test_computed_for_a_held_target_that_changes_or_does_not(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    rows = messy_rows(5, 400, people=60)
    as_csv(tmp_path / "first.csv", rows[:200])
    as_csv(tmp_path / "second.csv", rows[200:])
    for url in (database_url, imported_url):
        run_identity("import", "first.csv", "--jobs", "1", env={"DATABASE_URL": url})

    def compute(*arguments: object) -> subprocess.CompletedProcess[str]:
        more = (*arguments, "--max-rejects", "100%")
        return run_identity("backfill", "compute", "second.csv", "--work", "w", *more)

    assert compute().returncode == 0
    done = run_identity("backfill", "load", "--work", "w")
    assert done.returncode == 5
    assert "computed for an empty one" in done.stderr
    assert compute("--into", database_url).returncode == 0
    for url in (database_url, imported_url):
        run_identity("identify", "--email", "new@x.org", env={"DATABASE_URL": url})
    done = run_identity("backfill", "load", "--work", "w")
    assert done.returncode == 5
    assert "has changed since the backfill was computed for it" in done.stderr
    assert compute("--into", database_url).returncode == 0
    assert run_identity("backfill", "load", "--work", "w").returncode == 0
    run_identity("import", "second.csv", "--jobs", "1", env={"DATABASE_URL": imported_url})
    # The two loads that were refused have taken a number each.
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute(
            "SELECT array_agg(status ORDER BY id) FROM import_run"
        ).fetchall() == [(["finished", "failed", "failed", "finished"],)]
        connection.execute("DELETE FROM import_run WHERE status = 'failed'")
    with psycopg.connect(imported_url, autocommit=True) as connection:
        connection.execute("UPDATE contact SET run_id = 4 WHERE run_id = 2")
        connection.execute("UPDATE link_evidence SET run_id = 4 WHERE run_id = 2")
    assert graph(database_url) == graph(imported_url)


def test_a_pattern_is_expanded_without_a_shell(run_identity: Run, tmp_path: Path) -> None:
    for name in ("h-2.csv", "h-1.csv"):
        as_csv(tmp_path / name, messy_rows(6, 20))
    done = run_identity("backfill", "h-*.csv", "--json", "--max-rejects", "100%")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["input"] == ["h-1.csv", "h-2.csv"]


def test_what_reads_and_changes_a_graph_does_so_after_a_backfill(
    run_identity: Run, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    rows = messy_rows(7, 600, people=80)
    as_csv(tmp_path / "first.csv", rows[:300])
    as_csv(tmp_path / "second.csv", rows[300:450])
    as_csv(tmp_path / "third.csv", rows[450:])
    for url, command in ((database_url, ["backfill"]), (imported_url, ["import", "--jobs", "1"])):
        env: dict[str, str | None] = {"DATABASE_URL": url}

        def identity(*arguments: object, env: dict[str, str | None] = env) -> str:
            done = run_identity(*arguments, env=env)
            assert done.returncode == 0, done.stderr
            return done.stdout

        found = []
        allowed = ("-q", "--max-rejects", "100%")
        identity(command[0], "first.csv", *command[1:], *allowed)
        identity("export", "-o", "all.csv", "--token-file", "token", "--force")
        token = (tmp_path / "token").read_text().strip()
        before = identity("export", "--what", "identities")
        identity(command[0], "second.csv", *command[1:], *allowed)
        for since in (token, "1"):
            changes = identity("export", "--since", since, "--what", "changes", "--format", "jsonl")
            found.append(without_moments(changes))
            found.append(identity("export", "--since", since, "--what", "redirects"))
        assert identity("export", "--what", "identities", "--as-of", "1") == before
        after = identity("export", "--what", "identities", "--as-of", "2")
        assert after == identity("export", "--what", "identities")
        found.append(after)
        assert identity("export", "--since", "2", "--what", "changes", "--format", "jsonl") == ""
        explanation = identity("explain", "p1.0@x.org", "p1.1@x.org")
        assert "first.csv:" in explanation
        found.append(re.sub(r"\d{4}-\d\d-\d\d[ T][0-9:.]+", "TIME", explanation))
        identity("import", "third.csv", "--jobs", "1", *allowed)
        identity("identify", "--email", "p2.0@x.org", "--phone", "5550000300")
        found += [graph(url), identity("verify", "--json")]
        identity("undo", "3", "--yes")
        identity("undo", "2", "--yes")
        found.append(graph(url))
        identity("undo", "1", "--yes")
        found += [graph(url), identity("verify", "--json")]
        if command[0] == "backfill":
            backfilled = found
    for ours, theirs in zip(backfilled, found, strict=True):
        assert ours == theirs


def without_moments(text: str) -> list[dict[str, Any]]:
    """Return documents without their times."""
    documents = [json.loads(line) for line in text.splitlines()]
    return [
        {key: value for key, value in one.items() if not key.endswith(("At", "_at"))}
        for one in documents
    ]


def is_reading(folder: Path, _url: str) -> bool:
    return any((folder / "w" / "parts").glob("*.tmp"))


def is_computing(folder: Path, _url: str) -> bool:
    return (folder / "w" / "compute.duckdb").exists()


def is_loading(_folder: Path, url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        return (
            connection.execute(
                "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
                " AND relation = 'contact'::regclass AND pid <> pg_backend_pid()"
            ).fetchone()
            is not None
        )


def has_begun(url: str, runs_before: Any) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM import_run").fetchone() != runs_before


@contextmanager
def in_the_middle(
    reached: Callable[[Path, str], bool], folder: Path, url: str, process: subprocess.Popen[str]
) -> Iterator[None]:
    """Wait until it has come so far; it cannot commit before the block ends, however fast it is."""
    deadline = time.monotonic() + 60
    with psycopg.connect(url, autocommit=True) as connection:
        runs = connection.execute("SELECT count(*) FROM import_run").fetchone()

    def wait_until(is_true: Callable[[], bool]) -> None:
        while not is_true():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)

    wait_until(lambda: has_begun(url, runs))
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE import_run IN SHARE MODE")
        wait_until(lambda: reached(folder, url))
        yield


def test_a_backfill_that_is_killed_resumes(
    run_identity: Run, start_identity: Start, database_url: str, imported_url: str, tmp_path: Path
) -> None:
    moments = random.Random(8)
    rows = messy_rows(8, 30_000, people=5_000)
    as_csv(tmp_path / "a.csv", rows[:20_000])
    as_csv(tmp_path / "b.csv", rows[20_000:])
    command = ("backfill", "a.csv", "b.csv", "--work", "w", "--max-rejects", "100%")
    for reached in (is_reading, is_computing, is_computing, is_loading, is_loading):
        process = start_identity(*command)
        with in_the_middle(reached, tmp_path, database_url, process):
            time.sleep(moments.random() * 0.2)
            process.kill()
            process.wait()
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)
    done = run_identity(*command)
    assert done.returncode == 0, done.stderr
    assert "resuming in w: 2 of 2 inputs are read" in done.stderr
    files = sorted(rejects_files(tmp_path).items())
    rejects = [content for name, content in files if name.endswith(".6.rejects")]
    run_identity(
        "import", "a.csv", "b.csv", "--jobs", "1", timeout=120, env={"DATABASE_URL": imported_url}
    )
    assert rejects == [content for _, content in sorted(rejects_files(tmp_path).items())]
    assert without_runs(graph(database_url)) == without_runs(graph(imported_url))
    states = run_identity("runs", "--json").stdout
    assert [one["status"] for one in json.loads(states)] == ["finished", *["died"] * 5]


@pytest.mark.parametrize("reached", [is_reading, is_computing, is_loading])
def test_an_interrupt_ends_a_backfill_in_order(
    start_identity: Start, database_url: str, tmp_path: Path, reached: Callable[[Path, str], bool]
) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(9, 40_000, people=8_000))
    process = start_identity("backfill", "a.csv", "--work", "w", "--json")
    with in_the_middle(reached, tmp_path, database_url, process):
        # As from a terminal, the processes that read get it, too, and before this one.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in map(int, children):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    document = json.loads(out)
    assert (document["status"], document["exit_code"]) == ("stopped", 130)
    assert set(document["rows"].values()) == {0}
    assert "identity undo" not in err
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)
        assert connection.execute("SELECT status FROM import_run").fetchall() == [("stopped",)]


def test_wrong_usage_is_reported_with_a_summary(run_identity: Run, tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(10, 5))
    for arguments, message in (
        (["nowhere.csv"], "nowhere.csv: No such file or directory"),
        (["-"], "- is not a file"),
        (["a.csv", "a.csv"], "a.csv is twice an input"),
        (["a.csv", "--memory", "much"], "--memory takes a size"),
        (["a.csv", "--restart"], "--restart is for a --work directory"),
        (["a.csv", "--no-such-option"], "No such option"),
    ):
        done = run_identity("backfill", *arguments, "--summary", "s.json")
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert "hint: " in done.stderr
        assert json.loads((tmp_path / "s.json").read_text())["exit_code"] == 2
    assert run_identity("backfill", "load", "--work", "w").returncode == 2
    done = run_identity("backfill", "a.csv", "--min-rows", "9")
    assert done.returncode == 3


def test_rejects_that_cannot_be_written_end_before_the_load(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(11, 50))
    (tmp_path / "r").mkdir()
    done = run_identity("backfill", "a.csv", "--rejects", "r")
    assert done.returncode == 7, done.stderr
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (0,)


def test_a_missing_extra_is_named(run_identity: Run, tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(12, 5))
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['duckdb'] = None\n")
    done = run_identity("backfill", "a.csv", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert "pip install 'identity-cli[backfill]'" in done.stderr


def test_input_that_breaks_off_promises_nothing(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('email,phone\na@x.org,1\n"b@x.org\n')
    for command in (("backfill", "a.csv"), ("import", "a.csv", "--dry-run")):
        done = run_identity(*command)
        assert done.returncode == 4
        assert "a.csv:3: error: broken quoting" in done.stderr
        assert "are imported" not in done.stderr
    done = run_identity("import", "a.csv")
    assert done.stderr.endswith("; the rows before this place are imported\n")
