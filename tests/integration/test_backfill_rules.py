"""A backfill into a database with rules stores what an import of the same file stores."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from backfills import stored
from steering import EMAILS, PHONES, Player, random_script

from identity_cli import errors
from identity_cli.backfill import load, run
from identity_cli.backfill.assignment import BackfillPlan
from identity_cli.backfill.door import read_inputs
from identity_cli.backfill.run import Backfill
from identity_cli.graph.verify import verify
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from steering import Step

    Clone = Callable[[], AbstractContextManager[str]]

SCRIPTS_TOGETHER = 20
# Values that no rule names, of which some match a pattern of `random_rule`.
NEW_EMAILS = ("e01@x.org", "e02@x.org", "f1@x.org")
NEW_PHONES = ("110", "111", "112")
NEW_PATTERNS = ("e0.*", "f1.*", "11[01]")
_REFUSED = {"limit", "exempt"}

_PLACEHOLDERS = """
    SELECT coalesce(email, phone_number), link_precedence::text, anchors_email, anchors_phone
    FROM contact WHERE id < 0 ORDER BY 1
"""
_SET_ASIDE = """
    SELECT id, email, phone_number, anchors_email, anchors_phone, initial_linked_id, run_id, line,
           dense_rank() OVER (ORDER BY created_at)
    FROM set_aside_contact ORDER BY id
"""
_BLOCKED = "SELECT value, command_id, pattern_id, is_hub FROM blocked_value ORDER BY value"
_RESTATED = "SELECT value, other_value, run_id, line FROM restatement ORDER BY 1, 2"
_HISTORY = """
    SELECT (SELECT count(*) FROM former_contact), (SELECT count(*) FROM former_evidence),
           (SELECT count(*) FROM contact_move), (SELECT count(*) FROM steering_command)
"""
# A pattern is looked for when such a value is stated first, and its placeholder has gone.
_UNSTATED_AND_MATCHED = """
    SELECT count(*) FROM contact AS c
    WHERE c.id < 0 AND EXISTS (
        SELECT FROM block_pattern WHERE coalesce(c.email, c.phone_number) ~ whole_value(pattern))
        AND NOT EXISTS (
            SELECT FROM blocked_value AS b WHERE b.value IN (c.email, c.phone_number))
"""


def target(url: str) -> Database:
    return Database(connection_parameters(url), embedded=False)


def of_script(argument: Any, script: int) -> Any:
    """Return an argument of a step with values and patterns that no other script has."""
    if isinstance(argument, list):
        return [of_script(value, script) for value in argument]
    if argument in ("e0.*", "f1.*"):
        return f"{argument}@s{script}.org"
    if "@" in argument:
        return argument.replace("@x.org", f"@s{script}.org")
    return f"5{script:04}{argument}"


def play_before(player: Player, draw: random.Random, script: int, *, requests: bool) -> None:
    """Play the steps of a script that a backfill can come after."""
    for name, arguments, named in random_script(draw):
        if name in _REFUSED or (name in ("request", "undo") and not requests):
            continue
        step: Step = (name, tuple(of_script(one, script) for one in arguments), named)
        getattr(player, step[0])(*step[1], **step[2])
    values = EMAILS + NEW_EMAILS + PHONES + NEW_PHONES
    for pattern in draw.sample(NEW_PATTERNS, draw.choice((0, 0, 1, 2))):
        player.add_pattern(of_script(pattern, script))
    for _ in range(draw.choice((0, 1, 3))):
        value, other = (of_script(one, script) for one in draw.sample(values, 2))
        player.unlink(value, other)
    for _ in range(draw.choice((0, 0, 1))):
        player.block([of_script(draw.choice(values), script)])
    for _ in range(draw.choice((0, 1, 2))):
        player.forget([of_script(draw.choice(values), script)])
    player.runs.clear()


def some_requests(draw: random.Random, script: int) -> list[dict[str, list[str]]]:
    """Return requests with the values of a script, and with new ones."""
    emails = draw.sample(EMAILS + NEW_EMAILS, draw.choice((3, 6, 8)))
    phones = draw.sample(PHONES + NEW_PHONES, draw.choice((3, 6, 8)))
    most = draw.choice((1, 2, 3))
    requests = []
    for _ in range(draw.randint(1, 25)):
        chosen = {
            "email": draw.sample(emails, draw.randint(0, most)),
            "phone": draw.sample(phones, draw.randint(0, most)),
        }
        requests.append(
            {name: [of_script(value, script) for value in chosen[name]] for name in chosen}
        )
    return requests


def write_requests(path: Path, draw: random.Random, scripts: list[list[Any]]) -> None:
    """Write the requests of all scripts, each script in its order."""
    turns = [index for index, script in enumerate(scripts) for _ in script]
    draw.shuffle(turns)
    remaining: list[Iterator[Any]] = [iter(script) for script in scripts]
    lines = [json.dumps(next(remaining[index])) for index in turns]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def everything(url: str) -> dict[str, list[Any]]:
    found = stored(url)
    found["contacts"] = [row for row in found["contacts"] if row[0] > 0]
    with psycopg.connect(url) as connection:
        return found | {
            name: connection.execute(query).fetchall()
            for name, query in {
                "placeholders": _PLACEHOLDERS,
                "set aside": _SET_ASIDE,
                "blocked": _BLOCKED,
                "restated": _RESTATED,
                "history": _HISTORY,
            }.items()
        }


def take_rejects(folder: Path) -> dict[str, bytes]:
    """Return the rejects files of a folder, which are removed."""
    found = {}
    for path in folder.glob("*.rejects"):
        found[path.name] = path.read_bytes()
        path.unlink()
    return found


def backfill(url: str, file: Path, work: Path | None) -> Backfill:
    """Backfill a file, in two steps if there is a work directory."""
    plan = BackfillPlan(ImportPlan((str(file),)), None if work is None else str(work), "200MB", 2)
    if work is None:
        done = Backfill(plan)
        done.run(target(url))
        return done
    Backfill(plan).compute(target(url))
    done = Backfill(plan)
    done.load(target(url))
    return done


def undo_last_run(connection: psycopg.Connection[Any]) -> None:
    player = Player(connection)
    player.runs = [row[0] for row in connection.execute("SELECT max(id) FROM import_run")]
    player.undo()


def compare(
    clone: Clone, tmp_path: Path, seed: int, scripts: int, monkeypatch: pytest.MonkeyPatch
) -> Counter[str]:
    """Import and backfill a file into two databases with the same rules; return what happened."""
    # Whether indexes are kept does not depend on the size of the target.
    monkeypatch.setattr(load, "_FEW_NEW_ROWS", 1000 * (seed % 2))
    file = tmp_path / f"{seed}.jsonl"
    results = []
    happened: Counter[str] = Counter()
    for way in ("import", "backfill"):
        draw = random.Random(seed)
        with clone() as url:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("INSERT INTO normalization_profile (version) VALUES (2)")
                connection.execute("SET synchronous_commit = off")
                player = Player(connection)
                for script in range(scripts):
                    play_before(player, draw, script, requests=seed % 4 > 0)
            write_requests(file, draw, [some_requests(draw, script) for script in range(scripts)])
            before = everything(url)
            with psycopg.connect(url) as connection:
                unstated = connection.execute(_UNSTATED_AND_MATCHED).fetchall()[0][0]
            happened["unstated and matched"] += unstated
            if way == "import":
                Importer(ImportPlan((str(file),), jobs=1)).run(target(url))
            else:
                work = tmp_path / f"{seed}.work" if seed % 3 else None
                report = backfill(url, file, work).report(0)
                happened.update(report.rows | report.rejected_by_code)
            after = everything(url)
            after["rejects"] = [*take_rejects(tmp_path).items()]
            with psycopg.connect(url, autocommit=True) as connection:
                assert verify(connection).violations == ()
                undo_last_run(connection)
                assert verify(connection).violations == ()
                hashes = connection.execute("SELECT count(*) FROM forgotten_value").fetchone()
                assert hashes == (len(player.truth.forgotten),)
            results.append((after, everything(url)))
            for name in ("set aside", "blocked"):
                happened[name] = len(after[name]) - len(before[name])
            happened["released"] = len(
                {row[0] for row in before["placeholders"]}
                - {row[0] for row in after["placeholders"]}
            )
            happened["held"] = sum(row[7] for row in after["evidence"]) - sum(
                row[7] for row in before["evidence"]
            )
    for expected, found in zip(*results, strict=True):
        for name, rows in expected.items():
            assert found[name] == rows, (seed, name)
    return happened


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


def both_ways(clone: Clone, file: Path, *steps: tuple[str, str]) -> dict[str, list[Any]]:
    """Import and backfill a file into databases with nothing but rules; return what they hold.

    The rejects files and the counts are compared, too.
    """
    found = []
    for way in ("import", "backfill"):
        with clone() as url:
            with psycopg.connect(url, autocommit=True) as connection:
                for name, arguments in steps:
                    player = Player(connection)
                    call = getattr(player, name)
                    call([arguments]) if name in ("block", "forget") else call(*arguments.split())
            if way == "import":
                done: Importer | Backfill = Importer(ImportPlan((str(file),), jobs=1))
                done.run(target(url))
            else:
                done = backfill(url, file, None)
            report = done.report(0)
            found.append(everything(url))
            found[-1]["rejects"] = [*take_rejects(file.parent).items()]
            found[-1]["rows"] = [*report.rows.items()]
            found[-1]["codes"] = [*report.rejected_by_code.items(), *report.first_rejects]
    assert found[0] == found[1]
    return found[1]


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
