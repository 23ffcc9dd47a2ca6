"""Inspection of a file: what is read, what is rejected, which values are shared, the command."""

from __future__ import annotations

import gzip
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.errors import InputNotFoundError, InputUnreadableError, UsageError
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.inspection import inspect_input
from identity_cli.importer.sharing import SharingCounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from identity_cli.importer.inspection import Inspection

    Inspect = Callable[..., Inspection]


@pytest.fixture
def inspected(tmp_path: Path) -> Inspect:
    """Inspects a text or bytes as a file of that name."""

    def inspect(
        content: str | bytes, name: str = "input.csv", *, options: Any = None, **more: Any
    ) -> Inspection:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return inspect_input(str(path), options or InputOptions(), **more)

    return inspect


def test_format_and_columns_of_a_csv_file_are_reported(inspected: Inspect) -> None:
    found = inspected(
        "name;E-Mail;Phone\nAnn;a@x.org;+12025550101\n", options=InputOptions(delimiter=";")
    )
    assert (found.layout.input_format, found.encoding, found.delimiter) == ("csv", "utf-8", ";")
    assert found.header_line == 1
    assert found.columns.used == (("E-Mail", "email"), ("Phone", "phone"))
    assert found.rows == {"read": 1, "accepted": 1, "partial": 0, "rejected": 0}
    assert found.is_complete


def test_compression_is_reported(inspected: Inspect) -> None:
    assert inspected(gzip.compress(b"email\na@x.org\n")).compression == "gzip"
    assert inspected("email\na@x.org\n").compression is None


def test_header_line_is_the_first_line_of_a_header_with_line_breaks(inspected: Inspect) -> None:
    assert inspected('\n\nemail,"a\nnote"\na@x.org,b\n').header_line == 3


def test_first_requests_are_normalised_and_at_most_ten(inspected: Inspect) -> None:
    rows = "".join(f"A{n}@X.org,202-555-01{n:02}\n" for n in range(12))
    found = inspected(f"email,phone\n{rows}", region="US")
    assert len(found.first_requests) == 10
    assert found.first_requests[0] == (2, ("a0@x.org",), ("+12025550100",))


def test_row_with_a_bad_value_is_partial(inspected: Inspect) -> None:
    found = inspected("email,phone\nbad,+12025550101\n")
    assert found.rows == {"read": 1, "accepted": 1, "partial": 1, "rejected": 0}
    assert found.rejected_by_code == {"bad_email": 1}
    assert found.first_rejects[0].partial
    assert found.first_requests[0].phone_numbers == ("+12025550101",)


def test_row_with_a_bad_value_is_rejected_if_strict(inspected: Inspect) -> None:
    found = inspected("email,phone\nbad,+12025550101\n", options=InputOptions(strict=True))
    assert found.rows == {"read": 1, "accepted": 0, "partial": 0, "rejected": 1}
    assert not found.first_rejects[0].partial
    assert found.first_requests == ()


def test_rows_beyond_the_limit_are_not_counted(inspected: Inspect) -> None:
    rows = "".join(f"{n}@x.org\n" for n in range(8))
    assert inspected(f"email\n{rows}", limit=8).is_complete
    cut = inspected(f"email\n{rows}", limit=7)
    assert (cut.rows["read"], cut.is_complete) == (7, False)
    assert inspected(f"email\n{rows}", limit=None).rows["read"] == 8


def test_values_shared_with_three_others_are_reported(inspected: Inspect) -> None:
    rows = "".join(f"{n}@x.org,555\n" for n in range(3)) + "a@x.org,7\nb@x.org,7\n"
    found = inspected(f"email,phone\n{rows}")
    assert found.shared_values == (("555", 3, 3),)


def test_local_phone_numbers_are_counted_only_without_region(
    inspected: Inspect,
) -> None:
    text = "phone\n+12025550101\n2025550102\n"
    assert inspected(text).without_country == 1
    assert inspected(text, region="US").without_country == 0


def test_what_was_read_before_broken_quoting_is_reported(inspected: Inspect) -> None:
    found = inspected('email\na@x.org\n"b@x.org\n')
    assert found.rows["read"] == 1
    assert not found.is_complete
    assert isinstance(found.error, InputUnreadableError)
    assert found.as_json()["error"]["code"] == "input_unreadable"


def test_mapped_key_that_no_object_has_is_an_error_only_at_the_end(inspected: Inspect) -> None:
    options = InputOptions(mapping=[("email", "mial"), ("phone", "phone")])
    text = '{"phone": "1"}\n{"phone": "2"}\n'
    assert "'mial'" in str(inspected(text, "a.jsonl", options=options).error)
    cut = inspected(text, "a.jsonl", options=options, limit=1)
    assert cut.error is None
    assert "'mial'" in cut.notes[0]


def test_missing_file_and_missing_column_are_refused(tmp_path: Path, inspected: Inspect) -> None:
    with pytest.raises(InputNotFoundError):
        inspect_input(str(tmp_path / "none.csv"), InputOptions())
    with pytest.raises(UsageError, match="there is no column"):
        inspected("email\n", options=InputOptions(mapping=[("email", "mail")]))


def test_command_passes_everything_explicitly(inspected: Inspect) -> None:
    found = inspected(
        "x\ty\nAnn's mail\tmobile\n",
        "it's.tsv",
        region="US",
        options=InputOptions(
            delimiter="\t",
            mapping=[("email", "x"), ("phone", "y")],
            null_words=("keine",),
            strict=True,
        ),
    )
    words = shlex.split(found.command)
    assert words[:2] == ["identity", "import"]
    assert words[2].endswith("it's.tsv")
    assert words[3:] == [
        *("--input-format", "csv", "--delimiter", "\\t", "--encoding", "utf-8"),
        *("--map", "email=x", "--map", "phone=y", "--region", "US", "--null", "keine"),
        "--strict",
    ]


def test_columns_of_one_name_are_not_mapped_by_the_command(inspected: Inspect) -> None:
    command = inspected("email,email,phone\na@x.org,b@x.org,1\n").command
    assert "email=" not in command
    assert "--map phone=phone" in command


ROWS = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3, unique=True))


@given(ROWS)
def test_sharing_is_exact_while_it_fits_into_memory(rows: list[list[str]]) -> None:
    counter = SharingCounter()
    for row in rows:
        counter.add(row)
    expected = {
        value: (
            sum(value in row for row in rows),
            len({other for row in rows if value in row for other in row} - {value}),
        )
        for value in {value for row in rows for value in row}
    }
    found = {value: (n, partners) for value, n, partners in counter.most_shared(100, 0)}
    assert found == expected
    assert counter.missed == 0


@given(ROWS, st.integers(4, 12))
def test_sharing_in_bounded_memory_misses_at_most_what_it_reports(
    rows: list[list[str]], most: int
) -> None:
    counter = SharingCounter(most)
    for row in rows:
        counter.add(row)
    found = {value: n for value, n, _ in counter.most_shared(100, 0)}
    for value in {value for row in rows for value in row}:
        exact = sum(value in row for row in rows)
        assert exact - counter.missed <= found.get(value, 0) <= exact


def test_value_of_most_rows_is_found_among_many_in_bounded_memory() -> None:
    counter = SharingCounter(1_000)
    for number in range(20_000):
        counter.add([f"{number}@x.org", "0000000"])
    (first, *_) = counter.most_shared(10, 3)
    assert first.value == "0000000"
    assert first.rows + counter.missed >= 20_000
