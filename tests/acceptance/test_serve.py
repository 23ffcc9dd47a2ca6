"""`identity serve` as a process: its log, its signals, and what is killed under it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from serving import Request, Served, components, load, metric, serving, stored

from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]


def overlapping(count: int) -> list[Request]:
    chance = random.Random(count)
    return [
        (
            f"p{chance.randrange(count // 8)}@x.org",
            str(chance.randrange(1, count // 8)) if chance.random() < 0.7 else None,
        )
        for _ in range(count)
    ]


def check_durable(
    connection: psycopg.Connection[Any],
    requests: list[Request],
    answers: list[dict[str, Any] | None],
) -> None:
    """Every request that was answered is in the database."""
    identities = stored(connection)
    of = {value: identity for identity in identities for value in identity}
    for (email, phone), answer in zip(requests, answers, strict=True):
        if answer is not None:
            assert {email, phone or email} <= of[email]
            assert {*answer["emails"], *answer["phoneNumbers"]} <= of[email]


def check_repeatable(
    served: Served,
    connection: psycopg.Connection[Any],
    requests: list[Request],
    answers: list[dict[str, Any] | None],
    run_identity: Run,
    **environment: Any,
) -> None:
    """With the requests that got no answer sent again, all is as if nothing had happened."""
    failed = [request for request, answer in zip(requests, answers, strict=True) if answer is None]
    assert None not in load(served, failed, clients=8)
    assert stored(connection) == components(requests)
    verified = run_identity("verify", "--json", **environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_log_is_json_without_values(start_identity: Start) -> None:
    with serving(start_identity) as served:
        served.identify("lorraine@hillvalley.edu", "123456")
        served.get("/contacts?email=lorraine@hillvalley.edu")
        served.get("/contacts/lorraine@hillvalley.edu")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        served.end()

    requests = [line for line in served.log("request") if line["path"] != "/health/live"]
    assert [
        (line["method"], line["path"], line["status"], line["outcome"]) for line in requests
    ] == [
        ("POST", "/identify", 200, "created"),
        ("GET", "/contacts", 200, "found"),
        ("GET", "/contacts/{id}", 422, "rejected"),
    ]
    assert all(line["time"].endswith("+00:00") and line["milliseconds"] > 0 for line in requests)
    assert served.log()[-1]["event"] == "stopped"
    assert "hillvalley" not in "".join(served.lines)
    assert served.process.stdout is not None
    assert served.process.stdout.read() == ""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_open_requests_finish(
    start_identity: Start, database_url: str, workers: int, number: signal.Signals
) -> None:
    with serving(start_identity, "--workers", workers) as served:
        answers: list[httpx.Response] = []
        with psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE contact")
            waiting = threading.Thread(
                target=lambda: answers.append(served.identify("lorraine@hillvalley.edu"))
            )
            waiting.start()
            while not blocker.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                time.sleep(0.01)
            served.process.send_signal(number)
            address = urlsplit(served.url)
            for _ in range(200):
                try:
                    socket.create_connection((address.hostname, address.port)).close()
                except ConnectionError:
                    break
                time.sleep(0.02)
            else:
                # The supervisor of several workers keeps the port until they have gone.
                assert workers > 1
            assert served.process.poll() is None
        waiting.join()
        assert [answer.status_code for answer in answers] == [200]
        assert served.process.wait(30) == 0


def test_token_is_required_except_for_health(start_identity: Start) -> None:
    with serving(start_identity, env={"IDENTITY_HTTP_TOKEN": "sesame-öffne"}) as served:
        for path in ("/contacts/1", "/metrics", "/docs", "/openapi.json", "/nothing"):
            for authorization in ({}, {"Authorization": "Bearer sesame"}):
                answer = served.get(path, headers=authorization)
                assert (path, answer.status_code) == (path, 401)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        refused = served.identify("lorraine@hillvalley.edu", headers={"Authorization": "Basic x"})
        assert refused.status_code == 401
        for path in ("/health/live", "/health/ready"):
            assert served.get(path).status_code == 200
        right = {"Authorization": "bearer sesame-öffne".encode()}
        assert served.identify("lorraine@hillvalley.edu", headers=right).status_code == 200
        assert served.get("/metrics", headers=right).status_code == 200


BOTH_TOKENS = {"IDENTITY_HTTP_TOKEN": "sesame-öffne", "IDENTITY_HTTP_READ_TOKEN": "nur-schaün"}


def bearer(token: str) -> dict[str, bytes]:
    return {"Authorization": f"Bearer {token}".encode()}


@pytest.mark.parametrize("environment", [BOTH_TOKENS, {"IDENTITY_HTTP_READ_TOKEN": "nur-schaün"}])
def test_read_token_reads_and_does_not_reconcile(
    start_identity: Start, connection: psycopg.Connection[Any], environment: dict[str, str]
) -> None:
    connection.execute("SELECT reconcile_request(ARRAY['lorraine@x.org'], ARRAY['123456'])")
    with serving(start_identity, env=environment) as served:
        reading = bearer("nur-schaün")
        for path in (
            "/contacts/1",
            "/contacts?phone=123456",
            "/contacts/1/evidence",
            "/contacts/1/history",
            "/metrics",
            "/openapi.json",
        ):
            assert (path, served.get(path, headers=reading).status_code) == (path, 200)
            assert (path, served.get(path).status_code) == (path, 401)
        look_up = f"{served.url}/lookup"
        assert served.client.post(look_up, json={"id": 1}, headers=reading).status_code == 200
        assert served.client.post(look_up, json={"id": 1}).status_code == 401
        refused = served.identify("new@x.org", headers=reading)
        assert (refused.status_code, refused.json()) == (
            403,
            {"detail": "This token may only read: send this request with the other token."},
        )
        assert served.client.delete(f"{served.url}/contacts/1", headers=reading).status_code == 403
        for wrong in (bearer("nur-scha"), bearer("nur-schaün ü"), {"Authorization": "Bearer"}):
            assert served.get("/contacts/1", headers=wrong).status_code == 401
        stored = "SELECT count(*) FROM contact"
        assert connection.execute(stored).fetchone() == (1,)
        full = served.identify("new@x.org", headers=bearer("sesame-öffne"))
        assert full.status_code == (200 if len(environment) == 2 else 401)
        text = served.get("/metrics", headers=reading).text
        assert metric(text, "identity_http_requests_total", outcome="read_only", status="403") == 2
        assert "schaün" not in "".join(served.lines)


def test_page_needs_no_token_and_shows_nothing_without_one(start_identity: Start) -> None:
    with serving(start_identity, env=BOTH_TOKENS) as served:
        page = served.get("/")
        assert page.status_code == 200
        for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert served.get(f"/{asset}").status_code == 200
        assert served.get("/page/../identify").status_code == 401
        assert served.get("/pages").status_code == 401


def test_equal_tokens_are_wrong_usage(run_identity: Run) -> None:
    same = {"IDENTITY_HTTP_TOKEN": "a-secret", "IDENTITY_HTTP_READ_TOKEN": "a-secret"}
    refused = run_identity("serve", "--port", 0, env=same)
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "error: IDENTITY_HTTP_TOKEN and IDENTITY_HTTP_READ_TOKEN are the same\n"
    )
    assert "a-secret" not in refused.stderr


@pytest.mark.parametrize(
    ("environment", "is_warned"),
    [
        ({}, True),
        ({"IDENTITY_HTTP_READ_TOKEN": ""}, True),
        ({"IDENTITY_HTTP_TOKEN": "a-secret"}, False),
        ({"IDENTITY_HTTP_READ_TOKEN": "a-secret"}, False),
    ],
)
def test_address_of_others_without_any_token_is_warned_of(
    start_identity: Start, environment: dict[str, str], is_warned: bool
) -> None:
    with serving(start_identity, "--host", "0.0.0.0", env=environment) as served:
        assert bool(served.log("warning")) == is_warned


def test_busy_pool_is_503(start_identity: Start, database_url: str) -> None:
    with (
        serving(start_identity, "--pool", 1) as served,
        psycopg.connect(database_url) as blocker,
    ):
        blocker.execute("LOCK TABLE contact")
        holding = threading.Thread(target=served.identify, args=("lorraine@hillvalley.edu",))
        holding.start()
        answer = served.identify("lorraine@hillvalley.edu")
        blocker.rollback()
        holding.join()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert served.identify("lorraine@hillvalley.edu").status_code == 200


@pytest.mark.slow
def test_busy_readers_are_503_and_hold_up_no_request(
    start_identity: Start, connection: psycopg.Connection[Any], database_url: str
) -> None:
    with serving(start_identity) as served, psycopg.connect(database_url) as blocker:
        assert served.identify("lorraine@hillvalley.edu").status_code == 200
        # Evidence is read from it, and a known value needs none of it.
        blocker.execute("LOCK TABLE link_evidence")
        paths = ["/contacts/1/evidence"] * 2
        holding = [threading.Thread(target=served.get, args=(path,)) for path in paths]
        for thread in holding:
            thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while connection.execute(waiting).fetchone() != (2,):
            time.sleep(0.01)
        assert served.get("/contacts/1").status_code == 200
        answer = served.get("/contacts/1/evidence")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        blocker.rollback()
        for thread in holding:
            thread.join()
        assert served.get("/contacts/1/evidence").status_code == 200


@pytest.mark.slow
def test_signal_ends_evidence_that_waits_for_a_lock(
    start_identity: Start, connection: psycopg.Connection[Any], database_url: str
) -> None:
    with serving(start_identity) as served, psycopg.connect(database_url) as blocker:
        assert served.identify("lorraine@hillvalley.edu").status_code == 200
        blocker.execute("LOCK TABLE link_evidence")

        def ask() -> None:
            with suppress(httpx.TransportError):
                served.get("/contacts/1/evidence")

        holding = threading.Thread(target=ask)
        holding.start()
        while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            time.sleep(0.01)
        served.process.send_signal(signal.SIGTERM)
        # Eight seconds for open requests, and the query's own limit is fifteen.
        assert served.process.wait(12) == 0
        holding.join()


def test_killed_service_loses_no_answer(
    start_identity: Start, connection: psycopg.Connection[Any], run_identity: Run
) -> None:
    requests = overlapping(400)
    with serving(start_identity) as served:

        def kill_at_work() -> None:
            stored = "SELECT count(*) >= 20 FROM contact"
            while connection.execute(stored).fetchone() != (True,):
                time.sleep(0.001)
            served.process.kill()

        killer = threading.Thread(target=kill_at_work)
        killer.start()
        answers = load(served, requests, clients=16)
        killer.join()
    assert None in answers
    assert any(answers)
    check_durable(connection, requests, answers)
    with serving(start_identity) as served:
        check_repeatable(served, connection, requests, answers, run_identity)


@pytest.mark.slow
def test_killed_connections_lose_no_answer(
    start_identity: Start, connection: psycopg.Connection[Any], run_identity: Run
) -> None:
    requests = overlapping(500)
    with serving(start_identity) as served:
        done = threading.Event()

        def kill_backends() -> None:
            while not done.wait(0.05):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'identity http' AND random() < 0.5"
                )

        killing = threading.Thread(target=kill_backends)
        killing.start()
        answers = load(served, requests, clients=16)
        done.set()
        killing.join()
        check_durable(connection, requests, answers)
        check_repeatable(served, connection, requests, answers, run_identity)
        assert metric(served.get("/metrics").text, "identity_http_retries_total") > 0


@pytest.mark.slow
def test_crashed_database_loses_no_answer(
    start_identity: Start, run_identity: Run, identity_home: Path
) -> None:
    requests = overlapping(500)
    embedded: dict[str, str | None] = {"DATABASE_URL": None, "IDENTITY_HOME": str(identity_home)}
    server = EmbeddedServer(identity_home)
    server.start()
    with serving(start_identity, env=embedded) as served:

        def crash() -> None:
            time.sleep(0.5)
            postmaster = int((server.data / "postmaster.pid").read_text().splitlines()[0])
            kill_immediately(postmaster)
            server.start()

        crashing = threading.Thread(target=crash)
        crashing.start()
        answers = load(served, requests, clients=16)
        crashing.join()
        with psycopg.connect(**server.connection_parameters(), autocommit=True) as connection:
            check_durable(connection, requests, answers)
            check_repeatable(served, connection, requests, answers, run_identity, env=embedded)


def kill_immediately(postmaster: int) -> None:
    """What `pg_ctl stop -m immediate` does: no checkpoint, the next start recovers."""
    import psutil

    process = psutil.Process(postmaster)
    process.send_signal(signal.SIGQUIT)
    process.wait(30)


@pytest.mark.slow
def test_unreachable_database_is_503_until_it_is_back(
    start_identity: Start, identity_home: Path
) -> None:
    server = EmbeddedServer(identity_home)
    server.start()
    # By its URL it is a server like any other, which the service does not start.
    url = Database(server.connection_parameters(), embedded=False).url
    with serving(start_identity, "--database-url", url) as served:
        # The database that `start` makes has no schema yet, and is migrated like any empty one.
        assert served.identify("lorraine@hillvalley.edu").status_code == 200
        server.stop()
        for answer in (served.identify("lorraine@hillvalley.edu"), served.get("/health/ready")):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json() == {"detail": "The database is unreachable."}
        assert served.get("/health/live").status_code == 200
        server.start()
        wait_until_ready(served)
        assert served.identify("lorraine@hillvalley.edu").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_embedded_server_is_started_again(
    start_identity: Start, identity_home: Path, workers: int
) -> None:
    embedded: dict[str, str | None] = {"DATABASE_URL": None, "IDENTITY_HOME": str(identity_home)}
    data = EmbeddedServer(identity_home).data
    with serving(start_identity, "--workers", workers, "--pool", 4, env=embedded) as served:
        wait_for_connections(served, 4 * workers)
        for _ in range(2):
            assert served.identify("lorraine@hillvalley.edu").status_code == 200
            os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
            wait_until_ready(served)
        os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
        assert served.get("/contacts/1/evidence").status_code == 200
        contact = served.identify("lorraine@hillvalley.edu").json()["contact"]
        assert contact["primaryContatctId"] == 1


def wait_for_connections(served: Served, count: int) -> None:
    """Wait until the pools of all workers are open."""
    deadline = time.monotonic() + 30
    text = served.get("/metrics").text
    while metric(text, "identity_http_pool_connections", state="open") != count:
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
        text = served.get("/metrics").text


def wait_until_ready(served: Served) -> None:
    deadline = time.monotonic() + 60
    while served.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_large_pool_of_lost_connections_answers_at_once(
    start_identity: Start, connection: psycopg.Connection[Any]
) -> None:
    with serving(start_identity, "--pool", 40) as served:
        assert served.identify("lorraine@hillvalley.edu").status_code == 200
        own = "FROM pg_stat_activity WHERE application_name = 'identity http'"
        while connection.execute(f"SELECT count(*) {own}").fetchone() != (40,):
            time.sleep(0.05)
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {own}")
        assert served.identify("lorraine@hillvalley.edu").status_code == 200


@pytest.mark.slow
def test_profile_held_by_a_dry_run_is_503(start_identity: Start, database_url: str) -> None:
    with serving(start_identity) as served, psycopg.connect(database_url) as dry_run:
        dry_run.execute("SELECT claim_profile(1, NULL)")
        started = time.monotonic()
        assert served.get("/health/ready").status_code == 503
        assert served.get("/contacts/1").status_code == 404
        answer = served.identify("lorraine@hillvalley.edu")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert time.monotonic() - started < 25
        dry_run.rollback()
        assert served.get("/health/ready").status_code == 200
        assert served.identify("lorraine@hillvalley.edu").status_code == 200


def test_workers_share_port_and_metrics(start_identity: Start) -> None:
    with serving(start_identity, "--workers", 2, "--pool", 2) as served:
        requests = overlapping(200)
        assert None not in load(served, requests, clients=8)
        text = served.get("/metrics").text
        assert metric(text, "identity_http_requests_total", path="/identify") == 200
        wait_for_connections(served, 4)


@pytest.mark.slow
def test_workers_of_a_killed_service_end_too(start_identity: Start) -> None:
    with serving(start_identity, "--workers", 2) as served:
        served.process.kill()
        served.process.wait()
        address = urlsplit(served.url)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((address.hostname, address.port)).close()
            except ConnectionRefusedError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow
def test_region_of_the_database_is_used(start_identity: Start, run_identity: Run) -> None:
    with serving(start_identity, "--region", "us") as served:
        contact = served.identify(phone="(650) 253-0000").json()["contact"]
        assert contact["phoneNumbers"] == ["+16502530000"]
        assert served.identify(phone="12").json()["detail"][0]["type"] == "bad_phone"
    with serving(start_identity, "--workers", 2) as served:
        assert served.get("/contacts?phone=650-253-0000").json()["contact"] == contact
        assert served.identify(phone="650 253 0000").json()["contact"] == contact
    refused = run_identity("serve", "--port", 0, "--region", "DE")
    assert refused.returncode == 5
    assert "hint: use --region US" in refused.stderr


def test_unsuitable_database_is_refused_at_the_start(
    start_identity: Start,
    run_identity: Run,
    connection: psycopg.Connection[Any],
    empty_database_url: str,
) -> None:
    with serving(start_identity, "--database-url", empty_database_url) as served:
        assert served.identify("lorraine@hillvalley.edu").status_code == 200
    connection.execute("UPDATE alembic_version SET version_num = '0000'")
    refused = run_identity("serve", "--port", 0)
    assert refused.returncode == 5
    assert "hint: run identity db upgrade" in refused.stderr
    away = run_identity("serve", "--database-url", "postgres://u:secret@127.0.0.1:1/x")
    assert away.returncode == 5
    assert "unreachable" in away.stderr
    assert "secret" not in away.stderr


def test_port_in_use_is_wrong_usage(run_identity: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = run_identity("serve", "--port", taken.getsockname()[1])
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: cannot listen on 127.0.0.1:")
    assert "\nhint: use another --host or --port\n" in refused.stderr


def test_missing_extra_is_named_with_its_install_command(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = sys.modules['fastapi'] = None\n"
        "from identity_cli.cli import main; main(sys.argv[1:])"
    )
    refused = subprocess.run(
        [sys.executable, "-c", program, "serve"], capture_output=True, text=True, cwd=tmp_path
    )
    assert refused.returncode == 2
    assert refused.stderr.endswith("\nhint: pip install 'identity-cli[http]'\n")


def test_other_commands_do_not_import_the_extra(tmp_path: Path) -> None:
    program = (
        "import json, sys; from identity_cli.cli import run; run(['serve', '--help'])\n"
        "print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert not imported & {"fastapi", "uvicorn", "pydantic", "psycopg_pool", "prometheus_client"}
