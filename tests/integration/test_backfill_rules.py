"""A backfill into a database with rules stores what an import of the same file stores."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ruled import (
    Clone,
    both_ways,
    compare,
    take_rejects,
    target,
)
from steering import Player

from identity_cli import errors
from identity_cli.backfill import run
from identity_cli.backfill.assignment import BackfillPlan
from identity_cli.backfill.door import read_inputs
from identity_cli.backfill.run import Backfill
from identity_cli.graph.verify import verify
from identity_cli.importer.plan import ImportPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Clone = Callable[[], AbstractContextManager[str]]

SCRIPTS_TOGETHER = 20


@pytest.mark.parametrize("seed", range(4))
def test_rules_apply_as_in_an_import(
    cloned_database: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    happened = compare(cloned_database, tmp_path, seed, SCRIPTS_TOGETHER, monkeypatch)
    expected = ("created", "linked", "merged", "unchanged", "blocked", "set aside", "held")
    expected += ("released", "forgotten", "unstated and matched")
    assert min(happened[name] for name in expected) > 0, happened


@pytest.mark.slow
def test_rules_apply_as_in_an_import_in_many_scripts(
    cloned_database: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(100, 100 + 300 // SCRIPTS_TOGETHER):
        compare(cloned_database, tmp_path, seed, SCRIPTS_TOGETHER, monkeypatch)


@pytest.mark.parametrize("pattern", [r"info@.*", r"\minfo\M.*|1\d+"])
def test_a_pattern_applies_where_nothing_was_ever_stored(
    cloned_database: Clone, tmp_path: Path, pattern: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("email,phone\na@x.org,5551\ninfo@x.org,5551\ninfo@x.org,1234\n,1234\n")
    held = both_ways(cloned_database, file, ("add_pattern", pattern), ("add_pattern", "info.*"))
    assert [row[2] for row in held["blocked"]] == [1] * (1 + pattern.endswith("+"))


def test_no_id_is_taken_in_vain_for_a_value_that_a_pattern_blocks(
    cloned_database: Clone, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "email,phone\na@x.org,1001\na@x.org,1002\ninfo.1@x.org,2001\ninfo.2@x.org,2001\n"
        "bad@x.org,1003\ninfo.3@x.org,1004\ninfo.4@x.org,2003\nlast@x.org,\n"
    )
    held = both_ways(
        cloned_database,
        file,
        ("unlink", "a@x.org b@x.org"),
        ("unlink", "2001 2002"),
        ("block", "bad@x.org"),
        ("add_pattern", r"1\d\d\d|info.*"),
    )
    assert {row[0] for row in (*held["contacts"], *held["set aside"])} == set(range(1, 9))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("block", [["new@x.org"]]),
        ("unblock", [["info@x.org"]]),
        ("unlink", ["a@x.org", "b@x.org"]),
        ("relink", ["c@x.org", "d@x.org"]),
        ("add_pattern", ["z.*"]),
        ("remove_pattern", ["y.*"]),
    ],
)
def test_a_rule_that_changed_since_the_computation_is_noticed(
    database_url: str, tmp_path: Path, name: str, arguments: list[Any]
) -> None:
    file, work = tmp_path / "a.csv", tmp_path / "work"
    file.write_text("email,phone\na@x.org,5551\n")
    plan = BackfillPlan(ImportPlan((str(file),)), str(work), "200MB", 2)
    with psycopg.connect(database_url, autocommit=True) as connection:
        player = Player(connection)
        player.block(["info@x.org"])
        player.unlink("c@x.org", "d@x.org")
        player.add_pattern("y.*")
        Backfill(plan).compute(target(database_url))
        getattr(player, name)(*arguments)
        with pytest.raises(errors.TargetChangedError):
            Backfill(plan).load(target(database_url))
        Backfill(plan).compute(target(database_url))
        Backfill(plan).load(target(database_url))
        assert verify(connection).violations == ()
        assert player.identities() == {frozenset(("a@x.org", "5551"))}


# Of each case, the rules, the rows, and what is set aside: pairs, and values by themselves.
NAMED_BEFORE_STATED = [
    # Stated first with the value that it is unlinked from, which links or is blocked.
    ("unlink i@x.org 1001", "i@x.org,1001,", ["i@x.org 1001"], ["i@x.org"]),
    ("unlink i@x.org 1001,block 1001", "i@x.org,1001,", [], ["i@x.org", "1001"]),
    ("unlink i@x.org 1001", ",1001,\ni@x.org,1001,", [], ["i@x.org"]),
    ("unlink i@x.org i@y.org", "i@x.org,,i@y.org", [], ["i@y.org", "i@x.org"]),
    # Stated first with another value.
    ("unlink i@x.org 1001", "i@x.org,1002,", ["i@x.org 1002"], []),
    ("unlink i@x.org 1001,block 1002", "i@x.org,1002,", [], ["i@x.org", "1002"]),
    ("unlink i@x.org 1001,forget 1002", "i@x.org,1002,", [], ["i@x.org"]),
    ("unlink i@x.org 1001,unlink 771002 1003", "i@x.org,771002,", ["i@x.org 771002"], []),
    # Stated alone first.
    ("unlink i@x.org 1001", "i@x.org,,\ni@x.org,1001,", ["i@x.org 1001"], ["i@x.org"]),
]


def test_a_pattern_blocks_values_that_a_rule_named_before_they_were_stated(
    cloned_database: Clone, tmp_path: Path
) -> None:
    def of_case(text: str, case: int) -> str:
        return text.replace(".org", f"{case}.org").replace("100", f"10{case}0")

    steps, rows = [("add_pattern", "i@.*"), ("add_pattern", "77.*")], []
    for case, (rules, of_rules, _, _) in enumerate(NAMED_BEFORE_STATED):
        for rule in of_case(rules, case).split(","):
            name, _, named = rule.partition(" ")
            steps.append((name, named))
        rows.append(of_case(of_rules, case))
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["email,phone,email 2", *rows, ""]))
    held = both_ways(cloned_database, file, *steps)
    aside = [" ".join(filter(None, row[1:3])) for row in held["set aside"]]
    expected = [
        of_case(text, case)
        for case, (_, _, pairs, alone) in enumerate(NAMED_BEFORE_STATED)
        for text in (*alone, *pairs)
    ]
    assert Counter(aside) == Counter(expected)
    counts = dict(held["rows"])
    assert (counts["created"], counts["unchanged"], counts["blocked"]) == (4, 1, 6)


def test_beside_a_forgotten_value_each_other_value_is_stated_alone_first(
    cloned_database: Clone, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"email": "f@x.org", "phone": ["1001", "1002"]}\n'
        '{"email": ["a@x.org", "f@x.org", "b@x.org"]}\n'
        '{"email": "c@x.org", "phone": ["1003", "5559999"]}\n'
    )
    held = both_ways(cloned_database, file, ("forget", "f@x.org"), ("forget", "5559999"))
    # Its id, its values, the primary that it was linked to in the end and at first.
    assert [row[:5] for row in held["contacts"]] == [
        (1, None, "1001", None, None),
        (2, None, "1002", 1, None),
        (3, "a@x.org", None, None, None),
        (4, "b@x.org", None, 3, 3),
        (5, "c@x.org", "1003", None, None),
    ]
    assert [row[1:5] for row in held["evidence"]] == [
        ("1001", "1002", 1, 2),
        ("a@x.org", "b@x.org", 3, None),
    ]
    assert held["rejects"] == []


def test_forgotten_values_do_not_change_what_other_rules_do(
    cloned_database: Clone, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"email": "f@x.org", "phone": "1001"}\n'
        '{"email": ["f@x.org", "info.1@x.org"], "phone": "1001"}\n'
        '{"email": ["info.f@x.org", "info.2@x.org"]}\n'
        '{"email": "info.2@x.org", "phone": "5559999"}\n'
        '{"email": ["f@x.org", "a@x.org", "b@x.org"], "phone": "5559999"}\n'
    )
    held = both_ways(
        cloned_database,
        file,
        ("forget", "f@x.org"),
        ("forget", "info.f@x.org"),
        ("forget", "5559999"),
        ("block", "1001"),
        ("add_pattern", "info.*"),
        ("unlink", "a@x.org b@x.org"),
    )
    assert dict(held["rows"]) == {
        "read": 5,
        "created": 1,
        "linked": 0,
        "merged": 0,
        "unchanged": 0,
        "blocked": 4,
        "rejected": 0,
        "partial": 0,
    }
    assert [row[0] for row in held["blocked"]] == ["1001", "info.1@x.org", "info.2@x.org"]
    assert {row[1] for row in held["contacts"]} == {"a@x.org", "b@x.org"}
    assert {row[1] or row[2] for row in held["set aside"]} == {
        "1001",
        "info.1@x.org",
        "info.2@x.org",
    }


def test_rows_of_forgotten_values_only_are_rejected_in_their_places(
    cloned_database: Clone, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "email,email 2,phone\n"
        "no address,,\n"
        "F@x.org,,555 9999\n"
        "a@x.org,,call me\n"
        "f@x.org,no address,\n"
        "f@x.org,a@x.org,555 9999\n"
        ",,5559999\n"
        ",,\n"
    )
    held = both_ways(cloned_database, file, ("forget", "f@x.org"), ("forget", "5559999"))
    codes = ["bad_email", "forgotten", "bad_phone", "forgotten", "forgotten", "no_identifier"]
    [(_, rejects)] = held["rejects"]
    assert [line.split(b",")[4].decode() for line in rejects.splitlines()[1:]] == codes
    rows = dict(held["rows"])
    assert (rows["rejected"], rows["partial"], rows["created"], rows["unchanged"]) == (5, 1, 1, 1)
    assert [row[1:3] for row in held["contacts"]] == [("a@x.org", None)]


def forget_with_key(url: str, key: str, value: str) -> None:
    """Forget a value with a key of the environment."""
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        connection.execute("SELECT set_config('identity.forget_key', %s, true)", (key,))
        Player(connection).forget([value])


@pytest.mark.parametrize("key", [None, "another"])
def test_without_the_forget_key_nothing_is_read(
    database_url: str, tmp_path: Path, key: str | None
) -> None:
    forget_with_key(database_url, "sècret", "f@x.org")
    file, work = tmp_path / "a.csv", tmp_path / "work"
    file.write_text("email,phone\nf@x.org,5551\na@x.org,5552\n")
    plan = BackfillPlan(ImportPlan((str(file),)), str(work), "200MB", 2)
    wrong, right = (replace(target(database_url), forget_key=each) for each in (key, "sècret"))
    for attempt in (Backfill(plan).run, Backfill(plan).compute):
        with pytest.raises(errors.ForgetKeyError):
            attempt(wrong)
    assert not list(work.rglob("*.parquet"))
    Backfill(plan).compute(right)
    with pytest.raises(errors.ForgetKeyError):
        Backfill(plan).load(wrong)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT FROM contact").fetchall() == []
        assert connection.execute("SELECT FROM import_run").fetchall() == []
    done = Backfill(plan)
    done.load(right)
    assert (done.counts.created, done.counts.rejected) == (2, 0)
    with psycopg.connect(database_url) as connection:
        assert Player(connection).identities() == {
            frozenset(("5551",)),
            frozenset(("a@x.org", "5552")),
        }


def test_inputs_are_read_again_if_values_were_forgotten_since(
    database_url: str, tmp_path: Path
) -> None:
    file, work = tmp_path / "a.csv", tmp_path / "work"
    file.write_text("email,phone\nf@x.org,5551\na@x.org,5552\ng@x.org,\n")
    plan = BackfillPlan(ImportPlan((str(file),)), str(work), "200MB", 2)
    Backfill(plan).compute(target(database_url))
    with psycopg.connect(database_url, autocommit=True) as connection:
        for value in ("f@x.org", "g@x.org"):
            Player(connection).forget([value])
            with pytest.raises(errors.TargetChangedError):
                Backfill(plan).load(target(database_url))
            said: list[str] = []
            done = Backfill(plan, say=said.append)
            done.compute(target(database_url))
            assert [text for text in said if "reading the inputs again" in text]
            assert value.encode() not in b"".join(
                path.read_bytes()
                for path in work.rglob("*")
                if path.is_file() and path.suffix != ".rejects"
            )
        assert done.report(0).rejected_by_code == {"forgotten": 1}
        said.clear()
        done = Backfill(plan, say=said.append)
        done.compute(target(database_url))
        assert not [text for text in said if "reading the inputs again" in text]
        Backfill(plan).load(target(database_url))
        assert verify(connection).violations == ()
        assert Player(connection).identities() == {
            frozenset(("5551",)),
            frozenset(("a@x.org", "5552")),
        }
    [rejects] = take_rejects(tmp_path).values()
    assert b"g@x.org" in rejects


@pytest.mark.parametrize("step", ["run", "compute"])
def test_values_that_are_forgotten_while_inputs_are_read_are_noticed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("email,phone\nf@x.org,5551\n")

    def read_and_forget(*arguments: Any, **named: Any) -> None:
        read_inputs(*arguments, **named)
        with psycopg.connect(database_url, autocommit=True) as connection:
            Player(connection).forget(["f@x.org"])

    plan = BackfillPlan(ImportPlan((str(file),)), str(tmp_path / "work"), "200MB", 2)
    with monkeypatch.context() as patched:
        patched.setattr(run, "read_inputs", read_and_forget)
        with pytest.raises(errors.RetryableError, match="forgotten while") as raised:
            getattr(Backfill(plan), step)(target(database_url))
    assert raised.value.hint == "run the same command again"
    Backfill(plan).run(target(database_url))
    with psycopg.connect(database_url) as connection:
        assert Player(connection).identities() == {frozenset(("5551",))}
