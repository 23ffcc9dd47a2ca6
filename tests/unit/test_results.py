"""Rejects, outcomes and the summary: what is written, where, and for whom."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli import ContactRequest
from identity_cli.errors import InvalidRequestError, OutputError
from identity_cli.graph.service import Outcome
from identity_cli.importer.formats import InputOptions, Layout, Row, open_reader
from identity_cli.importer.rejects import RejectsWriter
from identity_cli.importer.results import (
    ResultFile,
    outcome_line,
    remove_old_summary,
    write_summary,
)
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = Path(__file__).parents[2] / "samples"


def rejects_of(path: Path, options: InputOptions | None = None) -> tuple[bytes, list[object]]:
    """The rejects file of an input, and the (line, email, phone) of the rows that are none."""
    options = options or InputOptions()
    good: list[object] = []
    source = Source(str(path))
    target = path.with_name(f"{path.name}.rejects")
    target.unlink(missing_ok=True)
    file = ResultFile(str(target))
    try:
        reader = open_reader(source, options)
        writer = RejectsWriter(file, reader.layout)
        for row in reader.rows():
            problem = row.problem
            try:
                if problem is not None:
                    raise problem
                request = ContactRequest(emails=row.emails, phones=row.phones)
                good.append((row.line, request.email, request.phone))
            except InvalidRequestError as invalid:
                writer.write(row, invalid.code, "because")
    finally:
        file.close()
        source.close()
    return target.read_bytes() if target.exists() else b"", good


@pytest.mark.parametrize(
    ("name", "data", "rejects"),
    [
        ("a.csv", b"email,phone\na@x.org,1\n", b""),
        (
            "a.csv",
            b"E-Mail,name,Phone Number\nx,Marty,1\n",
            b"E-Mail,name,Phone Number,_line,_code,_reason\nx,Marty,1,2,bad_email,because\n",
        ),
        (
            "a.csv",
            b"email,phone\n\n,\na@x.org,1,2,3\n",
            b"email,phone,_line,_code,_reason\n,,3,no_identifier,because\n"
            b"a@x.org,1,4,bad_row,because,2,3\n",
        ),
        (
            "a.csv",
            b'"na,me",email\r\n"x\r\ny","a""b"\r\n"x\ry",\r\n',
            b'"na,me",email,_line,_code,_reason\n"x\r\ny","a""b",2,bad_email,because\n'
            b'"x\ry",,4,no_identifier,because\n',
        ),
        (
            "a.csv",
            b"email,note\n\xff@x.org,\xfe\n,a\0b\n",
            b"email,note,_line,_code,_reason\n\xff@x.org,\xfe,2,bad_encoding,because\n"
            b",a\0b,3,no_identifier,because\n",
        ),
        ("a.tsv", b"email\tphone\n\tx,y\n", b"email\tphone\t_line\t_code\t_reason\n\tx,y\t2\t"),
        # The rejects of a rejects file: no column twice, the newer verdict.
        (
            "a.csv",
            b"email,phone,_line,_code,_reason\nx,1,9,bad_email,old\na@x.org,1,8,bad_row,old,2\n",
            b"email,phone,_line,_code,_reason\nx,1,2,bad_email,because\n"
            b"a@x.org,1,3,bad_row,because,2\n",
        ),
        ("a.jsonl", b'{"email": "a@x.org"}\n', b""),
        (
            "a.jsonl",
            '{"name": "J\u00fcrgen", "email": "x", "n": [1.50, {}]}\n'.encode(),
            '{"name": "J\u00fcrgen", "email": "x", "n": [1.5, {}], "_line": 1,'
            ' "_code": "bad_email", "_reason": "because"}\n'.encode(),
        ),
        (
            "a.jsonl",
            b'{"email": "x", "_line": 7, "_code": "bad_row", "_reason": "old"}\n',
            b'{"email": "x", "_line": 1, "_code": "bad_email", "_reason": "because"}\n',
        ),
        (
            "a.jsonl",
            b'[1]\r\n{}\n{"_raw": "[1]", "_line": 1, "_code": "bad_json", "_reason": "old"}\n',
            b'{"_raw": "[1]", "_line": 1, "_code": "bad_json", "_reason": "because"}\n'
            b'{"_raw": "{}", "_line": 2, "_code": "no_identifier", "_reason": "because"}\n'
            b'{"_raw": "[1]", "_line": 3, "_code": "no_identifier", "_reason": "because"}\n',
        ),
        # Written as an object, the first of the two emails would be lost.
        (
            "a.jsonl",
            b'{"email": "a", "email": "b"}',
            b'{"_raw": "{\\"email\\": \\"a\\", \\"email\\": \\"b\\"}", "_line": 1,',
        ),
        ("a.jsonl", b'{"a": "\xff"}\n', b'{"_raw": "{\\"a\\": \\"\\\\xff\\"}", "_line": 1,'),
        ("a.jsonl", b'{"a": ' + b"[" * 9000, b'{"_raw": "{\\"a\\": [['),
        ("a.jsonl", b'{"phone": "x", "n": ' + b"9" * 4000 + b"}", b'{"phone": "x", "n": 9999'),
    ],
)  # fmt: skip
def test_rejects(tmp_path: Path, name: str, data: bytes, rejects: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found, _ = rejects_of(path, InputOptions(input_format="jsonl" if "json" in name else "csv"))
    assert found.startswith(rejects)
    if not rejects or rejects.endswith(b"\n"):
        assert found == rejects


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", b""),
        ("utf-8-sig", b"\xef\xbb\xbf"),
        ("latin-1", b""),
        ("utf-16", "\ufeff".encode("utf-16")[:2]),
        ("utf-16-be", b""),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_the_encoding_stays(tmp_path: Path, name: str, encoding: str, bom: bytes) -> None:
    """One BOM at the most, and what a file begins with is not repeated by a run that goes on."""
    text = {
        "a.csv": 'email,note\n"J\u00fcr,gen",\u00fc\n"\u00e4,",b\n',
        "a.jsonl": '{"email": "J\u00fcrgen"}\n{"email": "\\u20ac"}\n',
    }[name]
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    options = InputOptions(encoding=encoding)
    found, good = rejects_of(path, options)
    assert good == []
    assert found.startswith(bom)
    read_again = found.decode(encoding)
    first_row = read_again.splitlines()[name == "a.csv"]
    assert "J\u00fcr" in (first_row if name == "a.csv" else json.loads(first_row)["email"])
    assert "\ufeff" not in read_again
    assert "\ufffd" not in read_again
    # The rejects file, not mended, is rejected as it was.
    path.write_bytes(found)
    again, good = rejects_of(path, options)
    assert good == []
    assert len(again) == len(found)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_bytes_that_are_no_text_between_wide_characters_are_replaced(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "a.csv"
    header, rest = "email,note\nbad,".encode(encoding), ("\n" * 2).encode(encoding)[-2:]
    path.write_bytes(header + b"\xd8\xd8" * 4 + rest[: len(rest) // 2])
    found, good = rejects_of(path, InputOptions(encoding=encoding))
    assert good == []
    assert "bad,\ufffd" in found.decode(encoding)


def test_a_byte_that_is_no_text_stays_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"email,note\na\x81@x.org,\x8f\n")
    found, _ = rejects_of(path, InputOptions(encoding="cp1252"))
    assert found.splitlines()[1] == b"a\x81@x.org,\x8f,2,bad_encoding,because"


def test_a_writer_goes_on_where_another_stopped(tmp_path: Path) -> None:
    def writer(file: ResultFile) -> RejectsWriter:
        return RejectsWriter(file, Layout("csv", "utf-16", ["email"]))

    row = Row(2, ["x"], [], ["x"])
    path = tmp_path / "rejects.csv"
    file = ResultFile(str(path))
    writer(file).write(row, "bad_email", "one")
    size = file.size
    writer(file).write(row, "bad_email", "lost")
    file.close()
    file = ResultFile(str(path))
    file.cut_back(size)
    writer(file).write(row, "bad_email", "two")
    file.close()
    assert path.read_bytes().decode("utf-16") == (
        "email,_line,_code,_reason\nx,2,bad_email,one\nx,2,bad_email,two\n"
    )


def test_a_mended_rejects_file_is_imported_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "messy.csv"
    path.write_bytes((SAMPLES / "messy.csv").read_bytes())
    rejects, good = rejects_of(path)
    assert len(good) == 6
    header, *rows = rejects.splitlines()
    assert header == b"Full Name,E-Mail Address,Phone Number,Note,_line,_code,_reason"
    assert len(rows) == 7
    mended = tmp_path / "messy.csv.12.rejects"
    lines = [
        b",".join([b"name", b"mended%d@hillvalley.edu" % i, b"", b"", *row.split(b",")[4:7]])
        for i, row in enumerate(rows)
    ]
    mended.write_bytes(b"\n".join([header, *lines]))
    rejects, good = rejects_of(mended)
    assert rejects == b""
    assert [row[1] for row in good] == [f"mended{i}@hillvalley.edu" for i in range(7)]  # type: ignore[index]


@pytest.mark.parametrize(
    ("data", "options", "rejects"),
    [
        (
            b"sep=;\r\nemail;note\r\nx;a;b\r\n",
            {},
            b"email;note;_line;_code;_reason\nx;a;3;bad_row;because;b\n",
        ),
        (
            b'Report\n\nemail|note\nx|"a|b"\n',
            {},
            b'email|note|_line|_code|_reason\nx|"a|b"|4|bad_email|because\n',
        ),
        (
            b'email,note\nx,"a\\"b, c\\\\"\n',
            {"escape": "\\"},
            b'email,note,_line,_code,_reason\nx,"a\\"b, c\\\\",2,bad_email,because\n',
        ),
        (
            b"x,1\n",
            {"header": False, "mapping": [("email", "1")]},
            b"1,2,_line,_code,_reason\nx,1,1,bad_email,because\n",
        ),
        (
            b"\xef\xbb\xbfemail;note\nx;a\n",
            {},
            b"\xef\xbb\xbfemail;note;_line;_code;_reason\nx;a;2;bad_email;because\n",
        ),
    ],
    ids=["sep", "preamble", "escape", "no header", "bom"],
)
def test_rejects_are_in_the_dialect_of_the_input_and_are_imported_like_it(
    tmp_path: Path, data: bytes, options: dict[str, Any], rejects: bytes
) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    found, _ = rejects_of(path, InputOptions(**options))
    assert found == rejects
    # Not corrected, they are rejected again, at the line where they are now.
    path.write_bytes(found)
    again, good = rejects_of(path, InputOptions(**options))
    assert good == []
    assert again.split(b"because")[-1] == rejects.split(b"because")[-1]
    assert again.count(b"_code") == 1
    assert re.sub(rb"(?<=[,;|])\d+(?=[,;|]bad)", b"", again) == re.sub(
        rb"(?<=[,;|])\d+(?=[,;|]bad)", b"", rejects
    )


escaped = st.text(st.sampled_from('\\",N\na '), max_size=6)


@given(st.lists(escaped, min_size=1, max_size=4))
def test_escaped_cells_come_back(tmp_path_factory: Any, notes: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "escaped.csv"
    file = ResultFile(str(path))
    columns = ["email", *(f"n{number}" for number in range(len(notes)))]
    writer = RejectsWriter(file, Layout("csv", "utf-8", columns, escape="\\"))
    writer.write(Row(2, ["x"], [], ["x", *notes]), "bad_email", "because")
    file.close()
    source = Source(str(path))
    (row,) = open_reader(source, InputOptions(escape="\\")).rows()
    source.close()
    assert [cell.lstrip(" ") for cell in row.content[1 : 1 + len(notes)]] == [
        note.lstrip(" ") for note in notes
    ]


@pytest.mark.parametrize("input_format", ["excel", "parquet"])
def test_rejects_of_tables_that_are_no_text_are_csv(tmp_path: Path, input_format: Any) -> None:
    path = tmp_path / "out"
    file = ResultFile(str(path))
    writer = RejectsWriter(file, Layout(input_format, columns=["email", "n"]))
    writer.write(Row(2, ["x"], [], ["x", 1.5]), "bad_email", "because")
    writer.write(Row(3, ["y"], [], ["y", None]), "bad_email", "because")
    file.close()
    assert path.read_bytes() == (
        b"email,n,_line,_code,_reason\nx,1.5,2,bad_email,because\ny,,3,bad_email,because\n"
    )


def test_rejects_of_a_json_document_are_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "out"
    file = ResultFile(str(path))
    writer = RejectsWriter(file, Layout("json"))
    writer.write(Row(2, ["x"], [], b'{\n "email": "x"\n}'), "bad_email", "because")
    file.close()
    assert path.read_bytes() == (
        b'{"email": "x", "_line": 2, "_code": "bad_email", "_reason": "because"}\n'
    )


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("card", "lines"),
    [
        ("BEGIN:VCARD\r\nEMAIL:x\r\nEND:VCARD\r\n", ["BEGIN:VCARD", "EMAIL:x"]),
        ("BEGIN:VCARD\nEMAIL:x\nend:vcard", ["BEGIN:VCARD", "EMAIL:x"]),
        ("BEGIN:VCARD\nEMAIL:x\n", ["BEGIN:VCARD", "EMAIL:x"]),
        (
            "BEGIN:VCARD\nEMAIL:x\nX-LINE:9\nX-CODE:bad_row\nX-REASON:old\nEND:VCARD",
            ["BEGIN:VCARD", "EMAIL:x"],
        ),
    ],
    ids=["crlf", "lf", "without end", "rejected before"],
)
def test_rejected_card_has_the_reason_before_its_end(
    tmp_path: Path, card: str, lines: list[str], as_bytes: bool
) -> None:
    path = tmp_path / "out"
    file = ResultFile(str(path))
    content = card.encode() if as_bytes else card
    RejectsWriter(file, Layout("vcard")).write(Row(7, ["x"], [], content), "bad_email", "a, b\nc")
    file.close()
    assert path.read_bytes().decode().split("\r\n") == [
        *lines,
        "X-LINE:7",
        "X-CODE:bad_email",
        "X-REASON:a\\, b c",
        "END:VCARD",
        "",
    ]


cells = st.text(st.characters(codec="utf-8"), max_size=5)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5))
def test_cells_stay_what_they_are(tmp_path_factory: Any, rows: list[list[str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [["email", "note"], *(["x", *row] for row in rows)]
        )
    found, _ = rejects_of(path)
    again = list(csv.reader(io.StringIO(found.decode(), newline=""), strict=True))
    # Blank cells beyond the header are dropped.
    expected = [["x", first, *([second] if second.strip() else [])] for first, second in rows]
    assert [[*row[:2], *row[5:]] for row in again[1:]] == expected


# Files.


@pytest.fixture
def open_files() -> Iterator[list[ResultFile]]:
    files: list[ResultFile] = []
    yield files
    for file in files:
        file.close()


def test_a_file_is_made_with_the_first_write_and_for_its_owner_only(
    tmp_path: Path, open_files: list[ResultFile]
) -> None:
    path = tmp_path / "out"
    file = ResultFile(str(path))
    open_files.append(file)
    assert (file.size, file.used, path.exists()) == (None, False, False)
    before = os.umask(0)
    try:
        file.write(b"abc")
    finally:
        os.umask(before)
    assert (file.size, file.used) == (3, True)
    assert path.stat().st_mode & 0o777 == 0o600
    file.sync()
    assert path.read_bytes() == b"abc"


def test_a_file_is_cut_back(tmp_path: Path, open_files: list[ResultFile]) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"one\ntwo\nthr")
    file = ResultFile(str(path))
    open_files.append(file)
    file.cut_back(8)
    file.write(b"three\n")
    assert file.size == 14
    file.cut_back(4)
    file.close()
    assert path.read_bytes() == b"one\n"
    with pytest.raises(OutputError, match="out is not as") as caught:
        file.cut_back(5)
    assert "--restart" in (caught.value.hint or "")
    path.unlink()
    with pytest.raises(OutputError):
        file.cut_back(0)


def test_file_that_is_opened_again_begins_anew(
    tmp_path: Path, open_files: list[ResultFile]
) -> None:
    file = ResultFile(str(tmp_path / "out"))
    open_files.append(file)
    file.write(b"on the disk\n")
    file.sync()
    file.write(b"in the buffer\n")
    file.open()
    file.write(b"new\n")
    file.close()
    assert (tmp_path / "out").read_bytes() == b"new\n"


def test_file_made_after_a_checkpoint_without_one_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"made after the checkpoint")
    file = ResultFile(str(path))
    file.cut_back(None)
    assert not path.exists()
    assert (file.size, file.used) == (None, False)


def test_special_file_that_is_cut_back_is_appended_to(
    tmp_path: Path, open_files: list[ResultFile]
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"held\n")
    with open(log, "ab") as held:
        file = ResultFile(f"/dev/fd/{held.fileno()}")
        open_files.append(file)
        file.write(b"one\n")
        file.cut_back(2)
        file.write(b"two\n")
        file.cut_back(None)
        file.remove()
    assert log.read_bytes() == b"held\none\ntwo\n"


def test_file_that_got_nothing_because_the_disk_is_full_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ResultFile(str(tmp_path / "out"))
    file.write(b"x")

    def full(_number: int) -> None:
        (tmp_path / "out").write_bytes(b"")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        file.sync()
    assert not file.used
    monkeypatch.undo()
    file.close()


def test_old_summary_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("{}")
    remove_old_summary(str(path))
    remove_old_summary(str(path))
    remove_old_summary(os.devnull)
    assert not path.exists()
    assert Path(os.devnull).exists()


def test_results_into_a_pipe_and_into_nothing(tmp_path: Path, open_files: list[ResultFile]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    for path in (str(pipe), os.devnull):
        file = ResultFile(path)
        open_files.append(file)
        file.write(b"abc")
        assert file.size == 3
        file.sync()
        file.close()
    reader.join()
    assert read == [b"abc"]


@pytest.mark.parametrize("name", ["", ".", "none/out", "plain/out", "a\0b", "x" * 300])
def test_a_place_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").touch()
    with pytest.raises(OutputError) as caught:
        ResultFile(name).write(b"x")
    assert caught.value.hint
    with pytest.raises(OutputError):
        write_summary(name, {})


def test_a_full_disk() -> None:
    file = ResultFile("/dev/full")
    file.write(b"x")
    with pytest.raises(OutputError, match="No space left"):
        file.sync()
    with pytest.raises(OutputError, match="No space left"):
        file.close()
    with pytest.raises(OutputError, match="No space left"):
        write_summary("/dev/full", {})


def test_the_summary_stands_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    link = tmp_path / "link"
    link.symlink_to(path)
    for run in (1, 2):
        write_summary(str(link), {"run_id": run, "input": ["\u00fc", "\udcff"]})
        assert json.loads(path.read_bytes()) == {"run_id": run, "input": ["\u00fc", "\udcff"]}
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError):
        write_summary(str(path), {"run_id": object()})
    assert json.loads(path.read_bytes())["run_id"] == 2
    assert sorted(os.listdir(tmp_path)) == ["link", "summary.json"]


def test_the_summary_does_not_replace_a_device() -> None:
    write_summary(os.devnull, {"run_id": 1})
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(
    ("outcome", "path", "line"),
    [
        (
            Outcome("linked", 1, 2),
            None,
            b'{"line": 2, "outcome": "linked", "primaryContactId": 1, "contactId": 2}\n',
        ),
        (
            Outcome("created", 1, 2, (2, 3)),
            None,
            b'{"line": 2, "outcome": "created", "primaryContactId": 1, "contactId": 2,'
            b' "contactIds": [2, 3]}\n',
        ),
        (
            Outcome("blocked", None, None),
            None,
            b'{"line": 2, "outcome": "blocked", "primaryContactId": null, "contactId": null}\n',
        ),
        (
            Outcome("merged", 3, None),
            'a"b.csv',
            b'{"line": 2, "outcome": "merged", "primaryContactId": 3, "contactId": null,'
            b' "input": "a\\"b.csv"}\n',
        ),
    ],
)
def test_an_outcome(outcome: Outcome, path: str | None, line: bytes) -> None:
    assert outcome_line(2, outcome, path) == line


def test_an_outcome_of_a_file_whose_name_is_no_text() -> None:
    line = outcome_line(2, Outcome("merged", 3, None), "a\udcff.csv")
    assert json.loads(line)["input"] == "a\udcff.csv"
