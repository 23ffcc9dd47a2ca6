"""Masked values: recognisable to who knows them, useless to others."""

from __future__ import annotations

import pytest

from identity_cli.graph.masking import masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("lorraine@hillvalley.edu", "l***@h***.edu"),
        ("a@mail.hillvalley.edu", "a***@m***.edu"),
        ("root@localhost", "r***@l***"),
        ('"doc@home"@hillvalley.edu', '"***@h***.edu'),
        ("123456", "***56"),
        ("+12025550101", "***01"),
        ("+12025550101;ext=5", "***01"),
        ("12345", "***"),
    ],
)
def test_value_is_masked(value: str, shown: str) -> None:
    assert masked(value) == shown
