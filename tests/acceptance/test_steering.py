"""The commands that change what links, as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from identity_cli.graph.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    Connection = psycopg.Connection[Any]

PHONE = "0800123456"
CHAIN = ("a@x.org,1000001", "b@x.org,1000001", "b@x.org,1000002")


def write_rows(path: Path, rows: Iterable[str]) -> Path:
    path.write_text("\n".join(("email,phone", *rows)) + "\n")
    return path


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on standard output."""
    assert done.stdout.count("\n") == 1, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def commands_run(connection: Connection) -> list[str]:
    return [verb for (verb,) in connection.execute("SELECT verb FROM steering_command ORDER BY id")]


def digest(connection: Connection) -> str:
    """The digest of a graph that `verify` proves correct."""
    verified = verify(connection)
    assert verified.violations == ()
    return verified.digest


@pytest.fixture
def strangers(run_identity: Run, tmp_path: Path) -> int:
    """Twelve strangers who share a phone number; the number of their run."""
    rows = write_rows(tmp_path / "strangers.csv", (f"p{i}@x.org,{PHONE}" for i in range(12)))
    done = run_identity("import", rows, "--json")
    run_id = document(done)["run_id"]
    assert f"note: to undo this run: identity undo {run_id}\n" in done.stderr
    return int(run_id)


# -- asking ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize(
    "arguments",
    [
        ("block", PHONE),
        ("block", "--matching", "p.*@x.org"),
        ("unlink", "p3@x.org", PHONE),
        ("policy", "set", "hub-limit-phone", "4"),
        ("policy", "set", "off"),
        ("policy", "off"),
        ("policy", "allow", PHONE),
        ("undo", "1"),
        ("forget", "p3@x.org"),
    ],
    ids=" ".join,
)
def test_command_without_terminal_and_yes_previews_and_changes_nothing(
    run_identity: Run, connection: Connection, arguments: tuple[str, ...]
) -> None:
    before = digest(connection)
    done = run_identity(*arguments)
    assert done.returncode == 2
    assert "(preview)\n" in done.stdout
    assert done.stderr.endswith(
        "error: nothing was changed: this is a preview\n\nhint: pass --yes to apply it\n"
    )
    preview = document(run_identity(*arguments, "--json"))
    assert preview["applied"] is False
    assert preview["command_ids"] == []
    assert digest(connection) == before
    assert commands_run(connection) == []

    applied = document(run_identity(*arguments, "--json", "--yes"))
    assert applied["applied"] is True
    assert applied["command_ids"]

    def without_members(document: dict[str, Any]) -> dict[str, Any]:
        for identity in (*document["identities"]["before"], *document["identities"]["after"]):
            identity.pop("members", None)
        return document | {"applied": None, "command_ids": None}

    assert without_members(preview) == without_members(applied)


@pytest.mark.usefixtures("strangers")
def test_preview_masks_the_first_members_unless_values_are_asked_for(run_identity: Run) -> None:
    masked = run_identity("block", PHONE)
    assert "  1: 12 contacts: p***@x***.org, ***56, " in masked.stdout
    assert "p0@x.org" not in masked.stdout
    shown = document(run_identity("block", PHONE, "--values", "--json"))
    assert shown["identities"]["before"][0]["members"][:2] == ["p0@x.org", PHONE]


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize(("answer", "code", "blocked"), [(b"y\n", 0, ["block"]), (b"n\n", 130, [])])
def test_command_on_a_terminal_asks(
    tmp_path: Path,
    database_url: str,
    connection: Connection,
    answer: bytes,
    code: int,
    blocked: list[str],
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    done = subprocess.run(
        [sys.executable, "-m", "identity_cli", "block", PHONE, "--json"],
        stdin=theirs,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": database_url},
        cwd=tmp_path,
        timeout=60,
        encoding="utf-8",
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code
    assert "block (preview)\n" in done.stderr
    assert "Apply it? [y/N]" in done.stderr
    assert commands_run(connection) == blocked
    if blocked:
        assert document(done)["applied"] is True
    else:
        assert done.stdout == ""


# -- block ----------------------------------------------------------------------------------------


def test_blocking_the_phone_of_2000_strangers_makes_2000_identities_and_back(
    run_identity: Run,
    connection: Connection,
    tmp_path: Path,
    cloned_database: Callable[[], Any],
) -> None:
    people = [f"p{i}@x.org" for i in range(2_000)]
    shared = write_rows(tmp_path / "shared.csv", (f"{one},{PHONE}" for one in people))
    alone = write_rows(tmp_path / "alone.csv", (f"{one}," for one in people))
    assert run_identity("import", shared, "-q").returncode == 0
    with cloned_database() as url, psycopg.connect(url, autocommit=True) as other:
        assert run_identity("import", alone, "-q", env={"DATABASE_URL": url}).returncode == 0
        of_strangers = digest(other)
    of_one = digest(connection)

    blocked = document(run_identity("block", PHONE, "--yes", "--json", "--reason", "reception"))
    assert blocked["contacts"] == {"moved": 1_999, "removed": 0, "added": 0}
    assert blocked["identities"]["before"] == [{"primaryContactId": 1, "contacts": 2_000}]
    assert len(blocked["identities"]["after"]) == 2_000
    assert blocked["split"] == [{"primaryContactId": 1, "into": list(range(1, 2_001))}]
    assert digest(connection) == of_strangers

    # What comes while it is blocked is kept from linking, too.
    more = write_rows(tmp_path / "more.csv", [f"p1@x.org,{PHONE}", f"new@x.org,{PHONE}"])
    assert run_identity("import", more, "-q").returncode == 0
    assert digest(connection) != of_strangers
    assert run_identity("show", "--email", "new@x.org").returncode == 0
    assert run_identity("undo", "2", "--yes").returncode == 0
    assert digest(connection) == of_strangers

    unblocked = document(run_identity("unblock", PHONE, "--yes", "--json"))
    assert unblocked["merged"] == [{"primaryContactId": 1, "from": list(range(1, 2_001))}]
    assert digest(connection) == of_one


@pytest.mark.usefixtures("strangers")
def test_file_of_values_keeps_a_reason_for_each(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "block.csv").write_text(
        f"value,reason\n# shared numbers\n\n{PHONE},reception\np1@x.org\n"
    )
    done = run_identity("block", "--file", "block.csv", "--reason", "list", "--yes")
    assert done.returncode == 0
    listed = document(run_identity("block", "--list", "--json"))
    assert {(one["value"], one["reason"]) for one in listed["values"]} == {
        (PHONE, "reception"),
        ("p1@x.org", "list"),
    }
    assert all(one["role"] and one["at"] and one["command_id"] for one in listed["values"])
    assert all(one["blocked_by"] == ["value"] for one in listed["values"])
    text = run_identity("block", "--list")
    assert f"value\t{PHONE}\t" in text.stdout
    assert run_identity("unblock", "--file", "block.csv", "--yes").returncode == 0
    assert document(run_identity("block", "--list", "--json"))["values"] == []


def test_bad_lines_of_a_file_are_errors_before_anything_changes(
    run_identity: Run, tmp_path: Path, connection: Connection
) -> None:
    (tmp_path / "block.txt").write_text("good@x.org\nbad@\nalso bad\n")
    done = run_identity("block", "--file", "block.txt", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "block.txt:2: error: an email needs" in done.stderr
    assert "block.txt:3: error: a phone number" in done.stderr
    assert "error: 2 lines name no value: nothing was changed\n\nhint: " in done.stderr
    assert commands_run(connection) == []
    assert run_identity("block", "--file", "missing.txt", "--yes").returncode == 2


@pytest.mark.usefixtures("strangers")
def test_pattern_blocks_what_matches_now_and_what_comes(
    run_identity: Run, connection: Connection
) -> None:
    before = digest(connection)
    blocked = document(run_identity("block", "--matching", "p[12]@x.org", "--yes", "--json"))
    assert blocked["stop_linking"] == 2
    [(showing,)] = connection.execute(
        "SELECT count(*) FROM contact WHERE email = 'p1@x.org' AND id > 0"
    )
    assert showing == 0
    listed = document(run_identity("block", "--list", "--json"))
    assert [one["values"] for one in listed["patterns"]] == [2]
    assert [one["blocked_by"] for one in listed["values"]] == [["pattern"], ["pattern"]]
    by_value = run_identity("unblock", "p1@x.org", "--yes")
    assert by_value.returncode == 4
    assert "1 value is blocked by the pattern 'p[12]@x.org': use --matching" in by_value.stderr
    unblocked = document(run_identity("unblock", "--matching", "p[12]@x.org", "--yes", "--json"))
    assert unblocked["link_again"] == 2
    assert digest(connection) == before
    waiting = run_identity("block", "--matching", "none@.*", "--yes")
    assert "note: the pattern 'none@.*' matches no value so far\n" in waiting.stderr


def test_file_of_something_else_reports_its_first_lines_only(
    run_identity: Run, tmp_path: Path
) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no value\n" * 1200)
    done = run_identity("block", "--file", wrong, "--yes")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.partition(" ")[0] for line in lines[:5]] == [f"{wrong}:{n}:" for n in range(1, 6)]
    assert lines[5:7] == [
        "… and 1,195 more",
        "error: 1,200 lines name no value: nothing was changed",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("block",), "no value is named"),
        (("block", "--matching", "("), "invalid regular expression"),
        (("block", "--matching", "a)|(b"), "invalid regular expression"),
        (("block", "--matching", "(?i)a@.*"), "without options such as (?i)"),
        (("block", "--matching", ""), "--matching is empty"),
        (("block", "--list", "a@x.org"), "--list takes no values"),
        (("block", "info@"), "an email needs"),
        (("unlink", "a@x.org"), "unlink needs two values"),
        (("unlink", "a@x.org", " A@x.org"), "both values are the same"),
        (("unlink", "--list", "--cut"), "--list takes no values"),
        (("policy", "set", "hub-limit-phone"), "policy set takes"),
        (("policy", "set", "hub-limit-phone", "0"), "a limit is a whole number from 1"),
        (("policy", "set", "hub-limit-phone", "3000000000"), "a limit is a whole number"),
        (("policy", "set", "off", "3"), "policy set takes"),
        (("policy", "set", "hub-limit", "3"), "policy set takes"),
        (("forget", "a@x.org", "--reason", "A@x.org wants it"), "the reason holds a value"),
        (("forget", "555-1234", "--reason", "for 555 1234"), "the reason holds a value"),
        (("history", "not a value"), "a phone number"),
        (("history", "a\udcff@x.org"), ""),
        (("block", "a\udcff@x.org"), ""),
        (("block", "--matching", "\udcff"), "--matching is not UTF-8"),
        (("block", "a@x.org", "--reason", "\udcff"), "--reason is not UTF-8"),
    ],
    ids=lambda part: ascii(" ".join(part)) if isinstance(part, tuple) else "",
)
def test_wrong_usage_is_2_with_a_hint(
    run_identity: Run, connection: Connection, arguments: tuple[str, ...], message: str
) -> None:
    yes = () if "--list" in arguments or arguments[0] == "history" else ("--yes",)
    done = run_identity(*arguments, *yes)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {message}" in done.stderr or message in done.stderr.partition("error: ")[2]
    assert "\n\nhint: " in done.stderr
    assert commands_run(connection) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("unblock", "a@x.org", "--yes"),
        ("unblock", "--matching", "a@.*", "--yes"),
        ("relink", "a@x.org", "123456", "--yes"),
        ("policy", "disallow", "a@x.org", "--yes"),
        ("undo", "7", "--yes"),
        ("history", "a@x.org"),
        ("history", "123456"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_4_with_a_hint(
    run_identity: Run, connection: Connection, arguments: tuple[str, ...]
) -> None:
    done = run_identity(*arguments)
    assert (done.returncode, done.stdout) == (4, "")
    assert "\n\nhint: " in done.stderr
    assert commands_run(connection) == []


# -- unlink ---------------------------------------------------------------------------------------


def test_chain_without_its_middle_pair_stays_two_identities_when_it_comes_again(
    run_identity: Run, connection: Connection, tmp_path: Path
) -> None:
    files = [write_rows(tmp_path / f"{i}.csv", [row]) for i, row in enumerate(CHAIN)]
    for file in files:
        assert run_identity("import", file, "-q").returncode == 0
    whole = digest(connection)
    done = document(run_identity("unlink", "b@x.org", "1000001", "--yes", "--json"))
    assert [one["primaryContactId"] for one in done["split"]] == [1]
    assert done["path"] == []
    two = digest(connection)
    for file in files:
        assert run_identity("import", file, "-q").returncode == 0
    assert digest(connection) == two
    assert document(run_identity("show", "--email", "a@x.org", "--json"))["contact"] == {
        "primaryContatctId": 1,
        "emails": ["a@x.org"],
        "phoneNumbers": ["1000001"],
        "secondaryContactIds": [],
    }
    listed = document(run_identity("unlink", "--list", "--json"))
    assert [(one["value"], one["other_value"]) for one in listed["pairs"]] == [
        ("b@x.org", "1000001")
    ]
    assert "b@x.org\t1000001\t" in run_identity("unlink", "--list").stdout
    assert run_identity("relink", "1000001", "b@x.org", "--yes").returncode == 0
    assert digest(connection) == whole


def test_unlinking_one_of_two_paths_shows_the_other_and_proposes_a_cut(
    run_identity: Run, connection: Connection, tmp_path: Path
) -> None:
    rows = (*CHAIN, "a@x.org,1000002")
    assert run_identity("import", write_rows(tmp_path / "c.csv", rows), "-q").returncode == 0
    done = run_identity("unlink", "a@x.org", "1000001", "--yes")
    assert done.returncode == 0
    assert "still joined by\n  a@x.org 1000002 (" in done.stdout
    assert "note: another path still joins the two" in done.stderr
    proposed = run_identity("unlink", "a@x.org", "1000001", "--cut", "--json")
    pairs = document(proposed)["pairs"]
    assert len(pairs) == 1
    assert commands_run(connection) == ["unlink"]
    run_identity("unlink", pairs[0]["value"], pairs[0]["other_value"], "--yes")
    again = run_identity("unlink", "a@x.org", "1000001", "--cut")
    assert again.stdout == "the two are in different identities\n"


def test_pair_that_never_occurred_waits_for_its_request(
    run_identity: Run, connection: Connection, tmp_path: Path
) -> None:
    done = run_identity("unlink", "a@x.org", "1000001", "--yes")
    assert "note: these two were never stated together" in done.stderr
    run_identity("import", write_rows(tmp_path / "c.csv", CHAIN[:1]), "-q")
    assert verify(connection).identities == 2


# -- policy ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("strangers")
def test_policy_stops_and_releases_hubs(run_identity: Run, connection: Connection) -> None:
    before = digest(connection)
    stopped = document(run_identity("policy", "set", "hub-limit-phone", "4", "--yes", "--json"))
    assert (stopped["hub_limit_email"], stopped["hub_limit_phone"], stopped["hubs"]) == (None, 4, 1)
    assert len(stopped["identities"]["after"]) == 12
    listed = document(run_identity("block", "--list", "--json"))
    assert [(one["value"], one["blocked_by"], one["partners"]) for one in listed["values"]] == [
        (PHONE, ["hub"], 12)
    ]
    assert "is a hub by the policy" in run_identity("unblock", PHONE, "--yes").stderr
    run_identity("policy", "set", "hub-limit-email", "9", "--yes")
    shown = document(run_identity("policy", "show", "--json"))
    assert (shown["hub_limit_email"], shown["hub_limit_phone"]) == (9, 4)
    assert shown["hubs"] == {"email": 0, "phone": 1}

    run_identity("policy", "allow", PHONE, "--yes", "--reason", "a family")
    assert digest(connection) == before
    assert document(run_identity("policy", "show", "--json"))["allowed"][0]["reason"] == "a family"
    run_identity("policy", "disallow", PHONE, "--yes")
    assert digest(connection) != before
    run_identity("policy", "off", "--yes")
    assert digest(connection) == before
    assert run_identity("policy", "show").stdout == (
        "hub-limit-email: off\nhub-limit-phone: off\nallowed: 0\n"
    )


@pytest.mark.parametrize(
    ("count", "share", "phones"),
    [(5_000, 1, 2_200), pytest.param(100_000, 0.1, 2_000, marks=pytest.mark.slow)],
    ids=["5,000", "100,000"],
)
def test_policy_before_during_and_after_an_import_gives_the_same_identities(
    run_identity: Run,
    start_identity: Start,
    cloned_database: Callable[[], Any],
    tmp_path: Path,
    count: int,
    share: float,
    phones: int,
) -> None:
    """A share of the rows has one of the phone numbers that people share."""
    rng = random.Random(4)

    def row() -> str:
        person = rng.randrange(count)
        is_shared = rng.random() < share
        return f"p{person}@x.org,{5_000_000 + (rng.randrange(phones) if is_shared else -person)}"

    rows = write_rows(tmp_path / "rows.csv", (row() for _ in range(count)))
    limit = ("policy", "set", "hub-limit-phone", "4", "--yes")
    digests = []
    for moment in ("before", "during", "after"):
        with cloned_database() as url, psycopg.connect(url, autocommit=True) as own:
            env = {"DATABASE_URL": url}
            if moment == "before":
                assert run_identity(*limit, env=env).returncode == 0
            process = start_identity("import", rows, "-q", env=env)
            if moment == "during":
                while not is_stored(own, contacts=1 if count < 100_000 else count // 4):
                    time.sleep(0.01)
                assert run_identity(*limit, env=env).returncode == 0
            assert process.wait(180) == 0
            if moment == "after":
                assert run_identity(*limit, env=env).returncode == 0
            if moment == "during" and count >= 100_000:
                assert own.execute(
                    "SELECT ran_at BETWEEN started_at AND finished_at"
                    " FROM steering_command, import_run WHERE verb = 'policy'"
                ).fetchall() == [(True,)]
            digests.append(digest(own))
            hubs = own.execute("SELECT count(*) FROM blocked_value WHERE is_hub").fetchone()
            assert hubs is not None
            assert hubs[0] > 0
    assert digests[0] == digests[1] == digests[2]


def is_stored(connection: Connection, *, contacts: int) -> bool:
    """Return whether at least so many contacts are stored."""
    query = "SELECT FROM contact OFFSET %s LIMIT 1"
    return connection.execute(query, (contacts - 1,)).fetchone() is not None


# -- undo -----------------------------------------------------------------------------------------


def test_undo_restores_export_and_digest(
    run_identity: Run, connection: Connection, tmp_path: Path, strangers: int
) -> None:
    def contacts() -> list[str]:
        lines = run_identity("export").stdout.splitlines()
        return [",".join(line.split(",")[:6] + line.split(",")[7:]) for line in lines]

    before = contacts(), digest(connection)
    second = write_rows(
        tmp_path / "second.csv", ["p1@x.org,1000009", "new@x.org,1000008", f"z@x.org,{PHONE}"]
    )
    run_id = document(run_identity("import", second, "--json"))["run_id"]
    assert contacts() != before[0]
    older = run_identity("undo", strangers, "--yes")
    assert older.returncode == 2
    assert f"hint: the newest is run {run_id}: identity undo {run_id}\n" in older.stderr
    done = document(run_identity("undo", run_id, "--yes", "--json"))
    assert (done["run_id"], done["input"]) == (run_id, [str(second)])
    assert (contacts(), digest(connection)) == before
    again = run_identity("undo", run_id, "--yes")
    assert again.returncode == 2
    assert f"run {run_id} is undone already" in again.stderr
    assert f"identity undo {strangers}\n" in again.stderr


def test_run_at_work_is_6(run_identity: Run, connection: Connection, strangers: int) -> None:
    connection.execute(
        "SELECT pg_advisory_lock(lock_key) FROM import_run WHERE id = %s", (strangers,)
    )
    done = run_identity("undo", strangers, "--yes")
    assert done.returncode == 6
    assert f"error: run {strangers} is at work\n\nhint: " in done.stderr


def test_import_that_stores_nothing_names_no_undo(
    run_identity: Run, tmp_path: Path, strangers: int
) -> None:
    again = run_identity("import", tmp_path / "strangers.csv")
    assert "undo" not in again.stderr
    dry = write_rows(tmp_path / "dry.csv", ["new@x.org,1"])
    assert "undo" not in run_identity("import", dry, "--dry-run").stderr
    assert run_identity("import", dry, "-q").stderr == ""


# -- forget ---------------------------------------------------------------------------------------


def dumped(connection: Connection) -> str:
    """The content of every table, as a dump has it."""
    tables = connection.execute(
        "SELECT quote_ident(relname) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ).fetchall()
    text = ""
    for (table,) in tables:
        with connection.cursor().copy(f"COPY {table} TO STDOUT") as copy:
            text += b"".join(bytes(part) for part in copy).decode()
    return text


SECRET = "wanted.gone@person.example"


@pytest.fixture
def secret_everywhere(run_identity: Run, tmp_path: Path) -> None:
    """A value in contacts, evidence, every kind of rule, and the reason of a command."""
    rows = [
        f"{SECRET},1000001",
        "other@x.org,1000001",
        f"{SECRET},1000002",
        f"{SECRET},1000003",
        "third@x.org,1000003",
        f"{SECRET},1000001",
    ]
    assert run_identity("import", write_rows(tmp_path / "s.csv", rows), "-q").returncode == 0
    for arguments in (
        ("unlink", SECRET, "1000003", "--reason", f"{SECRET.upper()} is not third"),
        ("policy", "set", "hub-limit-email", "2"),
        ("policy", "allow", SECRET),
        ("block", "--matching", SECRET.replace(".", r"\.")),
        ("block", SECRET),
    ):
        done = run_identity(*arguments, "--yes")
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("secret_everywhere")
def test_forgotten_value_is_in_no_table_and_in_no_file(
    run_identity: Run, connection: Connection, tmp_path: Path
) -> None:
    assert SECRET in dumped(connection)
    done = run_identity("forget", SECRET, "--yes", "--json", "--reason", "ticket 4711")
    assert done.returncode == 0, done.stderr
    receipt = document(done)["receipt"]
    assert receipt["values"] == receipt["new_hashes"] == 1
    assert receipt["blocked_values"] == receipt["unlinked_pairs"] == receipt["hub_exemptions"] == 1
    assert receipt["patterns"] == receipt["reasons"] == 1
    assert receipt["contacts_erased"] + receipt["contacts_kept"] >= 3
    assert receipt["key_in_database"] is True
    assert receipt["runs"] == [{"run_id": 1, "input": [str(tmp_path / "s.csv")]}]
    assert any("backups" in place for place in receipt["remaining"])
    assert SECRET not in dumped(connection).lower()
    assert SECRET not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "s.csv"]
    assert not any(SECRET.encode() in path.read_bytes() for path in written)

    # Neither a file nor a rule brings it back.
    run_identity("import", tmp_path / "s.csv", "-q")
    assert SECRET not in dumped(connection)
    assert verify(connection).violations == ()
    for arguments in (
        ("block", SECRET),
        ("unlink", "1000001", SECRET),
        ("policy", "allow", SECRET),
    ):
        refused = run_identity(*arguments, "--yes")
        assert refused.returncode == 2
        assert "was forgotten: a rule would store it again\n\nhint: " in refused.stderr
        assert SECRET not in refused.stderr
    history = run_identity("history", "--json")
    assert SECRET not in history.stdout.lower()


@pytest.mark.usefixtures("strangers")
def test_forgetting_an_identity_erases_all_its_values(
    run_identity: Run, connection: Connection
) -> None:
    done = run_identity("forget", "p3@x.org", "--identity", "--yes")
    assert done.returncode == 0
    assert "  values forgotten: 13\n  contacts erased: 12\n" in done.stdout
    assert "  run 1: " in done.stdout
    assert "  backups of the database\n" in done.stdout
    assert verify(connection).contacts == 0
    assert "@x.org" not in dumped(connection)
    stored = json.loads(run_identity("identify", "--email", "later@x.org", "--json").stdout)
    assert stored["contact"]["primaryContatctId"] > 12


@pytest.mark.usefixtures("strangers")
def test_key_of_the_environment_is_not_stored_and_is_needed_from_then_on(
    run_identity: Run, connection: Connection
) -> None:
    key = "correct horse battery staple"
    with_key = {"IDENTITY_FORGET_KEY": key}
    done = run_identity("forget", "p3@x.org", "--yes", "--json", env=with_key)
    assert document(done)["receipt"]["key_in_database"] is False
    assert key not in dumped(connection)
    assert key.encode().hex() not in dumped(connection)
    hint = "hint: set IDENTITY_FORGET_KEY to the key that identity forget was first run with"
    for env in ({}, {"IDENTITY_FORGET_KEY": "another"}):
        for arguments in (
            ("identify", "--email", "new@x.org"),
            ("forget", "p4@x.org", "--yes"),
            ("block", "p4@x.org", "--yes"),
        ):
            refused = run_identity(*arguments, env=env)
            assert refused.returncode == 5, refused.stderr
            assert hint in refused.stderr
            assert key not in refused.stderr
    assert run_identity("identify", "--email", "new@x.org", env=with_key).returncode == 0
    dropped = run_identity("block", "p3@x.org", "--yes", env=with_key)
    assert "was forgotten" in dropped.stderr


# -- history --------------------------------------------------------------------------------------


def test_history_names_runs_merges_and_commands_by_ids_alone(
    run_identity: Run, tmp_path: Path
) -> None:
    rows = ("a@x.org,1000001", "b@x.org,1000002", "a@x.org,1000002")
    run_identity("import", write_rows(tmp_path / "merge.csv", rows), "-q")
    run_identity("unlink", "a@x.org", "1000002", "--yes", "--reason", "not the same person")
    events = document(run_identity("history", "--json"))["events"]
    # A run and its first lines are stored in the same millisecond.
    command, merge, run = sorted(events, key=lambda one: str(one["event"]))
    assert [one["event"] for one in (command, merge, run)] == ["command", "merge", "run"]
    assert events[0] == command
    assert (command["command"], command["reason"]) == ("unlink", "not the same person")
    assert command["role"]
    assert command["contacts"] == 1
    assert (merge["fromPrimaryContactId"], merge["toPrimaryContactId"], merge["line"]) == (2, 1, 4)
    assert (run["run_id"], run["status"]) == (1, "finished")
    text = run_identity("history")
    assert "@x.org" not in text.stdout
    assert "2 into 1, run 1 line 4" in text.stdout
    assert len(run_identity("history", "--limit", "1").stdout.splitlines()) == 2

    by_id = document(run_identity("history", "2", "--json"))
    by_value = document(run_identity("history", "b@x.org", "--json"))
    assert by_id == by_value
    assert [one["event"] for one in by_id["events"]] == ["moved", "merge", "stored"]
    moved = by_id["events"][0]
    assert (moved["contactId"], moved["fromPrimaryContactId"], moved["toPrimaryContactId"]) == (
        *(2, 1, 2),
    )


def test_number_is_an_id_before_it_is_a_phone_number(run_identity: Run) -> None:
    run_identity("identify", "--email", "a@x.org", "--phone", "2")
    run_identity("identify", "--email", "b@x.org", "--phone", "3")
    by_id = document(run_identity("history", "2", "--json"))["events"]
    assert [one["contactId"] for one in by_id] == [2]
    by_phone = document(run_identity("history", "3", "--json"))["events"]
    assert [one["contactId"] for one in by_phone] == [2]


# -- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 8))]
)
def test_killed_command_has_changed_all_or_nothing(
    run_identity: Run, start_identity: Start, connection: Connection, tmp_path: Path, seed: int
) -> None:
    rows = write_rows(tmp_path / "rows.csv", (f"p{i}@x.org,{PHONE}" for i in range(3_000)))
    run_identity("import", rows, "-q")
    one = digest(connection)
    rng = random.Random(seed)
    blocked = None
    for _ in range(3):
        process = start_identity("block", PHONE, "--yes")
        time.sleep(rng.uniform(0.2, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        # The server ends the statement of a client that is gone before it looks.
        while connection.execute(
            "SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchall():
            time.sleep(0.02)
        is_blocked = commands_run(connection) == ["block"]
        if is_blocked:
            blocked = digest(connection)
            assert blocked != one
            break
        assert commands_run(connection) == []
        assert digest(connection) == one
    assert run_identity("block", PHONE, "--yes").returncode == 0
    assert blocked is None or digest(connection) == blocked
    assert verify(connection).identities == 3_000


def test_role_that_is_not_the_owner_is_refused(
    run_identity: Run, connection: Connection, database_url: str
) -> None:
    role = f"identity_test_{uuid.uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        assert run_identity("db", "grant", role).returncode == 0
        env = {"DATABASE_URL": f"{database_url}&user={role}&password=x"}
        refused = run_identity("block", "a@x.org", "--yes", env=env)
        assert refused.returncode == 5
        assert "error: only the owner of the tables can change what links\n\nhint: connect as " in (
            refused.stderr
        )
        for arguments in (
            ("history",),
            ("block", "--list"),
            ("unlink", "--list"),
            ("policy", "show"),
        ):
            assert run_identity(*arguments, env=env).returncode == 0
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")
