"""The bytes of an input: where they come from, how they are packed, what breaks them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from identity_cli.errors import InputNotFoundError, InputUnreadableError
from identity_cli.importer.formats import InputOptions, open_reader
from identity_cli.importer.raw import BLOCK, PipeNotKeptError
from identity_cli.importer.source import Source, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def streamed_zst(data: bytes) -> bytes:
    """A frame that does not tell the size of its content, as a pipe makes it."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return packer.compress(data) + packer.flush()


PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, zst, streamed_zst]
# Of a skippable frame: its magic number, its length, its content.
SKIPPED = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def read_all(path: Path | str) -> bytes:
    source = Source(str(path))
    try:
        return source.stream().read()
    finally:
        source.close()


def rows_and_error(path: Path) -> tuple[int, InputUnreadableError | None]:
    """How many rows come out of a CSV file, and what ended it."""
    rows = 0
    source = Source(str(path))
    try:
        for _ in open_reader(source, InputOptions("csv")).rows():
            rows += 1
    except InputUnreadableError as error:
        return rows, error
    finally:
        source.close()
    return rows, None


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7])
@pytest.mark.parametrize("pack", [bytes, *PACKERS])
def test_bytes_come_out_as_they_went_in(
    tmp_path: Path, pack: Callable[[bytes], bytes], size: int
) -> None:
    data = bytes(ord("a") + i % 23 for i in range(size))
    # Magic numbers tell, not names.
    path = tmp_path / "data.csv"
    path.write_bytes(pack(data))
    assert read_all(path) == data


@pytest.mark.parametrize("pack", PACKERS)
def test_several_members_are_one_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "data"
    path.write_bytes(pack(b"one,") + pack(b"") + pack(b"two," * BLOCK) + pack(b"three"))
    assert read_all(path) == b"one," + b"two," * BLOCK + b"three"


def test_frames_that_are_to_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.zst"
    path.write_bytes(SKIPPED + zst(b"one,") + SKIPPED + zst(b"two") + SKIPPED)
    assert read_all(path) == b"one,two"


def many_rows() -> bytes:
    digests = (hashlib.sha256(b"%d" % i).hexdigest() for i in range(20_000))
    return b"email,phone\n" + b"".join(f"{one}@x.org,1\n".encode() for one in digests)


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_cut_off_end(tmp_path: Path, pack: Callable[[bytes], bytes], kept: float) -> None:
    packed = pack(many_rows())
    path = tmp_path / "data"
    path.write_bytes(packed[: int(len(packed) * kept)])
    rows, error = rows_and_error(path)
    assert 20_000 * kept * 0.6 < rows < 20_000
    assert str(error) == "the compressed data ends too early"
    assert error is not None
    assert error.location == str(path)
    assert error.hint


@pytest.mark.parametrize("pack", PACKERS)
def test_a_second_member_that_is_cut_off(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "data"
    path.write_bytes(pack(b"email\na@x.org\n") + pack(b"b@x.org\n")[:9])
    rows, error = rows_and_error(path)
    assert rows == 1
    assert str(error) == "the compressed data ends too early"


@pytest.mark.parametrize("pack", PACKERS)
def test_compressed_data_that_is_broken(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(many_rows()))
    middle = len(packed) // 2
    packed[middle : middle + 64] = bytes(64)
    path = tmp_path / "data"
    path.write_bytes(packed)
    rows, error = rows_and_error(path)
    assert 1000 < rows < 20_000
    assert str(error) == "the compressed data is broken"
    assert error is not None
    assert error.location == str(path)
    assert error.hint


@pytest.mark.parametrize("pack", PACKERS)
def test_what_follows_compressed_data(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "data"
    path.write_bytes(pack(b"email\na@x.org\n") + b"and plain text")
    rows, error = rows_and_error(path)
    assert rows == 1
    assert str(error) == "the compressed data is broken"


@pytest.mark.parametrize("pack", PACKERS)
def test_a_bomb_stays_small(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "bomb"
    once = pack(bytes(1 << 24))
    path.write_bytes(once * 6)
    assert len(once) < 1 << 15
    source = Source(str(path))
    buffer = bytearray(1 << 16)
    tracemalloc.start()
    try:
        stream = source.stream()
        size = 0
        while got := stream.readinto(buffer):  # type: ignore[attr-defined]
            size += got
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
    assert size == 6 << 24
    assert peak < 1 << 24


def test_the_offset_counts_the_bytes_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    data = gzip.compress(many_rows())
    path.write_bytes(data)
    source = Source(str(path))
    assert (source.size, source.offset) == (len(data), 0)
    assert gzip.decompress(data) == source.stream().read()
    assert source.offset == len(data)
    source.rewind()
    assert source.offset == 0
    assert gzip.decompress(data) == source.stream().read()
    source.close()


@pytest.mark.parametrize("pack", [bytes, *PACKERS])
@pytest.mark.parametrize("taken", [0, 1, 5000, 200_000, 1 << 30])
def test_a_kept_pipe_that_is_rewound_loses_nothing(
    tmp_path: Path, pack: Callable[[bytes], bytes], taken: int
) -> None:
    data = pack(many_rows())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    source = Source(str(pipe))
    source.keep()
    before = source.stream().read(taken)
    source.rewind()
    assert source.stream().read() == many_rows()
    assert before == many_rows()[:taken]
    assert source.offset == len(data)
    source.close()
    writer.join()


def test_a_kept_pipe_loses_nothing_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(many_rows(),))
    writer.start()
    source = Source(str(pipe))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Small())
    source.keep()
    with pytest.raises(PipeNotKeptError, match="No space left on device"):
        source.stream().read()
    source.rewind()
    assert source.stream().read() == many_rows()
    source.close()
    writer.join()


class Small(io.BytesIO):
    """A temporary file on a disk with room for 100,000 bytes."""

    def write(self, data: Any) -> int:
        room = 100_000 - self.tell()
        if not room:
            raise OSError(28, "No space left on device")
        return super().write(data[:room])


@pytest.mark.parametrize("left", [0, 1, 50_000])
def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path, left: int) -> None:
    path = tmp_path / "data"
    path.write_bytes(many_rows())
    source = Source(str(path))
    stream = source.stream()
    stream.read(BLOCK)
    os.truncate(path, left)
    with pytest.raises(InputUnreadableError, match="it became shorter while it was read") as caught:
        stream.read()
    assert caught.value.location == str(path)
    assert caught.value.hint
    source.close()


def test_a_file_that_grows_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a" * BLOCK)
    source = Source(str(path))
    stream = source.stream()
    stream.read(10)
    with open(path, "ab") as file:
        file.write(b"b" * BLOCK)
    assert len(stream.read()) == 2 * BLOCK - 10
    source.close()


def test_bytes_of_a_slow_pipe_are_there_as_they_come(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    idle: list[bool] = []

    def while_idle(is_idle: bool) -> None:
        idle.append(is_idle)
        if len(idle) == 3:
            os.write(writing, b"email\na@x.org\n")

    with os.fdopen(reading, encoding="utf-8") as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        source = Source("-", while_idle=while_idle)
        assert source.stream().readline() == b"email\n"
        source.close()
    os.close(writing)
    assert idle == [True, True, True, False]


def test_a_fingerprint_goes_by_content_and_size(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path, data in zip(paths, (b"x" * 100, b"x" * 100, b"x" * 101, b"y" * 100), strict=True):
        path.write_bytes(data)
    first, same, longer, other = (fingerprint(str(path)) for path in paths)
    assert first == same
    assert len({first, longer, other}) == 3
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(200 << 20)
        before = fingerprint(str(large))
        file.seek((200 << 20) - 1)
        file.write(b"x")
    assert fingerprint(str(large)) != before


def test_a_named_pipe_has_no_size(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"email\na@x.org\n",))
    writer.start()
    source = Source(str(pipe))
    assert source.size is None
    assert source.stream().read() == b"email\na@x.org\n"
    source.close()
    writer.join()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(b"abc"))
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = Source("-")
        assert (source.name, source.size) == ("standard input", None)
        assert source.stream().read() == b"abc"
        source.close()
        assert not sys.stdin.buffer.closed


def test_standard_input_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def write() -> None:
        for _ in range(3):
            time.sleep(0.05)
            os.write(writing, b"abc")
        os.close(writing)

    writer = threading.Thread(target=write)
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        writer.start()
        assert read_all("-") == b"abcabcabc"
    writer.join()


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputNotFoundError, match="closed"):
        Source("-")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.csv", "No such file"),
        ("folder", "is a directory"),
        ("plain/a.csv", "Not a directory"),
        ("a\0.csv", "NUL"),
        ("x" * 5000, "too long"),
        ("", "No such file"),
    ],
)
def test_inputs_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputNotFoundError, match=message) as caught:
        Source(path)
    assert caught.value.hint


OPEN_AS_NOBODY = """
import os, sys
from identity_cli.errors import InputNotFoundError
from identity_cli.importer.source import Source
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    Source(sys.argv[1])
except InputNotFoundError as error:
    print(error, error.hint, sep="|")
"""


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.csv"
    path.touch(mode=0)
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AS_NOBODY, str(path)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == f"{path}: Permission denied|give yourself permission to read it\n"


def test_a_file_that_cannot_be_read_any_further(tmp_path: Path) -> None:
    # Reading a process's memory at an address where there is none fails as a broken disk does.
    source = Source("/proc/self/mem")
    with pytest.raises(InputUnreadableError, match="Input/output error") as caught:
        source.stream().read()
    assert caught.value.location == "/proc/self/mem"
    assert caught.value.hint
    source.close()


def test_reads_that_may_wait_are_announced(tmp_path: Path) -> None:
    waiting: list[bool] = []

    class Watch(nullcontext[None]):
        def __enter__(self) -> None:
            waiting.append(True)

        def __exit__(self, *_: Any) -> None:
            waiting.append(False)

    path = tmp_path / "data"
    path.write_bytes(b"x" * (3 * BLOCK))
    source = Source(str(path), while_reading=Watch())
    source.stream().read()
    source.close()
    # To open it, four reads that bring something or nothing at least.
    assert waiting[:2] == [True, False]
    assert len(waiting) >= 10
    assert waiting == [True, False] * (len(waiting) // 2)
