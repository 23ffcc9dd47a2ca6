"""JSON Lines to rows: keys that are recognised, mapped paths, commas between the objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import read_all

from identity_cli.importer.formats.jsonl import JsonLinesReader
from identity_cli.importer.formats.paths import Path as ValuePath

if TYPE_CHECKING:
    from identity_cli.importer.formats import Row

REAL = Path(__file__).parents[1] / "files" / "real"


def read(path: Path, *mapping: str, **options: Any) -> tuple[list[Row], JsonLinesReader]:
    return read_all(JsonLinesReader, path, *mapping, **options)


def read_text(
    folder: Path, text: str | bytes, *mapping: str, **options: Any
) -> tuple[list[Row], JsonLinesReader]:
    path = folder / "input.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, *mapping, **options)


def values(rows: list[Row]) -> list[tuple[list[object], list[object], str | None]]:
    return [
        (list(row.emails), list(row.phones), row.problem.code if row.problem else None)
        for row in rows
    ]


@pytest.mark.parametrize(
    ("line", "emails", "phones"),
    [
        ('{"email": "a", "mail": "b", "tel": "1", "phone": 2}', ["a", "b"], ["1", 2]),
        ('{"email": ["a", "b"], "phone": [1, null]}', [["a", "b"]], [[1, None]]),
        ('{"email": [], "phone": null}', [[]], [None]),
        ('{"phone": {"$numberLong": "12025550400"}}', [], ["12025550400"]),
        ('{"phone": [{"$numberInt": "1"}, 2]}', [], [["1", 2]]),
        ('{"email": [{"address": "a@x.org"}], "phone": "1"}', [], ["1"]),
        ('{"email": {"value": "a@x.org"}, "phone": [[1]]}', [], []),
        ('{"email": "a", "traits": {"email": "b"}}', ["a"], []),
        ('{"user email": "a", "invitee email": "b"}', ["b"], []),
        ('{"user email": "a", "invitee email": "b", "x": []}', ["b"], []),
        ('{"email": "a[b{c"}', ["a[b{c"], []),
    ],
)
def test_all_recognised_keys_are_used_unless_they_hold_objects(
    tmp_path: Path, line: str, emails: list[object], phones: list[object]
) -> None:
    rows, _ = read_text(tmp_path, line)
    assert values(rows) == [(emails, phones, None)]


@pytest.mark.parametrize(
    ("line", "mapping", "emails"),
    [
        ('{"traits": {"email": "a"}}', ["traits.email"], ["a"]),
        ('{"traits": null}', ["traits.email"], []),
        ('{"traits": {"email": null}}', ["traits.email"], [None]),
        ('{"a": {"b": {"c": "x"}}, "email": "y"}', ["a.b.c", "email"], ["x", "y"]),
        ('{"e": [{"at": "a"}, {"at": "b"}, {}]}', ["e[].at"], [["a", "b"]]),
        ('{"e": [{"at": "a"}]}', ["e.at"], ["a"]),
        ('{"e": ["a", "b"]}', ["e[]"], [["a", "b"]]),
        ('{"e": [{"at": ["a", "b"]}, {"at": "c"}]}', ["e[].at[]"], [["a", "b", "c"]]),
        ('{"a.b": "x", "a": {"b": "y"}}', ["a.b"], ["x"]),
        ('{"t": {"a.b": "x", "a": {"b": "y"}}}', ["t.a.b"], ["x"]),
        ('{"e": {"at": "a"}}', ["e"], [{"at": "a"}]),
        ('{"e": []}', ["e[].at"], []),
        ('{"email": "a", "mail": "b"}', ["mail", "email"], ["b", "a"]),
    ],
)
def test_mapped_paths_find_nested_values(
    tmp_path: Path, line: str, mapping: list[str], emails: list[object]
) -> None:
    rows, _ = read_text(tmp_path, line, *[f"email={name}" for name in mapping])
    assert values(rows) == [(emails, [], None)]


def test_a_path_that_no_object_has_is_unseen(tmp_path: Path) -> None:
    text = '{"traits": {"email": "a"}}\n{"mail": "b"}\n'
    mapping = ["email=traits.email", "email=user.email", "phone=traits.phone", "email=mail"]
    rows, reader = read_text(tmp_path, text, *mapping, key="id", region_column="traits.country")
    assert [row.emails for row in rows] == [["a"], ["b"]]
    assert reader.unseen_keys == ["user.email", "traits.phone", "traits.country", "id"]


@pytest.mark.parametrize("line", ['{"k": 7, "r": "DE", "x": {"k": 8, "r": ["AT"]}, "email": "a"}'])
@pytest.mark.parametrize(
    ("region", "key", "found"),
    [("r", "k", ("DE", 7)), ("x.r", "x.k", ("AT", 8)), ("none", None, (None, None))],
)
def test_region_and_key_are_read_from_their_paths(
    tmp_path: Path, line: str, region: str, key: str | None, found: tuple[object, object]
) -> None:
    rows, _ = read_text(tmp_path, line, region_column=region, key=key)
    assert [(row.region, row.key) for row in rows] == [found]
    flat, _ = read_text(tmp_path, '{"email": "a", "r": "DE", "k": 7}', region_column="r", key="k")
    assert [(row.region, row.key) for row in flat] == [("DE", 7)]


@pytest.mark.parametrize(
    ("line", "unused"),
    [
        ('{"traits": {"email": "a@x.org"}}', {"traits.email": "--map email=traits.email"}),
        ('{"email": [{"address": "a@x.org", "id": 7}]}',
         {"email[].address": "--map email=email[].address"}),
        ('{"phone": {"value": "+1 202 555 0100"}}', {"phone.value": "--map phone=phone.value"}),
        ('{"a": {"b": {"c": {"tel": 123}}}}', {"a.b.c.tel": "--map phone=a.b.c.tel"}),
        ('{"a": {"b": {"c": {"d": {"tel": 123}}}}}', {}),
        ('{"a": {"email": null, "tel": ""}}', {}),
        ('{"email": {"at": "x"}}', {"email": "it is an object"}),
        ('{"email": [{"at": "x"}]}', {"email": "it is an array of objects"}),
        ('{"owner email": "a@x.org"}', {"owner email": "may refer to another"}),
        ('{"email": "a", "x": {"owner email": "a"}}', {"x.owner email": "may refer to another"}),
        ('{"phone": {"$numberLong": "1"}}', {}),
    ],
)  # fmt: skip
def test_values_that_are_not_used_are_reported_with_their_path(
    tmp_path: Path, line: str, unused: dict[str, str]
) -> None:
    _, reader = read_text(tmp_path, line)
    found = dict(reader.column_report.unused)
    assert found.keys() == unused.keys()
    for path, reason in unused.items():
        assert reason in found[path]


def test_used_keys_are_reported_once_and_not_as_unused(tmp_path: Path) -> None:
    text = '{"email": [{"at": "x"}]}\n{"email": "a"}\n{"email": "b", "x": []}\n{"tel": "1"}\n'
    _, reader = read_text(tmp_path, text)
    assert reader.column_report.used == (("email", "email"), ("tel", "phone"))
    assert reader.column_report.unused == ()


def test_objects_with_ids_as_keys_fill_no_memory_with_reports(tmp_path: Path) -> None:
    text = "".join(f'{{"x": {{"id{n}": {{"email": "a@x.org"}}}}}}\n' for n in range(1000))
    _, reader = read_text(tmp_path, text)
    assert len(reader.column_report.unused) == 50


@pytest.mark.parametrize(
    "text",
    [
        '{"email": "a"},\n{"email": "b"},\n',
        '[\n{"email": "a"},\n{"email": "b"}\n]\n',
        '[\r\n{"email": "a"} , \r\n {"email": "b"}\r\n]',
        '{"email": "a"}\n,\n{"email": "b"}\n],\n',
    ],
)
def test_commas_and_brackets_around_objects_are_skipped(tmp_path: Path, text: str) -> None:
    rows, _ = read_text(tmp_path, text)
    assert values(rows) == [(["a"], [], None), (["b"], [], None)]
    assert [row.line for row in rows] == [
        number for number, line in enumerate(text.splitlines(), 1) if "email" in line
    ]


def test_a_comma_is_not_part_of_a_rejected_object(tmp_path: Path) -> None:
    rows, _ = read_text(tmp_path, '{"email": 1, "email": 2},\n{"email": "x"},\n{"email": 1,},\n')
    assert [row.problem.code if row.problem else None for row in rows] == [
        "bad_json",
        None,
        "bad_json",
    ]
    assert rows[1].content == b'{"email": "x"}'


def test_bytes_that_are_not_text_matter_only_in_values_that_are_used(tmp_path: Path) -> None:
    text = b'{"email": "a", "note": "\xff"}\n{"email": "a\xff"},\n{"note": "\xff", "note": "b"}\n'
    rows, _ = read_text(tmp_path, text)
    assert values(rows) == [
        (["a"], [], None),
        (["a\udcff"], [], None),
        ([], [], "bad_json"),
    ]


SCALARS = st.one_of(st.none(), st.text(), st.integers(), st.booleans())
DOCUMENTS = st.dictionaries(
    st.text("ab.", min_size=1, max_size=3),
    st.recursive(
        SCALARS,
        lambda below: st.one_of(
            st.lists(below, max_size=3),
            st.dictionaries(st.text("ab.", min_size=1, max_size=3), below, max_size=3),
        ),
        max_leaves=10,
    ),
    max_size=4,
)


def leaves(value: object, path: str) -> list[tuple[str, object]]:
    """Return every value with its path, elements of arrays one by one."""
    if isinstance(value, list):
        return [leaf for element in value for leaf in leaves(element, f"{path}[]")]
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], f"{path}.{key}")]
    return [(path, value)]


@given(DOCUMENTS)
def test_every_value_is_found_by_its_path(document: dict[str, Any]) -> None:
    dotless = json.loads(json.dumps(document), object_pairs_hook=lambda pairs: {
        key.replace(".", "c"): value for key, value in pairs
    })  # fmt: skip
    for path, value in leaves(dotless, ""):
        found = ValuePath(path[1:]).values(dotless)
        assert found is not None
        assert value in found


@pytest.mark.parametrize(
    ("name", "mapping", "rows"),
    [
        (
            "22-segment.jsonl",
            ["email=traits.email", "phone=traits.phone", "email=context.traits.email",
             "phone=context.traits.phone"],
            [
                (["gil@hay.example"], ["+1 202-555-0260"]),
                (["ida@jay.example"], []),
                (["gil.h@new.example"], ["2025550260"]),
                (["ida@jay.example"], ["+12025550261"]),
            ],
        ),
        (
            "44-mongoexport.json",
            ["email=email", "email=emails[].address", "phone=phone", "phone=profile.phone"],
            [
                (["abe@mg.example"], ["12025550400"]),
                ([["bea@mg.example", "bea2@mg.example"]], ["+12025550401"]),
                (
                    [["abe@mg.example", "abe2@mg.example"]],
                    [["+12025550402", "+12025550403"]],
                ),
            ],
        ),
    ],
)  # fmt: skip
def test_real_exports(name: str, mapping: list[str], rows: list[tuple[object, object]]) -> None:
    found, reader = read(REAL / name, *mapping)
    assert [(row.emails, row.phones) for row in found] == rows
    assert reader.unseen_keys == []
