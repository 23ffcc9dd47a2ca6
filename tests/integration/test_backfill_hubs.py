"""A backfill into a database with hub limits stores what an import of the same file stores."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from backfills import as_csv, messy_rows
from ruled import Clone, backfill, both_ways, compare, target, undo_last_run
from steering import Player

from identity_cli import errors
from identity_cli.backfill import duck
from identity_cli.backfill.assignment import BackfillPlan, SparkCluster
from identity_cli.backfill.run import Backfill
from identity_cli.backfill.splits.computation import split
from identity_cli.graph.verify import verify
from identity_cli.importer.plan import ImportPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCRIPTS_TOGETHER = 20
LIMITS = (None, 1, 2, 3, 4, 8)


@pytest.mark.parametrize("seed", range(4))
def test_hubs_stop_linking_as_in_an_import(
    cloned_database: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    limits = ((2, 2), (None, 3), (1, None), (3, 1))[seed]
    happened = compare(
        cloned_database, tmp_path, seed, SCRIPTS_TOGETHER, monkeypatch, limits=limits
    )
    expected = ("hubs", "moves", "created", "linked", "merged", "blocked", "set aside", "held")
    assert min(happened[name] for name in expected) > 0, happened


@pytest.mark.slow
def test_hubs_stop_linking_as_in_an_import_in_many_scripts(
    cloned_database: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(100, 100 + 300 // SCRIPTS_TOGETHER):
        draw = random.Random(seed)
        limits = (draw.choice(LIMITS), draw.choice(LIMITS))
        compare(cloned_database, tmp_path, seed, SCRIPTS_TOGETHER, monkeypatch, limits=limits)


@pytest.mark.parametrize("limits", ["3 4", "1 2", "NULL 2"])
def test_hubs_of_messy_rows_are_those_of_an_import(
    cloned_database: Clone, tmp_path: Path, limits: str
) -> None:
    file = as_csv(tmp_path / "a.csv", messy_rows(seed=7, count=1500))
    held = both_ways(cloned_database, file, ("limit", limits))
    hubs = [row for row in held["blocked"] if row[3]]
    assert len(hubs) > 3
    assert [row[1] for row in held["commands"][-len(hubs) :]].count("hub") > 3
    # Some identities have no part in it.
    touched = {row[1] for row in held["former contacts"]}
    assert 0 < len({row[0] for row in held["contacts"]} & touched) < len(held["contacts"])


def test_a_limit_that_is_never_reached_only_counts(cloned_database: Clone, tmp_path: Path) -> None:
    file = as_csv(tmp_path / "a.csv", messy_rows(seed=8, count=300))
    held = both_ways(cloned_database, file, ("limit", "1000 1000"))
    assert held["blocked"] == held["moves"] == held["former contacts"] == []
    assert max(row[1] for row in held["partners"]) > 3


def test_an_exempt_value_is_counted_and_links(cloned_database: Clone, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    rows = [f"{name}@x.org,5551" for name in "abcd"] + [f"{name}@x.org,5552" for name in "abcd"]
    file.write_text("\n".join(["email,phone", *rows, ""]))
    held = both_ways(cloned_database, file, ("limit", "NULL 2"), ("exempt", "5551"))
    assert [row for row in held["blocked"] if row[3]] == [("5552", None, None, True)]
    assert dict(held["partners"])["5551"] == 4
    assert {row[3] for row in held["contacts"]} == {None, 1}


def test_a_value_that_is_blocked_already_becomes_a_hub_as_well(
    cloned_database: Clone, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "email,phone\na@x.org,5551\nb@x.org,5551\na@x.org,100\nb@x.org,100\nc@x.org,100\n"
    )
    held = both_ways(
        cloned_database,
        file,
        ("block", "5551"),
        ("add_pattern", "1.*"),
        ("unlink", "c@x.org 5551"),
        ("limit", "NULL 1"),
    )
    assert [(row[0], row[3]) for row in held["blocked"]] == [("100", True), ("5551", True)]
    assert [row[1] for row in held["commands"]].count("hub") == 2


def test_a_value_becomes_a_hub_beside_a_request_of_several(
    cloned_database: Clone, tmp_path: Path
) -> None:
    """An import would take an id in vain if it did not count all partners in such a request."""
    file = tmp_path / "a.csv"
    rows = ["a@x.org,5551,"] + [f"f{number}@x.org,," for number in range(1200)]
    rows += ["b@x.org,5551,c@x.org", "d@x.org,5551,", "e@x.org,5551,"]
    file.write_text("\n".join(["email,phone,email 2", *rows, ""]))
    held = both_ways(cloned_database, file, ("limit", "NULL 3"))
    ids = {row[0] for row in (*held["contacts"], *held["set aside"])}
    assert ids == set(range(1, len(ids) + 1))
    assert [row[0] for row in held["blocked"]] == ["5551"]


@pytest.mark.parametrize(
    "change",
    [
        lambda player: player.limit(None, 3),
        lambda player: player.limit(None, None),
        lambda player: player.exempt("5551", is_exempt=True),
    ],
)
def test_a_policy_that_changed_since_the_computation_is_noticed(
    database_url: str, tmp_path: Path, change: Callable[[Player], None]
) -> None:
    file, work = tmp_path / "a.csv", tmp_path / "work"
    file.write_text("email,phone\na@x.org,5551\nb@x.org,5551\n")
    plan = BackfillPlan(ImportPlan((str(file),)), str(work), "200MB", 2)
    with psycopg.connect(database_url, autocommit=True) as connection:
        player = Player(connection)
        player.limit(None, 1)
        Backfill(plan).compute(target(database_url))
        change(player)
        with pytest.raises(errors.TargetChangedError):
            Backfill(plan).load(target(database_url))
        assert connection.execute("SELECT FROM contact").fetchall() == []
        assert (
            connection.execute("SELECT FROM steering_command WHERE verb = 'hub'").fetchall() == []
        )
        Backfill(plan).compute(target(database_url))
        Backfill(plan).load(target(database_url))
        assert verify(connection).violations == ()
        assert player.identities() == {frozenset(("a@x.org", "b@x.org", "5551"))}


def test_ids_that_were_taken_since_the_computation_move_on(
    database_url: str, tmp_path: Path
) -> None:
    file, work = tmp_path / "a.csv", tmp_path / "work"
    file.write_text("email,phone\n" + "".join(f"{name}@x.org,5551\n" for name in "abcd"))
    plan = BackfillPlan(ImportPlan((str(file),)), str(work), "200MB", 2)
    with psycopg.connect(database_url, autocommit=True) as connection:
        Player(connection).limit(None, 2)
        Backfill(plan).compute(target(database_url))
        for table in ("contact", "link_evidence"):
            connection.execute(
                "SELECT setval(pg_get_serial_sequence(%s, 'id'), 10)",  # as a dry run does
                (table,),
            )
        Backfill(plan).load(target(database_url))
        assert verify(connection).violations == ()
        former = connection.execute(
            "SELECT contact_id, primary_id, next_primary_id, contact_mark, evidence_mark"
            " FROM former_contact ORDER BY contact_id"
        ).fetchall()
    assert former == [(11, 11, 11, 13, 10), (12, 11, 12, 13, 10), (13, 11, 13, 13, 10)]


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_computation_that_was_killed_while_it_split_resumes(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_committed: bool,
) -> None:
    class KilledError(Exception):
        """In place of a kill: nothing that follows it is run."""

    def killed(*arguments: Any) -> None:
        split(*arguments)
        raise KilledError

    file, work = tmp_path / "a.csv", tmp_path / "work"
    file.write_text("email,phone\n" + "".join(f"{name}@x.org,5551\n" for name in "abcd"))
    plan = BackfillPlan(ImportPlan((str(file),)), str(work), "200MB", 2)
    with psycopg.connect(database_url, autocommit=True) as connection:
        player = Player(connection)
        player.limit(None, 2)
        with monkeypatch.context() as patched:
            if is_committed:
                patched.setattr(duck._Computation, "_write_all", killed_at_the_end(KilledError))
            else:
                patched.setattr(duck, "split", killed)
            with pytest.raises(KilledError):
                Backfill(plan).compute(target(database_url))
        Backfill(plan).compute(target(database_url))
        Backfill(plan).load(target(database_url))
        assert verify(connection).violations == ()
        assert player.identities() == {frozenset((f"{name}@x.org",)) for name in "abcd"}
        undo_last_run(connection)
        assert player.identities() == set()


def killed_at_the_end(error: type[Exception]) -> Callable[..., None]:
    def killed(*_: Any) -> None:
        raise error

    return killed


def test_a_load_that_fails_leaves_the_limits_and_the_hubs(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("email,phone\n" + "".join(f"{name}@x.org,5551\n" for name in "abcd"))
    tables = ("contact", "set_aside_contact", "blocked_value", "steering_command", "contact_move")
    with psycopg.connect(database_url, autocommit=True) as connection:
        player = Player(connection)
        player.limit(None, 2)

        def held() -> list[tuple[Any, ...]]:
            union = " UNION ALL ".join(
                f"SELECT '{table}', {table}::text FROM {table}" for table in tables
            )
            return connection.execute(union).fetchall()  # type: ignore[arg-type]

        before = held()
        with monkeypatch.context() as patched:
            patched.setattr("identity_cli.backfill.load._STRAY_VALUES", "SELECT 1")
            with pytest.raises(errors.DatabaseError, match="nothing was stored"):
                backfill(database_url, file, None)
        assert held() == before
        backfill(database_url, file, None)
        assert player.identities() == {frozenset((f"{name}@x.org",)) for name in "abcd"}


def test_spark_refuses_hub_limits(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("email,phone\na@x.org,5551\n")
    with psycopg.connect(database_url, autocommit=True) as connection:
        Player(connection).limit(5, None)
    plan = BackfillPlan(ImportPlan((str(file),)), None, "200MB", 2, SparkCluster())
    with pytest.raises(errors.TargetUnsuitableError, match="has hub limits") as raised:
        Backfill(plan).run(target(database_url))
    assert raised.value.hint == "use --engine duckdb, or identity import"
