"""JSON documents to rows: arrays, objects around an array, one object after the other."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import read_until_error

from identity_cli.importer.formats import InputOptions
from identity_cli.importer.formats.json import JsonReader
from identity_cli.importer.formats.text import LINE_MAX
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from identity_cli.errors import InputUnreadableError
    from identity_cli.importer.formats import Row

REAL = Path(__file__).parents[1] / "files" / "real"


def read(
    path: Path, *mapping: str, **options: Any
) -> tuple[list[Row], InputUnreadableError | None, JsonReader]:
    return read_until_error(JsonReader, path, *mapping, **options)


def read_text(
    folder: Path, text: str | bytes, *mapping: str, **options: Any
) -> tuple[list[Row], InputUnreadableError | None, JsonReader]:
    path = folder / "input.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, *mapping, **options)


def emails(rows: list[Row]) -> list[object]:
    return [email for row in rows for email in row.emails]


A, B = '{"email": "a"}', '{"email": "b"}'
PRETTY = '{\n  "email": "a",\n  "x": {}\n}\n{\n  "email": "b"\n}\n'


@pytest.mark.parametrize(
    "text",
    [
        f"[{A},{B}]",
        f"\ufeff [ {A} ,\r\n {B} , ] \n",
        f"{A}{B}",
        f"{A}\n{B}\n",
        f"{A},\n{B},\n",
        PRETTY,
        f'{{"customers": [{A}, {B}]}}',
        f'{{"n": 2, "none": [], "data": {{"tags": ["x"], "items": [{A}, {B}], "next": null}}}}',
        f'{{"links": [{{"href": "x"}}], "members": [{A}, {B}], "included": [{{"id": 1}}]}}',
        f'{{"x": [{{"id": 1}}, [{A}]], "list": [{A}, {B}]}}',
        f'{{"customers": [{{"id": 0}}, {A}, {B}]}}',
    ],
)
def test_the_objects_of_every_kind_of_document_are_rows(tmp_path: Path, text: str) -> None:
    rows, error, _ = read_text(tmp_path, text)
    assert error is None
    assert emails(rows) == ["a", "b"]
    assert [row.line for row in rows if row.emails] == ([2, 3] if '"id": 0' in text else [1, 2])


@pytest.mark.parametrize("text", ["", " \n", "[]", "[ ]\n", "\ufeff"])
def test_an_empty_document_has_no_rows(tmp_path: Path, text: str) -> None:
    rows, error, reader = read_text(tmp_path, text, "email=x")
    assert (rows, error, reader.unseen_keys) == ([], None, [])


@pytest.mark.parametrize(
    "text",
    [
        '{"email": "a", "orders": [{"email": "b"}]}',
        '{"email": "a", "orders": [{"id": 1}]} {"id": 7, "orders": [{"email": "b"}]}',
    ],
)
def test_an_object_with_values_of_its_own_is_a_row(tmp_path: Path, text: str) -> None:
    rows, error, _ = read_text(tmp_path, text)
    assert error is None
    assert emails(rows) == ["a"]


def test_a_mapped_path_decides_what_is_a_row(tmp_path: Path) -> None:
    text = '{"list": [{"who": {"at": "a"}}, {"who": {"at": "b"}}], "other": [{"email": "c"}]}'
    rows, error, reader = read_text(tmp_path, text, "email=who.at")
    assert error is None
    assert emails(rows) == ["a", "b"]
    assert reader.unseen_keys == []


def test_an_array_without_known_keys_is_an_error_that_names_it(tmp_path: Path) -> None:
    rows, error, _ = read_text(tmp_path, '{"results": [{"properties": {"email": "a"}}]}')
    assert rows == []
    assert "'results'" in str(error)
    assert "--map email=KEY" in (error.hint if error and error.hint else "")


def test_a_second_array_of_contacts_is_an_error_after_the_rows_of_the_first(
    tmp_path: Path,
) -> None:
    rows, error, _ = read_text(tmp_path, f'{{"a": [{A}], "b": {{"c": [{B}]}}}}')
    assert emails(rows) == ["a"]
    assert "'b.c'" in str(error)


@pytest.mark.parametrize(
    ("element", "code"),
    [
        ("[1]", "bad_json"),
        ("7", "bad_json"),
        ('"a@x.org"', "bad_json"),
        ('{"email": "a", "email": "b"}', "bad_json"),
        ('{"phone": NaN}', "bad_json"),
        ('{"phone": ' + "9" * 5000 + "}", "bad_json"),
        ('{"email": "\\ud800"}', "bad_json"),
    ],
)
def test_an_element_that_is_no_valid_object_costs_itself_alone(
    tmp_path: Path, element: str, code: str
) -> None:
    rows, error, _ = read_text(tmp_path, f"[{A}, {element}, {B}]")
    assert error is None
    assert [row.problem.code if row.problem else None for row in rows] == [None, code, None]
    assert rows[1].content == element.encode()


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    text = '[{"phone": 12025550400}, {"phone": 9007199254740993}, {"phone": 5551234.0}]'
    rows, _, _ = read_text(tmp_path, text)
    assert [row.phones for row in rows] == [[12025550400], [9007199254740993], [5551234.0]]


@pytest.mark.parametrize(
    ("text", "kept", "place", "problem"),
    [
        (f'[{A},\n{{"email": "b"', ["a"], "object 2, at line 2, column 14", "delimiter"),
        (f"[{A},\n", ["a"], "object 2, at line 2, column 1", "it ends too early"),
        (f"[{A}", ["a"], "object 2, at line 1, column 16", "it ends too early"),
        (f"[{A}\n {B}]", ["a"], "object 2, at line 2, column 2", "',' is missing"),
        (f"[{A}]\n{B}", ["a"], "object 2, at line 2, column 1", "after the end of the array"),
        (f"{A}\nnot JSON", ["a"], "object 2, at line 2, column 1", "Expecting value"),
        (f'{{"c": [{A}, {{"em', ["a"], "object 2, at line 1, column 25", "Unterminated string"),
        (f'{{"c": [{A}]', ["a"], "object 2, at line 1, column 23", "it ends too early"),
        (f'{{"c": [{A}], 7: 8}}', ["a"], "object 2, at line 1, column 25", "a key in double"),
        ("{'email': 'a'}", [], "object 1, at line 1, column 2", "a key in double quotes"),
        ("[" * 1_000_000, [], "object 1, at line 1, column 2", "nested too deep"),
        ('{"a":' * 1_000_000, [], "object 1, at line 1, column 1", "nested too deep"),
        (f"[{A}, " + "[" * 1_000_000 + "]", ["a"], "object 2, at line 1", "nested too deep"),
        (f'[{A}, {{"email": "{"x" * 3 * LINE_MAX}"}}]', ["a"], "object 2, at", "has more than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_document_keeps_the_rows_before_and_names_the_place(
    tmp_path: Path, text: str, kept: list[str], place: str, problem: str
) -> None:
    rows, error, _ = read_text(tmp_path, text)
    assert emails(rows) == kept
    assert place in str(error)
    assert problem in str(error)
    assert error is not None
    assert error.location.endswith("input.json")


def test_bytes_that_are_not_text_matter_only_in_values_that_are_used(tmp_path: Path) -> None:
    text = b'[{"email": "a", "note": "\xff"}, {"email": "\xff"}]'
    rows, error, _ = read_text(tmp_path, text)
    assert error is None
    assert emails(rows) == ["a", "\udcff"]
    assert rows[0].content == b'{"email": "a", "note": "\xff"}'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1", "utf-32"])
def test_documents_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = '[{"email": "jürgen"}, {"email": "b"}]'.encode(encoding)
    rows, error, _ = read_text(tmp_path, text, encoding=encoding)
    assert (emails(rows), error) == (["jürgen", "b"], None)


@pytest.mark.slow
def test_a_large_document_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"meta": {"n": 1},\n"customers": [\n')
        file.writelines(
            f'{{"email": "a{n}@x.org", "note": "{"n" * 100}"}},\n' for n in range(100_000)
        )
        file.write(f'{A}\n], "end": "{"x" * 100_000}"}}')
    source = Source(str(path))
    reader = JsonReader(source, InputOptions())
    tracemalloc.start()
    try:
        count = 0
        for row in reader.rows():
            count += 1
            if row.line % 500 == 0:
                reader.take_digest_input()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        source.close()
    assert count == 100_001
    # The first object is looked for in this many characters.
    assert peak < 8 * LINE_MAX


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=20), max_size=3), max_size=20),
    st.sampled_from([None, 2]),
    st.integers(1, 40),
)
def test_rows_do_not_depend_on_how_the_bytes_arrive(
    tmp_path_factory: Any, objects: list[dict[str, str]], indent: int | None, size: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "input.json"
    path.write_text(json.dumps(objects, indent=indent, ensure_ascii=False))
    source = Source(str(path))
    try:
        reader = JsonReader(source, InputOptions())
        text: Any = reader._text
        read_some = text._read_some
        text._read_some = lambda _size: read_some(size)
        assert [json.loads(row.content) for row in reader.rows()] == objects
        assert reader.take_digest_input().count(b"\n") >= len(objects)
    finally:
        source.close()


@pytest.mark.parametrize(
    ("name", "mapping", "found"),
    [
        ("43-array.json", [], ["abe@arr.example", "bea@arr.example", "abe2@arr.example"]),
        (
            "23-shopify-api.json",
            ["email=email", "phone=phone", "phone=default_address.phone"],
            ["kit@lam.example", "", "mo@nye.example"],
        ),
        (
            "44-mongoexport.json",
            ["email=email", "email=emails[].address", "phone=phone", "phone=profile.phone"],
            [
                "abe@mg.example",
                ["bea@mg.example", "bea2@mg.example"],
                ["abe@mg.example", "abe2@mg.example"],
            ],
        ),
    ],
)
def test_real_exports(name: str, mapping: list[str], found: list[object]) -> None:
    rows, error, reader = read(REAL / name, *mapping)
    assert error is None
    assert emails(rows) == found
    assert reader.unseen_keys == []
    if name == "23-shopify-api.json":
        assert "addresses[].phone" in dict(reader.column_report.unused)
