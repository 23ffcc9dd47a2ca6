"""The HTTP service over a real socket, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import hypothesis
import psycopg
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import Served, components, load, metric, serving, stored
from steering import Player

from identity_cli import ContactRequest, errors
from identity_cli.graph.core import ConsolidatedContact, ContactCounts, Outcome
from identity_cli.http import app
from identity_cli.http.service import MERGE_LIMIT
from identity_cli.postgres import schema

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

JSON = {"Content-Type": "application/json"}
CONTRACT = [
    ("lorraine@hillvalley.edu", "123456"),
    ("mcfly@hillvalley.edu", "123456"),
    ("george@hillvalley.edu", "919191"),
    ("biffsucks@hillvalley.edu", "717171"),
    ("george@hillvalley.edu", "717171"),
]


@pytest.fixture
def served(start_identity: Callable[..., subprocess.Popen[str]]) -> Iterator[Served]:
    with serving(start_identity) as served:
        yield served


def logged_outcomes(served: Served, count: int) -> list[str]:
    """Return the logged outcomes when there are so many: an answer comes before its log line."""
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in served.log("request") if line["path"] == "/identify"]
        if len(lines) >= count or time.monotonic() > deadline:
            return [line["outcome"] for line in lines]
        time.sleep(0.02)


def test_examples_of_the_contract(served: Served, connection: psycopg.Connection[Any]) -> None:
    answers = [served.identify(email, phone) for email, phone in CONTRACT]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[1].json() == {
        "contact": {
            "primaryContatctId": 1,
            "emails": ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"],
            "phoneNumbers": ["123456"],
            "secondaryContactIds": [2],
        }
    }
    assert answers[4].json() == {
        "contact": {
            "primaryContatctId": 3,
            "emails": ["george@hillvalley.edu", "biffsucks@hillvalley.edu"],
            "phoneNumbers": ["919191", "717171"],
            "secondaryContactIds": [4],
        }
    }
    rows = connection.execute("SELECT id, linked_id FROM contact ORDER BY id").fetchall()
    assert rows == [(1, None), (2, 1), (3, None), (4, 3)]
    outcomes = logged_outcomes(served, 5)
    assert outcomes == ["created", "linked", "created", "created", "merged"]
    assert served.identify(*CONTRACT[0]).json() == answers[1].json()


def test_values_are_normalised_like_everywhere(served: Served) -> None:
    first = served.identify(" Lorraine@HillValley.EDU ", "(123) 456").json()["contact"]

    assert first["emails"] == ["lorraine@hillvalley.edu"]
    assert first["phoneNumbers"] == ["123456"]
    assert served.identify("null", 123456).json()["contact"] == first
    assert served.identify("", 123456.0).json()["contact"] == first
    assert served.identify(phone="\uff11\uff12\uff13\uff14\uff15\uff16").json()["contact"] == first
    found = served.post(json={"phoneNumber": "123456", "name": "unknown keys"})
    assert found.json()["contact"] == first


def test_lists_and_single_values_are_one_request(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    answer = served.post(
        json={
            "email": "doc@hillvalley.edu",
            "emails": [" Emmett@HillValley.EDU", "doc@hillvalley.edu", None],
            "phoneNumber": 555385,
            "phoneNumbers": ["(555) 386", ""],
        }
    )
    assert answer.json()["contact"] == {
        "primaryContatctId": 1,
        "emails": ["doc@hillvalley.edu", "emmett@hillvalley.edu"],
        "phoneNumbers": ["555385", "555386"],
        "secondaryContactIds": [2, 3],
    }
    wrote = connection.execute("SELECT count(DISTINCT xmin::text) FROM contact").fetchone()
    assert wrote == (1,)
    again = served.post(json={"emails": ["emmett@hillvalley.edu"], "phoneNumbers": [555386]})
    assert again.json() == answer.json()
    outcomes = logged_outcomes(served, 2)
    assert outcomes == ["created", "unchanged"]


@pytest.mark.parametrize(
    ("body", "location", "code"),
    [
        ("{}", ["body"], "no_identifier"),
        ('{"email": null, "phoneNumber": ""}', ["body"], "no_identifier"),
        ('{"email": "secretvalue"}', ["body", "email"], "bad_email"),
        ('{"email": ["secretvalue"]}', ["body", "email"], "bad_email"),
        ('{"email": "\\ud800secretvalue@x"}', ["body"], "json_invalid"),
        ('{"email": "secretvalue@x\\u0000"}', ["body", "email"], "control_character"),
        ('{"phoneNumber": "secretvalue"}', ["body", "phoneNumber"], "bad_phone"),
        ('{"phoneNumber": 1.5}', ["body", "phoneNumber"], "bad_phone"),
        ('{"phoneNumber": true}', ["body", "phoneNumber"], "bad_phone"),
        ('{"phoneNumber": -1}', ["body", "phoneNumber"], "bad_phone"),
        ('{"phoneNumber": {"secretvalue": 1}}', ["body", "phoneNumber"], "bad_phone"),
        ('{"phoneNumber": NaN}', ["body", "phoneNumber"], "bad_phone"),
        ('{"emails": ["a@x", "secretvalue"]}', ["body", "email"], "bad_email"),
        ('{"phoneNumbers": [1, 1.5]}', ["body", "phoneNumber"], "bad_phone"),
        ('{"emails": [], "phoneNumbers": [null, ""]}', ["body"], "no_identifier"),
        ('{"emails": "secretvalue@x"}', ["body", "emails"], "list_type"),
        ('{"phoneNumbers": {"secretvalue": 1}}', ["body", "phoneNumbers"], "list_type"),
        (f'{{"phoneNumber": {"9" * 65}}}', ["body", "phoneNumber"], "too_long"),
        ('["secretvalue"]', ["body"], "model_type"),
        ('"secretvalue"', ["body"], "model_type"),
        ('{"email": "secretvalue', ["body"], "json_invalid"),
        ("[" * 60_000, ["body"], "json_invalid"),
        ("", ["body"], "json_invalid"),
        (b'{"email": "secretvalue\xff@x"}', ["body"], "json_invalid"),
    ],
)
def test_invalid_body_is_422_without_its_values(
    body: str | bytes, location: list[str], code: str
) -> None:
    answer = ask(Failing(AssertionError()), "/identify", content=body, headers=JSON)

    assert answer.status_code == 422
    [problem] = answer.json()["detail"]
    assert problem.keys() == {"loc", "msg", "type"}
    assert (problem["loc"], problem["type"]) == (location, code)
    assert "secretvalue" not in answer.text


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}])
def test_other_content_type_is_rejected(headers: dict[str, str]) -> None:
    content = '{"phoneNumber": 1}'
    answer = ask(Failing(AssertionError()), "/identify", content=content, headers=headers)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "not_json")


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_64_kib_is_refused_unread(served: Served, chunked: bool) -> None:
    address = urlsplit(served.url).netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.putrequest("POST", "/identify")
    connection.putheader("Content-Type", "application/json")
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"11000\r\n" + b" " * 0x11000 + b"\r\n")  # and no end
    else:
        connection.putheader("Content-Length", str(10**9))
        connection.endheaders()
    answer = connection.getresponse()

    assert answer.status == 413
    assert json.loads(answer.read()) == {"detail": "The body is larger than 65536 bytes."}
    assert answer.headers["Connection"] == "close"
    connection.close()


def test_body_of_64_kib_is_read(served: Served) -> None:
    answer = served.post(
        content=b'{"phoneNumber": 1}'.ljust(64 * 1024),
        headers={"Content-Type": "application/vnd.shop+json; charset=utf-8"},
    )
    assert answer.status_code == 200


def test_look_up_writes_nothing(served: Served, connection: psycopg.Connection[Any]) -> None:
    for email, phone in CONTRACT:
        served.identify(email, phone)
    before = connection.execute("SELECT * FROM contact").fetchall()
    lorraine = served.get("/contacts/2").json()

    assert lorraine["contact"]["primaryContatctId"] == 1
    assert served.get("/contacts?email=MCFLY@hillvalley.edu").json() == lorraine
    assert served.get("/contacts?phone=123-456").json() == lorraine
    both = served.get("/contacts?email=mcfly@hillvalley.edu&phone=123456")
    assert both.json() == lorraine
    assert served.get("/contacts?phone=123456&email=").json() == lorraine
    for path in (
        "/contacts/99",
        "/contacts?phone=5",
        "/contacts?email=nobody@hillvalley.edu&phone=123456",
        "/contacts?email=mcfly@hillvalley.edu&phone=5",
        "/contacts?email=mcfly@hillvalley.edu&phone=717171",
    ):
        answer = served.get(path)
        assert (path, answer.status_code) == (path, 404)
        assert answer.json() == {"detail": "No such contact."}
    for path in (
        "/contacts",
        "/contacts?email=nobody",
        "/contacts?phone=%00",
        "/contacts/0",
        "/contacts/x",
        f"/contacts/{2**63}",
        "/contacts/1?summary=many",
    ):
        answer = served.get(path)
        assert (path, answer.status_code) == (path, 422)
        assert all(item.keys() == {"loc", "msg", "type"} for item in answer.json()["detail"])
    assert connection.execute("SELECT * FROM contact").fetchall() == before


def test_blocked_values_are_not_found(served: Served, connection: psycopg.Connection[Any]) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1111111"])
    player.block(["a@x.org", "1111111"])
    for path, detail in (
        ("/contacts?email=a@x.org", "the email is blocked"),
        ("/contacts?phone=1111111&summary=1", "the phone number is blocked"),
        ("/contacts/1", "the contact is set aside: its values are blocked"),
    ):
        answer = served.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": detail})


def test_identity_of_10000_contacts_is_answered_quickly(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(
        """
        INSERT INTO contact (email, phone_number, linked_id, link_precedence)
        SELECT 'p' || n || '@x.org', n::text, nullif(1, n), CASE n WHEN 1 THEN 'primary'
               ELSE 'secondary' END::link_precedence
        FROM generate_series(1, 10000) AS n
        """
    )
    served.identify("p7@x.org")  # warms up

    start = time.perf_counter()
    contact = served.identify("p9@x.org").json()["contact"]
    seconds = time.perf_counter() - start

    assert contact["emails"] == [f"p{n}@x.org" for n in range(1, 10001)]
    assert contact["phoneNumbers"] == [str(n) for n in range(1, 10001)]
    assert contact["secondaryContactIds"] == list(range(2, 10001))
    assert seconds < 2
    counts = {
        "contact": {
            "primaryContatctId": 1,
            "emails": 10000,
            "phoneNumbers": 10000,
            "secondaryContactIds": 9999,
        }
    }
    assert served.get("/contacts/500?summary=1").json() == counts
    assert served.get("/contacts?phone=500&summary=true").json() == counts
    assert served.identify("p9@x.org", params={"summary": "1"}).json() == counts


def test_identity_above_the_contact_limit_is_refused_with_a_hint(
    start_identity: Callable[..., subprocess.Popen[str]], connection: psycopg.Connection[Any]
) -> None:
    with serving(start_identity, env={"IDENTITY_HTTP_CONTACT_LIMIT": "3"}) as served:
        for n in range(3):
            last = served.identify(f"p{n}@x.org", "1")
        assert len(last.json()["contact"]["emails"]) == 3
        answers = [
            served.identify("p3@x.org", "1"),
            served.get("/contacts/2"),
            served.get("/contacts?phone=1"),
        ]
        for answer in answers:
            assert answer.status_code == 422
            [problem] = answer.json()["detail"]
            assert (problem["loc"], problem["type"]) == (["query", "summary"], "identity_too_large")
            assert "more than 3 contacts" in problem["msg"]
            assert ("was reconciled" in problem["msg"]) == (answer is answers[0])
        assert connection.execute("SELECT count(*) FROM contact").fetchone() == (4,)
        counts = served.identify("p3@x.org", "1", params={"summary": 1}).json()["contact"]
        assert counts["emails"] == 4
        expected = ["linked", "found", "found", "unchanged"]
        deadline = time.monotonic() + 10
        # A request is logged after it was answered, and the log is read by another thread.
        while [line["outcome"] for line in served.log("request")][-4:] != expected:
            assert time.monotonic() < deadline, served.log("request")
            time.sleep(0.02)


def test_merge_that_would_take_too_long_is_refused_at_once(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("INSERT INTO contact (email, link_precedence) VALUES ('a@x.org', 'primary')")
    connection.execute(
        "INSERT INTO contact (email, phone_number, linked_id, link_precedence)"
        " SELECT 'p' || n || '@x.org', n::text, nullif(2, n), CASE n WHEN 2 THEN 'primary'"
        " ELSE 'secondary' END::link_precedence FROM generate_series(2, %s) AS n",
        [MERGE_LIMIT + 3],
    )
    size = connection.execute("SELECT pg_relation_size('contact')").fetchone()

    answer = served.identify("a@x.org", "7")

    assert (answer.status_code, answer.headers.get("Retry-After")) == (409, None)
    [problem] = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["body"], "merge_too_large")
    assert "identity identify" in problem["msg"]
    assert connection.execute("SELECT pg_relation_size('contact')").fetchone() == size
    assert served.get("/contacts?email=a@x.org").json()["contact"]["secondaryContactIds"] == []
    assert metric(served.get("/metrics").text, "identity_http_retries_total") == 0


def test_refusal_of_a_trigger_is_422_without_the_value(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no % here', NEW.email USING ERRCODE = 'ZZ123'; END $$"
    )
    connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON contact FOR EACH ROW"
        " WHEN (NEW.email LIKE 'secretvalue%') EXECUTE FUNCTION refuse()"
    )
    for options in ({}, {"params": {"summary": 1}}):
        answer = served.identify("secretvalue@x.org", **options)
        assert (answer.status_code, answer.headers.get("Retry-After")) == (422, None)
        [problem] = answer.json()["detail"]
        assert (problem["loc"], problem["type"]) == (["body"], "refused")
        assert "ZZ123" in problem["msg"]
        assert "secretvalue" not in answer.text
    assert served.identify("other@x.org").status_code == 200
    assert "secretvalue" not in "".join(served.lines)


def test_summary_counts_what_the_document_lists(served: Served) -> None:
    for email, phone in CONTRACT:
        full = served.identify(email, phone).json()["contact"]
        counts = served.identify(email, phone, params={"summary": 1}).json()["contact"]
        assert counts == {
            "primaryContatctId": full["primaryContatctId"],
            **{key: len(value) for key, value in full.items() if isinstance(value, list)},
        }
    wrong = served.identify("alone@x.org", params={"summary": "many"}).json()["detail"]
    assert (wrong[0]["loc"], wrong[0]["type"]) == (["query", "summary"], "bool_parsing")
    alone = served.identify(email="alone@x.org", params={"summary": 1}).json()["contact"]
    assert (alone["emails"], alone["phoneNumbers"], alone["secondaryContactIds"]) == (1, 0, 0)


def test_64_clients_with_overlapping_values_store_a_correct_graph(
    served: Served,
    connection: psycopg.Connection[Any],
    run_identity: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    chance = random.Random(5)
    requests = [
        (
            f"p{chance.randrange(60)}@x.org",
            str(chance.randrange(1, 60)) if chance.random() < 0.8 else None,
        )
        for _ in range(1280)
    ]

    # A machine that stalls for seconds makes the service answer 503: send again, as the docs say.
    answers = load(served, requests, clients=64, tries=10)

    assert None not in answers
    assert components(requests) == stored(connection)
    verified = run_identity("verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    exposition = served.get("/metrics").text
    answered = metric(exposition, "identity_http_requests_total", path="/identify", status="200")
    assert answered == 1280


def test_blocked_and_forgotten_requests_are_rejected(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.block(["info@x.org"])
    player.forget(["gone@x.org"])

    for path in ("", "?summary=1"):
        for email, code in (("info@x.org", "blocked"), ("gone@x.org", "forgotten")):
            answer = served.client.post(f"{served.url}/identify{path}", json={"email": email})
            assert answer.status_code == 422
            [problem] = answer.json()["detail"]
            assert (problem["loc"], problem["type"]) == (["body"], code)
            assert email not in answer.text
    assert logged_outcomes(served, 4) == ["blocked", "forgotten"] * 2
    text = served.get("/metrics").text
    for outcome in ("blocked", "forgotten"):
        assert metric(text, "identity_http_requests_total", outcome=outcome, status="422") == 2
    kept = connection.execute("SELECT email FROM set_aside_contact").fetchall()
    assert kept == [("info@x.org",)]

    answer = served.identify("info@x.org", "5")
    assert answer.json()["contact"]["emails"] == []
    player.unblock(["info@x.org"])
    assert served.identify(phone="5").json()["contact"]["emails"] == ["info@x.org"]


def test_missing_forget_key_is_a_condition_of_the_server(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        connection.execute("SELECT set_config('identity.forget_key', 'secret', true)")
        Player(connection).forget(["gone@x.org"])
    answer = served.identify("new@x.org")
    assert (answer.status_code, answer.json()) == (503, {"detail": errors.ForgetKeyError.message})


def test_health_metrics_and_unknown_paths(served: Served) -> None:
    assert served.get("/health/live").json() == {"status": "live"}
    assert served.get("/health/ready").json() == {"status": "ready"}
    for path in ("/health/live", "/health/ready"):
        answer = served.client.head(f"{served.url}{path}")
        assert (answer.status_code, answer.text) == (200, "")
    served.identify("lorraine@hillvalley.edu", "123456")
    served.identify("nobody")
    assert served.get("/contacts/lorraine@hillvalley.edu").status_code == 422
    assert served.get("/lorraine@hillvalley.edu").status_code == 404
    assert served.get("/identify").status_code == 405

    answer = served.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    text = answer.text
    requests = "identity_http_requests_total"
    assert metric(text, requests, path="/identify", status="200", outcome="created") == 1
    assert metric(text, requests, path="/identify", status="422", outcome="rejected") == 1
    assert metric(text, requests, path="other", status="404") == 1
    assert metric(text, "identity_http_request_seconds_count", path="/identify") == 3
    assert metric(text, "identity_http_pool_connections", state="open") == 16
    assert metric(text, "identity_http_retries_total") == 0
    assert "hillvalley" not in text
    assert "hillvalley" not in "".join(served.lines)


def test_ready_reports_what_is_wrong_with_the_database(
    served: Served, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("UPDATE alembic_version SET version_num = '0000'")
    answer = served.get("/health/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "schema" in answer.json()["detail"]
    connection.execute("UPDATE alembic_version SET version_num = %s", [schema.HEAD])
    connection.execute("SELECT claim_profile(1, 'US'), reconcile('another@writer.org', NULL)")
    assert "profile" in served.get("/health/ready").json()["detail"]
    assert served.identify("lorraine@hillvalley.edu").status_code == 503
    assert served.get("/health/live").status_code == 200


def test_docs_need_no_network(served: Served) -> None:
    page = served.get("/docs").text

    assert "//" not in re.sub(r"//\s", "", page.replace(served.url, ""))
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert served.get(asset).status_code == 200
    assert '"validatorUrl": null' in page  # Swagger UI would ask a server of its makers
    document = served.get("/openapi.json").json()
    [schema] = document["paths"]["/identify"]["post"]["requestBody"]["content"].values()
    assert schema["schema"]["examples"][0]["email"] == "mcfly@hillvalley.edu"


def test_answers_conform_to_the_openapi_document(served: Served) -> None:
    for email, phone in CONTRACT:
        served.identify(email, phone)
    document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) == 10

    @hypothesis.settings(max_examples=250, derandomize=True, database=None)
    @hypothesis.given(strategies.sampled_from(operations).flatmap(lambda one: one.as_strategy()))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ]
        )

    check()


class Failing:
    """A service that fails as it is told to."""

    region = None

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def identify(self, *_: object, **__: object) -> None:
        raise self.error

    find = check = identify


class Known:
    """A service that knows one identity."""

    region = None
    contact_limit = 1

    async def identify(
        self, _: ContactRequest, *, counts: bool
    ) -> tuple[Outcome, ConsolidatedContact | ContactCounts]:
        contact = (
            ContactCounts(1, 1, 0, 0) if counts else ConsolidatedContact(1, ["a@x.org"], [], [])
        )
        return Outcome("unchanged", 1, None), contact


def ask(service: object, path: str, *, root_path: str = "", **options: Any) -> httpx.Response:
    """Return the application's answer in this process."""

    async def with_service(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"state": {"service": service}}, receive, send)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(with_service, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            method = "POST" if path.startswith("/identify") else "GET"
            return await client.request(method, root_path + path, **options)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/identify", {"json": {"email": "a@x.org"}}, 200),
        ("/identify?summary=1", {"json": {"email": "a@x.org"}}, 200),
        ("/identify?summary=maybe", {"json": {"email": "a@x.org"}}, 422),
        ("/identify", {"json": {"email": "nobody"}}, 422),
        ("/identify", {"json": []}, 422),
        ("/identify", {"content": "{}"}, 422),
        ("/identify", {"content": b"x" * 100_000}, 413),
    ],
)
def test_answers_below_a_root_path_are_the_same(
    path: str, options: dict[str, Any], status: int
) -> None:
    answer = ask(Known(), path, **options)
    below = ask(Known(), path, root_path="/people", **options)

    assert answer.status_code == status
    assert (below.status_code, below.headers, below.text) == (
        answer.status_code,
        answer.headers,
        answer.text,
    )


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectionLostError("secretvalue"),
        errors.DatabaseUnreachableError("secretvalue"),
        errors.RetryableError("secretvalue"),
        errors.DatabaseReadOnlyError("secretvalue"),
        errors.SchemaNotAtHeadError("secretvalue"),
        psycopg.errors.UniqueViolation("secretvalue"),
        psycopg.OperationalError("secretvalue"),
        RuntimeError("secretvalue"),
        KeyError("secretvalue"),
        TimeoutError("secretvalue"),
        RecursionError("secretvalue"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("path", ["/identify", "/contacts/1", "/contacts?phone=1", "/health/ready"])
def test_unexpected_error_is_503_and_not_500(
    error: Exception, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"json": {"email": "secretvalue@x.org"}} if path == "/identify" else {}

    answer = ask(Failing(error), path, **options)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "secretvalue" not in answer.text
    assert list(answer.json()) == ["detail"]
    written = capsys.readouterr().err
    assert "secretvalue" not in written
    assert "Traceback" not in written
