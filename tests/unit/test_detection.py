"""The format, the encoding and the dialect of an input, whatever its name."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.errors import InputUnreadableError, UsageError
from identity_cli.importer.formats import InputOptions, detect, open_reader
from identity_cli.importer.formats.dialect import Dialect, find_dialect
from identity_cli.importer.formats.text import LINE_MAX
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.importer.formats import Reader, Row

REAL = Path(__file__).parents[1] / "files" / "real"
CSV = b"email,phone\na@x.org,1\n"


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def encrypted(data: bytes) -> bytes:
    """Set the flag of encryption in both headers of a zip file of one file."""
    changed = bytearray(zipped(("a.csv", data)))
    changed[6] |= 1
    changed[changed.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


SPREADSHEET = "application/vnd.oasis.opendocument.spreadsheet"
XLSX = zipped(("[Content_Types].xml", b""), ("xl/workbook.xml", b""))
ODS = zipped(("mimetype", SPREADSHEET.encode()), ("content.xml", b""), method=zipfile.ZIP_STORED)


@pytest.fixture
def detected(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Detects bytes in a file with a name that says nothing."""

    def detect_bytes(data: bytes, **options: Any) -> tuple[str, str]:
        path = tmp_path / "export"
        path.write_bytes(data)
        source = Source(str(path))
        try:
            found = detect(source, InputOptions(**options))
            return found.input_format, found.encoding
        finally:
            source.close()

    return detect_bytes


def read(path: Path, **options: Any) -> tuple[list[Row], Reader]:
    source = Source(str(path))
    try:
        reader = open_reader(source, InputOptions(**options))
        return list(reader.rows()), reader
    finally:
        source.close()


def values(rows: list[Row]) -> list[tuple[int, list[object], list[object]]]:
    return [(row.line, list(row.emails), list(row.phones)) for row in rows]


# Formats.

FORMATS: list[tuple[str, bytes]] = [
    ("csv", CSV),
    ("csv", b"email"),
    ("csv", b"[Email],[Phone]\na@x.org,1\n"),
    ("csv", b'"email"\n'),
    ("csv", b"ORCID,email\n1,a@x.org\n"),
    ("csv", b"PARENT,email\n1,a@x.org\n"),
    ("jsonl", b'{"email": "a"}\n'),
    ("jsonl", b'{"email": "a"}'),
    ("jsonl", b'\n {"email": "a"},\n{"email": "b"}\n'),
    ("jsonl", b'{"email": "a",}\n{"email": "b"}\n'),
    ("jsonl", b'{"email": "a",}\n'),
    ("jsonl", b"{'email': 'a'}\n"),
    ("jsonl", b'{"email": "\xff"}\n'),
    ("jsonl", b"{}\n"),
    ("jsonl", b'{"id": 1, "rows": [{"a": 1}]}\n{"id": 2, "rows": [{"a": 1}]}\n'),
    ("jsonl", b'{"email": "a", "orders": [{"id": 1}]}\n'),
    ("json", b'{"customers": [{"email": "a"}], "next": null}'),
    ("json", b'{"email": "a"}{"email": "b"}\n'),
    ("json", b'{"email": "a"} {"email": "b"}'),
    ("json", b'{\n  "email": "a"\n}\n'),
    ("json", b'{"customers": [\n{"email": "a"}]}'),
    ("json", b'{"customers": [' + b'{"email": "a"},' * 10_000 + b"{}]}"),
    ("json", b'[{"email": "a"}]'),
    ("json", b'[\n{"email":"a"},\n{"email":"b"}\n]\n'),
    ("json", b"  \n[]"),
    ("json", b"["),
    ("excel", XLSX),
    ("excel", ODS),
    ("excel", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
    ("parquet", b"PAR1\x15\x04\x15" + bytes(100)),
    ("vcard", b"BEGIN:VCARD\nVERSION:3.0\nEND:VCARD\n"),
    ("vcard", b"\r\nbegin:vcard\r\n"),
]
PACKERS: list[Callable[[bytes], bytes]] = [
    bytes,
    gzipped,
    zstandard.compress,
    lambda data: zipped(("folder/export", data)),
]


@pytest.mark.parametrize(("input_format", "data"), FORMATS)
@pytest.mark.parametrize("pack", PACKERS, ids=["plain", "gzip", "zstd", "zip"])
def test_format_is_found_by_content(
    detected: Any, pack: Callable[[bytes], bytes], input_format: str, data: bytes
) -> None:
    assert detected(pack(data))[0] == input_format


TEXTS = [
    (name, data) for name, data in FORMATS if data.isascii() and name not in {"excel", "parquet"}
]


@pytest.mark.parametrize(("input_format", "data"), TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_format_of_text_is_found_behind_a_byte_order_mark(
    detected: Any, encoding: str, input_format: str, data: bytes
) -> None:
    assert detected(data.decode().encode(encoding)) == (input_format, encoding)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (CSV, "utf-8"),
        (b"\xef\xbb\xbf" + CSV, "utf-8-sig"),
        (b"\xfe\xff" + CSV.decode().encode("utf-16-be"), "utf-16"),
        (b"\x00\x00\xfe\xff" + CSV.decode().encode("utf-32-be"), "utf-32"),
        (CSV.decode().encode("utf-16-le"), "utf-16-le"),
        (CSV.decode().encode("utf-16-be"), "utf-16-be"),
        ("Vorname;T\u00e9l\u0151fon;email\n".encode("utf-16-le"), "utf-16-le"),
        ("T\u00e9l\u00e9phone\n".encode("latin-1"), "utf-8"),
        (b"email,a\0b\n", "utf-8"),
    ],
)
def test_encoding_is_found_by_its_mark_or_by_its_nuls(
    detected: Any, data: bytes, encoding: str
) -> None:
    assert detected(data)[1] == encoding


def test_options_are_not_questioned(detected: Any) -> None:
    assert detected(CSV, input_format="jsonl") == ("jsonl", "utf-8")
    assert detected(b"\xef\xbb\xbf" + CSV, encoding="cp1252") == ("csv", "cp1252")
    assert detected(XLSX, encoding="cp1252")[0] == "excel"
    assert detected(b'{"email": "a"}', input_format="csv") == ("csv", "utf-8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html><body>Log in", "it is an HTML page"),
        (b"\n  <html lang='en'>", "it is an HTML page"),
        (b"<table><tr><td>Email</td></tr></table>", "it is an HTML page"),
        (b'<?xml version="1.0"?>\n<contacts/>', "it is an XML document"),
        (b"%PDF-1.7\n", "it is a PDF document"),
        (b"SQLite format 3\0" + bytes(100), "it is an SQLite database"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "it is a PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "it is a JPEG image"),
        (b"GIF89a" + bytes(10), "it is a GIF image"),
        (b"{\\rtf1\\ansi email}", "it is a rich text document"),
        (b"7z\xbc\xaf'\x1c" + bytes(20), "it is a 7-Zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "it is a pointer of Git LFS"),
        (bytes(range(256)), "it is binary data of an unknown format"),
        (b"\0" * 100, "it is binary data of an unknown format"),
        (gzipped(gzipped(CSV)), "the file is compressed twice"),
        (zipped(("a.gz", gzipped(CSV))), "the file is compressed twice"),
        (zipped(("a.zip", zipped(("a.csv", CSV)))), "a zip file inside of compressed data"),
        (gzipped(zipped(("a.csv", CSV))), "a zip file inside of compressed data"),
        (zipped(("[Content_Types].xml", b""), ("word/x.xml", b"")), "it is a Word document"),
        (
            zipped(("mimetype", b"application/epub+zip")),
            "it is an office document, not a spreadsheet",
        ),
        (zipped(), "the zip file is empty"),
        (zipped(("folder/", b"")), "the zip file is empty"),
        (
            zipped(*((f"{number}.csv", CSV) for number in range(7))),
            "the zip file holds 7 files: '0.csv', '1.csv', '2.csv', '3.csv', '4.csv' and 2 more",
        ),
        (encrypted(CSV), "the zip file is encrypted"),
        (
            zipped(("a.csv", CSV), method=zipfile.ZIP_LZMA),
            "the zip file uses a compression method that is not supported",
        ),
        (zipped(("a.csv", CSV))[:-5], "the zip file is broken or cut off"),
        (b"PK\x03\x04", "the zip file is broken or cut off"),
    ],
)
def test_what_is_no_format_of_ours_is_named(detected: Any, data: bytes, message: str) -> None:
    with pytest.raises(InputUnreadableError) as caught:
        detected(data)
    assert str(caught.value) == message
    assert caught.value.hint


@pytest.mark.parametrize("pack", PACKERS, ids=["plain", "gzip", "zstd", "zip"])
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n \n", b"\xff\xfe", b"\xff\xfe\n\0"])
def test_file_without_content_is_empty(
    tmp_path: Path, pack: Callable[[bytes], bytes], data: bytes
) -> None:
    path = tmp_path / "a"
    path.write_bytes(pack(data))
    with pytest.raises(InputUnreadableError, match="the file is empty"):
        read(path)


# Archives and pipes.


def test_zip_of_one_file_is_read_whatever_macos_added(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(
        zipped(("x/", b""), ("x/a.csv", CSV), ("__MACOSX/x/._a.csv", b"?"), ("x/.DS_Store", b"?"))
    )
    rows, reader = read(path)
    assert values(rows) == [(2, ["a@x.org"], ["1"])]
    assert reader.take_digest_input() == CSV


def test_zip_with_a_broken_place_has_the_rows_before_it(tmp_path: Path) -> None:
    rows = [b"%d@x.org,%d\n" % (number * 7919 % 100_003, number) for number in range(50_000)]
    data = bytearray(zipped(("a.csv", b"email,phone\n" + b"".join(rows))))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path = tmp_path / "a"
    path.write_bytes(data)
    source = Source(str(path))
    reader = open_reader(source, InputOptions())
    with pytest.raises(InputUnreadableError, match="the compressed data is broken"):
        list(reader.rows())
    source.close()
    assert 10_000 < reader.line < 50_000


def test_zip_bomb_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w") as file,
    ):
        file.write(b"email\n")
        for _ in range(100):
            file.write(b"\n" * (1 << 20))
    assert path.stat().st_size < 1 << 18
    source = Source(str(path))
    tracemalloc.start()
    try:
        stream = source.stream()
        size = 0
        while data := stream.read(1 << 16):
            size += len(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
    assert size > 99 << 20
    assert peak < 1 << 23


@pytest.mark.parametrize("pack", PACKERS, ids=["plain", "gzip", "zstd", "zip"])
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_random_access_sees_the_whole_content_also_after_a_rewind(
    tmp_path: Path, pack: Callable[[bytes], bytes], piped: bool
) -> None:
    content = b"PAR1" + os.urandom(200_000)
    path = tmp_path / "a"
    writer = None
    if piped:
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(pack(content),))
        writer.start()
    else:
        path.write_bytes(pack(content))
    source = Source(str(path))
    source.keep()
    for _ in range(2):
        assert source.peek().startswith(b"PAR1")
        file = source.seekable()
        assert file.read() == content
        assert file.seek(-5, os.SEEK_END) == len(content) - 5
        assert file.read(3) == content[-5:-2]
        file.close()
        source.rewind()
    source.close()
    if writer is not None:
        writer.join()


@pytest.mark.parametrize("pack", PACKERS, ids=["plain", "gzip", "zstd", "zip"])
def test_kept_pipe_is_read_again_after_a_rewind(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = pack(b"Report\n\nemail;phone\n" + b"a@x.org;1\n" * 20_000)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    source = Source(str(pipe))
    source.keep()
    reader = open_reader(source, InputOptions())
    rows = reader.rows()
    first = [next(rows) for _ in range(1000)]
    digest = reader.take_digest_input()
    source.rewind()
    reader = open_reader(source, InputOptions())
    again = list(reader.rows())
    assert again[:1000] == first
    assert reader.take_digest_input().startswith(digest)
    assert len(again) == 20_000
    source.close()
    writer.join()


@pytest.mark.parametrize(
    ("header", "row"), [(b"email,phone\n", b"a@x.org,1\n"), (b"", b'{"email": "a@x.org"}\n')]
)
def test_rows_of_a_slow_pipe_come_one_by_one(tmp_path: Path, header: bytes, row: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen = threading.Event()

    def write() -> None:
        with open(pipe, "wb", buffering=0) as file:
            # Not even the first line comes at once.
            for part in (header[:4], header[4:], row[:4], row[4:]):
                file.write(part)
                time.sleep(0.02)
            assert seen.wait(20)
            file.write(row)

    writer = threading.Thread(target=write)
    writer.start()
    source = Source(str(pipe))
    rows = open_reader(source, InputOptions()).rows()
    assert next(rows).emails[0] == "a@x.org"
    seen.set()
    assert len(list(rows)) == 1
    source.close()
    writer.join()


# CSV.


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("email,phone\n", Dialect(",")),
        ("email;phone\n", Dialect(";")),
        ("email\tphone\n", Dialect("\t")),
        ("email|phone\n", Dialect("|")),
        ("Telefon;Mobil\n1;2\n", Dialect(";")),
        ("a,b,c,d;email\n", Dialect(";")),
        ('"a;b;c;d",email\n', Dialect(",")),
        ('"Last, First, Middle";E-Mail;Telefon\n', Dialect(";")),
        ("email\n", Dialect(",")),
        ("email", Dialect(",")),
        ("", Dialect(",")),
        ("a;b;c\n1;2;3\n", Dialect(";")),
        ("sep=;\nemail;phone\n", Dialect(";", 1)),
        ('"sep=|"\r\nemail|phone\r\n', Dialect("|", 1)),
        ("SEP=\t\nemail\tphone\n", Dialect("\t", 1)),
        ("sep=,\r\nReport\r\n\r\nemail,phone\r\n", Dialect(",", 3, 2)),
        ("Report\n\nemail,phone\n", Dialect(",", 2, 2)),
        ("Report\rof 2026\remail,phone\r", Dialect(",", 2, 2)),
        ("Report,,,\n,,,\nname,email,phone,x\n", Dialect(",", 2, 2)),
        ("\n\nemail,phone\n", Dialect(",", 2)),
        ('Notes:\n"one, two"\n\nname,email,company\n', Dialect(",", 3, 3)),
        # A row with the name of a column in a cell is no header.
        ("id,via\n1,phone\n2,email\n", Dialect(",")),
        ("via\nphone\n", Dialect(",")),
        ("id,via,x\n1,phone\n", Dialect(",")),
        ("id,via\n1,phone,a@x.org\n", Dialect(",")),
        ("id,via\n1,phone,2025550101\n", Dialect(",")),
        ("x\n" * 19 + "a,email\n", Dialect(",", 19, 19)),
        ("x\n" * 20 + "a,email\n", Dialect(",")),
    ],
)
def test_dialect_by_the_first_lines(text: str, dialect: Dialect) -> None:
    assert find_dialect(text, InputOptions()) == dialect


@pytest.mark.parametrize(
    ("text", "options", "dialect"),
    [
        ("email;phone\n", {"delimiter": ","}, Dialect(",")),
        ("sep=;\nemail|phone\n", {"delimiter": "|"}, Dialect("|", 1)),
        ("a\nb\nemail;phone\n", {"skip_lines": 2}, Dialect(";", 2)),
        ("a\nemail;phone\n", {"skip_lines": 0}, Dialect(",")),
        ("x\nemail;phone\n1,2,3\n", {"skip_lines": 2}, Dialect(",", 2)),
        ("a;b\n1;2\n", {"mapping": [("email", "b")]}, Dialect(";")),
        ("Report\na;b\n1;2\n", {"mapping": [("email", "b")]}, Dialect(";", 1, 1)),
        ("a@x.org;1\nb@x.org;2\n", {"header": False, "mapping": [("email", "1")]}, Dialect(";")),
        (
            "x\na;1\n",
            {"header": False, "mapping": [("email", "1")], "skip_lines": 1},
            Dialect(";", 1),
        ),
    ],
)
def test_dialect_with_options(text: str, options: dict[str, Any], dialect: Dialect) -> None:
    assert find_dialect(text, InputOptions(**options)) == dialect


def read_bytes(tmp_path: Path, data: bytes, **options: Any) -> tuple[list[Row], Reader]:
    path = tmp_path / "contacts"
    path.write_bytes(data)
    return read(path, **options)


def test_lines_before_the_header_are_skipped_with_a_note(tmp_path: Path) -> None:
    rows, reader = read_bytes(tmp_path, b"Report\nof 2026\n\nemail,phone\na@x.org,1\n")
    assert values(rows) == [(5, ["a@x.org"], ["1"])]
    assert list(reader.notes) == [f"{tmp_path / 'contacts'}: skipped 3 lines before the header"]
    assert reader.line == 5
    _, reader = read_bytes(tmp_path, b"Report\nemail,phone\na@x.org,1\n")
    assert list(reader.notes) == [f"{tmp_path / 'contacts'}: skipped 1 line before the header"]


@pytest.mark.parametrize("data", [CSV, b"\n\n" + CSV, b"sep=,\n" + CSV])
def test_nothing_is_noted_of_a_plain_file(tmp_path: Path, data: bytes) -> None:
    assert list(read_bytes(tmp_path, data)[1].notes) == []


def test_skipped_lines_may_hold_anything(tmp_path: Path) -> None:
    data = b'a quite "lone quote, \0\xff\nemail\n' + CSV
    rows, reader = read_bytes(tmp_path, data, skip_lines=2)
    assert values(rows) == [(4, ["a@x.org"], ["1"])]
    assert list(reader.notes) == []


def test_text_in_utf_16_without_a_mark_is_noted(tmp_path: Path) -> None:
    rows, reader = read_bytes(tmp_path, CSV.decode().encode("utf-16-le"))
    assert values(rows) == [(2, ["a@x.org"], ["1"])]
    assert "read as UTF-16-LE" in reader.notes[0]
    assert reader.layout.encoding == "utf-16-le"


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    options: dict[str, Any] = {"header": False, "mapping": [("phone", "2"), ("email", "1")]}
    rows, reader = read_bytes(tmp_path, b"\na@x.org;1;x\nb@x.org;2;y\n", **options)
    assert values(rows) == [(2, ["a@x.org"], ["1"]), (3, ["b@x.org"], ["2"])]
    assert list(reader.layout.columns) == ["1", "2", "3"]
    assert reader.take_digest_input() == b"\na@x.org;1;x\nb@x.org;2;y\n"
    rows, _ = read_bytes(tmp_path, b'"a@x.org\n";1\nb;2\n', **options)
    assert [row.line for row in rows] == [1, 3]
    with pytest.raises(UsageError, match="there is no column '3'"):
        read_bytes(tmp_path, b"a;1\n", header=False, mapping=[("email", "3")])


@pytest.mark.parametrize(
    ("data", "cells"),
    [
        (b'email,n\na,"x \\"y\\", z"\n', ["a", 'x "y", z']),
        (b'email,n\na,"x ""y"""\n', ["a", 'x "y"']),
        (b"email,n\na,x\\,y\n", ["a", "x,y"]),
        (b"email,n\n\\N,\\N\n", ["", ""]),
        (b"email,n\n\\N,x\\\\N\n", ["", "x\\N"]),
        (b'email,n\na,"C:\\\\N"\n', ["a", "C:\\N"]),
    ],
)
def test_escaped_cells(tmp_path: Path, data: bytes, cells: list[str]) -> None:
    rows, reader = read_bytes(tmp_path, data, escape="\\")
    assert [row.content for row in rows] == [cells]
    assert reader.layout.escape == "\\"


@pytest.mark.parametrize(
    ("name", "kind"), [("T\u00e9l\u00e9phone", "phone"), ("Courriel \u00e9lectronique", None)]
)
def test_name_of_a_used_column_that_is_no_utf_8_is_an_error(
    tmp_path: Path, name: str, kind: str | None
) -> None:
    data = f"email,{name}\na@x.org,1\n".encode("cp1252")
    if kind is None:
        rows, _ = read_bytes(tmp_path, data)
        assert values(rows) == [(2, ["a@x.org"], [])]
        return
    with pytest.raises(InputUnreadableError, match="the name of a column is not UTF-8") as caught:
        read_bytes(tmp_path, data)
    assert "--encoding cp1252" in (caught.value.hint or "")
    rows, _ = read_bytes(tmp_path, data, encoding="cp1252")
    assert values(rows) == [(2, ["a@x.org"], ["1"])]


def test_invalid_bytes_in_columns_that_are_not_used_change_nothing(tmp_path: Path) -> None:
    rows, _ = read_bytes(tmp_path, b"name,email\nJ\xfcrgen,a@x.org\n")
    assert values(rows) == [(2, ["a@x.org"], [])]
    assert rows[0].problem is None


# Hostile files.


def test_header_of_a_hundred_thousand_columns(tmp_path: Path) -> None:
    header = ",".join(f"c{number}" for number in range(100_000))
    data = f"{header},email\n{',' * 100_000}a@x.org\n".encode()
    rows, _ = read_bytes(tmp_path, data)
    assert values(rows) == [(2, ["a@x.org"], [])]


def test_header_of_nearly_four_megabytes(tmp_path: Path) -> None:
    data = b"x" * (LINE_MAX - 100) + b",email\ny,a@x.org\n"
    rows, _ = read_bytes(tmp_path, data)
    assert values(rows) == [(2, ["a@x.org"], [])]
    with pytest.raises(InputUnreadableError, match="a line of more than"):
        read_bytes(tmp_path, b"x" * (LINE_MAX + 1) + b",email\ny,a@x.org\n")


def test_lone_quote_in_the_preamble_is_skipped(tmp_path: Path) -> None:
    rows, _ = read_bytes(tmp_path, b'5" report\nname,email\nx,a@x.org\n')
    assert values(rows) == [(3, ["a@x.org"], [])]


@pytest.mark.parametrize("ends", [["\r"] * 4, ["\n"] * 4, ["\r\n"] * 4, ["\r", "\n", "\r\n", ""]])
def test_lines_are_counted_with_any_line_end(tmp_path: Path, ends: list[str]) -> None:
    lines = ["Report", "email,phone", "a@x.org,1", "b@x.org,2"]
    data = "".join(line + end for line, end in zip(lines, ends, strict=True))
    rows, _ = read_bytes(tmp_path, data.encode())
    assert values(rows) == [(3, ["a@x.org"], ["1"]), (4, ["b@x.org"], ["2"])]


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_detected_or_refused(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    source = Source(str(path))
    with suppress(InputUnreadableError):
        detect(source, InputOptions())
    source.close()


@given(st.text(max_size=200))
def test_text_of_any_kind_has_a_dialect(text: str) -> None:
    dialect = find_dialect(text, InputOptions())
    assert 0 <= dialect.preamble <= dialect.skipped <= 21


# Files as people have them.

USED: dict[str, tuple[str, str, int, list[str]]] = {
    "01-google-new.csv": (
        ",",
        "utf-8",
        6,
        ["E-mail 1 - Value", "E-mail 2 - Value", "Phone 1 - Value", "Phone 2 - Value"],
    ),
    "05-hubspot.csv": (
        ",",
        "utf-8",
        5,
        ["Email", "Additional email addresses", "Phone Number", "Mobile Phone Number"],
    ),
    "07-salesforce-report.csv": (",", "utf-8", 8, ["Email", "Phone", "Mobile"]),
    "09-shopify-customers.csv": (",", "utf-8", 5, ["Email", "Default Address Phone", "Phone"]),
    "11-woocommerce.csv": (
        ",",
        "utf-8",
        3,
        ["user_email", "billing_email", "billing_phone", "shipping_phone"],
    ),
    "15-zendesk.csv": (",", "utf-8", 3, ["email", "phone"]),
    "16-pipedrive.csv": (
        ",",
        "utf-8",
        4,
        [
            *(f"Person - Email - {kind}" for kind in ("Work", "Home", "Other")),
            *(f"Person - Phone - {kind}" for kind in ("Work", "Home", "Mobile", "Other")),
        ],
    ),
    "18-square.csv": (",", "utf-8", 3, ["Email Address", "Phone Number"]),
    "21-meta-leads-utf16.csv": ("\t", "utf-16", 4, ["email", "phone_number"]),
    "28-constantcontact.csv": (
        ",",
        "utf-8",
        3,
        ["Email address", "Phone - home", "Phone - mobile", "Phone - work", "Phone - other"],
    ),
    "29-linkedin-connections.csv": (",", "utf-8", 3, ["Email Address"]),
    "36-excel-sep.csv": (";", "utf-8", 3, ["E-Mail", "Telefon"]),
    "36b-excel-semicolon.csv": (";", "utf-8-sig", 3, ["E-Mail", "Telefon"]),
    "38-excel-damage.csv": (",", "utf-8", 10, ["email", "phone"]),
    "45-decorated.csv": (",", "utf-8", 10, ["email", "phone"]),
    "47b-pandas.csv": (",", "utf-8", 6, ["email", "phone"]),
    "51-trailing-comma.csv": (",", "utf-8", 2, ["email", "phone"]),
    "55-two-phones-no-email.csv": (",", "utf-8", 2, ["landline", "mobile"]),
    "56-country-column.csv": (",", "utf-8", 6, ["email", "phone"]),
}


@pytest.mark.parametrize("name", USED)
def test_real_export_is_read_without_options(name: str) -> None:
    delimiter, encoding, count, used = USED[name]
    rows, reader = read(REAL / name)
    assert (reader.layout.delimiter, reader.layout.encoding) == (delimiter, encoding)
    assert [column for column, _ in reader.column_report.used] == used
    assert [row.problem for row in rows] == [None] * count


def test_all_real_tables_are_tried() -> None:
    assert set(USED) == {path.name for path in REAL.glob("*.csv")}


def test_footer_of_a_report_has_no_contact_values() -> None:
    rows, _ = read(REAL / "07-salesforce-report.csv")
    footer = [(row.emails, row.phones) for row in rows[3:]]
    assert json.dumps(footer) == json.dumps([[[""], ["", ""]]] * 5)
