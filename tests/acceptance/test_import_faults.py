"""An import that is killed resumes, and ends as one that was never stopped.

The moments of the kills come from a seed that is in the test's name. What the input is changed to
between two tries decides what the end must be: that of an undisturbed run of the last input.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from steering import Player

from identity_cli.postgres import schema
from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


def mixed_rows(seed: int) -> str:
    """New people, links, merges, repeats, and now and then a bad row."""
    rnd = random.Random(seed)
    lines = ["email,phone"]
    seen: list[tuple[str, str]] = []
    for i in range(ROWS):
        kind = rnd.random()
        if kind < 0.01:
            lines.append(rnd.choice([f"nobody{i},", ",", f"a{i}@example.com,1,2", f",12x{i}"]))
            continue
        if kind < 0.35 or len(seen) < 10:
            row = (f"user{i}@example.com", f"555{i:06d}")
        elif kind < 0.6:
            email, phone = rnd.choice(seen)
            row = (email, f"666{i:06d}") if kind < 0.45 else (f"alt{i}@example.com", phone)
        elif kind < 0.75:
            row = (rnd.choice(seen)[0], rnd.choice(seen)[1])
        else:
            row = rnd.choice(seen)
        seen.append(row)
        lines.append(",".join(row))
    return "\n".join(lines) + "\n"


class Command:
    """`identity import` on one file, again and again, until it has ended."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.folder = folder
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
        self._options = options

    def start(self) -> subprocess.Popen[str]:
        paths = ("--outcomes", "outcomes.jsonl", "--summary", "summary.json")
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "import", "rows.csv", *paths, *self._options],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self) -> int:
        process = self.start()
        _, said = process.communicate(timeout=120)
        assert process.returncode in (0, 3, 5), said
        assert "Traceback" not in said
        return process.returncode

    def has_ended(self, url: str) -> bool:
        """Whether the kill came when the run had ended already."""
        with psycopg.connect(url) as connection:
            ended = connection.execute("SELECT FROM import_run WHERE status = 'finished'")
            return ended.fetchone() is not None

    def end(self, url: str) -> None:
        if not self.has_ended(url):
            assert self.run() == 3

    def result(self, url: str) -> dict[str, Any]:
        """All that the run left, its ids replaced by their rank: a crash leaves gaps in them."""
        with psycopg.connect(url) as connection:
            contacts = connection.execute(
                "SELECT id, email, phone_number, linked_id, link_precedence, initial_linked_id,"
                " line, anchors_email, anchors_phone FROM contact WHERE id > 0 ORDER BY id"
            ).fetchall()
            aside = connection.execute(
                "SELECT id, email, phone_number, line FROM set_aside_contact ORDER BY id"
            ).fetchall()
            evidence = connection.execute(
                "SELECT value, other_value, primary_id, merged_id, line, is_held"
                " FROM link_evidence ORDER BY id"
            ).fetchall()
            [(run_id, counts)] = connection.execute("SELECT id, rows FROM import_run").fetchall()
            in_order = connection.execute(
                "SELECT count(*) FROM (SELECT created_at <= lag(created_at) OVER (ORDER BY line)"
                " AS back FROM contact WHERE id > 0) AS times WHERE back"
            ).fetchone()
        ids = sorted({row[0] for row in (*contacts, *aside)})
        rank: dict[int | None, int | None] = {id_: number for number, id_ in enumerate(ids, 1)}
        rank[None] = None
        outcomes = [
            json.loads(line) for line in (self.folder / "outcomes.jsonl").read_text().splitlines()
        ]
        for outcome in outcomes:
            outcome["primaryContactId"] = rank[outcome["primaryContactId"]]
            outcome["contactId"] = rank[outcome["contactId"]]
            outcome["contactIds"] = [rank[one] for one in outcome.get("contactIds", ())]
        return {
            "contacts": [
                (rank[one], *values, rank[linked], word, rank[initial], *rest)
                for one, *values, linked, word, initial, line, a, b in contacts
                for rest in [(line, a, b)]
            ],
            "aside": [(rank[one], *rest) for one, *rest in aside],
            "evidence": [(e, p, rank[one], rank[two], *rest) for e, p, one, two, *rest in evidence],
            "outcomes": outcomes,
            "rejects": (self.folder / f"rows.csv.{run_id}.rejects").read_text(),
            "counts": counts,
            "newer before older": in_order,
        }


@pytest.fixture
def expected(
    tmp_path: Path,
    cloned_database: Callable[[], AbstractContextManager[str]],
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Any]]:
    """What the same rows give when nobody disturbs them."""
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    seed = request.node.callspec.params["seed"]
    (folder / "rows.csv").write_text(mixed_rows(seed))
    with cloned_database() as url:
        command = Command(folder, {"DATABASE_URL": url})
        assert command.run() == 3
        yield command.result(url)


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    made = tmp_path / "disturbed"
    made.mkdir()
    (made / "rows.csv").write_text(mixed_rows(request.node.callspec.params["seed"]))
    return made


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_client_killed_at_random_moments(
    seed: int, expected: dict[str, Any], folder: Path, database_url: str
) -> None:
    rnd = random.Random(seed)
    command = Command(folder, {"DATABASE_URL": database_url})
    kill_often(command, rnd, database_url)
    command.end(database_url)
    assert command.result(database_url) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 8])
def test_client_killed_among_rules(
    seed: int, tmp_path: Path, cloned_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """A value in the middle is blocked, a pair is unlinked, and many values become hubs."""
    text = mixed_rows(seed)
    rows = [line.split(",") for line in text.splitlines()]
    pairs = [(row[0], row[1]) for row in rows if len(row) == 2 and "@" in row[0] and row[1]]
    results = []
    for name, kills in (("undisturbed", False), ("disturbed", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.csv").write_text(text)
        with cloned_database() as url:
            with psycopg.connect(url, autocommit=True) as connection:
                player = Player(connection)
                player.block(pairs[ROWS // 2])
                player.unlink(*pairs[ROWS // 3])
                player.limit(30, 30)
            command = Command(folder, {"DATABASE_URL": url})
            if kills:
                kill_often(command, random.Random(seed), url)
            command.end(url)
            result = command.result(url)
        # A hub may have moved the identity of a request since.
        for outcome in result["outcomes"]:
            outcome["primaryContactId"] = outcome["primaryContactId"] is not None
        results.append(result)
    assert results[0]["counts"]["blocked"] > 0
    assert results[0]["aside"] != []
    assert results[1] == results[0]


def kill_often(command: Command, rnd: random.Random, url: str) -> None:
    """Kill the command at moments that lie in its work, mostly."""
    with psycopg.connect(url, autocommit=True) as watcher:
        for _ in range(6):
            process = command.start()
            assert process.stderr is not None
            with process.stderr:
                while process.poll() is None and not _at_work(watcher):
                    time.sleep(0.005)
                time.sleep(rnd.uniform(0, 0.2))
                process.kill()
                process.wait()
            if command.has_ended(url):
                break


def _at_work(watcher: psycopg.Connection[Any]) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CALL%'"
    return watcher.execute(query).fetchone() is not None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3])
def test_backends_killed_at_random_moments(
    seed: int, expected: dict[str, Any], folder: Path, database_url: str
) -> None:
    rnd = random.Random(seed)
    command = Command(folder, {"DATABASE_URL": database_url})
    process = command.start()
    killed = 0
    with psycopg.connect(database_url, autocommit=True) as killer:
        while process.poll() is None:
            time.sleep(rnd.uniform(0.05, 0.3))
            row = killer.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'identity import' AND datname = current_database()"
                " ORDER BY random() LIMIT 1) AS victim"
            ).fetchone()
            assert row is not None
            killed += row[0] if killed < 8 else 0
            if killed >= 8:
                break
    _, said = process.communicate(timeout=120)
    if process.returncode == 5:  # killed before it had begun: the same command again
        assert command.run() == 3
    else:
        assert process.returncode == 3, said
    assert killed
    assert command.result(database_url) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4])
def test_server_killed_at_random_moments(
    seed: int, expected: dict[str, Any], folder: Path, identity_home: Path
) -> None:
    """The embedded server stops at once, without writing anything: only the disk counts."""
    rnd = random.Random(seed)
    server = EmbeddedServer(identity_home)
    command = Command(folder, {"IDENTITY_HOME": str(identity_home)})
    with server:
        process = command.start()
        killed = 0
        while process.poll() is None and killed < 4:
            time.sleep(rnd.uniform(0.4, 0.9))
            with suppress(OSError, ValueError, IndexError):
                os.kill(postmaster(server), signal.SIGQUIT)
                killed += 1
        _, said = process.communicate(timeout=120)
        if process.returncode == 5:
            server.ensure_running()
            assert command.run() == 3
        else:
            assert process.returncode == 3, said
        assert killed
        url = url_of(server)
        assert command.result(url) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5])
def test_client_and_server_killed_together(
    seed: int, expected: dict[str, Any], folder: Path, identity_home: Path
) -> None:
    rnd = random.Random(seed)
    server = EmbeddedServer(identity_home)
    command = Command(folder, {"IDENTITY_HOME": str(identity_home)})
    with server:
        schema.upgrade(Database(server.connection_parameters(), embedded=True))
        url = url_of(server)
        for _ in range(4):
            process = command.start()
            assert process.stderr is not None
            with process.stderr:
                time.sleep(rnd.uniform(0.4, 0.9))
                os.kill(postmaster(server), signal.SIGQUIT)
                process.kill()
                process.wait()
            if has_ended_after_restart(server, command, url):
                break
        command.end(url)
        assert command.result(url) == expected


def has_ended_after_restart(server: EmbeddedServer, command: Command, url: str) -> bool:
    """Ask a server that was told to quit: it may be at that still, and counts as running then."""
    for _ in range(100):
        server.ensure_running()
        with suppress(psycopg.OperationalError):
            return command.has_ended(url)
        time.sleep(0.1)
    raise AssertionError("the server did not come back")


def postmaster(server: EmbeddedServer) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def url_of(server: EmbeddedServer) -> str:
    return f"postgresql://postgres@/identity?host={server.connection_parameters()['host']}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [6])
def test_killed_with_several_connections(
    seed: int, expected: dict[str, Any], folder: Path, database_url: str
) -> None:
    """Ids are not promised then: the same identities with the same primaries are."""
    command = Command(folder, {"DATABASE_URL": database_url}, "--jobs", "3")
    kill_often(command, random.Random(seed), database_url)
    command.end(database_url)
    found = command.result(database_url)
    assert _primaries(found) == _primaries(expected)
    assert sorted(row["line"] for row in found["outcomes"]) == [
        row["line"] for row in expected["outcomes"]
    ]
    assert found["rejects"] == expected["rejects"]
    counts = found["counts"]
    assert sum(counts.values()) - counts["partial"] == 2 * counts["read"]


def _primaries(result: dict[str, Any]) -> set[tuple[tuple[str, str], frozenset[str]]]:
    """Each identity as its primary's values and all its values."""
    values: dict[int, set[str]] = {}
    primaries: dict[int, tuple[str, str]] = {}
    for one, email, phone, linked, *_ in result["contacts"]:
        values.setdefault(linked or one, set()).update({email, phone} - {None})
        if linked is None:
            primaries[one] = (email, phone)
    return {(primaries[root], frozenset(found)) for root, found in values.items()}
