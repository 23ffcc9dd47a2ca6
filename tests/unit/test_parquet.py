"""Parquet files to rows."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import read_all

from identity_cli.errors import InputUnreadableError, InvalidRequestError, UsageError
from identity_cli.graph.normalize import normalize_phone
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.formats.parquet import ParquetReader
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from identity_cli.importer.formats import Row

REAL = Path(__file__).parents[1] / "files" / "real"


def read(path: Path, *mapping: str, **options: Any) -> tuple[list[Row], ParquetReader]:
    return read_all(ParquetReader, path, *mapping, **options)


def lines_of(path: Path) -> tuple[list[int], InputUnreadableError | None]:
    """Return the lines that can be read, and what ended the reading."""
    source = Source(str(path))
    lines: list[int] = []
    try:
        lines += (row.line for row in ParquetReader(source, InputOptions()).rows())
    except InputUnreadableError as error:
        return lines, error
    finally:
        source.close()
    return lines, None


def read_table(
    folder: Path, columns: dict[str, Any], *mapping: str, **options: Any
) -> tuple[list[Row], ParquetReader]:
    path = folder / "input.parquet"
    pq.write_table(pa.table(columns), path)
    return read(path, *mapping, **options)


def test_only_the_columns_that_are_used_are_read(tmp_path: Path) -> None:
    columns = {"id": [1, 2], "Email": ["a", None], "note": ["x", "y"], "phone": [None, 12025550400]}
    rows, reader = read_table(tmp_path, columns)
    assert [(row.line, row.emails, row.phones) for row in rows] == [
        (1, ["a"], [None]),
        (2, [None], [12025550400]),
    ]
    assert [row.content for row in rows] == [["a", ""], ["", "12025550400"]]
    assert reader.layout.columns == ["Email", "phone"]
    assert reader.take_digest_input() == b"a\t\n\t12025550400\n"
    assert reader.take_digest_input() == b""
    assert reader.column_report.used == (("Email", "email"), ("phone", "phone"))


@pytest.mark.parametrize(
    ("values", "expected", "cell"),
    [
        (pa.array(["1"], pa.large_string()), "1", "1"),
        (pa.array(["1"]).dictionary_encode(), "1", "1"),
        (pa.array([b"1"], pa.binary()), "1", "1"),
        (pa.array([b"1\xff"], pa.binary()), "1\udcff", "1\udcff"),
        (pa.array([b"\xff"]).view(pa.string()), "\udcff", "\udcff"),
        (pa.array([12025550400]), 12025550400, "12025550400"),
        (pa.array([2**63 - 1]), 2**63 - 1, "9223372036854775807"),
        (pa.array([5551234.0]), 5551234.0, "5551234"),
        (pa.array([float("nan")]), None, ""),
        (pa.array([Decimal("5551234.00")]), 5551234, "5551234"),
        (pa.array([Decimal("1.5")]), "1.5", "1.5"),
        (pa.array([True]), True, "True"),
        (pa.array([None], pa.null()), None, ""),
        (pa.array([["1", "2"]]), ["1", "2"], '["1", "2"]'),
        (pa.array([[1, None]]), [1, None], "[1, null]"),
        (pa.array([[]], pa.list_(pa.string())), [], "[]"),
        (pa.array([["1"]], pa.large_list(pa.string())), ["1"], '["1"]'),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_values_of_every_type_become_text_and_numbers(
    tmp_path: Path, values: Any, expected: object, cell: str
) -> None:
    rows, _ = read_table(tmp_path, {"phone": values})
    assert rows[0].phones == [expected]
    assert rows[0].content == [cell]


@pytest.mark.parametrize(
    "values",
    [
        [datetime.date(2025, 1, 1)],
        [datetime.datetime(2025, 1, 1)],
        pa.array([1], pa.timestamp("ns")),
        [datetime.time(10, 30)],
    ],
)
def test_a_date_is_not_a_phone_number(tmp_path: Path, values: Any) -> None:
    rows, _ = read_table(tmp_path, {"phone": values})
    for region in (None, "DE"):
        with pytest.raises(InvalidRequestError) as caught:
            normalize_phone(rows[0].phones[0], region)
        assert caught.value.code == "bad_phone"


NESTED = {
    "traits": [{"email": "a", "phones": ["1", "2"]}, None],
    "emails": [[{"address": "b"}, {"address": "c"}], []],
    "a.b": ["d", "e"],
    "tags": [["x"], ["y"]],
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("traits.email", ["a", None]),
        ("emails[].address", [["b", "c"], None]),
        ("emails.list.element.address", [["b", "c"], None]),
        ("emails.list.item.address", [["b", "c"], None]),
        ("emails.address", [["b", "c"], None]),
        ("traits.phones", [["1", "2"], None]),
        ("traits.phones[]", [["1", "2"], None]),
        ("traits.phones.list.element", [["1", "2"], None]),
        ("a.b", ["d", "e"]),
        ("tags", [["x"], ["y"]]),
        ("tags.list.element", [["x"], ["y"]]),
    ],
)
def test_nested_values_are_found_by_their_path(
    tmp_path: Path, name: str, values: list[object]
) -> None:
    rows, _ = read_table(tmp_path, NESTED, f"email={name}")
    assert [row.emails for row in rows] == [[value] for value in values]


def test_nested_values_are_not_used_unasked(tmp_path: Path) -> None:
    columns = {"email": ["a"], "contact": [{"email": "b", "phone": "1"}]}
    rows, reader = read_table(tmp_path, columns)
    assert [(row.emails, row.phones) for row in rows] == [(["a"], [])]
    unused = dict(reader.column_report.unused)
    assert "--map email=contact.email" in unused["contact.email"]
    assert "--map phone=contact.phone" in unused["contact.phone"]
    assert reader.column_report.used == (("email", "email"),)


def test_region_and_key_are_read(tmp_path: Path) -> None:
    columns = {"email": ["a"], "at": [{"land": "DE"}], "id": [7]}
    rows, reader = read_table(tmp_path, columns, region_column="at.land", key="id")
    assert [(row.region, row.key) for row in rows] == [("DE", 7)]
    assert reader.layout.columns == ["email", "at.land", "id"]


def test_a_mapped_column_that_does_not_exist_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no column 'traits\.mail'") as caught:
        read_table(tmp_path, NESTED, "email=traits.mail")
    assert "'emails[].address'" in (caught.value.hint or "")


@pytest.mark.parametrize("columns", [{"a": ["x"]}, {"a": [{"email": "x"}]}])
def test_no_recognised_column_is_an_error_that_names_the_columns(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    with pytest.raises(InputUnreadableError, match="no column is an email") as caught:
        read_table(tmp_path, columns)
    assert "'a" in (caught.value.hint or "")


def test_columns_of_the_same_name_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "input.parquet"
    names = ["email", "x", "email"]
    pq.write_table(pa.table([pa.array([value]) for value in "abc"], names=names), path)
    rows, _ = read(path)
    assert rows[0].emails == ["a", "c"]


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1" + b"x" * 100, b"PAR1" + bytes(50) + b"PAR1"]
)
def test_a_file_that_is_not_parquet_is_a_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "input.parquet"
    path.write_bytes(data)
    with pytest.raises(InputUnreadableError, match="the Parquet file cannot be read"):
        read(path)


def test_a_broken_page_keeps_the_rows_before_and_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "input.parquet"
    emails = [f"a{number}@x.org" for number in range(10_000)]
    pq.write_table(
        pa.table({"email": emails}), path, row_group_size=5_000, use_dictionary=False,
        compression="zstd", write_page_checksum=True,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(1).column(0)
    begin = group.data_page_offset
    data[begin + 100 : begin + 400] = bytes(300)
    path.write_bytes(data)
    lines, error = lines_of(path)
    assert lines
    assert lines == list(range(1, len(lines) + 1))
    assert len(lines) <= 5_000
    assert error is not None
    assert error.location.endswith(f"input.parquet:{len(lines) + 1}")


def test_damaged_files_end_in_clear_errors(tmp_path: Path) -> None:
    path = tmp_path / "input.parquet"
    pq.write_table(pa.table({"email": ["a"] * 100, "phone": list(range(100))}), path)
    data = path.read_bytes()
    dice = random.Random(1)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(dice.randrange(1, 10)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        _, error = lines_of(path)
        assert error is None or "cannot be read" in str(error) or "no column" in str(error)


def test_a_real_export() -> None:
    rows, _ = read(REAL / "41-contacts.parquet")
    assert [(row.emails, row.phones) for row in rows] == [
        (["ada@pq.example"], ["+12025550370"]),
        (["bob@pq.example"], ["+12025550371"]),
        (["ada2@pq.example"], ["+12025550370"]),
    ]
