"""`identity identify`, `identity show`, and what every command has in common."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from steering import Player

from identity_cli import ContactRequest
from identity_cli.graph.normalize import PROFILE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli import IdentityService

    Run = Callable[..., subprocess.CompletedProcess[str]]

PASSWORD = "hunter2secret"  # planted

HILL_VALLEY = [
    ("lorraine@hillvalley.edu", "123456"),
    ("mcfly@hillvalley.edu", "123456"),
    ("george@hillvalley.edu", "919191"),
    ("biffsucks@hillvalley.edu", "717171"),
    ("george@hillvalley.edu", "717171"),
]
LORRAINE = (
    '{"contact": {"primaryContatctId": 1, "emails": ["lorraine@hillvalley.edu",'
    ' "mcfly@hillvalley.edu"], "phoneNumbers": ["123456"], "secondaryContactIds": [2]}}\n'
)


def check_error(done: subprocess.CompletedProcess[str], code: int, message: str, hint: str) -> None:
    assert (done.returncode, done.stdout) == (code, "")
    shown = re.fullmatch(r"error: (.+)\n\nhint: (.+)\n", done.stderr)
    assert shown is not None, done.stderr
    assert message in shown[1]
    assert hint in shown[2]


def test_five_requests_store_the_rows_of_the_contract(
    run_identity: Run, connection: psycopg.Connection[Any]
) -> None:
    for email, phone in HILL_VALLEY:
        done = run_identity("identify", "--email", email, "--phone", phone)
        assert (done.returncode, done.stderr) == (0, "")
    rows = connection.execute(
        "SELECT id, email, phone_number, linked_id, link_precedence::text FROM contact ORDER BY id"
    ).fetchall()
    assert rows == [
        (1, "lorraine@hillvalley.edu", "123456", None, "primary"),
        (2, "mcfly@hillvalley.edu", "123456", 1, "secondary"),
        (3, "george@hillvalley.edu", "919191", None, "primary"),
        (4, "biffsucks@hillvalley.edu", "717171", 3, "secondary"),
    ]


@pytest.fixture
def hill_valley(service: IdentityService, run_identity: Run) -> Run:
    for email, phone in HILL_VALLEY:
        service.reconcile(ContactRequest(email, phone))
    return run_identity


def test_json_option_prints_one_document(hill_valley: Run) -> None:
    for arguments in (
        ("show", "--email", "mcfly@hillvalley.edu", "--json"),
        ("show", "--json", "--phone", "12-34 56"),
        ("show", "--id", 2, "--json"),
        ("identify", "--email", "McFly@HillValley.EDU ", "--json"),
        ("identify", "--json", "--phone", "123456"),
    ):
        done = hill_valley(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, LORRAINE, "")


def test_show_tells_an_email_a_phone_number_and_an_id_apart(hill_valley: Run) -> None:
    for value in ("McFly@hillvalley.edu", "2", "123456", "12-34 56"):
        done = hill_valley("show", value, "--json")
        assert (done.returncode, done.stdout, done.stderr) == (0, LORRAINE, "")


def test_bare_number_that_is_two_things_is_an_id_with_a_note(hill_valley: Run) -> None:
    assert hill_valley("identify", "--email", "doc@x.org", "--phone", "2").returncode == 0
    done = hill_valley("show", "2", "--json")
    assert (done.returncode, done.stdout) == (0, LORRAINE)
    assert done.stderr.startswith("note: the number was read as the id of a contact")
    done = hill_valley("show", "--phone", "2", "--json")
    assert (json.loads(done.stdout)["contact"]["emails"], done.stderr) == (["doc@x.org"], "")


def test_email_and_phone_number_must_lead_to_one_identity(hill_valley: Run) -> None:
    by_email = ("show", "--email", "lorraine@hillvalley.edu")
    done = hill_valley(*by_email, "--phone", "123456", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, LORRAINE, "")
    check_error(hill_valley(*by_email, "--phone", "919191"), 4, "No such contact", "export")


def test_like_lists_identities_with_masked_values(hill_valley: Run) -> None:
    done = hill_valley("show", "--like", "%HillValley.edu")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "primary\tcontacts\tvalues like the pattern\n"
        "1\t2\tl***@h***.edu, m***@h***.edu\n"
        "3\t2\tg***@h***.edu, b***@h***.edu\n"
    )
    done = hill_valley("show", "--like", "71717_", "--values", "--json")
    assert json.loads(done.stdout) == {
        "schema_version": 1,
        "identities": [
            {"primary_id": 3, "contacts": 2, "values": ["717171"], "matching_values": 1}
        ],
        "complete": True,
    }
    assert json.loads(hill_valley("show", "--like", "717171", "--json").stdout)["identities"][0][
        "values"
    ] == ["***71"]
    check_error(hill_valley("show", "--like", "hillvalley"), 4, "like the pattern", "any text")


def test_like_lists_a_few_of_many(run_identity: Run, service: IdentityService) -> None:
    for i in range(8):
        service.reconcile(ContactRequest(f"one{i}@x.org", "1"))
    for i in range(11):
        service.reconcile(ContactRequest(f"p{i}@x.org"))
    done = run_identity("show", "--like", "%@x.org", "--values")
    _, first, *others = done.stdout.splitlines()
    assert first.endswith("one4@x.org, and 3 more")
    assert [line.split("\t")[2] for line in others] == [f"p{i}@x.org" for i in range(9)]
    assert done.stderr == (
        "note: only the first 10 identities are listed; use a more specific pattern\n"
    )
    found = json.loads(run_identity("show", "--like", "%@x.org", "--json").stdout)
    assert found["complete"] is False
    assert found["identities"][0]["matching_values"] == 8
    # A wildcard is literal after a backslash.
    assert run_identity("show", "--like", "one\\%").returncode == 4


def test_pipe_gets_plain_lines(hill_valley: Run) -> None:
    done = hill_valley("show", "--id", 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "primary: 3\n"
        "emails: george@hillvalley.edu, biffsucks@hillvalley.edu\n"
        "phone numbers: 919191, 717171\n"
        "secondaries: 4\n"
    )


def test_pipe_gets_neither_colour_nor_wrapping(hill_valley: Run) -> None:
    plain = hill_valley("show", "--id", 1).stdout
    env = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "COLUMNS": "10", "TERM": "xterm-256color"}
    for arguments, expected in (
        (("show", "--id", 1), plain),
        (("show", "--id", 1, "--json"), LORRAINE),
    ):
        done = hill_valley(*arguments, env=env)
        assert (done.stdout, done.stderr) == (expected, "")


def test_terminal_gets_a_table(run_identity: Run, database_url: str) -> None:
    email = '"[bold]a[/x]"@x.org'
    assert run_identity("identify", "--email", email, "--phone", "1").returncode == 0
    shown = on_a_terminal("show", "--phone", "1", env={"DATABASE_URL": database_url})
    lines = [line.split() for line in shown.splitlines() if line.strip()]
    assert ["primary", "1"] in lines
    assert ["emails", email] in lines
    assert ["phone", "numbers", "1"] in lines


def on_a_terminal(*arguments: str, env: dict[str, str]) -> str:
    """What `identity …` draws on a terminal."""
    terminal, other_end = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "identity_cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=other_end,
            stderr=other_end,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "LANG": "C.UTF-8", **env},
        ) as process:
            os.close(other_end)
            shown = b""
            try:
                while piece := os.read(terminal, 4096):
                    shown += piece
            except OSError:  # the other end is closed
                pass
            assert process.wait(timeout=60) == 0
    finally:
        os.close(terminal)
    return shown.decode()


def test_other_scripts_are_normalised_and_printed(run_identity: Run) -> None:
    done = run_identity("identify", "--email", "José@BÜCHER.example", "--phone", "٣٤", "--json")
    assert json.loads(done.stdout)["contact"]["emails"] == ["josé@xn--bcher-kva.example"]
    assert json.loads(done.stdout)["contact"]["phoneNumbers"] == ["34"]
    assert "josé" in done.stdout


def test_one_identifier_is_enough(run_identity: Run) -> None:
    done = run_identity("identify", "--email", "a@x.org", "--phone", "n/a", "--json")
    assert json.loads(done.stdout)["contact"] == {
        "primaryContatctId": 1,
        "emails": ["a@x.org"],
        "phoneNumbers": [],
        "secondaryContactIds": [],
    }


def test_repeated_options_are_one_request(run_identity: Run) -> None:
    values = ("--email", "a@x.org", "--phone", "1", "--email", "b@x.org", "--phone", "(2)")
    done = run_identity("identify", *values, "--json")
    assert json.loads(done.stdout)["contact"] == {
        "primaryContatctId": 1,
        "emails": ["a@x.org", "b@x.org"],
        "phoneNumbers": ["1", "2"],
        "secondaryContactIds": [2, 3],
    }


def test_show_of_a_blocked_value_names_the_list(
    run_identity: Run, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])
    player.block(["1111111"])
    done = run_identity("show", "--phone", "111-1111")
    check_error(done, 4, "the phone number is blocked", "identity block --list")
    assert "a@x.org" in run_identity("show", "--id", "1").stdout
    player.block(["a@x.org"])
    done = run_identity("show", "--id", "1")
    check_error(done, 4, "the contact is set aside", "identity block --list")
    check_error(run_identity("show", "--id=-1"), 4, "No such contact", "identity export")


def test_show_writes_nothing(run_identity: Run, connection: psycopg.Connection[Any]) -> None:
    done = run_identity("show", "--email", "nobody@x.org")
    check_error(done, 4, "No such contact", "identity export")
    for table in ("contact", "normalization_profile"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["identify"], "no email and no phone number", "use an email"),
        (["identify", "--email", "", "--phone", "-"], "no email and no phone number", "use"),
        (["identify", "--email", "not an email"], "white space inside the email", "use"),
        (["identify", "--phone", "x12"], "a phone number may contain only digits", "use an email"),
        (["identify", "--email", "a@x.org", "--region", "ZZ"], "'ZZ'", "--region US"),
        (["show"], "one value, by one id", "VALUE, --id, or --email and --phone"),
        (["show", "--email", "a@x.org", "--id", "1"], "one value, by one id", "VALUE, --id, or"),
        (["show", "1", "--email", "a@x.org"], "one value, by one id", "VALUE, --id, or"),
        (["show", "--like", "a%", "--id", "1"], "--like does not go together", "one of the two"),
        (["show", "--like", "a\\"], "ends with a backslash", "for a backslash"),
        (["show", "1", "--values"], "--values is for --like only", "not masked"),
        (["show", "--email", "a b"], "white space inside the email", "use an email"),
        (["show", "--id", "one"], "'one' is not a valid int", "identity show --help"),
        (["show", "--nonsense"], "--nonsense", "identity show --help"),
        (["identify", "--email"], "--email", "--help"),
        (["show", "1", "extra"], "extra", "identity show --help"),
        (["nonsense"], "nonsense", "identity --help"),
        (["db", "nonsense"], "nonsense", "identity db --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_an_error_with_a_hint(
    run_identity: Run, arguments: list[str], message: str, hint: str
) -> None:
    nowhere = {"DATABASE_URL": "postgresql://127.0.0.1:1/people"}
    database = {} if arguments[0] == "show" else nowhere
    check_error(run_identity(*arguments, env=database), 2, message, hint)


# The database


@pytest.mark.parametrize("option", [True, False])
def test_unreachable_database_is_reported_without_the_password(
    run_identity: Run, option: bool
) -> None:
    url = f"postgresql://app:{PASSWORD}@127.0.0.1:1/people"
    arguments = ["--database-url", url] if option else []
    done = run_identity("identify", "--email", "a@x.org", *arguments, env={"DATABASE_URL": url})
    check_error(done, 5, "127.0.0.1:1/people is unreachable", "DATABASE_URL")
    assert PASSWORD not in done.stderr


def test_database_url_option_overrides_the_environment(
    run_identity: Run, database_url: str
) -> None:
    done = run_identity(
        "identify",
        "--email=a@x.org",
        "--database-url",
        database_url,
        env={"DATABASE_URL": "postgresql://127.0.0.1:1/people"},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"postgresql://app:{PASSWORD}@127.0.0.1:1/people", 5),
        (f"postgresql://app@127.0.0.1:1/people?password={PASSWORD}", 5),
        (f"postgresql://app:{PASSWORD}@@127.0.0.1:1/people", 2),
        (f"postgresql://app:{PASSWORD}/x@127.0.0.1:1/people", 2),
        (f"postgresql://app:{PASSWORD}@127.0.0.1:port/people", 2),
        (f"mysql://app:{PASSWORD}@127.0.0.1/people", 2),
    ],
)
def test_password_is_never_shown(run_identity: Run, url: str, code: int) -> None:
    done = run_identity("db", "current", env={"DATABASE_URL": url})
    assert done.returncode == code
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    done = run_identity("show", "--id", "1", "--debug", "--database-url", url)
    assert done.returncode == 1
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" in done.stderr


def test_database_not_at_head_is_refused_with_a_hint(
    run_identity: Run, empty_database_url: str
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (id int)")
    done = run_identity("identify", "--email", "a@x.org", env={"DATABASE_URL": empty_database_url})
    check_error(done, 5, "has no schema of identity", "run identity db upgrade")
    done = run_identity("show", "--id", "1", env={"DATABASE_URL": empty_database_url})
    check_error(done, 5, "has no schema of identity", "run identity db upgrade")
    done = run_identity("db", "upgrade", env={"DATABASE_URL": empty_database_url})
    assert done.returncode == 0
    done = run_identity("identify", "--email", "a@x.org", env={"DATABASE_URL": empty_database_url})
    assert (done.returncode, done.stderr) == (0, "")


def test_empty_database_is_migrated(run_identity: Run, empty_database_url: str) -> None:
    done = run_identity("identify", "--email", "a@x.org", env={"DATABASE_URL": empty_database_url})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("primary: 1\n")


def test_another_profile_is_refused_with_a_hint(run_identity: Run) -> None:
    us = ("--phone", "(650) 253-0000", "--region", "us")
    profile = "region US, version "
    done = run_identity("identify", *us, "--json")
    assert json.loads(done.stdout)["contact"]["phoneNumbers"] == ["+16502530000"]
    check_error(
        run_identity("identify", "--phone", "020 7946 0000", "--region", "GB"),
        5,
        f"values normalised with {profile}{PROFILE_VERSION}, not with region GB, version",
        "use --region US",
    )
    assert run_identity("identify", *us).returncode == 0
    assert run_identity("show", "--phone", "650-253-0000").returncode == 0


def test_region_of_the_database_counts_where_none_is_passed(run_identity: Run) -> None:
    assert run_identity("identify", "--phone", "650-253-0000", "--region", "US").returncode == 0
    done = run_identity("identify", "--phone", "(650) 253-0000", "--email", "a@x.org", "--json")
    assert json.loads(done.stdout)["contact"]["phoneNumbers"] == ["+16502530000"]
    check_error(run_identity("identify", "--phone", "12"), 2, "in region US", "use an email")


def test_region_of_the_environment_counts_where_none_is_passed(run_identity: Run) -> None:
    gb = {"IDENTITY_REGION": "gb"}
    done = run_identity("identify", "--phone", "020 7946 0000", "--json", env=gb)
    assert json.loads(done.stdout)["contact"]["phoneNumbers"] == ["+442079460000"]
    done = run_identity("identify", "--phone", "650 253 0000", "--region", "US", env=gb)
    check_error(done, 5, "region GB", "use --region GB")
    assert run_identity("show", "--phone", "020 7946 0000").returncode == 0


def test_refusal_of_a_trigger_is_wrong_usage_without_the_value(
    run_identity: Run, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no % here', NEW.email USING ERRCODE = 'ZZ123'; END $$"
    )
    connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON contact FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    done = run_identity("identify", "--email", "secretvalue@x.org")
    check_error(done, 2, "ZZ123", "server's log")
    assert "secretvalue" not in done.stderr


def test_large_identity_is_shown_in_little_memory(
    run_identity: Run, connection: psycopg.Connection[Any], database_url: str
) -> None:
    size = 50_000
    connection.execute(
        """
        INSERT INTO contact (email, phone_number, linked_id, link_precedence)
        SELECT 'p' || n || '@x.org', n::text, nullif(1, n), CASE n WHEN 1 THEN 'primary'
               ELSE 'secondary' END::link_precedence
        FROM generate_series(1, %s) AS n
        """,
        [size],
    )
    # The first run imports what it needs, so that the second one's peak is that of the contact.
    program = (
        "import os, sys, tracemalloc\n"
        "from identity_cli.cli import run\n"
        "own, sys.stdout = sys.stdout, open(os.devnull, 'w')\n"
        "assert run(['show', '--id', '3', '--json']) == 0\n"
        "sys.stdout.close()\n"
        "sys.stdout = own\n"
        "tracemalloc.start()\n"
        "assert run(['show', '--id', '3', '--json']) == 0\n"
        "sys.stderr.write(str(tracemalloc.get_traced_memory()[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert json.loads(done.stdout) == {
        "contact": {
            "primaryContatctId": 1,
            "emails": [f"p{n}@x.org" for n in range(1, size + 1)],
            "phoneNumbers": [str(n) for n in range(1, size + 1)],
            "secondaryContactIds": list(range(2, size + 1)),
        }
    }
    assert int(done.stderr) < 4_000_000  # the values alone take more


def test_embedded_database_keeps_what_was_identified(
    run_identity: Run, prepared_home: os.PathLike[str]
) -> None:
    env = {"DATABASE_URL": None, "IDENTITY_HOME": str(prepared_home)}
    done = run_identity("identify", "--email", "embedded@x.org", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    shown = run_identity("show", "--email", "embedded@x.org", "--json", env=env)
    assert (shown.returncode, shown.stdout) == (0, done.stdout)


def test_home_that_cannot_be_created_is_reported(
    run_identity: Run, tmp_path: os.PathLike[str]
) -> None:
    home = f"{os.fspath(tmp_path)}/file/home"
    with open(os.path.dirname(home), "w"):
        pass
    done = run_identity("show", "--id", 1, env={"DATABASE_URL": None, "IDENTITY_HOME": home})
    check_error(done, 5, "cannot keep a database", "IDENTITY_HOME")


def test_command_loads_neither_sqlalchemy_nor_alembic(run_identity: Run, database_url: str) -> None:
    for command in (["identify", "--email", "a@x.org"], ["show", "--id", "1"]):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from identity_cli.cli import run\n"
                f"assert run({command!r}) == 0\nprint(*sys.modules, file=sys.stderr)",
            ],
            env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        loaded = {name.partition(".")[0] for name in done.stderr.split()}
        assert "psycopg" in loaded
        assert loaded.isdisjoint({"sqlalchemy", "alembic", "rich", "phonenumbers", "pyarrow"})


def test_closed_pipe_is_quiet(run_identity: Run, database_url: str) -> None:
    run_identity("identify", "--email", "a@x.org")
    with subprocess.Popen(
        [sys.executable, "-m", "identity_cli", "show", "--id", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        shown = process.stderr.read()
        process.wait(timeout=60)
    assert b"Traceback" not in shown
    assert b"Exception ignored" not in shown


def test_interrupt_while_connecting_ends_quietly(start_identity: Callable[..., Any]) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        process = start_identity(
            "show", "--id", "1", env={"DATABASE_URL": f"postgresql://127.0.0.1:{port}/people"}
        )
        silent.settimeout(60)
        client, _ = silent.accept()
        with client:
            process.send_signal(signal.SIGINT)
            _, shown = process.communicate(timeout=60)
    assert process.returncode in {130, -signal.SIGINT}
    assert "Traceback" not in shown


def test_version_is_printed_without_a_database(run_identity: Run) -> None:
    done = run_identity("--version", env={"DATABASE_URL": "nonsense"})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"identity \d+\.\d+\.\d+\n", done.stdout)


def test_help_needs_no_database(run_identity: Run) -> None:
    done = run_identity("show", "-h", env={"DATABASE_URL": "nonsense"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: identity show ")
