"""The embedded PostgreSQL: a real server, reached through a Unix socket only.

Commands share it. Each holds a shared lock on a file while it works, which the kernel releases
however the command ends; the one that finds no other holder stops the server.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from identity_cli.errors import EmbeddedServerError
from identity_cli.postgres import binaries

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DATABASE = "identity"
_SUPERUSER = "postgres"
_PORT = 5432  # part of the socket's name; the server does not listen on TCP

# Crash recovery after a large import may take a while.
_START_SECONDS = 300

# The processes of a killed server end a moment after it. No other server starts before that.
_ORPHANS_SECONDS = 30

# No process has this number: Linux ends at 4194304, macOS at 99998.
_NO_PROCESS = 4194305

# Parallel queries need it; a container may have next to none.
_LEAST_SHARED_MEMORY = 64 << 20
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its size is read

# sun_path holds 104 bytes on macOS, 108 on Linux, including the final NUL.
_LONGEST_SOCKET = 103

# Durability stays as PostgreSQL ships it: fsync and full_page_writes are on.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    # Relative to the data folder, whose path may be too long or hold any character.
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "jit": "off",
    # Fewer checkpoints in an import. Compressing the log takes a third more CPU than it saves.
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}


class EmbeddedServer:
    """A server that keeps its data in `home`; a context manager that keeps it running.

    Raises `EmbeddedServerError`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "postgresql"
        self._users: IO[bytes] | None = None

    def __enter__(self) -> Self:
        binaries.forget_environment()
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
        """Return libpq's parameters, whether the server runs or not."""
        return {
            "host": str(self._socket_folder(make=self.data.exists())),
            "port": str(_PORT),
            "user": _SUPERUSER,
            "dbname": DATABASE,
        }

    def is_running(self) -> bool:
        """Return whether the server is ready and answers on its socket."""
        try:
            state = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        if len(state) < 8 or state[7].strip() != "ready":
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(str(self._socket_folder(make=True) / f".s.PGSQL.{_PORT}"))
        except OSError:
            return False
        return True

    def ensure_running(self) -> None:
        """Start the server if it does not run."""
        if not self.is_running():
            self._start()

    def start(self) -> None:
        """Start the server and leave it running until `stop`."""
        with self:
            self._keep.touch(mode=0o600)

    def stop(self) -> bool:
        """Stop the server, whoever uses it; return whether it ran."""
        self._keep.unlink(missing_ok=True)
        if not self.is_running():
            return False
        self._stop()
        return True

    def reset(self) -> None:
        """Stop the server and remove its data, whoever uses it."""
        with self._hold_shared(), self._start_lock():
            self.stop()
            if self.data.exists():
                # Renamed first: a reset that is killed leaves no half of a database.
                removed = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.home))
                self.data.rename(removed / "postgresql")
            self._remove_leftovers()

    @property
    def _keep(self) -> Path:
        return self.home / "keep-running"

    @property
    def _log(self) -> Path:
        return self.data / "server.log"

    def _hold_shared(self) -> IO[bytes]:
        try:
            self._make_home()
            users = open(self.home / "users.lock", "ab", opener=_private)  # noqa: SIM115
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot keep a database in {self.home}: {error.strerror}",
                hint="set IDENTITY_HOME to a folder of yours, or DATABASE_URL to a server",
            ) from error
        fcntl.flock(users, fcntl.LOCK_SH)
        return users

    def _make_home(self) -> None:
        # As root: the server's user enters the folders that are made here, and no others.
        mode = 0o701 if os.geteuid() == 0 else 0o700
        for folder in reversed((self.home, *self.home.parents)):
            try:
                folder.mkdir(mode=mode)
            except FileExistsError:
                continue
            folder.chmod(mode)

    def _start_lock(self) -> IO[bytes]:
        lock = open(self.home / "start.lock", "ab", opener=_private)  # noqa: SIM115
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _start(self) -> None:
        with self._start_lock():
            if self.is_running():
                return
            closed = binaries.closed_folder(self.home.resolve())
            if closed is not None:
                raise EmbeddedServerError(
                    f"as root, PostgreSQL runs as a user of its own, who cannot enter {closed}",
                    hint=f"run chmod o+x {closed}, or set IDENTITY_HOME to a folder in /var/lib",
                )
            self._socket_folder(make=True)  # a refusal comes before the start
            self._remove_leftovers()
            if not (self.data / "PG_VERSION").exists():
                self._initialize()
            self._check_version()
            patience = _ORPHANS_SECONDS if self._left_a_pid_file() else 0
            deadline = time.monotonic() + patience
            while True:
                try:
                    self._start_once()
                    self._create_database()
                    break
                except EmbeddedServerError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.1)

    def _start_once(self) -> None:
        settings = SERVER_SETTINGS | _memory_settings()
        before = self._log.stat().st_size if self._log.exists() else 0
        # pg_ctl passes paths through a shell, where quotes and $(…) in them have a meaning: the
        # data folder goes through the environment instead, and the log is relative to it.
        code, printed = binaries.run(
            "pg_ctl",
            *("start", "-w", "-t", str(_START_SECONDS), "-l", self._log.name),
            *("-o", " ".join(f"-c {name}='{value}'" for name, value in settings.items())),
            cwd=self.data,
            environment={"PGDATA": str(self.data)},
        )
        if code != 0:
            raise self._failed("pg_ctl", [*printed, *self._logged(before)])

    def _logged(self, start: int) -> list[str]:
        try:
            with open(self._log, "rb") as log:
                log.seek(start)
                return log.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    def _failed(self, command: str, printed: list[str]) -> EmbeddedServerError:
        """Return an error with PostgreSQL's own reason if it gave one."""
        reasons = [
            line.partition(f"{level}:")[2].strip()
            for level in ("PANIC", "FATAL", "error", "ERROR")
            for line in printed
            if f"{level}:" in line
        ]
        reason = reasons[0] if reasons else (printed[-1] if printed else "no message")
        return EmbeddedServerError(
            f"the embedded PostgreSQL does not start: {command}: {reason}",
            hint=f"see {self._log}" if self._log.exists() else "see the message above",
        )

    def _check_version(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != binaries.MAJOR:
            raise EmbeddedServerError(
                f"{self.data} was written by PostgreSQL {version},"
                f" this program has PostgreSQL {binaries.MAJOR}",
                hint="upgrade it with pg_upgrade, or export it with the release of identity that"
                " wrote it and import it with another IDENTITY_HOME",
            )

    def _left_a_pid_file(self) -> bool:
        """Return whether a server that did not stop left its file; correct the number in it.

        After a restart of the machine another program may have the number, and PostgreSQL would
        take it for a running server. The rest of the file stays: PostgreSQL finds out from it
        whether processes of the old server still run.
        """
        file = self.data / "postmaster.pid"
        try:
            pid, newline, rest = file.read_text().partition("\n")
        except OSError:
            return False
        if pid.isdecimal() and not self._is_postmaster(int(pid)):
            file.write_text(f"{_NO_PROCESS}{newline}{rest}")
        return True

    def _is_postmaster(self, pid: int) -> bool:
        if Path("/proc/self").exists():
            try:
                return Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.data.resolve()
            except OSError:  # no such process, or one of another user
                return False
        found = subprocess.run(
            ["ps", "-p", str(pid), "-o", "comm="], capture_output=True, text=True, check=False
        )
        return "postgres" in found.stdout

    def _remove_leftovers(self) -> None:
        """Remove what a killed initdb or reset left; call it with the start lock."""
        for folder in self.home.glob("initdb-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _initialize(self) -> None:
        """Make the data folder in another place and rename it: a killed start leaves none."""
        _check_user_has_a_name()
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=self.home) as beside:
            binaries.give(Path(beside))
            fresh = Path(beside) / "postgresql"
            memory = [f"-c{name}={value}" for name, value in _memory_settings().items()]
            code, printed = binaries.run(
                "initdb",
                *("-D", str(fresh), "-U", _SUPERUSER, "--auth=trust"),
                *("--encoding=UTF8", "--no-locale", *memory),
            )
            if code != 0:
                raise self._failed("initdb", printed)
            # Before the rename: no data folder lacks the database.
            code, printed = binaries.run(
                "postgres",
                *("--single", "-D", str(fresh), "template1"),
                statements=f"CREATE DATABASE {DATABASE}\n",
            )
            if code != 0:
                raise self._failed("postgres", printed)
            fresh.rename(self.data)

    def _create_database(self) -> None:
        """Create the database where an older release was killed before it did."""
        import psycopg

        maintenance: dict[str, Any] = {**self.connection_parameters(), "dbname": "postgres"}
        try:
            with psycopg.connect(**maintenance, autocommit=True) as connection:
                known = "SELECT FROM pg_database WHERE datname = %s"
                if connection.execute(known, [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            raise EmbeddedServerError(
                "the embedded PostgreSQL stopped right after its start", hint=f"see {self._log}"
            ) from error

    def _stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            code, printed = binaries.run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))
            if code != 0 and self.is_running():  # else it has died in the meantime
                raise EmbeddedServerError(
                    f"the embedded PostgreSQL does not stop: {printed[-1] if printed else code}",
                    hint=f"see {self._log}",
                )

    def _socket_folder(self, *, make: bool) -> Path:
        """Return the data folder, or a link to it if libpq cannot take its path as a host.

        The server's socket is in the data folder in any case, so that every process finds it,
        whatever its TMPDIR is.
        """
        if _is_host(self.data):
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        name = f"identity-{os.geteuid()}-{digest}"
        folder = Path(tempfile.gettempdir()) / name
        if not _is_host(folder / "data"):
            folder = Path("/tmp") / name  # noqa: S108 - private, and checked below
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            # Anybody may create a folder there; in ours nobody else can.
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise EmbeddedServerError(
                    f"{folder} belongs to another user", hint="set IDENTITY_HOME to a shorter path"
                )
            if not (folder / "data").is_symlink():
                with suppress(FileExistsError):  # another command was faster
                    (folder / "data").symlink_to(self.data)
        return folder / "data"


def _is_host(folder: Path) -> bool:
    # libpq takes a comma for the end of a host.
    socket_path = os.fsencode(folder / f".s.PGSQL.{_PORT}")
    return len(socket_path) <= _LONGEST_SOCKET and b"," not in socket_path


def _memory_settings() -> dict[str, str]:
    try:
        found = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return {}  # macOS has none
    enough = found.f_blocks * found.f_frsize >= _LEAST_SHARED_MEMORY
    return {} if enough else {"dynamic_shared_memory_type": "mmap"}


def _check_user_has_a_name() -> None:
    import pwd

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedServerError(
            f"the user ID {os.geteuid()} has no name, and PostgreSQL's initdb needs one",
            hint="add the user to /etc/passwd, run identity as another user, or set DATABASE_URL",
        ) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
