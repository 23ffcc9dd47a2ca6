"""`identity explain`: why values are one identity, to people, pipes and programs."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import jsonschema_rs
import pytest
from steering import Player

from identity_cli import ContactRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from identity_cli import IdentityService

    Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema_rs.validator_for(
    json.loads((ROOT / "docs/explain.schema.json").read_text(encoding="utf-8"))
)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00"

FIRST = "email,phone\nlorraine@hillvalley.edu,123456\nmcfly@hillvalley.edu,123456\n"
SECOND = "email,phone\ngeorge@hillvalley.edu,919191\nbiff@hillvalley.edu,717171\n"
THIRD = '{"email": "george@hillvalley.edu", "phone": "717171"}\n'


@pytest.fixture
def hill_valley(run_identity: Run, tmp_path: Path) -> Run:
    """Two runs, the second one of two files and standard input, and one request by hand."""
    (tmp_path / "first.csv").write_text(FIRST)
    (tmp_path / "second.csv").write_text(SECOND)
    (tmp_path / "third\t[red].jsonl").write_text(THIRD)
    assert run_identity("import", "first.csv", "-q").returncode == 0
    assert run_identity("import", "second.csv", "third\t[red].jsonl", "-q").returncode == 0
    assert run_identity("identify", "--email", "doc@x.org", "--phone", "717171").returncode == 0
    return run_identity


def valid(text: str) -> dict[str, Any]:
    """The JSON document, which conforms to the documented schema."""
    document: dict[str, Any] = json.loads(text)
    VALIDATOR.validate(document)
    return document


def cells(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The lines that a pipe gets, without the times."""
    assert done.returncode == 0, done.stderr
    return [re.sub(TIME, "TIME", line).split("\t") for line in done.stdout.splitlines()]


def test_pipe_gets_one_hop_per_line_with_file_and_line(hill_valley: Run) -> None:
    done = hill_valley("explain", "lorraine@hillvalley.edu", "McFly@hillvalley.edu")
    assert done.stderr == ""
    assert cells(done) == [
        ["value", "other value", "row", "run", "source", "time"],
        ["lorraine@hillvalley.edu", "123456", "contact 1", "1", "first.csv:2", "TIME"],
        ["123456", "mcfly@hillvalley.edu", "contact 2", "1", "first.csv:3", "TIME"],
    ]


def test_chain_leads_through_files_and_requests_by_hand(hill_valley: Run) -> None:
    done = hill_valley("explain", "919191", "--email", "doc@x.org")
    assert [line[2:5] for line in cells(done)[1:]] == [
        ["contact 3", "2", "second.csv:2"],
        ["evidence 1", "2", r"third\t[red].jsonl:1"],
        ["contact 5", "-", "identify or HTTP"],
    ]
    # In any mix, and contacts with their own rows.
    done = hill_valley("explain", "5", "--phone", "919191")
    assert [line[:3] for line in cells(done)[1:]] == [
        ["doc@x.org", "717171", "contact 5"],
        ["717171", "george@hillvalley.edu", "evidence 1"],
        ["george@hillvalley.edu", "919191", "contact 3"],
    ]
    done = hill_valley("explain", "--id", "1", "--id", "2")
    assert [line[:3] for line in cells(done)[1:]] == [
        ["lorraine@hillvalley.edu", "123456", "contact 1"],
        ["123456", "mcfly@hillvalley.edu", "contact 2"],
    ]


def test_one_argument_prints_the_whole_identity_as_a_tree(hill_valley: Run) -> None:
    header, *lines = cells(hill_valley("explain", "biff@hillvalley.edu"))
    assert header == [
        *("depth", "value", "brought by", "run", "source", "time"),
        *("linked with", "linked by", "link run", "link source", "link time", "merged"),
    ]
    none = ["-"] * 6
    george = ["contact 3", "2", "second.csv:2", "TIME"]
    biff = ["contact 4", "2", "second.csv:3", "TIME"]
    doc = ["contact 5", "-", "identify or HTTP", "TIME"]
    merge = ["evidence 1", "2", r"third\t[red].jsonl:1", "TIME"]
    assert lines == [
        ["0", "george@hillvalley.edu", *george, *none],
        ["1", "919191", *george, "george@hillvalley.edu", *george, "-"],
        ["1", "717171", *biff, "george@hillvalley.edu", *merge, "contact 4"],
        ["2", "biff@hillvalley.edu", *biff, "717171", *biff, "-"],
        ["2", "doc@x.org", *doc, "717171", *doc, "-"],
    ]


def test_json_of_a_chain_conforms_to_the_schema(hill_valley: Run) -> None:
    done = hill_valley("explain", "919191", "doc@x.org", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = valid(done.stdout)
    assert document["primary_id"] == 3
    assert document["from"] == {"kind": "phone", "value": "919191", "primary_id": 3}
    assert document["to"] == {"kind": "email", "value": "doc@x.org", "primary_id": 3}
    second = document["hops"][1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*\+00:00", second.pop("time"))
    assert second == {
        "value": "george@hillvalley.edu",
        "other_value": "717171",
        "contact_id": None,
        "evidence_id": 1,
        "merged_id": 4,
        "run_id": 2,
        "path": "third\t[red].jsonl",
        "line": 1,
    }
    assert document["hops"][2]["run_id"] is None
    assert document["hops"][2]["path"] is None


def test_json_of_an_identity_conforms_to_the_schema(hill_valley: Run) -> None:
    document = valid(hill_valley("explain", "4", "--json").stdout)
    assert (document["primary_id"], document["contacts"], document["pairs"]) == (3, 3, 1)
    assert [(one["value"], one["parent"], one["depth"]) for one in document["tree"]] == [
        ("george@hillvalley.edu", None, 0),
        ("919191", "george@hillvalley.edu", 1),
        ("717171", "george@hillvalley.edu", 1),
        ("biff@hillvalley.edu", "717171", 2),
        ("doc@x.org", "717171", 2),
    ]
    assert document["tree"][2]["origin"]["contact_id"] == 4
    assert document["tree"][2]["link"]["merged_id"] == 4


def test_schema_refuses_another_document(hill_valley: Run) -> None:
    document = valid(hill_valley("explain", "1", "2", "--json").stdout)
    for change in ({"hops": [{}]}, {"more": 1}, {"schema_version": 2}, {"from": None}):
        assert not VALIDATOR.is_valid(document | change)
    document["hops"][0]["more"] = 1
    assert not VALIDATOR.is_valid(document)


def test_two_identities_are_reported_with_exit_code_4(hill_valley: Run) -> None:
    done = hill_valley("explain", "lorraine@hillvalley.edu", "4")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        "error: they are two identities, and nothing that links joins them: their primaries are the"
        " contacts 1 and 3\n\nhint: run identity explain 1 for the evidence of the first one\n"
    )
    done = hill_valley("explain", "lorraine@hillvalley.edu", "4", "--json")
    assert done.returncode == 4
    document = valid(done.stdout)
    assert (document["primary_id"], document["hops"]) == (None, None)
    assert document["to"] == {"kind": "id", "value": 4, "primary_id": 3}
    done = hill_valley("explain", "lorraine@hillvalley.edu", "4", "--format", "dot")
    assert (done.returncode, done.stdout) == (4, "")


def test_rule_between_two_identities_is_named_and_in_the_document(
    hill_valley: Run, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.block(["123456"])
    done = hill_valley("explain", "lorraine@hillvalley.edu", "mcfly@hillvalley.edu")
    assert (done.returncode, done.stdout) == (4, "")
    assert "; the value that would join them was blocked (command 1)\n" in done.stderr
    assert "123456" not in done.stderr
    done = hill_valley("explain", "1", "2", "--json")
    assert done.returncode == 4
    [rule] = valid(done.stdout)["rules"]
    assert rule.pop("time") is not None
    assert rule == {"kind": "blocked", "values": ["123456"], "command_id": 1, "reason": None}
    done = hill_valley("explain", "123456")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: no identity has the value: it was blocked (command 1)\n")
    assert hill_valley("show", "123456").returncode == 4


def test_the_same_value_twice_needs_no_chain(hill_valley: Run) -> None:
    for arguments in (("1", "--id", "1"), ("doc@x.org", "Doc@X.org")):
        done = hill_valley("explain", *arguments)
        assert len(cells(done)) == 1
        assert done.stderr == "note: both are the same value or contact\n"
        done = hill_valley("explain", *arguments, "--json")
        assert valid(done.stdout)["hops"] == []


@pytest.mark.parametrize("arguments", [["nobody@x.org"], ["1", "nobody@x.org"], ["99", "1"]])
@pytest.mark.parametrize("option", [[], ["--json"], ["--format", "svg"]])
def test_unknown_value_is_not_found(
    run_identity: Run, service: IdentityService, arguments: list[str], option: list[str]
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1234"))
    done = run_identity("explain", *arguments, *option)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.match(r"error: no such contact", done.stderr, flags=re.IGNORECASE)
    assert "nobody" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one or two values or contacts"),
        (["1", "2", "3"], "one or two values or contacts"),
        (["1", "2", "--phone", "3"], "one or two values or contacts"),
        (["1", "--json", "--format", "dot"], "--json and --format"),
        (["1", "--format", "png"], "png"),
        (["a b@x.org"], "white space"),
        (["--id", "one"], "one"),
    ],
)
def test_wrong_usage_is_an_error_with_a_hint(
    run_identity: Run, arguments: list[str], message: str
) -> None:
    done = run_identity("explain", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "\n\nhint: " in done.stderr


def test_number_that_is_two_things_is_an_id_with_a_note(
    run_identity: Run, service: IdentityService
) -> None:
    service.reconcile(ContactRequest("a@x.org", "2"))
    service.reconcile(ContactRequest("b@x.org", "77"))
    done = run_identity("explain", "2", "--json")
    assert valid(done.stdout)["primary_id"] == 2
    assert "use --phone" in done.stderr
    done = run_identity("explain", "--phone", "2", "--json")
    assert (valid(done.stdout)["primary_id"], done.stderr) == (1, "")


def test_standard_input_is_named(run_identity: Run) -> None:
    text = "email,phone\na@x.org,1\n"
    assert run_identity("import", "-", "-q", input=text).returncode == 0
    [_, hop] = cells(run_identity("explain", "a@x.org", "--phone", "1"))
    assert hop[4] == "standard input:2"
    [_, tree, _] = cells(run_identity("explain", "a@x.org"))
    assert tree[4] == "standard input:2"


def test_region_of_the_database_counts_for_phone_numbers(run_identity: Run) -> None:
    us = ("identify", "--phone", "(650) 253-0000", "--email", "a@x.org", "--region", "US")
    assert run_identity(*us).returncode == 0
    [_, hop] = cells(run_identity("explain", "650 253 0000", "a@x.org"))
    assert hop[:2] == ["+16502530000", "a@x.org"]


def on_a_terminal(*arguments: str, database_url: str) -> str:
    """What `identity …` draws on a terminal of 80 columns."""
    terminal, other_end = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "LANG": "C.UTF-8"}
    with subprocess.Popen(
        [sys.executable, "-m", "identity_cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=other_end,
        stderr=other_end,
        env=environment | {"DATABASE_URL": database_url},
    ) as process:
        os.close(other_end)
        shown = b""
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(terminal)
        assert process.wait(timeout=60) == 0
    return re.sub(TIME, "TIME", shown.decode().replace("\r\n", "\n"))


def test_terminal_gets_a_tree(hill_valley: Run, database_url: str) -> None:
    shown = on_a_terminal("explain", "3", database_url=database_url)
    assert shown.splitlines() == [
        "identity 3: 3 contacts, 5 values, 1 row of evidence",
        "└── george@hillvalley.edu",
        "    contact 3, run 2, second.csv:2, TIME",
        "    ├── 919191",
        "    │   contact 3, run 2, second.csv:2, TIME",
        "    └── 717171",
        r"        evidence 1, run 2, third\t[red].jsonl:1, TIME, ",
        "        merged contact 4 into 3",
        "        brought by contact 4, run 2, second.csv:3, TIME",
        "        ├── biff@hillvalley.edu",
        "        │   contact 4, run 2, second.csv:3, TIME",
        "        └── doc@x.org",
        "            contact 5, identify or HTTP, TIME",
    ]


def test_terminal_gets_the_chain_from_top_to_bottom(hill_valley: Run, database_url: str) -> None:
    shown = on_a_terminal("explain", "1", "mcfly@hillvalley.edu", database_url=database_url)
    assert shown.splitlines() == [
        "lorraine@hillvalley.edu",
        "│ contact 1, run 1, first.csv:2, TIME",
        "123456",
        "│ contact 2, run 1, first.csv:3, TIME",
        "mcfly@hillvalley.edu",
    ]


def large_identity(connection: psycopg.Connection[Any], size: int) -> None:
    """One phone number that `size` contacts show, of which every tenth has another one, too."""
    connection.execute(
        """
        INSERT INTO contact
            (email, phone_number, linked_id, link_precedence, anchors_email, anchors_phone)
        SELECT 'p' || n || '@x.org', '555', nullif(1, n),
               CASE n WHEN 1 THEN 'primary' ELSE 'secondary' END::link_precedence, true, n = 1
        FROM generate_series(1, %(size)s) AS n
        UNION ALL
        SELECT 'p' || 10 * n || '@x.org', '777' || n, 1, 'secondary', false, true
        FROM generate_series(1, %(size)s / 10) AS n
        """,
        {"size": size},
    )


def test_terminal_shows_a_part_of_a_large_identity_and_says_so(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    large_identity(connection, 2000)
    shown = on_a_terminal("explain", "1", database_url=database_url)
    assert shown.count("@x.org") <= 500
    assert re.search(r"note: \d+ of 2,201 values are shown; write to a pipe", shown)


def test_pipe_gets_all_of_a_large_identity(
    run_identity: Run, connection: psycopg.Connection[Any]
) -> None:
    large_identity(connection, 2000)
    done = run_identity("explain", "1")
    assert len(done.stdout.splitlines()) == 1 + 2201
    assert done.stderr == ""


def test_svg_shows_values_and_files(hill_valley: Run) -> None:
    done = hill_valley("explain", "919191", "doc@x.org", "--format", "svg")
    assert (done.returncode, done.stderr) == (0, "")
    root = ElementTree.fromstring(done.stdout)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {
        *("919191", "george@hillvalley.edu", "717171", "doc@x.org", "biff@hillvalley.edu"),
        *("second.csv:2", "second.csv:3", r"third\t[red].jsonl:1", "identify or HTTP"),
        *("merged 4 into 3", "identity 3: 3 contacts, 5 values, 1 row of evidence"),
    } <= texts


def test_dot_shows_values_and_files(hill_valley: Run) -> None:
    done = hill_valley("explain", "3", "--format", "dot")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("graph identity {\n")
    assert 'label="george@hillvalley.edu\\ncontact 3"' in done.stdout
    assert 'label="contact 4\\nsecond.csv:3"' in done.stdout


def test_picture_of_a_large_identity_is_pruned_and_says_so(
    run_identity: Run, connection: psycopg.Connection[Any]
) -> None:
    large_identity(connection, 10_000)
    for arguments, around in ((["p20@x.org", "p9000@x.org"], "chain"), (["1"], "primary")):
        done = run_identity("explain", *arguments, "--format", "svg")
        assert done.stderr.startswith("note: the picture shows a part of the identity")
        assert re.search(rf"pruned to \d+ values and \d+ rows nearest to the {around}", done.stdout)
        root = ElementTree.fromstring(done.stdout)
        texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {*arguments[1:], "555"} <= set(texts)
        assert any(re.fullmatch(r"and 9,9\d\d more values", text) for text in texts)
        assert sum("@" in text for text in texts) < 60


def test_svg_without_its_library_is_wrong_usage_and_dot_needs_none(
    run_identity: Run, service: IdentityService, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1234"))
    (tmp_path / "pygraphviz.py").write_text("raise ImportError")
    without = {"PYTHONPATH": str(tmp_path)}
    done = run_identity("explain", "1", "--format", "svg", env=without)
    assert (done.returncode, done.stdout) == (2, "")
    assert "identity-cli[plot]" in done.stderr
    assert run_identity("explain", "1", "--format", "dot", env=without).returncode == 0


def test_lines_can_be_read_back_by_a_program(hill_valley: Run, tmp_path: Path) -> None:
    """Every source of an explanation leads to a line with the two values."""
    done = hill_valley("explain", "george@hillvalley.edu", "biff@hillvalley.edu")
    for hop in csv.DictReader(done.stdout.splitlines(), delimiter="\t"):
        path, _, line = hop["source"].replace("\\t", "\t").rpartition(":")
        text = (tmp_path / path).read_text().splitlines()[int(line) - 1]
        assert hop["value"] in text
        assert hop["other value"] in text
