"""Files that are written: whole, with their owner and mode, or to a descriptor that is open."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from identity_cli.errors import OutputClosedError, OutputError, UsageError
from identity_cli.files import is_regular, replaced_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _clean_folder(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.partial"))


def test_new_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with replaced_file(path) as stream:
        stream.write(b"1")
        assert not path.exists()
        (partial,) = tmp_path.iterdir()
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert path.read_bytes() == b"1"


def test_file_after_an_error_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    replaced = replaced_file(path, force=True)
    replaced.__enter__().write(b"new")
    assert not replaced.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert path.read_bytes() == b"old"


def test_existing_file_is_replaced_with_force_only(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already") as caught, replaced_file(path):
        pass
    assert caught.value.hint == "use --force to replace it"
    with replaced_file(path, force=True) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"


def test_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_bytes(b"old")
    link = tmp_path / "link.csv"
    link.symlink_to("real.csv")
    with replaced_file(link, force=True) as stream:
        stream.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_bytes() == b"new"


def test_place_without_file_is_an_output_error(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path, "is a directory"),
        (tmp_path / "none" / "x.csv", "there is no folder"),
        (tmp_path / ("x" * 300), "cannot write"),
    ):
        with pytest.raises(OutputError, match=said) as caught, replaced_file(path, force=True):
            pass
        assert caught.value.hint


def test_folder_without_permission_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Root may write everywhere, so the refusal is simulated.
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match="Permission denied"), replaced_file(tmp_path / "x"):
        pass


def test_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replaced_file(path, force=True) as stream:
        stream.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_replaced_file_keeps_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can do it, so what the system is asked is looked at."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("os.fchown", lambda _number, user, group: asked.append((user, group)))
    with replaced_file(path, force=True) as stream:
        stream.write(b"new")
    assert asked == [(os.getuid(), -1), (-1, path.stat().st_gid)]


def test_owner_that_cannot_be_kept_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fchown", refuse)
    with replaced_file(path, force=True) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"


SPECIAL = """
import sys
from pathlib import Path
from identity_cli.files import replaced_file
with replaced_file(Path(sys.argv[1])) as stream:
    stream.write(b"new\\n")
"""


@pytest.mark.parametrize(
    "name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "log"]
)
def test_standard_output_into_a_log_is_appended_to(tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"held\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    with open(log, "ab") as stdout:
        subprocess.run(
            [sys.executable, "-c", SPECIAL, name], cwd=tmp_path, stdout=stdout, check=True
        )
    assert log.read_bytes() == b"held\nnew\n"


def test_other_descriptor_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"held\n")
    with open(log, "ab") as held, replaced_file(tmp_path / f"/dev/fd/{held.fileno()}") as stream:
        stream.write(b"new\n")
    assert log.read_bytes() == b"held\nnew\n"


def test_named_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with replaced_file(pipe) as stream:
        stream.write(b"new")
    reader.join()
    assert read == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_full_device_is_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="No space left"),
        replaced_file(tmp_path / "/dev/full") as stream,
    ):
        stream.write(b"new")


def test_pipe_without_reader_is_an_output_closed_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with (
            pytest.raises(OutputClosedError),
            replaced_file(tmp_path / f"/dev/fd/{writer}") as stream,
        ):
            stream.write(b"new")
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    ("name", "regular"),
    [("new.csv", True), ("old.csv", True), ("1", True), ("/dev/null", False), ("-", False)],
)
def test_regular_files_are_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, regular: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").touch()
    assert is_regular(name) is regular
