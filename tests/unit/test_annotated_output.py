"""Copies of inputs with the two columns: everything else is as it was."""

from __future__ import annotations

import io
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.errors import UsageError
from identity_cli.importer.annotated_output import (
    Annotation,
    Beginning,
    CsvOutput,
    JsonLinesOutput,
    ParquetOutput,
    output_format,
)
from identity_cli.importer.formats import InputOptions, Layout, Row, open_reader
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = Annotation(7, "known")
UNKNOWN = Annotation(None, "unknown")


def copied(path: Path, data: bytes, annotation: Annotation = KNOWN, **options: Any) -> bytes:
    """Return the file with the same annotation in every row."""
    path.write_bytes(data)
    stream = io.BytesIO()
    settings = InputOptions(**options)
    with closing(Source(str(path))) as source:
        reader = open_reader(source, settings)
        rows = list(reader.rows()) if reader.layout.input_format == "jsonl" else reader.rows()
        first, *rest = rows if isinstance(rows, list) else [next(rows)]
        text = reader.take_digest_input()
        rest += [] if isinstance(rows, list) else list(rows)
        output = (
            JsonLinesOutput(stream)
            if reader.layout.input_format == "jsonl"
            else CsvOutput(stream, header=settings.header, escape=settings.escape)
        )
        output.begin_input(Beginning(str(path), reader.layout, text, first))
        output.write([first, *rest], [annotation] * (len(rest) + 1))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b'email,note\na@x.org,"1, 2"\n',
            b'email,note,primary_contact_id,identity_status\na@x.org,"1, 2",7,known\n',
        ),
        (
            b"email,note\r\na@x.org,x\r\nb@x.org,y\r\n",
            b"email,note,primary_contact_id,identity_status\r\n"
            b"a@x.org,x,7,known\r\nb@x.org,y,7,known\r\n",
        ),
        (
            b'"email","note"\n"a@x.org",""\n',
            b'"email","note","primary_contact_id","identity_status"\n"a@x.org","","7","known"\n',
        ),
        (
            b"email\na@x.org",
            b"email,primary_contact_id,identity_status\na@x.org,7,known\n",
        ),
        (
            b"email,note\na@x.org,\xff\n",
            b"email,note,primary_contact_id,identity_status\na@x.org,\xff,7,known\n",
        ),
        (
            b'email,note\na@x.org,"two\r\nlines"\n',
            b'email,note,primary_contact_id,identity_status\na@x.org,"two\r\nlines",7,known\n',
        ),
    ],
    ids=["quoted", "CRLF", "all-quoted", "no-last-line-end", "invalid-byte", "line-break"],
)
def test_csv_is_as_it_was_apart_from_the_columns(
    tmp_path: Path, data: bytes, expected: bytes
) -> None:
    assert copied(tmp_path / "a.csv", data) == expected


def test_csv_keeps_delimiter_and_encoding(tmp_path: Path) -> None:
    data = "Größe;email\nü;a@x.org\n".encode("latin-1")
    expected = "Größe;email;primary_contact_id;identity_status\nü;a@x.org;7;known\n"
    found = copied(tmp_path / "a.csv", data, delimiter=";", encoding="latin-1")
    assert found == expected.encode("latin-1")


def test_cells_beyond_the_header_come_after_the_columns(tmp_path: Path) -> None:
    found = copied(tmp_path / "a.csv", b"email,note\na@x.org,x,y\n")
    assert found.splitlines()[1] == b"a@x.org,x,7,known,y"


def test_columns_that_are_there_already_are_replaced(tmp_path: Path) -> None:
    data = b"identity_status,email,primary_contact_id\nknown,a@x.org,3\n"
    found = copied(tmp_path / "a.csv", data, UNKNOWN)
    assert found == b"identity_status,email,primary_contact_id\nunknown,a@x.org,\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"email": "a@x.org" , "n": 1.0}\n', b'{"email": "a@x.org" , "n": 1.0,@}\n'),
        (b'{"email":"a@x.org"}', b'{"email":"a@x.org",@}\n'),
        (b"{ }\n", b"{ @}\n"),
        (b'{"email":"a@x.org"}  \r\n', b'{"email":"a@x.org",@}  \r\n'),
        (
            b'{"email":"a@x.org","o":{"primary_contact_id":1,"identity_status":"known"}}\n',
            b'{"email":"a@x.org","o":{"primary_contact_id":1,"identity_status":"known"},@}\n',
        ),
        (b"not JSON\n", b'{"_raw":"not JSON",@}\n'),
        (
            b'{"identity_status":"split","email":"a@x.org","n":1.50}\n',
            b'{"email": "a@x.org", "n": 1.50,@}\n',
        ),
    ],
    ids=["spaces", "no-line-end", "empty", "CRLF", "nested", "no-object", "own-key"],
)
def test_json_lines_keep_their_text(tmp_path: Path, line: bytes, expected: bytes) -> None:
    added = b'"primary_contact_id":7,"identity_status":"known"'
    assert copied(tmp_path / "a.jsonl", line, input_format="jsonl") == expected.replace(
        b"@}", added + b"}"
    )


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.one_of(st.text(st.characters(codec="utf-8")), st.integers(), st.none(), st.just({})),
        max_size=4,
    )
)
def test_annotating_json_lines_twice_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("twice") / "a.jsonl"
    once = copied(path, json.dumps(document).encode() + b"\n")
    assert json.loads(once) == document | {"primary_contact_id": 7, "identity_status": "known"}
    assert copied(path, once) == once


def parquet(path: Path, *tables: pa.Table) -> Beginning:
    """Write a Parquet file with a row group for each table."""
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    # Its rows are not read through this layout.
    return Beginning(str(path), Layout("csv"), b"", None)


def test_parquet_keeps_schema_and_rows(tmp_path: Path) -> None:
    table = pa.table({"email": ["a@x.org", None], "n": pa.array([1, 2], pa.int16())})
    beginning = parquet(tmp_path / "a.parquet", table, table)
    stream = io.BytesIO()
    output = ParquetOutput(stream)
    output.begin_input(beginning)
    rows = [Row(line, (), (), None) for line in range(1, 5)]
    output.write(rows[:3], [KNOWN, UNKNOWN, KNOWN])
    output.write(rows[3:], [UNKNOWN])
    output.close()
    found = pq.read_table(stream)
    assert found.schema.field("n").type == pa.int16()
    assert found.select(["email", "n"]).equals(pa.concat_tables([table, table]))
    assert found["primary_contact_id"].to_pylist() == [7, None, 7, None]
    assert found["identity_status"].to_pylist() == ["known", "unknown"] * 2


def test_parquet_keeps_two_columns_of_one_name(tmp_path: Path) -> None:
    beginning = parquet(tmp_path / "a.parquet", pa.table([[1], ["x"]], ["n", "n"]))
    stream = io.BytesIO()
    output = ParquetOutput(stream)
    output.begin_input(beginning)
    output.write([Row(1, (), (), None)], [KNOWN])
    output.close()
    found = pq.ParquetFile(stream).read()
    assert found.column_names == ["n", "n", "primary_contact_id", "identity_status"]
    assert [column.to_pylist() for column in found.columns[:2]] == [[1], ["x"]]


def test_parquet_columns_that_are_there_already_are_replaced(tmp_path: Path) -> None:
    table = pa.table({"identity_status": ["split"], "email": ["a@x.org"]})
    stream = io.BytesIO()
    output = ParquetOutput(stream)
    output.begin_input(parquet(tmp_path / "a.parquet", table))
    output.write([Row(1, (), (), None)], [KNOWN])
    output.close()
    assert pq.read_table(stream).to_pylist() == [
        {"email": "a@x.org", "primary_contact_id": 7, "identity_status": "known"}
    ]


def test_object_of_several_lines_becomes_one_line() -> None:
    stream = io.BytesIO()
    content = b'{\n  "email": "a@x.org",\r\n  "note": "a\\nb"\n}'
    JsonLinesOutput(stream).write([Row(1, (), (), content)], [UNKNOWN])
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) == {
        "email": "a@x.org",
        "note": "a\nb",
        "primary_contact_id": None,
        "identity_status": "unknown",
    }


def test_parquet_files_of_different_columns_are_refused(tmp_path: Path) -> None:
    first = parquet(tmp_path / "a.parquet", pa.table({"email": ["a@x.org"]}))
    second = parquet(tmp_path / "b.parquet", pa.table({"mail": ["a@x.org"]}))
    output = ParquetOutput(io.BytesIO())
    output.begin_input(first)
    with pytest.raises(UsageError, match="other columns"):
        output.begin_input(second)


def test_format_without_columns_is_refused() -> None:
    beginning = Beginning("a.vcf", Layout("vcard"), b"", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be annotated"):
        output_format(beginning)
