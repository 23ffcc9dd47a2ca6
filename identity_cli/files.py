"""Files that the program writes: a regular file whole or not at all, anything else as it comes.

They hold personal data, so a new file can be read by its owner only.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from identity_cli.errors import OutputClosedError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = "-"
_STDOUT_NUMBER = 1
_STANDARD_NUMBERS = (_STDOUT_NUMBER, 2)
_PRIVATE = 0o600
_SYMLINKS_MAX = 40
_HINT = "check that its folder exists, has room, and that you may write there"


@contextmanager
def writing(place: str, *, hint: str = _HINT) -> Iterator[None]:
    """Turn what can go wrong while writing to `place` into an `OutputError`."""
    if "\0" in place:
        raise OutputError("a path with a NUL character", hint="check the path")
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError(f"the reader of {place} has closed it") from error
    except OSError as error:
        raise OutputError(
            f"cannot write {place}: {error.strerror or error}",
            hint=hint,
        ) from error


def is_regular(path: str | Path) -> bool:
    """Return whether `path` is, or would become, a regular file that no one else has open for us.

    It is not for `-`, a device, a pipe, and whatever leads to a descriptor that this process was
    started with: what `>>log` holds must neither be truncated nor renamed away.
    """
    if str(path) == STDOUT or _descriptor(path) is not None:
        return False
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def check_folder(path: str | Path) -> None:
    """Raise `OutputError` if there is no folder that could hold the file."""
    if not Path(path).absolute().parent.is_dir():
        raise OutputError(
            f"cannot write {path}: there is no such folder", hint="create the folder first"
        )


def open_special(path: str | Path) -> BinaryIO:
    """Open what is not a regular file for writing: a copy of the descriptor, a device, a pipe."""
    number = _STDOUT_NUMBER if str(path) == STDOUT else _descriptor(path)
    if number is not None:
        return os.fdopen(os.dup(number), "wb")
    return os.fdopen(os.open(path, os.O_WRONLY), "wb")


def open_private(path: str | Path, flags: int) -> int:
    """Open a file that only its owner can read; an `opener` for `open`."""
    return os.open(path, flags, _PRIVATE)


def _descriptor(path: str | Path) -> int | None:
    """Return the number of our own open descriptor that `path` leads to, if it leads to one."""
    number = _descriptor_by_name(os.fspath(path))
    if number is not None:
        return number
    # The file that standard output was redirected to, by its own name.
    with suppress(OSError, ValueError):
        status = os.stat(path)
        for standard in _STANDARD_NUMBERS:
            with suppress(OSError):
                if stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.fstat(standard)):
                    return standard
    return None


def _descriptor_by_name(path: str) -> int | None:
    # Symbolic links are followed one at a time: resolved at once, /dev/stdout is the log behind it.
    try:
        for _ in range(_SYMLINKS_MAX):
            folder, name = os.path.split(path)
            folder = os.path.realpath(folder or ".")
            if name.isdecimal() and folder in _descriptor_folders():
                return int(name)
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                return None
            path = os.path.join(folder, os.readlink(path))
    except (OSError, ValueError):
        pass
    return None


def _descriptor_folders() -> set[str]:
    return {os.path.realpath(folder) for folder in ("/proc/self/fd", "/dev/fd")}


@contextmanager
def replaced_file(
    path: Path, *, force: bool = False, mode: int | None = None
) -> Iterator[BinaryIO]:
    """Open a file that appears at `path`, whole and on disk, when the block ends without an error.

    Until then, and after an error, `path` is as it was. A file that is replaced keeps its mode,
    and its owner where the system lets us set it; a new one has the `mode`, or can be read by its
    owner only. What is not a regular file is written directly.
    Raises `UsageError` if there is a file and `force` is off, and `OutputError`.
    """
    if not is_regular(path):
        with writing(str(path)), open_special(path) as stream:
            yield stream
        return
    with writing(str(path)):
        target = path.resolve()  # a symbolic link stays one
        _check_target(path, target, force=force)
        number, name = tempfile.mkstemp(dir=target.parent, prefix=".identity-", suffix=".partial")
        try:
            with open(number, "wb") as stream:
                yield stream
                stream.flush()
                _keep_owner_and_mode(number, target, mode)
                os.fsync(number)
            os.replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise
        _sync_folder(target.parent)


def _check_target(path: Path, target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise OutputError(f"{path} is a directory", hint="use the path of a file")
    if target.exists() and not force:
        raise UsageError(f"{path} exists already", hint="use --force to replace it")
    if not target.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent}", hint="create it first")


def _keep_owner_and_mode(number: int, target: Path, mode: int | None) -> None:
    try:
        old = target.stat()
    except FileNotFoundError:
        if mode is not None:
            os.fchmod(number, mode)
        return
    # Only root can give a file to somebody else; a member can give it to the group.
    for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
        with suppress(PermissionError):
            os.fchown(number, owner, group)
    os.fchmod(number, stat.S_IMODE(old.st_mode) & 0o777)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
