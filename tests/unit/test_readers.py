"""CSV and JSON Lines to rows: what is a row, what is a reject, what ends the reading."""

from __future__ import annotations

import csv
import io
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from identity_cli import ContactRequest
from identity_cli.errors import InputUnreadableError, InvalidRequestError, UsageError
from identity_cli.graph.normalize import REJECT_CODES
from identity_cli.importer.formats import InputOptions, open_reader
from identity_cli.importer.formats.text import LINE_MAX
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.importer.formats import Reader, Row

SAMPLES = Path(__file__).parents[2] / "samples"

Read = tuple[int, object, object, "str | None"]


def read_rows(path: Path | str, **options: Any) -> tuple[list[Read], InputUnreadableError | None]:
    """(line, email, phone, code of what is wrong) of every row, and what ended the reading.

    The email and the phone number are the first of the row, None if it has no column of the kind.
    """
    rows: list[Read] = []
    source = Source(str(path))
    try:
        for row in open_reader(source, InputOptions(**options)).rows():
            email, phone = (values[0] if values else None for values in (row.emails, row.phones))
            rows += [(row.line, email, phone, row.problem.code if row.problem else None)]
    except InputUnreadableError as error:
        return rows, error
    finally:
        source.close()
    return rows, None


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[Read], InputUnreadableError | None]]:
    """Reads bytes as a file of that name; that of JSON Lines is read as such."""

    def read_bytes(
        data: bytes, name: str = "input.csv", **options: Any
    ) -> tuple[list[Read], InputUnreadableError | None]:
        path = tmp_path / name
        path.write_bytes(data)
        if name.endswith(".jsonl"):
            options.setdefault("input_format", "jsonl")
        return read_rows(path, **options)

    return read_bytes


@pytest.fixture
def open_rows() -> Iterator[Callable[..., tuple[Reader, Iterator[Row]]]]:
    """Opens the reader of a file, and its rows."""
    with ExitStack() as opened:

        def open_file(path: Path, **options: Any) -> tuple[Reader, Iterator[Row]]:
            source = Source(str(path))
            opened.callback(source.close)
            reader = open_reader(source, InputOptions(**options))
            return reader, reader.rows()

        yield open_file


# CSV: the header.

EMAIL_NAMES = ["email", "e-mail", "mail", "email address", "Email_Address", "E MAIL", " e-Mail "]
PHONE_NAMES = [
    "phone",
    "phone number",
    "phonenumber",
    "mobile",
    "tel",
    "telephone",
    "Phone-Number",
    "PHONE_NUMBER",
    "phoneNumber",
]


@pytest.mark.parametrize("email", EMAIL_NAMES)
@pytest.mark.parametrize("phone", PHONE_NAMES)
def test_names_of_columns_and_keys(read: Any, email: str, phone: str) -> None:
    text = f"note,{phone},{email}\nn,1,a@x.org\n"
    assert read(text.encode()) == ([(2, "a@x.org", "1", None)], None)
    line = json.dumps({"note": "n", phone: "1", email: "a@x.org"})
    assert read(line.encode(), "input.jsonl") == ([(1, "a@x.org", "1", None)], None)


def test_row_has_the_values_of_all_columns_that_are_used(tmp_path: Path, open_rows: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Mobile,email,note,Tel,Land,Nr,mail\n1,a,n,2,DE,7,b\n")
    _, rows = open_rows(path, region_column="Land", key="Nr")
    (row,) = rows
    assert (list(row.emails), list(row.phones)) == (["a", "b"], ["1", "2"])
    assert (row.region, row.key) == ("DE", "7")


def test_header_without_a_column_that_is_recognised_ends_the_reading(read: Any) -> None:
    rows, error = read(b"a,b\nx,y\n")
    assert rows == []
    assert str(error) == "no column is an email or a phone number"
    assert error.location.endswith("input.csv:1")
    assert error.hint == "the columns are 'a', 'b': use --map email=COLUMN or --map phone=COLUMN"


def test_mapped_column_that_does_not_exist_is_wrong_usage(read: Any) -> None:
    with pytest.raises(UsageError, match="--map email=c: there is no column 'c'"):
        read(b"a,b\nx,y\n", mapping=[("email", "c")])


@pytest.mark.parametrize("data", [b"", b"\n\n", b" \n,,\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_csv_file_without_header_is_empty(read: Any, data: bytes) -> None:
    rows, error = read(data)
    assert rows == []
    assert str(error) == "the file is empty"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"email;phone\na@x.org;1\n", {"delimiter": ";"}),
        (b"email|phone\na@x.org|1\n", {"delimiter": "|"}),
        (b"email\tphone\na@x.org\t1\n", {"delimiter": "\t"}),
        ("email\u00a7phone\na@x.org\u00a71\n".encode(), {"delimiter": "\u00a7"}),
        (b"\xef\xbb\xbfemail,phone\na@x.org,1\n", {}),
        (b'\xef\xbb\xbf"email",phone\na@x.org,1\n', {}),
        (b"\xef\xbb\xbfemail,phone\na@x.org,1\n", {"encoding": "utf-8-sig"}),
        ("email,phone\na@x.org,1\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("\ufeffemail,phone\na@x.org,1\n".encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("email,phone\na@x.org,1\n".encode("utf-32"), {"encoding": "utf-32"}),
        ("email,phone\na@x.org,1\n".encode("cp037"), {"encoding": "cp037"}),
        (b"email,phone\r\na@x.org,1\r\n", {}),
        (b"email,phone\ra@x.org,1\r", {}),
        (b"email,phone\na@x.org,1", {}),
        (b'"email","phone"\r\n"a@x.org","1"', {}),
    ],
)
def test_the_same_row_written_in_many_ways(read: Any, data: bytes, options: dict[str, str]) -> None:
    assert read(data, **options) == ([(2, "a@x.org", "1", None)], None)


def test_latin_1(read: Any) -> None:
    data = "email,phone\nj\u00fcrgen@x.org,1\n".encode("latin-1")
    assert read(data, encoding="latin-1") == ([(2, "j\u00fcrgen@x.org", "1", None)], None)


def test_text_that_is_not_utf_16(read: Any) -> None:
    rows, error = read(b"email,phone\na@x.org,1\n", encoding="utf-16")
    assert rows == []
    assert "--encoding" in error.hint


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "utf-9"},
        {"encoding": ""},
        {"encoding": "base64"},
        {"encoding": "undefined"},
        {"encoding": "utf\x00"},
        {"delimiter": ""},
        {"delimiter": ",,"},
        {"delimiter": '"'},
        {"delimiter": "\n"},
        {"delimiter": "\r"},
        {"delimiter": "\0"},
        {"escape": ""},
        {"escape": "\\\\"},
        {"escape": '"'},
        {"escape": ";", "delimiter": ";"},
        {"skip_lines": -1},
        {"header": False},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        InputOptions(**options)
    assert caught.value.hint


# CSV: rows.


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"", []),
        (b"\n  \n\t\na@x.org,1\n\n\n", [(5, "a@x.org", "1", None)]),
        (b" a@x.org , 1 \n", [(2, "a@x.org ", "1 ", None)]),
        (b",\n", [(2, "", "", None)]),
        (b"a@x.org\n", [(2, "a@x.org", "", None)]),
        (b"a@x.org,1,\n", [(2, "a@x.org", "1", None)]),
        (b"a@x.org,1,, ,\n", [(2, "a@x.org", "1", None)]),
        (b"a@x.org,1,,x\n", [(2, None, None, "bad_row")]),
        (b'"a\nb",1\n"c\r\n\r\nd","2\n"\ne,3\n', [
            (2, "a\nb", "1", None),
            (4, "c\r\n\r\nd", "2\n", None),
            (8, "e", "3", None),
        ]),
        (b'"a""b",1\n', [(2, 'a"b', "1", None)]),
        (b'a"b,1\n', [(2, 'a"b', "1", None)]),
        (b"a\0b,1\n", [(2, "a\0b", "1", None)]),
        (b"a,1\nb,2\r\nc,3\rd,4", [
            (2, "a", "1", None),
            (3, "b", "2", None),
            (4, "c", "3", None),
            (5, "d", "4", None),
        ]),
        (b"\xff,1\nb,2\n", [(2, "\udcff", "1", None), (3, "b", "2", None)]),
    ],
)  # fmt: skip
def test_csv_rows(read: Any, body: bytes, rows: list[Read]) -> None:
    assert read(b"email,phone\n" + body) == (rows, None)


def test_a_file_of_one_column(read: Any) -> None:
    assert read(b'email\n\na@x.org\n  \n""\nb,c\n') == (
        [(3, "a@x.org", None, None), (5, "", None, None), (6, None, None, "bad_row")],
        None,
    )


@pytest.mark.parametrize(
    ("data", "line", "before"),
    [
        (b'email,phone\na,1\n"b,2\nc,3\nd,4\n', 3, 1),
        (b'email,phone\n"a\n\n",1\n\n"b,2\nc,3\n', 6, 1),
        (b'email,phone\na,1\nb,"2"3\nc,3\n', 3, 1),
        (b'email,phone\n"', 2, 0),
        (b'\n\n"email,phone\na,1\n', 3, 0),
        (b'email,phone\na,1\nb,"' + b"x\n" * (LINE_MAX // 2 + 1), 3, 1),
        (b"email,phone\na,1\n" + b"b" * (LINE_MAX + 1), 3, 1),
    ],
    ids=["unclosed", "behind a long record", "stray", "only a quote", "header", "long", "line"],
)
def test_broken_quoting_ends_the_reading_where_the_record_begins(
    read: Any, data: bytes, line: int, before: int
) -> None:
    rows, error = read(data)
    assert error.location.endswith(f"input.csv:{line}")
    assert len(rows) == before


def test_a_wide_encoding_goes_on_after_bad_units(read: Any) -> None:
    lines = [f"a{i}@x.org,{i}\n".encode("utf-16-le") for i in range(2000)]
    lines[1500] = b"\x00\xdc" + lines[1500]
    data = "email,phone\n".encode("utf-16") + b"".join(lines) + b"\n"
    rows, error = read(data, encoding="utf-16")
    assert error is None
    assert rows[1499:1502] == [
        (1501, "a1499@x.org", "1499", None),
        (1502, "\udc00\udcdca1500@x.org", "1500", None),
        (1503, "a1501@x.org", "1501", None),
    ]
    # The end of a file of an odd number of bytes is half a unit.
    assert rows[2000:] == [(2002, "\udc0a", "", None)]


@pytest.mark.parametrize("size", [1_000_000, 1 << 20])
def test_a_field_of_a_megabyte(read: Any, size: int) -> None:
    rows, error = read(b"email,phone,note\na,1," + b"x" * size + b"\n" + b"y" * size + b",2,n\n")
    assert error is None
    assert rows[0] == (2, "a", "1", None)
    with pytest.raises(InvalidRequestError) as caught:
        ContactRequest(rows[1][1], rows[1][2])
    assert caught.value.code == "too_long"


# JSON Lines.


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b'{"email": "a", "phone": "1"}', ("a", "1", None)),
        (b'{"email": "a", "phoneNumber": 15550100}', ("a", 15550100, None)),
        (b'{"email": null, "phone": 1.0}', (None, 1.0, None)),
        (b'{"email": "a"}', ("a", None, None)),
        (b"{}", (None, None, None)),
        (b'{"email": "x", "phone": [1]}', ("x", [1], None)),
        (b'{"email": true, "phone": false}', (True, False, None)),
        (b'{"phone": ' + b"9" * 30 + b"}", (None, 10**30 - 1, None)),
        (b'{"email": "a:b", "time": "12:00:00"}', ("a:b", None, None)),
        (b'{"email": "\\": :\\":", "x": {"y": ":"}}', ('": :":', None, None)),
        (b'{"email": "a", "x": {"email": "b"}, "y": [{"email": "c"}]}', ("a", None, None)),
        (b'{"email" : "a",\t"phone"\t:\t"1"}', ("a", "1", None)),
        (b'  {"email": "a"}  \r', ("a", None, None)),
        (b'{"email": "a", "mail": null}', ("a", None, None)),
        (b'{"tel": "1", "phone": "2"}', (None, "1", None)),
        (b"[]", (None, None, "bad_json")),
        (b'"a@x.org"', (None, None, "bad_json")),
        (b"null", (None, None, "bad_json")),
        (b"42", (None, None, "bad_json")),
        (b"a@x.org,1", (None, None, "bad_json")),
        (b'{"email": "a"} x', (None, None, "bad_json")),
        (b'{"email": "a"}{"email": "b"}', (None, None, "bad_json")),
        (b'{"email": "a",}', (None, None, "bad_json")),
        (b"{'email': 'a'}", (None, None, "bad_json")),
        (b'{"email": "a', (None, None, "bad_json")),
        (b'{"phone": NaN}', (None, None, "bad_json")),
        (b'{"phone": Infinity}', (None, None, "bad_json")),
        (b'{"phone": 1e999}', (None, None, "bad_json")),
        (b'{"phone": 0123}', (None, None, "bad_json")),
        (b'{"phone": +1}', (None, None, "bad_json")),
        (b'{"email": "\\ud800"}', (None, None, "bad_json")),
        (b'{"email": "a\tb"}', (None, None, "bad_json")),
        (b'{"email": "a\0b"}', (None, None, "bad_json")),
        (b'{"email": "a\\u0000b"}', ("a\0b", None, None)),
        # Bytes that are not text are kept: normalisation refuses the value, not the row.
        (b'{"email": "a\xff"}', ("a\udcff", None, None)),
        (b'{"email": "\xed\xa0\x80"}', ("\udced\udca0\udc80", None, None)),
        (b'{"email": "a", "email": "b"}', (None, None, "bad_json")),
        (b'{"email": "a", "email" : "b"}', (None, None, "bad_json")),
        (b'{"email": "a", "email"\t \t: "b"}', (None, None, "bad_json")),
        (b'{"email": "a", "\\u0065mail": "b"}', (None, None, "bad_json")),
        (b'{"email": "a", "email" : "b", "x": ": "}', (None, None, "bad_json")),
        (b'{"email": "a", "x": {"y": 1, "y": 2}}', (None, None, "bad_json")),
        (b'{"email": "a", "x": [{"y": 1, "y" : 2}]}', (None, None, "bad_json")),
        (b'{"phone": ' + b"9" * 5000 + b"}", (None, None, "bad_json")),
        (b'{"email": ' + b"[" * 1_000_000, (None, None, "bad_json")),
        (b'{"a":' * 600_000, (None, None, "bad_json")),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (None, None, "bad_json")),
        (b'{"email": "' + b"a" * (1 << 20) + b'"}', ("a" * (1 << 20), None, None)),
        (b'{"email": "a", "x": "' + b"x" * (1 << 20) + b'"}', ("a", None, None)),
        (b'{"email": "' + b"a" * LINE_MAX + b'"}', (None, None, "too_long")),
        (b"x" * (3 * LINE_MAX), (None, None, "too_long")),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)  # fmt: skip
@pytest.mark.parametrize("end", [b"\n", b""], ids=["", "cut"])
def test_a_line_of_json(
    read: Any, line: bytes, end: bytes, row: tuple[object, object, str | None]
) -> None:
    before, after = b'\n \n{"email": "before"}\n', b'{"email": "after"}\n' if end else b""
    rows, error = read(before + line + end + after, "input.jsonl")
    assert error is None
    expected = [(3, "before", None, None), (4, *row)]
    assert rows == expected + ([(5, "after", None, None)] if end else [])


@pytest.mark.parametrize("data", [b"", b"\n\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_an_empty_file_of_json_lines_has_no_rows(read: Any, data: bytes) -> None:
    assert read(data, "input.jsonl") == ([], None)


@pytest.mark.parametrize(
    ("encoding", "prefix"),
    [
        ("utf-8", "\ufeff"),
        ("latin-1", ""),
        ("utf-16", ""),
        ("utf-16-be", "\ufeff"),
        ("utf-16-be", ""),
    ],
)
def test_json_lines_in_other_encodings(read: Any, encoding: str, prefix: str) -> None:
    text = prefix + '{"email": "j\u00fcrgen"}\r\n\n{"email": "b"}\n'
    assert read(text.encode(encoding), "input.jsonl", encoding=encoding) == (
        [(1, "j\u00fcrgen", None, None), (3, "b", None, None)],
        None,
    )


def test_bytes_outside_of_another_encoding_are_kept_for_the_value_to_be_refused(read: Any) -> None:
    data = b'{"email": "\x81"}\n{"email": "b"}\n'
    rows, error = read(data, "input.jsonl", encoding="cp1252")
    assert error is None
    assert rows[1] == (2, "b", None, None)
    with pytest.raises(InvalidRequestError) as caught:
        ContactRequest(rows[0][1])
    assert caught.value.code == "bad_encoding"
    # A byte that would be JSON, had it been text.
    data = b'"\0"\0\x00\xdc\n\0' + '{"email": "b"}\n'.encode("utf-16-le")
    rows, error = read(data, "input.jsonl", encoding="utf-16-le")
    assert error is None
    assert [row[3] for row in rows] == ["bad_json", None]


@pytest.mark.parametrize("data", [b"", b"\n", b"[1]\n", b"{"])
def test_input_without_objects_has_no_unseen_keys(
    tmp_path: Path, open_rows: Any, data: bytes
) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes(data)
    reader, rows = open_rows(path, input_format="jsonl", mapping=[("email", "mail")])
    list(rows)
    assert reader.unseen_keys == []


# Spaces before a quoted cell.


@pytest.mark.parametrize(
    ("data", "name", "rows"),
    [
        (b'phone, email\n1, "sq@x.org"\n', "a.csv", [(2, "sq@x.org", "1", None)]),
        (b'phone, "email"\n1,   "sq@x.org"\n', "a.csv", [(2, "sq@x.org", "1", None)]),
        (b'email,phone\n "sq@x.org", "1"\n', "a.csv", [(2, "sq@x.org", "1", None)]),
        (b'phone\t email\n1\t "sq@x.org"\n', "a.tsv", [(2, "sq@x.org", "1", None)]),
        (b'email,phone\n "a\n b",1\n', "a.csv", [(2, "a\n b", "1", None)]),
        (b'email\n   \n""\n \t\na\n', "a.csv", [(3, "", None, None), (5, "a", None, None)]),
    ],
)
def test_space_before_a_quoted_cell_is_skipped(
    read: Any, data: bytes, name: str, rows: list[Read]
) -> None:
    assert read(data, name) == (rows, None)


def test_empty_cells_between_space_delimiters_are_kept(read: Any) -> None:
    assert read(b"email x phone\na  1\n", delimiter=" ") == ([(2, "a", "1", None)], None)


# What was read, for a digest.


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.csv", b'\xef\xbb\xbfemail\r\n\n"a\nb"\n\xff\n', 'email\r\n\n"a\nb"\n\udcff\n'),
        ("a", b'\xef\xbb\xbf{"email": "a"}\n\n{\n[1]', '{"email": "a"}\n\n{\n[1]'),
    ],
)
@pytest.mark.parametrize("every", [1, 2, 100])
def test_digest_input_is_the_whole_text_however_often_it_is_taken(
    tmp_path: Path, open_rows: Any, name: str, data: bytes, text: str, every: int
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    reader, rows = open_rows(path)
    parts = []
    for number, _ in enumerate(rows, 1):
        if number % every == 0:
            parts.append(reader.take_digest_input())
    parts.append(reader.take_digest_input())
    assert b"".join(parts) == text.encode("utf-8", "surrogatepass")
    assert reader.take_digest_input() == b""


def test_digest_input_of_an_overlong_line_is_bounded_and_tells_lines_apart(
    tmp_path: Path, open_rows: Any
) -> None:
    found = []
    for rest in (b"x", b"y"):
        path = tmp_path / "a.jsonl"
        path.write_bytes(b"x" * (3 * LINE_MAX) + rest + b'\n{"email": "a"}\n')
        reader, rows = open_rows(path, input_format="jsonl")
        assert [row.line for row in rows] == [1, 2]
        found.append(reader.take_digest_input())
    assert found[0] != found[1]
    assert len(found[0]) < LINE_MAX + 100
    assert found[0].endswith(b'{"email": "a"}\n')


# Samples.


def code_of(
    email: object, phone: object, code: str | None, *, region: str | None = None
) -> str | None:
    """What a row is rejected for, normalisation included."""
    if code is None:
        try:
            ContactRequest(email, phone, region=region)
        except InvalidRequestError as invalid:
            return invalid.code
    return code


def codes(path: Path) -> list[tuple[int, str | None]]:
    """(line, reject code) of every row."""
    rows, error = read_rows(path)
    assert error is None
    return [(row[0], code_of(*row[1:])) for row in rows]


@pytest.mark.parametrize("name", ["contacts.csv", "contacts.jsonl"])
def test_the_samples_of_contacts_are_clean(name: str) -> None:
    found = codes(SAMPLES / name)
    assert len(found) == 112
    assert {code for _, code in found} == {None}
    rows, _ = read_rows(SAMPLES / name)
    assert [(row[1], str(row[2])) for row in rows[:5]] == [
        ("lorraine@hillvalley.edu", "123456"),
        ("mcfly@hillvalley.edu", "123456"),
        ("george@hillvalley.edu", "919191"),
        ("biffsucks@hillvalley.edu", "717171"),
        ("george@hillvalley.edu", "717171"),
    ]


def test_the_messy_sample_has_each_reject_that_a_csv_file_can_have() -> None:
    rejects = [(line, code) for line, code in codes(SAMPLES / "messy.csv") if code]
    # The others need JSON Lines, a region, a column of regions, a list, a trigger, or a rule.
    others = {"bad_json", "placeholder", "bad_region", "too_many_values", "refused", "forgotten"}
    assert {code for _, code in rejects} == set(REJECT_CODES) - others
    notes = (SAMPLES / "messy.csv").read_bytes().splitlines()
    for line, code in rejects:
        # The note says it.
        note = notes[line - 1].rsplit(b",", 1)[1]
        assert note.startswith(str(code).encode()) or code == "bad_row"


# Anything at all.


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1))
def test_what_csv_writes_comes_back(
    tmp_path_factory: Any, rows: list[tuple[str, str, str]]
) -> None:
    text = io.StringIO()
    # Unquoted, a cell would lose its leading spaces.
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("email", "phone", "note"), *rows])
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError:  # lone surrogates
        data = text.getvalue().encode("utf-8", "surrogatepass")
        rows = []
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    path.write_bytes(data)
    found, error = read_rows(path)
    assert error is None
    if rows:
        assert [row[1:3] for row in found] == [row[:2] for row in rows]


PIECES = [
    *(b'","', b'"', b'""', b"\n", b"\r", b"\r\n", b",", b"\0", b"\xff", b"a@x.org", b"9" * 70),
    *(b"email", b"phone", b"email,phone\n", b'{"email":"', b'"}\n', b'{"phone":', b"\\u0065"),
    *(b"{", b"}", b"[", b"]", b":", b" :", b"1e5", b"-1", b"null", b"\\ud800", b"e\xcc\x81"),
    *(b"\xef\xbb\xbf", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\1\0\0\0"),
    *(b"\xe2\x80\xae", b"\x1b[31m"),
]
pieces = st.sampled_from(PIECES)
inputs = st.one_of(st.binary(), st.lists(st.one_of(pieces, st.binary(max_size=3))).map(b"".join))


@given(
    data=inputs,
    prefix=st.sampled_from([b"", b"email,phone\n", b"\xff\xfee\0m\0a\0i\0l\0\n\0"]),
    input_format=st.sampled_from(["csv", "jsonl"]),
    encoding=st.sampled_from(
        [None, "utf-8", "latin-1", "utf-16", "utf-7", "shift_jis", "iso2022_jp"]
    ),
    region=st.sampled_from([None, "US"]),
)
@example(b"\xff\xff", b"email\n", "csv", "utf-8", None)
def test_bytes_of_any_kind_raise_nothing_but_our_errors(
    tmp_path_factory: Any,
    data: bytes,
    prefix: bytes,
    input_format: str,
    encoding: str | None,
    region: str | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(prefix + data)
    rows, error = read_rows(path, encoding=encoding, input_format=input_format)
    assert error is None or error.hint
    lines = [row[0] for row in rows]
    assert lines == sorted(set(lines))
    assert {code_of(*row[1:], region=region) for row in rows} <= {None, *REJECT_CODES}
