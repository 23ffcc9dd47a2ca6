"""Look-ups, evidence and history over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import json
import re
from importlib import resources
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from serving import Served, serving
from steering import Player

from identity_cli.http.lookup_models import EvidenceChain, EvidenceExcerpt, History, Located

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]

MONDAY = "email,phone\nneedles@x.org,555385\ngeorge@x.org,919191\n"
TUESDAY = "email,phone\ngeorge@x.org,555385\nbiff@x.org,919191\n"
ROW_KEYS = {"contact_id", "evidence_id", "merged_id", "run_id", "path", "line", "time"}


@pytest.fixture
def served(start_identity: Start) -> Iterator[Served]:
    with serving(start_identity) as served:
        yield served


@pytest.fixture
def imported(tmp_path: Path, run_identity: Run) -> None:
    """Two files and a request by hand: contacts 1 to 4 are one identity, 5 is another one."""
    (tmp_path / "monday.csv").write_text(MONDAY)
    (tmp_path / "tuesday.csv").write_text(TUESDAY)
    assert run_identity("import", "monday.csv", "tuesday.csv", "-q").returncode == 0
    for email, phone in (("needles@x.org", "555386"), ("alone@x.org", "5")):
        assert run_identity("identify", "--email", email, "--phone", phone).returncode == 0


def large_identity(connection: psycopg.Connection[Any], size: int) -> None:
    """Contacts 1 to `size` with an email each, and one phone number that all share."""
    connection.execute(
        "INSERT INTO contact"
        " (email, phone_number, linked_id, link_precedence, anchors_email, anchors_phone)"
        " SELECT 'p' || n || '@x.org', '1', nullif(1, n), CASE n WHEN 1 THEN 'primary'"
        " ELSE 'secondary' END::link_precedence, true, n = 1 FROM generate_series(1, %s) AS n",
        [size],
    )


def look_up(served: Served, **body: object) -> tuple[int, dict[str, Any]]:
    answer = served.client.post(f"{served.url}/lookup", json=body)
    return answer.status_code, answer.json()


@pytest.mark.usefixtures("imported")
def test_lookup_finds_the_contact_that_a_text_stands_for(served: Served) -> None:
    for body, kind, value, contact_id in (
        ({"value": " George@X.org "}, "email", "george@x.org", 2),
        ({"value": "(555) 386"}, "phone", "555386", 4),
        ({"value": "3"}, "id", 3, 3),
        ({"id": 3}, "id", 3, 3),
        ({"email": "biff@x.org"}, "email", "biff@x.org", 3),
        ({"phoneNumber": 919191}, "phone", "919191", 2),
    ):
        assert look_up(served, **body) == (
            200,
            {
                "schema_version": 1,
                "kind": kind,
                "value": value,
                "primary_id": 1,
                "contact_id": contact_id,
                "is_ambiguous": False,
            },
        )
    # Contact 5 has the phone number 5: no ambiguity. 4 is no phone number.
    assert look_up(served, value="5")[1]["is_ambiguous"] is False
    assert look_up(served, phoneNumber="5")[1]["contact_id"] == 5
    served.identify(phone="1")
    assert look_up(served, value="1") == (200, look_up(served, id=1)[1] | {"is_ambiguous": True})


def test_lookup_of_nothing_is_refused_or_not_found(served: Served) -> None:
    assert look_up(served, value="nobody@x.org") == (
        404,
        {"detail": "no such contact", "rules": []},
    )
    assert look_up(served, id=77)[0] == 404
    for body, code in (
        ({}, "one_value"),
        ({"value": "1", "email": "a@x.org"}, "one_value"),
        ({"value": "secretvalue"}, "bad_phone"),
        ({"value": "secretvalue@"}, "bad_email"),
        ({"value": ""}, "no_identifier"),
        ({"value": "a\0@x"}, "control_character"),
        ({"email": 5}, "bad_email"),
        ({"phoneNumber": [1]}, "bad_phone"),
        ({"value": 5}, "string_type"),
        ({"id": 0}, "greater_than_equal"),
        ({"id": 2**63}, "less_than"),
    ):
        status, answer = look_up(served, **body)
        assert (status, answer["detail"][0]["type"]) == (422, code)
        assert "secretvalue" not in json.dumps(answer)
    as_text = served.client.post(f"{served.url}/lookup", content=b'{"id": 1}')
    assert as_text.json()["detail"][0]["type"] == "not_json"


def test_lookup_of_a_blocked_value_names_the_rule(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.request(["info@x.org"], ["1111111"])
    player.block(["info@x.org"])
    status, answer = look_up(served, value="INFO@x.org")
    assert status == 404
    assert answer["detail"] == "no identity has the value: it was blocked (command 1)"
    [rule] = answer["rules"]
    assert (rule["kind"], rule["values"], rule["command_id"]) == ("blocked", ["info@x.org"], 1)


@pytest.mark.usefixtures("imported")
def test_evidence_is_the_tree_of_explain_with_file_and_line(
    served: Served, run_identity: Run
) -> None:
    explained = json.loads(run_identity("explain", "1", "--json").stdout)
    answer = served.get("/contacts/4/evidence")
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    children = [branch.pop("children") for branch in found["tree"]]
    assert found == explained | {"values": 6, "offset": None, "is_pruned": False, "other_hops": []}
    assert sum(children) == 5
    places = {branch["value"]: branch["link"] for branch in found["tree"]}
    assert places["george@x.org"]["path"] == "tuesday.csv"
    assert places["george@x.org"]["line"] == 2
    assert places["george@x.org"]["merged_id"] == 2
    assert places["555386"]["path"] is None


@pytest.mark.usefixtures("imported")
def test_rows_beside_the_tree_are_listed(served: Served) -> None:
    # Both values are known: the row is evidence that joined nothing.
    served.identify("biff@x.org", "555385")
    [hop] = served.get("/contacts/1/evidence").json()["other_hops"]
    assert {hop["value"], hop["other_value"]} == {"biff@x.org", "555385"}
    assert hop["evidence_id"] is not None
    assert hop.keys() == ROW_KEYS | {"value", "other_value"}


@pytest.mark.usefixtures("imported")
def test_chain_to_a_value_is_that_of_explain(served: Served, run_identity: Run) -> None:
    for text in ("3", "biff@x.org", "BIFF@x.org"):
        explained = json.loads(run_identity("explain", "4", text, "--json").stdout)
        found = served.get("/contacts/4/evidence", params={"to": text}).json()
        assert found == explained
        assert [hop["value"] for hop in found["hops"]][-1] == "919191"
    apart = served.get("/contacts/4/evidence", params={"to": "alone@x.org"})
    assert apart.status_code == 200
    assert (apart.json()["hops"], apart.json()["rules"]) == (None, [])
    missing = served.get("/contacts/4/evidence", params={"to": "nobody@x.org"})
    assert (missing.status_code, missing.json()) == (
        404,
        {"detail": "no such contact in the parameter to"},
    )
    wrong = served.get("/contacts/4/evidence", params={"to": "no value"})
    assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["query", "to"])


def test_rule_that_keeps_two_apart_is_part_of_the_chain(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])
    player.request(["b@x.org"], ["1111111"])
    player.block(["1111111"])
    found = served.get("/contacts/1/evidence?to=b@x.org").json()
    assert (found["primary_id"], found["hops"]) == (None, None)
    assert [rule["values"] for rule in found["rules"]] == [["1111111"]]
    blocked = served.get("/contacts/1/evidence?to=1111111")
    assert blocked.status_code == 404
    assert "in the parameter to: it was blocked (command 1)" in blocked.json()["detail"]


def test_unknown_contact_is_404_and_wrong_parameters_are_422(served: Served) -> None:
    for part in ("evidence", "history"):
        missing = served.get(f"/contacts/9/{part}")
        assert missing.status_code == 404
        for wrong in (f"0/{part}", f"x/{part}", f"9/{part}?limit=0", f"9/{part}?limit=1001"):
            assert served.get(f"/contacts/{wrong}").status_code == 422
    assert served.get("/contacts/9/evidence?offset=-1").status_code == 422


def test_large_identity_is_pruned_around_the_contact_and_paged(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    large_identity(connection, 5000)
    found = served.get("/contacts/4000/evidence").json()
    assert (found["contacts"], found["values"], found["is_pruned"]) == (5000, 5001, True)
    values = [branch["value"] for branch in found["tree"]]
    assert "p4000@x.org" in values
    assert len(values) <= 60
    [shared] = [branch for branch in found["tree"] if branch["value"] == "1"]
    assert shared["children"] == 4999

    pages = [
        served.get(f"/contacts/4000/evidence?offset={offset}&limit=1000").json()
        for offset in range(0, 6000, 1000)
    ]
    listed = [branch["value"] for page in pages for branch in page["tree"]]
    assert listed == ["p1@x.org", "1", *(f"p{n}@x.org" for n in range(2, 5001))]
    assert [page["offset"] for page in pages] == list(range(0, 6000, 1000))
    assert all(page["is_pruned"] for page in pages)
    assert served.get("/contacts/1/evidence?offset=9000").json()["tree"] == []


@pytest.mark.parametrize("part", ["evidence", "history", "evidence?to=2", "evidence?offset=0"])
def test_identity_above_the_contact_limit_is_refused_with_a_hint(
    start_identity: Start, connection: psycopg.Connection[Any], part: str
) -> None:
    large_identity(connection, 4)
    with serving(start_identity, env={"IDENTITY_HTTP_CONTACT_LIMIT": "3"}) as served:
        answer = served.get(f"/contacts/2/{part}")
    assert answer.status_code == 422
    [problem] = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["path", "id"], "identity_too_large")
    assert "run identity" in problem["msg"]


def test_identity_of_too_many_pairs_is_refused(
    start_identity: Start, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    phones = [f"55512{n:02d}" for n in range(20)]
    for email in ("a@x.org", "b@x.org", "c@x.org"):
        for phone in phones:
            player.request([email], [phone])
    # 22 contacts are within the limit, 228 pairs are not.
    with serving(start_identity, env={"IDENTITY_HTTP_CONTACT_LIMIT": "22"}) as served:
        assert served.get("/contacts/1/evidence").status_code == 200
        for first, second in combinations(phones, 2):
            player.request([], [first, second])
        assert served.get("/contacts/1").status_code == 200
        assert served.get("/contacts/1/evidence").status_code == 422


@pytest.mark.usefixtures("imported")
def test_history_has_the_contact_the_merges_and_the_commands(
    served: Served, run_identity: Run
) -> None:
    assert run_identity("unlink", "george@x.org", "alone@x.org", "--yes").returncode == 0
    answer = served.get("/contacts/2/history")
    assert answer.headers["Cache-Control"] == "no-store"
    command, merge, stored = answer.json()["events"]
    assert (command["event"], command["command"], command["contacts"]) == ("command", "unlink", 0)
    assert (merge["event"], merge["fromPrimaryContactId"], merge["toPrimaryContactId"]) == (
        "merge",
        2,
        1,
    )
    assert (stored["event"], stored["contactId"], stored["line"]) == ("stored", 2, 3)
    newest = served.get("/contacts/2/history?limit=1").json()["events"]
    assert newest == [command]


def test_history_of_a_contact_that_is_set_aside(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.request(["a@x.org"], [])
    player.block(["a@x.org"])
    assert served.get("/contacts/1/evidence").status_code == 404
    events = served.get("/contacts/1/history").json()["events"]
    assert [event["event"] for event in events] == ["moved", "command", "stored"]


@pytest.mark.usefixtures("imported")
def test_answers_have_the_keys_of_their_description(served: Served) -> None:
    served.identify("biff@x.org", "555385")
    answers = [
        (Located, look_up(served, value="biff@x.org")[1]),
        (EvidenceExcerpt, served.get("/contacts/1/evidence").json()),
        (EvidenceChain, served.get("/contacts/1/evidence?to=biff@x.org").json() | {"rules": []}),
        (History, served.get("/contacts/1/history").json()),
    ]
    for model, answer in answers:
        dumped = model.model_validate(answer).model_dump(mode="json", by_alias=True)
        assert without_times(dumped) == without_times(answer)


def without_times(document: Any) -> Any:
    """The document with its moments, which may be written in several ways, replaced."""
    if isinstance(document, list):
        return [without_times(item) for item in document]
    if isinstance(document, dict):
        return {
            key: "MOMENT" if key in {"time", "at"} else without_times(value)
            for key, value in document.items()
        }
    return document


def test_history_has_a_command_that_names_both_values_once(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])
    player.unlink("a@x.org", "1111111")
    events = served.get("/contacts/1/history").json()["events"]
    assert [event["event"] for event in events if event["event"] != "moved"] == [
        "command",
        "stored",
    ]


def test_reading_writes_nothing(served: Served, connection: psycopg.Connection[Any]) -> None:
    served.identify("a@x.org", "1")
    tables = "contact", "link_evidence", "normalization_profile", "partner_count"
    before = [connection.execute(f"TABLE {table}").fetchall() for table in tables]
    look_up(served, value="a@x.org")
    for path in ("evidence", "evidence?to=1", "history"):
        assert served.get(f"/contacts/1/{path}").status_code == 200
    assert [connection.execute(f"TABLE {table}").fetchall() for table in tables] == before


def test_read_only_role_of_the_database_is_enough_to_read(
    start_identity: Start, connection: psycopg.Connection[Any], run_identity: Run
) -> None:
    Player(connection).request(["a@x.org"], ["1111111"])
    role = f"reader_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {role} LOGIN")
    try:
        assert run_identity("db", "grant", role, "--read-only").returncode == 0
        connection.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        url = f"postgresql:///{connection.info.dbname}?host={connection.info.host}&user={role}"
        with serving(start_identity, "--database-url", url) as served:
            assert look_up(served, value="a@x.org")[0] == 200
            for path in ("", "/evidence", "/history"):
                assert served.get(f"/contacts/1{path}").status_code == 200
    finally:
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_log_and_metrics_name_the_routes_without_values(served: Served) -> None:
    look_up(served, value="secretvalue@x.org")
    served.get("/contacts/1/evidence?to=secretvalue@x.org")
    served.get("/contacts/secretvalue@x.org/history")
    served.get("/page/secretvalue.js")
    text = served.get("/metrics").text
    for path in ("/lookup", "/contacts/{id}/evidence", "/contacts/{id}/history", "/page/{name}"):
        assert f'path="{path}"' in text
    assert "secretvalue" not in text + "".join(served.lines)


def test_page_consists_of_its_own_files(served: Served) -> None:
    page = served.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "http" not in page.text
    asked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    modules = {
        f"page/{name}"
        for asset in asked
        for name in re.findall(r'from "./(.+?)"', get(served, asset))
    }
    folder = resources.files("identity_cli.http") / "page"
    packaged = {f"page/{file.name}" for file in folder.iterdir()} - {"page/index.html"}
    modules |= {
        f"page/{name}"
        for asset in modules
        for name in re.findall(r'from "./(.+?)"', get(served, asset))
    }
    assert {*asked, *modules} == packaged
    types = {name.rpartition(".")[2]: content_type(served, name) for name in packaged}
    assert types == {
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml; charset=utf-8",
    }


def get(served: Served, path: str) -> str:
    answer = served.get(f"/{path}")
    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.text


def content_type(served: Served, path: str) -> str:
    found: str = served.get(f"/{path}").headers["Content-Type"]
    return found


@pytest.mark.parametrize(
    "name", ["nothing.js", "index.html", "..%2fapp.py", "%2e%2e/app.py", ".js"]
)
def test_other_files_are_not_served(served: Served, name: str) -> None:
    assert served.get(f"/page/{name}").status_code == 404
