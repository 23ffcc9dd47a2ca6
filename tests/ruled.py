"""Backfills and imports of random requests into databases with the same rules, compared."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import psycopg
from backfills import stored
from steering import EMAILS, PHONES, Player, random_script

from identity_cli.backfill import load
from identity_cli.backfill.assignment import BackfillPlan
from identity_cli.backfill.run import Backfill
from identity_cli.graph.moments import find_moment, new_token
from identity_cli.graph.past import past_contacts
from identity_cli.graph.verify import verify
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.postgres.snapshot import snapshot
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from steering import Step

Clone = Callable[[], AbstractContextManager[str]]

# Values that no rule names, of which some match a pattern of `random_rule`.
NEW_EMAILS = ("e01@x.org", "e02@x.org", "f1@x.org")
NEW_PHONES = ("110", "111", "112")
NEW_PATTERNS = ("e0.*", "f1.*", "11[01]")
_LIMITS = {"limit", "exempt"}

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
_COMMANDS = "SELECT id, verb, detail, reason, run_id, role_name FROM steering_command ORDER BY id"
_MOVES = """
    SELECT command_id, contact_id, from_primary_id, to_primary_id FROM contact_move
    ORDER BY 1, 2, 3, 4
"""
_FORMER_CONTACTS = """
    SELECT command_id, contact_id, primary_id, next_primary_id, contact_mark, evidence_mark,
           initial_linked_id, run_id, line, anchors_email, anchors_phone, email, phone_number,
           stored_in IS NULL, dense_rank() OVER (ORDER BY created_at)
    FROM former_contact ORDER BY 1, 2, former_contact.id
"""
_FORMER_EVIDENCE = """
    SELECT evidence_id, primary_id, merged_id, run_id, line, value, other_value, is_held,
           stored_in IS NULL, dense_rank() OVER (ORDER BY created_at)
    FROM former_evidence ORDER BY 1, former_evidence.id
"""
_PARTNERS = "SELECT value, partners FROM partner_count ORDER BY 1"
_PAST = """
    SELECT p.id, p.email, p.phone_number, p.linked_id,
           (SELECT initial_linked_id FROM contact WHERE contact.id = p.id
            UNION SELECT initial_linked_id FROM set_aside_contact AS s WHERE s.id = p.id),
           p.anchors_email, p.anchors_phone
    FROM past_contact AS p ORDER BY id
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
    if not isinstance(argument, str):
        return argument
    if argument in ("e0.*", "f1.*"):
        return f"{argument}@s{script}.org"
    if "@" in argument:
        return argument.replace("@x.org", f"@s{script}.org")
    return f"5{script:04}{argument}"


def play_before(
    player: Player, draw: random.Random, script: int, *, requests: bool, limits: bool
) -> None:
    """Play the steps of a script that a backfill can come after."""
    for name, arguments, named in random_script(draw):
        if (name in _LIMITS and not limits) or (name in ("request", "undo") and not requests):
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
                "commands": _COMMANDS,
                "moves": _MOVES,
                "former contacts": _FORMER_CONTACTS,
                "former evidence": _FORMER_EVIDENCE,
                "partners": _PARTNERS,
            }.items()
        }


def contacts_then(connection: psycopg.Connection[Any], token: str) -> list[tuple[Any, ...]]:
    """Return the contacts as they were when the token was given out."""
    with snapshot(connection) as graph:
        moment = find_moment(graph, token)
        return list(graph.rows(past_contacts(moment) + _PAST, moment.parameters))


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
    clone: Clone,
    tmp_path: Path,
    seed: int,
    scripts: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    limits: tuple[int | None, int | None] | None = None,
) -> Counter[str]:
    """Import and backfill a file into two databases with the same rules; return what happened.

    `limits` are those of emails and of phone numbers; None: the scripts set none.
    """
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
                    play_before(
                        player, draw, script, requests=seed % 4 > 0, limits=limits is not None
                    )
                if limits is not None:
                    player.limit(*limits)
            write_requests(file, draw, [some_requests(draw, script) for script in range(scripts)])
            before = everything(url)
            with psycopg.connect(url, autocommit=True) as connection, snapshot(connection) as graph:
                token = new_token(graph)
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
                assert contacts_then(connection, token) == [
                    (*row[:5], *row[7:9]) for row in before["contacts"]
                ]
                undo_last_run(connection)
                assert verify(connection).violations == ()
                hashes = connection.execute("SELECT count(*) FROM forgotten_value").fetchone()
                assert hashes == (len(player.truth.forgotten),)
            results.append((after, everything(url)))
            happened["hubs"] += len(after["commands"]) - len(before["commands"])
            happened["moves"] += len(after["moves"]) - len(before["moves"])
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
                    match name:
                        case "block" | "forget":
                            call([arguments])
                        case "exempt":
                            call(arguments, is_exempt=True)
                        case "limit":
                            call(
                                *(None if one == "NULL" else int(one) for one in arguments.split())
                            )
                        case _:
                            call(*arguments.split())
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
