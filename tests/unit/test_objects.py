"""URLs of objects, and objects as files with random access."""

from __future__ import annotations

import io
import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from identity_cli.backfill import objects
from identity_cli.backfill.assignment import expand_patterns
from identity_cli.backfill.objects import ObjectFile, find_objects, object_name
from identity_cli.backfill.reading import InputTask, read
from identity_cli.errors import InputNotFoundError, InputUnreadableError, UsageError
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("S3://bucket//a b.csv", "s3://bucket/a b.csv"),
        ("s3://key:secret@bucket/a@b.csv", "s3://bucket/a@b.csv"),
        ("s3://key@bucket/a.csv?region=x&scheme=http", "s3://bucket/a.csv"),
        ("s3://bucket/a?.csv", "s3://bucket/a?.csv"),
        ("s3://key:secret@bucket/a?.csv?scheme=http", "s3://bucket/a?.csv"),
        ("gs://anonymous@bucket/a.csv", "gs://bucket/a.csv"),
        ("abfs://box:secret@me.dfs.core.windows.net/a", "abfs://box@me.dfs.core.windows.net/a"),
        ("abfss://:secret@me.blob.core.windows.net/b/a", "abfss://@me.blob.core.windows.net/b/a"),
        ("abfs://127.0.0.1:10000/box/a", "abfs://127.0.0.1:10000/box/a"),
        # It is unclear where a secret ends that is not encoded.
        ("s3://key:sec/ret@bucket/a.csv", "s3://…"),
        ("s3://key:sec?a=ret@bucket/a.csv", "s3://…"),
        ("s3://key:sec#ret@bucket/a.csv", "s3://…"),
        ("s3:///a.csv", "s3://…"),
        ("files/a.csv", "files/a.csv"),
    ],
)
def test_a_name_has_no_credentials(url: str, name: str) -> None:
    assert object_name(url) == name


@pytest.mark.parametrize("url", ["s3://key:sec/ret@bucket/a", "s3://key:sec ret@bucket/a"])
def test_credentials_that_are_not_encoded_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="no valid bucket") as raised:
        find_objects(url)
    assert "sec" not in str(raised.value)
    assert raised.value.hint is not None
    assert "%2F" in raised.value.hint


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^s3://bucket/a: Unexpected query parameter .* 'colour'"):
        find_objects("s3://key:secret@bucket/a?colour=red")


def test_patterns_of_urls_are_left_to_the_store() -> None:
    assert expand_patterns(["s3://bucket/*.csv"]) == ("s3://bucket/*.csv",)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(objects, "_BLOCK", 1000)
    return random.Random(3).randbytes(25_500)


def test_an_object_is_read_at_random_places(data: bytes) -> None:
    file = ObjectFile("s3://bucket/a", "s3://bucket", pa.BufferReader(data))
    expected = io.BytesIO(data)
    source = random.Random(4)
    for _ in range(2000):
        position, count = source.randrange(len(data) + 500), source.randrange(3000)
        for one in (file, expected):
            assert one.seek(position) == position
        assert io.BufferedReader(file, 512).read(count) == expected.read(count)
        file = ObjectFile("s3://bucket/a", "s3://bucket", pa.BufferReader(data))
    assert file.seek(-10, io.SEEK_END) == len(data) - 10
    assert file.readall() == data[-10:]
    assert file.read(1) == b""


class _Counted:
    """A store's file that counts its requests, and fails from some request on."""

    def __init__(self, data: bytes, fails_at: int | None = None) -> None:
        self._file: Any = pa.BufferReader(data)
        self.requests: list[tuple[int, int]] = []
        self._fails_at = fails_at
        self.tag = b"1"

    def size(self) -> int:
        return int(self._file.size())

    def metadata(self) -> dict[str, bytes]:
        return {"ETag": self.tag}

    def close(self) -> None:
        self._file.close()

    def read_at(self, count: int, position: int) -> bytes:
        self.requests.append((count, position))
        if len(self.requests) == self._fails_at:
            raise OSError("the line with wJalr/XU is dead")
        return bytes(self._file.read_at(count, position))


def test_each_block_is_requested_once(data: bytes) -> None:
    counted = _Counted(data)
    source = Source("s3://bucket/a", file=ObjectFile("s3://bucket/a", "s3://bucket", counted))
    source.peek()
    assert source.stream().read() == data
    assert counted.requests == [(min(1000, 25_500 - at), at) for at in range(0, 25_500, 1000)]
    source.rewind()
    assert source.seekable().read() == data
    source.close()


def test_an_error_in_the_middle_is_told_without_credentials(data: bytes) -> None:
    root = "s3://key:wJalr%2FXU@bucket"
    source = Source("s3://bucket/a", file=ObjectFile("s3://bucket/a", root, _Counted(data, 5)))
    with pytest.raises(InputUnreadableError, match=r"the line with \*\*\* is dead") as raised:
        source.stream().read()
    assert raised.value.__cause__ is None
    source.close()


class _Rewritten:
    """An object whose store has another version each time it is opened."""

    def __init__(self) -> None:
        self._versions = iter((b"1", b"2"))

    def open(self) -> ObjectFile:
        counted = _Counted(b"email\na@example.com\n")
        counted.tag = next(self._versions)
        return ObjectFile("s3://bucket/a", "s3://bucket", counted)


def test_an_object_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    stored: Any = _Rewritten()
    plan = ImportPlan(("s3://bucket/a",))
    task = InputTask(
        "s3://bucket/a",
        stored,
        plan.options,
        plan.reading_options(),
        None,
        tmp_path / "part",
        tmp_path / "rejects",
    )
    with pytest.raises(InputUnreadableError, match="changed while it was read"):
        read(task, lambda *_read_so_far: None)


def test_a_client_of_azure_that_aborts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_silence", partial(os._exit, 1))
    with pytest.raises(InputNotFoundError, match="ended without an answer") as raised:
        find_objects("abfs://box:secret@me.dfs.core.windows.net/a")
    assert "secret" not in str(raised.value)
