"""What a positional value stands for."""

from __future__ import annotations

import pytest

from identity_cli.errors import InvalidRequestError
from identity_cli.graph.references import Reference, read_reference

ID_MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("McFly@HillValley.edu ", [("email", "mcfly@hillvalley.edu")]),
        ("Ann Bell <ann@x.org>", [("email", "ann@x.org")]),
        ("12@x.org", [("email", "12@x.org")]),
        ("7", [("id", 7), ("phone", "7")]),
        (" 123456 ", [("id", 123456), ("phone", "123456")]),
        ("12-34 56", [("phone", "123456")]),
        ("+123456", [("phone", "+123456")]),
        ("0123456", [("phone", "0123456")]),
        ("tel:123456", [("phone", "123456")]),
        ("\uff11\uff12", [("phone", "12")]),
        (str(ID_MAX), [("id", ID_MAX), ("phone", str(ID_MAX))]),
        (str(ID_MAX + 1), [("phone", str(ID_MAX + 1))]),
    ],
)
def test_text_stands_for_an_email_an_id_or_a_phone_number(
    text: str, expected: list[tuple[str, object]]
) -> None:
    assert [tuple(one) for one in read_reference(text, None)] == expected


def test_phone_number_of_a_region_becomes_e164() -> None:
    assert read_reference("6502530000", "US") == (
        Reference("id", 6502530000),
        Reference("phone", "+16502530000"),
    )


def test_bare_number_that_is_no_phone_number_is_an_id_only() -> None:
    assert read_reference("7", "US") == (Reference("id", 7),)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "no_identifier"),
        ("n/a", "no_identifier"),
        ("a b@x.org", "bad_email"),
        ("x1", "bad_phone"),
    ],
)
def test_text_that_is_no_value_is_refused(text: str, code: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read_reference(text, None)
    assert refused.value.code == code
