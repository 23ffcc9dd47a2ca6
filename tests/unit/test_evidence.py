"""The rows of an identity, and from the line of a run to the line of a file."""

from __future__ import annotations

import pytest
from evidence import contact, pair

from identity_cli.graph.evidence import IdentityEvidence, Place, Sources

A, B, C = (
    {"path": "a.csv", "size": 1, "sha256": "", "first_line": 0},
    {"path": "b.csv", "size": 1, "sha256": "", "first_line": 10},
    {"path": "-", "size": None, "sha256": None},
)


@pytest.mark.parametrize(
    ("line", "place"),
    [(1, ("a.csv", 1)), (10, ("a.csv", 10)), (11, ("b.csv", 1)), (99, ("b.csv", 89))],
)
def test_line_is_counted_from_the_beginning_of_its_input(line: int, place: tuple[str, int]) -> None:
    sources = Sources([(1, [A, B], True, None)])
    assert sources.of(contact(1, "a@x", line=line)) == place


def test_empty_input_has_no_line() -> None:
    empty = {**B, "path": "empty.csv"}
    sources = Sources([(1, [A, empty, B], True, None)])
    assert sources.of(contact(1, "a@x", line=11)) == Place("b.csv", 1)


def test_row_without_a_run_and_row_of_an_unknown_run_have_no_place() -> None:
    assert Sources().of(contact(1, "a@x", line=3)) is None
    assert Sources([(1, [A], True, None)]).of(pair(1, "a@x", "1", second=1, run_id=None)) is None


def test_row_beyond_the_checkpoint_of_an_interrupted_run_may_be_of_the_next_input() -> None:
    sources = Sources([(1, [A, B, C], False, [7, 4])])
    assert sources.of(contact(7, "a@x", line=12)) == Place("b.csv", 2)
    assert sources.of(contact(8, "a@x", line=13)) is None
    assert sources.of(pair(4, "a@x", "1", second=12)) == Place("b.csv", 2)
    assert sources.of(pair(5, "a@x", "1", second=13)) is None
    # The inputs that the next one has followed are complete.
    assert sources.of(contact(8, "a@x", line=9)) == Place("a.csv", 9)
    # Nothing follows the last input.
    assert Sources([(1, [A, B], False, [7, 4])]).of(contact(8, "a@x", line=13)) is not None


def test_rows_are_in_the_order_of_their_times_and_contacts_come_first() -> None:
    contacts = [contact(1, "a@x", "1"), contact(4, "b@x", "2"), contact(5, "c@x")]
    pairs = [pair(1, "a@x", "2", second=3), pair(2, "a@x", "c@x", second=5)]
    evidence = IdentityEvidence(1, contacts, pairs, Sources())
    assert [row.name for row in evidence.rows()] == [
        "contact 1",
        "evidence 1",
        "contact 4",
        "contact 5",
        "evidence 2",
    ]


def test_origin_of_a_value_is_the_contact_that_brought_it() -> None:
    contacts = [contact(1, "a@x", "1"), contact(2, "a@x", "2", brings="2"), contact(3, "3")]
    origins = IdentityEvidence(1, contacts, [], Sources()).origins
    assert {value: row.contact_id for value, row in origins.items()} == {
        "a@x": 1,
        "1": 1,
        "2": 2,
        "3": 3,
    }
