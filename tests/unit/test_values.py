"""Values as commands name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.errors import InvalidRequestError
from identity_cli.graph.values import (
    LineProblem,
    NamedValue,
    distinct,
    in_pair_order,
    named_values,
    read_values,
)


@pytest.mark.parametrize(
    ("text", "region", "value"),
    [
        (" Info@ACME.example ", None, "info@acme.example"),
        ("0800-123 456", None, "0800123456"),
        ("202-555-0100", "US", "+12025550100"),
    ],
)
def test_value_goes_through_the_one_door(text: str, region: str | None, value: str) -> None:
    assert [one.value for one in named_values([text], region)] == [value]


@pytest.mark.parametrize("text", ["", "n/a", "info@", "@acme.example", "reception"])
def test_text_that_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        named_values([text], None)


def test_refused_argument_is_named_by_its_place_and_not_repeated() -> None:
    with pytest.raises(InvalidRequestError, match=r"^value 2: ") as refused:
        named_values(["a@x.org", "bob@"], None)
    assert "bob" not in str(refused.value)
    assert refused.value.hint


def test_file_has_values_and_reasons() -> None:
    values, problems = read_values(
        [
            b"\xef\xbb\xbfvalue,reason",
            b"# a comment",
            b"",
            b"info@x.org",
            b'0800-123456,"reception, ground floor"',
            b"b@x.org,",
        ],
        "list.csv",
        None,
    )
    assert problems == []
    assert values == [
        NamedValue("info@x.org", None, "list.csv:4"),
        NamedValue("0800123456", "reception, ground floor", "list.csv:5"),
        NamedValue("b@x.org", None, "list.csv:6"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"info@", "an email needs"),
        (b"\xff@x.org", "not UTF-8"),
        (b'"a@x.org', "not CSV"),
        (b"a@x.org,why,more", "more than a value and a reason"),
        (b",why", "neither an email nor a phone number"),
        (b"value", "a phone number"),
        (b"a@x.org,wh\x00y", "a NUL character"),
    ],
)
def test_bad_line_is_a_problem_with_its_place(line: bytes, message: str) -> None:
    values, problems = read_values([b"good@x.org", line], "list.csv", None)
    assert [one.value for one in values] == ["good@x.org"]
    [problem] = problems
    assert isinstance(problem, LineProblem)
    assert problem.place == "list.csv:2"
    assert message in problem.message


@given(st.lists(st.binary(), max_size=5))
def test_any_bytes_are_values_or_problems(lines: list[bytes]) -> None:
    values, problems = read_values(lines, "list.csv", None)
    assert len(values) + len(problems) <= len(lines)


def test_repeated_value_keeps_its_first_reason() -> None:
    values = [NamedValue("a@x.org"), NamedValue("a@x.org", "spam"), NamedValue("a@x.org", "other")]
    assert distinct(values) == [NamedValue("a@x.org", "spam")]


def test_pair_has_emails_first_and_then_the_order_of_bytes() -> None:
    assert in_pair_order("123", "a@x.org") == ("a@x.org", "123")
    assert in_pair_order("b@x.org", "a@x.org") == ("a@x.org", "b@x.org")
    assert in_pair_order("é@x.org", "z@x.org") == ("z@x.org", "é@x.org")
    assert in_pair_order("9", "+1") == ("+1", "9")
