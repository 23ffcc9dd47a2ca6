"""The embedded server: who starts it, who stops it, and what it shows to others."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from identity_cli import ContactRequest, IdentityService, errors
from identity_cli.postgres import embedded
from identity_cli.postgres.embedded import DATABASE, EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

# Holds the server until its standard input ends.
USER = """
import sys
from pathlib import Path
from identity_cli.postgres.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])):
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(prepared_home: Path) -> Iterator[Path]:
    server = EmbeddedServer(prepared_home)
    server.stop()
    yield prepared_home
    server.stop()


@pytest.fixture
def users(home: Path) -> Iterator[Any]:
    """Starts processes that use the server."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def connect(server: EmbeddedServer) -> psycopg.Connection[Any]:
    return psycopg.connect(**server.connection_parameters(), autocommit=True)  # type: ignore[arg-type]


def kill(server: EmbeddedServer) -> None:
    postmaster = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)
    for _ in range(1_000):
        if not server.is_running():
            return
        time.sleep(0.01)
    raise AssertionError("the server is still there")


def test_it_runs_while_it_is_used(home: Path) -> None:
    server = EmbeddedServer(home)
    assert not server.is_running()
    with server:
        assert server.is_running()
        with connect(server) as connection:
            row = connection.execute("SELECT current_database()").fetchone()
            assert row == (DATABASE,)
    assert not server.is_running()
    with server:
        assert server.is_running()
    assert not server.is_running()


def test_two_processes_share_it_and_the_last_stops_it(home: Path, users: Any) -> None:
    server = EmbeddedServer(home)
    first, second = users(), users()
    first.communicate("", timeout=60)
    assert server.is_running()
    second.communicate("", timeout=60)
    assert not server.is_running()


def test_the_first_is_not_stopped_by_the_second(home: Path, users: Any) -> None:
    server = EmbeddedServer(home)
    first, second = users(), users()
    second.communicate("", timeout=60)
    assert server.is_running()
    first.communicate("", timeout=60)
    assert not server.is_running()


def test_a_killed_user_leaves_no_lock(home: Path, users: Any) -> None:
    server = EmbeddedServer(home)
    killed = users()
    killed.kill()
    killed.communicate()
    assert server.is_running()
    with server:
        pass
    assert not server.is_running()


def test_many_at_once_start_it_once(home: Path) -> None:
    barrier = threading.Barrier(6)

    def use() -> int:
        barrier.wait(timeout=30)
        with EmbeddedServer(home) as server, connect(server) as connection:
            row = connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()
            assert row is not None
            barrier.wait(timeout=60)
            return hash(row[0])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda _: use(), range(6)))) == 1
    assert not EmbeddedServer(home).is_running()


def test_coming_and_going_at_once(home: Path) -> None:
    def use(_: int) -> None:
        for _ in range(3):
            with EmbeddedServer(home) as server, connect(server) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    assert not EmbeddedServer(home).is_running()


def test_start_keeps_it_running_and_stop_stops_it(home: Path) -> None:
    server = EmbeddedServer(home)
    server.start()
    assert server.is_running()
    with EmbeddedServer(home):
        pass
    assert server.is_running()
    server.start()
    assert server.is_running()
    assert server.stop() is True
    assert not server.is_running()
    assert server.stop() is False
    with server:
        pass
    assert not server.is_running()


def test_stop_disconnects_who_uses_it(home: Path) -> None:
    with EmbeddedServer(home) as server:
        with connect(server) as connection:
            service = IdentityService(connection)
            service.reconcile(ContactRequest("a@x.org"))
            assert EmbeddedServer(home).stop()
            with pytest.raises(errors.ConnectionLostError):
                service.reconcile(ContactRequest("a@x.org"))
        assert not server.is_running()


def test_a_killed_server_is_started_again_with_what_it_had(home: Path) -> None:
    server = EmbeddedServer(home)
    server.start()
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    kill(server)
    with server, connect(server) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        connection.execute("DROP TABLE kept")


def test_a_killed_server_is_started_again_while_it_is_used(home: Path) -> None:
    with EmbeddedServer(home) as server, connect(server):
        postmaster = int((server.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
        while Path(f"/proc/{postmaster}").exists():
            time.sleep(0.01)
        server.ensure_running()
        with connect(server) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nobody_else_gets_in(home: Path) -> None:
    with EmbeddedServer(home) as server:
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        assert stat.S_IMODE((server.data / ".s.PGSQL.5432").stat().st_mode) == 0o700
        for name in ("users.lock", "start.lock"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        with connect(server) as connection:
            shown = {
                name: connection.execute(f"SHOW {name}").fetchone()
                for name in ("listen_addresses", "fsync", "full_page_writes", "server_encoding")
            }
        assert shown == {
            "listen_addresses": ("",),
            "fsync": ("on",),
            "full_page_writes": ("on",),
            "server_encoding": ("UTF8",),
        }
        assert sys.platform != "linux" or not _listens_on_tcp(server)


def _listens_on_tcp(server: EmbeddedServer) -> bool:
    postmaster = (server.data / "postmaster.pid").read_text().splitlines()[0]
    sockets = {
        os.readlink(link) for link in Path(f"/proc/{postmaster}/fd").iterdir() if link.is_symlink()
    }
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return any(f"socket:[{row[9]}]" in sockets for row in rows)


def test_a_new_home_is_private(identity_home: Path) -> None:
    home = identity_home / "made" / "on the way"
    with EmbeddedServer(home) as server:
        mode = stat.S_IMODE(home.stat().st_mode)
        # As root, PostgreSQL's own user has to pass through.
        assert mode & ~stat.S_IXOTH == 0o700
        assert mode == 0o700 or os.geteuid() == 0
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert not list(home.glob("initdb-*"))


def test_a_home_whose_path_is_too_long_for_a_socket(identity_home: Path) -> None:
    home = identity_home / ("deep" * 20) / ("er and deeper" * 4)
    server = EmbeddedServer(home)
    with server:
        host = Path(server.connection_parameters()["host"])
        assert host.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(host.stat().st_mode) == 0o700
        with connect(server) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert EmbeddedServer(home).is_running()
    assert not server.is_running()
    host.rmdir()


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(errors.EmbeddedServerError, match="cannot keep a database") as caught,
        EmbeddedServer(tmp_path / "file" / "home"),
    ):
        pass
    assert "IDENTITY_HOME" in (caught.value.hint or "")


def test_a_server_that_cannot_start_says_where_to_look(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(embedded.SERVER_SETTINGS, "max_connections", "nonsense")
    server = EmbeddedServer(home)
    with pytest.raises(errors.EmbeddedServerError) as caught, server:
        pass
    assert "server.log" in (caught.value.hint or "")
    monkeypatch.undo()
    with server:
        assert server.is_running()
    assert not server.is_running()


def test_a_service_on_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HOME", str(home))
    with IdentityService.open() as service:
        first = service.identify(ContactRequest("a@x.org", "1"))
    with IdentityService.open() as service:
        assert service.find(email="a@x.org") == first
