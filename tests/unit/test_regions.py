"""Regions: codes and names of countries."""

from __future__ import annotations

import phonenumbers
import pytest

from identity_cli.graph.normalize import region_code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "US") for text in ("US", "us", "USA", "U.S.", "u.s.a.", "United States")),
        *((text, "US") for text in ("United States of America", "The United States", "America")),
        *((text, "GB") for text in ("GB", "GBR", "UK", "U.K.", "Great Britain", "England")),
        *((text, "GB") for text in ("Scotland", "wales", "Northern Ireland", "UNITED KINGDOM")),
        *((text, "DE") for text in ("DE", "deu", "Germany", " Germany ")),
        *((text, "NL") for text in ("Netherlands", "the Netherlands", "Holland", "NLD")),
        *((text, "CI") for text in ("C\u00f4te d'Ivoire", "Cote d'Ivoire", "Ivory Coast")),
        *((text, "KR") for text in ("South Korea", "Korea, Republic of", "KOR")),
        *((text, "CZ") for text in ("Czech Republic", "Czechia")),
        *((text, "TR") for text in ("Turkey", "T\u00fcrkiye")),
        *((text, "LC") for text in ("Saint Lucia", "St. Lucia", "St Lucia")),
        *((text, "BA") for text in ("Bosnia and Herzegovina", "Bosnia & Herzegovina")),
        ("Russian Federation", "RU"),
        ("Viet Nam", "VN"),
        ("Trinidad & Tobago", "TT"),
        ("Kosovo", "XK"),
        ("NA", "NA"),
    ],
)
def test_code_of_a_country(text: str, code: str) -> None:
    assert region_code(text) == code


@pytest.mark.parametrize("text", ["", " ", "?", "ZZ", "ZZZ", "Atlantis", "001", "+44", "AQ"])
def test_unknown_country(text: str) -> None:
    assert region_code(text) is None


def test_every_region_with_phone_numbers_is_known() -> None:
    for code in phonenumbers.SUPPORTED_REGIONS:
        assert region_code(code) == region_code(code.lower()) == code
