"""Files that a backfill reads in blocks: the same as row by row."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from identity_cli.backfill import plain, reading
from identity_cli.errors import InputUnreadableError
from identity_cli.graph.cells import ABSENT
from identity_cli.graph.emails import EMAIL_MAX, PLAIN_EMAIL, is_plain_email
from identity_cli.graph.normalize import Normalizer
from identity_cli.graph.phones import PHONE_MAX, PLAIN_PHONE, is_plain_phone
from identity_cli.importer.formats import InputOptions, blocks, open_reader
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from pathlib import Path

Read = tuple[list[tuple[Any, ...]], bytes, Any]


def read(path: Path, *, in_blocks: bool, **options: Any) -> Read:
    """Return the requests by lines, the rejects file and the report, or the error."""
    part, rejects = path.with_name("part"), path.with_name("rejects")
    rejects.unlink(missing_ok=True)
    task = reading.InputTask(str(path), None, InputOptions(**options), {}, None, part, rejects)
    try:
        if in_blocks:
            done = reading._read_source(task, lambda: Source(str(path)), lambda *_: None)
        else:
            with closing(Source(str(path))) as source:
                reader = open_reader(source, task.options)
                done = reading._Reading(task, reader, row_by_row=True)
                done.run(lambda _rows: None)
    except InputUnreadableError as error:
        return [], b"", str(error)
    table = pq.read_table(part).sort_by("line")
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return rows, rejects.read_bytes() if rejects.exists() else b"", done.report("")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CHARACTERS", 24)


CELLS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "a@x.org", "b@x.org", "+1555", "0", "00", "0049", "n/a", "none@x", "+"),
            *(
                "'a@x.org",
                "a@x..org",
                "A@x.org",
                " a@x.org",
                "a@x.org ",
                "1 555",
                "c@x.org;d@x.org",
            ),
            *(
                "\\N",
                "\x00",
                "\ufeff",
                "\u00e9@x.org",
                "a@\u00e9.org",
                "\u0661",
                "\u2028",
                "7" * 65,
            ),
            *("a" * 316 + "@x.o", "a" * 317 + "@x.o", "a@x.org\n", "\x1f", "\x1c", "0@0", "-@-"),
        ]
    ),
    st.text(alphabet="a@1.\"', \r\n\x1f+\x00A;-\u00e9", max_size=6),
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
QUOTES = st.sampled_from(["all", "none", "some"])


def as_text(rows: list[list[str]], delimiter: str, ends: list[str], quotes: str) -> str:
    lines = []
    for number, row in enumerate(rows):
        doubled = [cell.replace('"', '""') for cell in row]
        is_quoted = quotes == "all" or (quotes == "some" and number % 2)
        cells = [f'"{cell}"' for cell in doubled] if is_quoted else row
        lines.append(delimiter.join(cells) + ends[number % len(ends)])
    return "".join(lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    rows=ROWS,
    ends=st.lists(ENDS, min_size=1, max_size=2),
    quotes=QUOTES,
    delimiter=st.sampled_from([",", ";", "\t", " ", "@", "\x1f"]),
    header=st.sampled_from([["email", "phone"], ["x", "phone", "email"], ["email", "x"]]),
    tail=st.sampled_from(["", "a@x.org,+1", '"', '"a@x.org","1"', "\n\n", " "]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "strict": st.just(True),
            "null_words": st.sampled_from([("none@x",), ("00", "NONE@X")]),
            "encoding": st.sampled_from(["utf-8", "cp1252", "utf-16", "latin-1"]),
            "escape": st.just("\\"),
        },
    ),
)
def test_blocks_are_read_as_rows_are(
    path: Path,
    short_blocks: None,
    rows: list[list[str]],
    ends: list[str],
    quotes: str,
    delimiter: str,
    header: list[str],
    tail: str,
    options: dict[str, Any],
) -> None:
    text = as_text([header, *rows], delimiter, ends, quotes) + tail
    path.write_bytes(text.encode(options.get("encoding", "utf-8"), "replace"))
    named = [(kind, kind) for kind in ("email", "phone") if kind in header]
    options = {"delimiter": delimiter, "mapping": named, "input_format": "csv", **options}
    assert read(path, in_blocks=True, **options) == read(path, in_blocks=False, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(content=st.binary(max_size=80), width=st.integers(2, 3))
@example(content=b"a@x.org,\xff1\nb@x.org,2\n", width=2)
@example(content=b'a@x.org,1\n"b@x.org,2\n', width=2)
def test_any_bytes_are_read_as_rows_are(
    path: Path, short_blocks: None, content: bytes, width: int
) -> None:
    path.write_bytes(b"email,phone,x"[: 11 if width == 2 else 13] + b"\n" + content)
    options: dict[str, Any] = {"encoding": "utf-8", "input_format": "csv", "delimiter": ","}
    assert read(path, in_blocks=True, **options) == read(path, in_blocks=False, **options)


def test_normal_values_do_not_become_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast way is taken: what the other tests compare is not the same twice."""
    monkeypatch.delattr(reading._Reading, "_add")
    rows = [[f"user{i}@x.org", f"+1{i:09}"] for i in range(500)]
    for quotes, ends in (("none", "\r\n"), ("all", "\n")):
        path.write_text(as_text([["email", "phone"], *rows], ",", [ends], quotes), newline="")
        found, rejects, report = read(path, in_blocks=True)
        assert (len(found), rejects, report.rows, report.lines) == (500, b"", 500, 501)
        assert found[7] == (9, ["user7@x.org"], ["+1000000007"])


@settings(max_examples=200)
@given(cell=st.one_of(CELLS, st.text(max_size=8), st.from_regex(PLAIN_EMAIL, fullmatch=True)))
def test_what_arrow_takes_for_normal_is_normal(cell: str) -> None:
    """RE2 and Python's re take the same values."""
    try:
        values = pa.array([cell])
    except (UnicodeEncodeError, pa.ArrowInvalid):
        return
    for pattern, is_plain in ((PLAIN_EMAIL, is_plain_email), (PLAIN_PHONE, is_plain_phone)):
        taken = pc.match_substring_regex(values, f"^(?:{pattern})$").to_pylist()
        assert taken == [is_plain(cell) is not None]


@settings(max_examples=100)
@given(
    values=st.lists(
        st.tuples(
            st.one_of(CELLS, st.from_regex(PLAIN_EMAIL, fullmatch=True)),
            st.one_of(CELLS, st.from_regex(PLAIN_PHONE, fullmatch=True)),
        ),
        min_size=1,
        max_size=8,
    ),
    null_words=st.sampled_from([(), ("00", "none@x")]),
)
def test_columns_hold_what_the_normaliser_reads(
    values: list[tuple[str, str]], null_words: tuple[str, ...]
) -> None:
    values = [
        (email, phone)
        for email, phone in values
        if not any(c in email + phone for c in "\x1e\n") and (email + phone).isprintable()
    ]
    if not values:
        return
    text = "".join(f"{email}\x1e{phone}\n" for email, phone in values)
    normalizer = Normalizer(null_words=null_words)
    block = blocks.Block(text.encode(), b"\x1e", True, 2, len(values), 2, 0, 1)
    found = plain.PlainReader(normalizer.absent).read(block)
    assert found is not None
    read_as = {
        line: (tuple(emails), tuple(phones))
        for line, emails, phones in zip(
            found.lines.to_pylist(), found.emails.to_pylist(), found.phones.to_pylist(), strict=True
        )
    }
    assert len(read_as) + len(found.other_places) == len(values)
    for place, (email, phone) in enumerate(values):
        emails, phones, problems = normalizer.good_texts((email,), (phone,))
        if 2 + place in read_as:
            assert read_as[2 + place] == (emails, phones)
            assert not problems
        else:
            assert place in found.other_places
    local = [phones for _, phones in read_as.values() if phones and phones[0][0] != "+"]
    assert found.local_phones == len(local)


def test_no_absent_word_is_a_normal_value() -> None:
    assert not [word for word in ABSENT if is_plain_email(word) or is_plain_phone(word)]


@pytest.mark.parametrize(("most", "value"), [(EMAIL_MAX, "a@x"), (PHONE_MAX, "1")])
def test_a_value_over_its_limit_is_left_to_the_normaliser(most: int, value: str) -> None:
    longest = value[0] * (most - len(value)) + value
    text = f"{longest}\x1e{longest}\n{value[0]}{longest}\x1e{value[0]}{longest}\n"
    places = (0, None) if "@" in value else (None, 1)
    block = blocks.Block(text.encode(), b"\x1e", True, 1, 2, 2, *places)
    found = plain.PlainReader(ABSENT).read(block)
    assert found is not None
    assert found.other_places == [1]
