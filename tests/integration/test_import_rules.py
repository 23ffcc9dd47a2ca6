"""An import among rules: its counts and outcomes, also if it is interrupted."""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from steering import Player

from identity_cli.errors import ForgetKeyError
from identity_cli.importer import pipeline
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.pipeline import Pipeline
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

KILLED = 9
SHARED_EMAILS = [f"{c}@x.org" for c in "abcdefghijkl"]
SHARED_PHONES = [str(number) for number in range(100, 112)]


def run_import(url: str, path: Path, *, kill_after: int | None = None, **options: Any) -> Importer:
    plan = ImportPlan((str(path),), options=InputOptions("csv"), **options)
    importer = Importer(plan)
    seen = 0

    def show(_progress: object) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_after:
            os._exit(KILLED)

    importer.run(Database(connection_parameters(url), embedded=False), show)
    return importer


def outcomes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def mixed_rows(seed: int, *, second_column: bool) -> list[tuple[str, ...]]:
    """Rows that share values in many ways, some of them with new values."""
    rnd = random.Random(seed)
    rows = []
    for i in range(180):
        email = rnd.choice([*SHARED_EMAILS, f"new{i}@x.org", f"info{i}@spam.example", ""])
        phone = rnd.choice([*SHARED_PHONES, f"555{i:04d}", f"555{i:04d}", ""])
        other = rnd.choice([*SHARED_EMAILS, "", ""]) if second_column else ""
        rows.append((email, phone, other) if email or phone else ("k@x.org", phone, other))
    rows[60] = rows[130] = ("j@x.org", "110", "")
    return rows


def set_rules(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        player = Player(connection)
        player.block(["a@x.org", "105", "k@x.org"])
        player.add_pattern("info.*@spam[.]example")
        for email, phone in zip(SHARED_EMAILS, SHARED_PHONES, strict=True):
            player.unlink(email, phone)
        player.unlink("b@x.org", "c@x.org")
        player.forget(["j@x.org", "110"])
        player.limit(5, 7)


def summary(url: str, path: Path, importer: Importer) -> dict[str, Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        ids = connection.execute(
            "SELECT id FROM contact WHERE id > 0 UNION SELECT id FROM set_aside_contact ORDER BY id"
        ).fetchall()
        contacts = connection.execute(
            "SELECT id, email, phone_number, linked_id, line FROM contact WHERE id > 0 ORDER BY id"
        ).fetchall()
        aside = connection.execute(
            "SELECT id, email, phone_number, line FROM set_aside_contact ORDER BY id"
        ).fetchall()
        evidence = connection.execute(
            "SELECT value, other_value, is_held, line FROM link_evidence ORDER BY id"
        ).fetchall()
    rank: dict[int | None, int | None] = {one: n for n, (one,) in enumerate(ids, 1)}
    rank[None] = None
    return {
        "contacts": [(rank[a], e, p, rank[b], line) for a, e, p, b, line in contacts],
        "aside": [(rank[a], *rest) for a, *rest in aside],
        "evidence": evidence,
        "counts": importer.counts,
        "codes": importer.report(0).rejected_by_code,
        "outcomes": [
            one
            | {
                "contactId": rank[one["contactId"]],
                "contactIds": [rank[each] for each in one.get("contactIds", ())],
                "primaryContactId": one["primaryContactId"] is not None,
            }
            for one in outcomes(path.parent / "outcomes.jsonl")
        ],
    }


def answer_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database be through with all windows before the first answer is looked at."""
    drain = Pipeline.drain

    def wait_and_drain(self: Pipeline) -> None:
        for window in self._in_flight:
            assert window.ticket.wait(60.0)
        drain(self)

    monkeypatch.setattr(pipeline, "_AHEAD", 1_000)
    monkeypatch.setattr(Pipeline, "_is_next_done", lambda _: False)
    monkeypatch.setattr(Pipeline, "drain", wait_and_drain)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("second_column", [False, True])
@pytest.mark.parametrize(
    "seed", [4, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 5))]
)
def test_killed_import_among_rules_ends_as_an_undisturbed_one(
    cloned_database: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    second_column: bool,
) -> None:
    monkeypatch.setattr(pipeline, "BATCH", 7)
    monkeypatch.setattr(pipeline, "CHECKPOINT_SECONDS", 60.0)
    rows = mixed_rows(seed, second_column=second_column)
    text = "\n".join(["email,phone,other email", *map(",".join, rows)]) + "\n"

    def import_with_kills(
        name: str, kills: list[int], *, answers_late: bool = False
    ) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "rows.csv"
        path.write_text(text)
        options = {"outcomes": str(folder / "outcomes.jsonl")}
        with cloned_database() as url:
            set_rules(url)
            for windows in kills:
                child = os.fork()
                if child == 0:
                    try:
                        run_import(url, path, kill_after=windows, **options)
                    finally:
                        os._exit(0)
                _, status = os.waitpid(child, 0)
                assert os.waitstatus_to_exitcode(status) == KILLED
            if answers_late:
                answer_after_all(monkeypatch)
            return summary(url, path, run_import(url, path, **options))

    expected = import_with_kills("undisturbed", [])
    counts = expected["counts"]
    assert min(counts.created, counts.linked, counts.merged, counts.unchanged, counts.blocked) > 0
    assert expected["codes"] == {"forgotten": counts.rejected}
    assert counts.rejected >= 2
    assert import_with_kills("killed late", [25]) == expected
    assert import_with_kills("killed often", [6, 9, 15, 24]) == expected
    assert import_with_kills("killed early", [12], answers_late=True) == expected


def read_runs(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id, status, rows FROM import_run ORDER BY id").fetchall()


def interrupt(connection: psycopg.Connection[Any], url: str, path: Path, **options: Any) -> None:
    """Import a file as a run that has not finished, and wait until the server knows its end."""
    run_import(url, path, **options)
    connection.execute("UPDATE import_run SET status = 'stopped'")
    at_work = "SELECT FROM pg_stat_activity WHERE application_name = 'identity import'"
    at_work += " AND datname = current_database()"
    deadline = time.monotonic() + 10
    while connection.execute(at_work).fetchone() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def undo(connection: psycopg.Connection[Any], run_id: int) -> None:
    player = Player(connection)
    player.runs = [run_id]
    player.undo()


def test_import_after_an_undo_is_a_new_run(
    database_url: str, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("email\na@x.org\nb@x.org\n")
    interrupt(connection, database_url, path)
    undo(connection, 1)
    importer = run_import(database_url, path)
    assert (importer.run_id, importer.counts.created) == (2, 2)
    assert [row[:2] for row in read_runs(database_url)] == [(1, "undone"), (2, "finished")]


def test_run_before_an_undone_one_is_resumed(
    database_url: str, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("email\na@x.org\n")
    interrupt(connection, database_url, path)
    interrupt(connection, database_url, path, restart=True)
    undo(connection, 2)
    importer = run_import(database_url, path)
    assert (importer.run_id, importer.counts.created) == (1, 1)


def test_import_without_the_forget_key_ends(
    database_url: str, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        connection.execute("SELECT set_config('identity.forget_key', 'secret', true)")
        Player(connection).forget(["a@x.org"])
    path = tmp_path / "a.csv"
    path.write_text("email\nb@x.org\n")
    with pytest.raises(ForgetKeyError):
        run_import(database_url, path)
    assert [row[1] for row in read_runs(database_url)] == ["failed"]
