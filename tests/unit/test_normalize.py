"""Single values: what is accepted, what becomes of it, and what is rejected."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from identity_cli import ContactRequest
from identity_cli.errors import InvalidRequestError, UsageError
from identity_cli.graph import normalize
from identity_cli.graph.normalize import (
    EMAIL_MAX,
    PHONE_MAX,
    REJECT_CODES,
    check_region,
    normalize_email,
    normalize_phone,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ABSENT = [
    *("", "null", "none", "nil", "n/a", "na", "nan", "undefined", "unknown", "-"),
    *("#n/a", "#ref!", "n.a.", "<na>", "\\N", "(none)", "--", ".", "?", "tbd"),
    *("not provided", "not available", "[]", "{}", "---", "#value!", '"n/a"', '="none"'),
]
REGIONS = [None, "US", "GB", "DE", "AR", "MX", "IT", "KR", "CA"]


def rejected(normalise: Callable[..., object], *arguments: object) -> InvalidRequestError | None:
    try:
        normalise(*arguments)
    except InvalidRequestError as error:
        return error
    return None


def code_of(normalise: Callable[..., object], *arguments: object) -> str | None:
    """The code of the reject; None for what is let in."""
    error = rejected(normalise, *arguments)
    return error and error.code


# Absent


@pytest.mark.parametrize("word", ABSENT)
@pytest.mark.parametrize("normalise", [normalize_email, normalize_phone])
def test_absent_words(normalise: Any, word: str) -> None:
    for text in (word, word.upper(), word.title(), f" \t{word}\r\n", f"\u00a0{word}\ufeff\x07"):
        assert normalise(text) is None


@pytest.mark.parametrize("normalise", [normalize_email, normalize_phone])
def test_none_and_white_space_are_absent(normalise: Any) -> None:
    assert normalise(None) is None
    for text in (" ", "\u3000", "\r\n", "\ufeff", "\u200b", "\x00"[:0], "\x01\x1f\x7f\x85\u2028"):
        assert normalise(text) is None


def test_a_word_that_only_looks_absent_is_not() -> None:
    for text in ("nulls", "n / a", "no", "not", "()"):
        assert code_of(normalize_email, text) == "bad_email"
        assert code_of(normalize_phone, text) == "bad_phone"
    assert normalize_email("null@na.com") == "null@na.com"


# Emails


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("a@b", "a@b"),
        ("McFly@HillValley.EDU", "mcfly@hillvalley.edu"),
        ("  a@b.org\t", "a@b.org"),
        ("\ufeffa@b.org\u200b", "a@b.org"),
        ("\x07a@b.org\x1b", "a@b.org"),
        ("first.last+tag@b.org", "first.last+tag@b.org"),
        ("o'neil/dept=x@b.org", "o'neil/dept=x@b.org"),
        ('"a"@b.org', '"a"@b.org'),
        ('"a b, c"@b.org', '"a b, c"@b.org'),
        ("a@-b-.org", "a@-b-.org"),
        ("a@b\u200b.org", "a@b.org"),
        ("a\u202e@b.org", "a@b.org"),
        ("a\u00ad@b.org", "a@b.org"),
        ("\u202aa@b.org\u202c", "a@b.org"),
        ("a@B\u00dcCHER.example", "a@xn--bcher-kva.example"),
        ("a@bu\u0308cher.example", "a@xn--bcher-kva.example"),
        ("a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"),
        ("a@stra\u00dfe.de", "a@xn--strae-oqa.de"),
        ("a@\uff48\uff49.org", "a@hi.org"),
        ("a@\u4f8b\u3048\u3002jp", "a@xn--r8jz45g.jp"),
        ("JOS\u00c9@b.org", "jos\u00e9@b.org"),
        ("jose\u0301@b.org", "jos\u00e9@b.org"),
        ("\u212a@b.org", "k@b.org"),
        ("\u03a3\u03a3@b.org", "\u03c3\u03c2@b.org"),
        ("\u0130@b.org", "i\u0307@b.org"),
        ("null@b.org", "null@b.org"),
        ("a/b@c.org", "a/b@c.org"),
        ("n/a@b.org", "n/a@b.org"),
        ("a@\u4f8b\u3048\u3002jp\u3002", "a@xn--r8jz45g.jp"),
    ],
)
def test_email(raw: str, normal: str) -> None:
    assert normalize_email(raw) == normal
    assert normalize_email(normal) == normal


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("a", "bad_email"),
        ("@", "bad_email"),
        ("a@", "bad_email"),
        ("@b.org", "bad_email"),
        ("a@b@c.org", "bad_email"),
        ("a b@c.org", "bad_email"),
        ("a@b .org", "bad_email"),
        ("a\u00a0b@c.org", "bad_email"),
        ("a\u3000@c.org", "bad_email"),
        ("a@b.org, c@d.org", "bad_email"),
        ("a@\u00fc..org", "bad_email"),
        ("a@-\u00fc.org", "bad_email"),
        ("a@b..org", "bad_email"),
        ("a@.org", "bad_email"),
        ("a@under_score.org", "bad_email"),
        ("a@[127.0.0.1]", "bad_email"),
        ("a@b.org/c", "bad_email"),
        ("a@b.org>", "bad_email"),
        ("[bold]@b.org", "bad_email"),
        *((f"a{character}c@b.org", "bad_email") for character in '<>()[],;:\\"'),
        ("a@\uff20.org", "bad_email"),
        ("a@\u2024\u00fc", "bad_email"),
        ("a@" + "\u00fc" * 64 + ".org", "bad_email"),
        ("a\x00@b.org", "control_character"),
        ("a@b.org\x00", "control_character"),
        ("\x00", "control_character"),
        ("a\x07@b.org", "control_character"),
        ("a\tb@c.org", "control_character"),
        ("\ud800@b.org", "bad_encoding"),
        ("a@\udcff.org", "bad_encoding"),
        (17, "bad_email"),
        (1.5, "bad_email"),
        (True, "bad_email"),
        (False, "bad_email"),
        (b"a@b.org", "bad_email"),
        ([], "bad_email"),
        ({}, "bad_email"),
    ],
)
def test_bad_email(raw: object, code: str) -> None:
    assert code_of(normalize_email, raw) == code


def test_length_of_an_email() -> None:
    tail = "@b.org"
    longest = "a" * (EMAIL_MAX - len(tail)) + tail
    assert normalize_email(longest) == longest
    assert normalize_email(f"  {longest.upper()}  ") == longest
    assert code_of(normalize_email, "a" + longest) == "too_long"
    assert code_of(normalize_email, "A" + longest) == "too_long"
    assert code_of(normalize_email, "a" * 1_000_000) == "too_long"


def test_an_email_that_grows_over_its_length() -> None:
    # The IDNA form is longer than what was written, a lower case letter may be, too.
    tail = "@b\u00fc.org"
    assert code_of(normalize_email, "a" * (EMAIL_MAX - len(tail)) + tail) == "too_long"
    assert code_of(normalize_email, "\u0130" * (EMAIL_MAX - 6) + "@b.org") == "too_long"


# Phone numbers


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("123456", "123456"),
        ("000", "000"),
        ("+1 (650) 253-0000", "+16502530000"),
        ("(+44) 20.7946/0000", "+442079460000"),
        (" 12-34 56\t", "123456"),
        ("0049 30 1234", "0049301234"),
        ("--1", "1"),
        ("+-1", "+1"),
        ("\uff11\uff12\uff13", "123"),
        ("\u0661\u0662\u0663", "123"),
        ("\u0967\u0968", "12"),
        ("\U0001d7ce1", "01"),
        ("\ufeff12\u200b", "12"),
        ("1\u200b2\u202c", "12"),
        ("\uff0b1\uff0d2\uff083\uff09", "+123"),
        ("1\u00a02\u20073\u20114\u20135\u22126", "123456"),
        (123456, "123456"),
        (10**PHONE_MAX - 1, "9" * PHONE_MAX),
        (5551234.0, "5551234"),
        (float(2**53 - 1), str(2**53 - 1)),
    ],
)
def test_phone(raw: object, normal: str) -> None:
    assert normalize_phone(raw) == normal
    assert normalize_phone(normal) == normal


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("+", "bad_phone"),
        ("++1", "bad_phone"),
        ("1+2", "bad_phone"),
        ("1+", "bad_phone"),
        ("()", "bad_phone"),
        ("x12", "bad_phone"),
        ("ext. 12", "bad_phone"),
        ("12 ext. 4", "bad_phone"),
        ("5551234 ext.", "bad_phone"),
        ("call 5551234", "bad_phone"),
        ("12,5", "bad_phone"),
        ("12:5", "bad_phone"),
        ("1e5", "bad_phone"),
        ("0x10", "bad_phone"),
        ("1_000", "bad_phone"),
        ("\u00b2", "bad_phone"),
        ("\u2460", "bad_phone"),
        ("\u4e00", "bad_phone"),
        ("#31#555", "bad_phone"),
        ("1\x002", "control_character"),
        ("1\t2", "control_character"),
        ("1\ud800", "bad_encoding"),
        (-1, "bad_phone"),
        (1.5, "bad_phone"),
        (-1.0, "bad_phone"),
        (float("nan"), "bad_phone"),
        (float("inf"), "bad_phone"),
        (float("-inf"), "bad_phone"),
        (float(2**53), "bad_phone"),
        (1e300, "bad_phone"),
        (True, "bad_phone"),
        (False, "bad_phone"),
        (b"12", "bad_phone"),
        ([12], "bad_phone"),
        ({}, "bad_phone"),
        (10**PHONE_MAX, "too_long"),
        (10**100_000, "too_long"),
        (-(10**100_000), "bad_phone"),
    ],
    ids=lambda value: ascii(value) if not isinstance(value, int) else f"{value.bit_length()} bits",
)
def test_bad_phone(raw: object, code: str) -> None:
    assert code_of(normalize_phone, raw) == code


@pytest.mark.parametrize(
    ("raw", "region", "normal"),
    [
        # Whole numbers that have been through a float.
        ("5551234.0", None, "5551234"),
        (" 5551234.00 ", None, "5551234"),
        ("5551234.000000", None, "5551234"),
        ("+5551234.0", None, "+5551234"),
        ("\u0665\u0665\u0665\u0661\u0662\u0663\u0664.\u0660", None, "5551234"),
        ("123.0", None, "123"),
        ("10.0", None, "10"),
        ("12345.000", None, "12345"),
        ("030123456.0", "DE", "+4930123456"),
        ("2025550101.0", "US", "+12025550101"),
        # Groups of a phone number.
        ("1234.000", None, "1234000"),
        ("555.0000", None, "5550000"),
        ("555.123.0", None, "5551230"),
        ("800.555.0000", None, "8005550000"),
        ("(800) 555.0000", None, "8005550000"),
        ("555.123.4567", None, "5551234567"),
        ("5551234.1", None, "55512341"),
        ("5551234.", None, "5551234"),
        (".01", None, "01"),
    ],
)
def test_whole_number_that_was_a_float_is_that_number(
    raw: str, region: str | None, normal: str
) -> None:
    assert normalize_phone(raw, region) == normal
    assert normalize_phone(normal, region) == normal
    assert ContactRequest(None, raw, region=region).phone == normal


@pytest.mark.parametrize("raw", ["5551234,0", "9.19877E+11", "9,19877e11", "4E+9"])
@pytest.mark.parametrize("region", [None, "GB", "IN"])
def test_number_in_another_notation_is_a_bad_phone(raw: str, region: str | None) -> None:
    assert code_of(normalize_phone, raw, region) == "bad_phone"


@pytest.mark.parametrize("raw", ["0", " 0 ", "(0)", "0.0", "\u0660", "'0", 0, 0.0, -0.0])
@pytest.mark.parametrize("region", [None, "US"])
def test_zero_is_no_phone_number(raw: object, region: str | None) -> None:
    assert normalize_phone(raw, region) is None


@pytest.mark.parametrize(
    "raw",
    [
        *("202-555-0121 x5", "202-555-0121x5", "202-555-0121 ext 5", "(202) 555-0121, ext. 5"),
        *("202-555-0121;ext=5", "202.555.0121 Ext: 5", "202 555 0121 extension 5"),
        *("202-555-0121 #5", "202-555-0121,,5", "tel:202-555-0121;ext=5", "202-555-0121 X.5."),
        "202-555-0121 x5 (office)",
    ],
)
def test_extension_is_part_of_the_number(raw: str) -> None:
    assert normalize_phone(raw) == "2025550121;ext=5"
    assert normalize_phone(raw, "US") == "+12025550121;ext=5"
    assert normalize_phone("2025550121;ext=5") == "2025550121;ext=5"
    assert normalize_phone("+12025550121;ext=5", "US") == "+12025550121;ext=5"


def test_extensions_of_one_switchboard_stay_apart() -> None:
    numbers = {normalize_phone(f"202-555-0121{end}", "US") for end in ("", " x5", " x05", " x6")}
    assert len(numbers) == 4


@pytest.mark.parametrize("raw", ["202-555-0121 Klappe 5", "call 202-555-0121 after 5"])
def test_digits_after_a_number_among_words_are_not_dropped(raw: str) -> None:
    assert code_of(normalize_phone, raw, "US") == "bad_phone"


def test_extension_counts_for_the_length() -> None:
    longest = "1" * (PHONE_MAX - len(";ext=5"))
    assert normalize_phone(f"{longest} x5") == f"{longest};ext=5"
    assert code_of(normalize_phone, f"1{longest} x5") == "too_long"


def test_length_of_a_phone_number() -> None:
    assert normalize_phone("1" * PHONE_MAX) == "1" * PHONE_MAX
    assert normalize_phone("+" + "1" * (PHONE_MAX - 1)) == "+" + "1" * (PHONE_MAX - 1)
    assert normalize_phone(f"  {'1' * PHONE_MAX}  ") == "1" * PHONE_MAX
    assert code_of(normalize_phone, "1" * (PHONE_MAX + 1)) == "too_long"
    assert code_of(normalize_phone, "+" + "1" * PHONE_MAX) == "too_long"
    assert code_of(normalize_phone, "1" * 1_000_000) == "too_long"


# Regions


@pytest.mark.parametrize(
    ("raw", "region", "normal"),
    [
        ("650 253 0000", "US", "+16502530000"),
        ("1-650-253-0000", "US", "+16502530000"),
        (6502530000, "US", "+16502530000"),
        ("011 44 20 7946 0000", "US", "+442079460000"),
        ("+44 20 7946 0000", "US", "+442079460000"),
        ("020 7946 0000", "GB", "+442079460000"),
        ("+44 (0) 20 7946 0000", "GB", "+442079460000"),
        ("+44(0)20 7946 0000", "US", "+442079460000"),
        ("0044 (0)20 7946 0000", "GB", "+442079460000"),
        ("00442079460000", "US", "+442079460000"),
        ("+39 (0)6 6981 2345", "IT", "+390669812345"),
        ("+49(0)30/23125301", "DE", "+493023125301"),
        ("(+44) 20 7946 0000", "US", "+442079460000"),
        ("Tel. 030 23125301", "DE", "+493023125301"),
        ("\u260e 202-555-0101", "US", "+12025550101"),
        ("202-555-0101 home", "US", "+12025550101"),
        ("mobile 07700 900111", "GB", "+447700900111"),
        ("030 123456", "DE", "+4930123456"),
        ("0049 30 123456", "DE", "+4930123456"),
        ("02 1234 5678", "IT", "+390212345678"),
        ("\uff10\uff13\uff10 123456", "DE", "+4930123456"),
        ("310-1032", "CA", "+13101032"),
    ],
)
def test_phone_of_a_region(raw: object, region: str, normal: str) -> None:
    assert normalize_phone(raw, region) == normal
    assert normalize_phone(normal, region) == normal


@pytest.mark.parametrize(
    ("raw", "region"),
    [
        ("12", "US"),
        ("1", "GB"),
        ("123456789012345678901234", "US"),
        ("+999 123456", "US"),
        ("+0 123", "US"),
        ("+", "US"),
        ("555x4", "US"),
        ("call me", "US"),
        ("room 12", "US"),
        ("253 0000", "US"),
        ("+1 253 0000", "US"),
        ("003745791310007", "KR"),
    ],
)
def test_not_a_phone_of_a_region(raw: str, region: str) -> None:
    assert code_of(normalize_phone, raw, region) == "bad_phone"


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_examples_of_every_region(region: str) -> None:
    number = phonenumbers.example_number(region)
    expected = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    for form in (
        phonenumbers.PhoneNumberFormat.NATIONAL,
        phonenumbers.PhoneNumberFormat.INTERNATIONAL,
        phonenumbers.PhoneNumberFormat.E164,
    ):
        written = phonenumbers.format_number(number, form)
        if expected.endswith(("1234567", "12345678", "123456789", "1234567890")) and (
            code_of(normalize_phone, written, region) == "placeholder"
        ):
            continue
        assert normalize_phone(written, region) == expected
        assert normalize_phone(f"{written} ext. 5", region) == f"{expected};ext=5"


@pytest.mark.parametrize(
    ("raw", "region"),
    [
        ("1234567890", "US"),
        ("+1 (123) 456-7890", "US"),
        ("999-999-9999", "US"),
        ("+1 555 555 5555", "US"),
        ("0000000000", "US"),
        ("00000", "GB"),
        ("0123456789", "FR"),
        ("01234567890", "GB"),
        ("9876543210", "IN"),
        ("12345678", "NO"),
        ("+47 12 34 56 78", "US"),
        ("1234567890 x5", "US"),
        (1234567890, "US"),
    ],
)
def test_placeholder_with_a_region(raw: object, region: str) -> None:
    assert code_of(normalize_phone, raw, region) == "placeholder"
    assert code_of(normalize_phone, raw) is None


@pytest.mark.parametrize("raw", ["202-345-6789", "212-222-2222", "2345678901"])
def test_number_that_only_resembles_a_placeholder(raw: str) -> None:
    assert code_of(normalize_phone, raw, "US") is None


def test_check_region() -> None:
    assert check_region(None) is None
    assert check_region("us") == "US"
    for region in ("ZZ", "USA", "", "001", "\u00fc"):
        with pytest.raises(UsageError) as caught:
            check_region(region)
        assert "--region" in (caught.value.hint or "")


# Twice through the door


texts = st.text()
numbers = st.text("0123456789+-(). /\uff10\u0661", max_size=24)
addresses = st.builds("{}@{}".format, st.text(min_size=1), st.text(min_size=1))


@given(st.one_of(texts, addresses, st.emails()))
@example("\u0345\u0391@b.org")
@example("\u1e9e@\u1e9e.de")
@example("a@\u0130.org")
@example("\u03a3@\u03a3")
def test_an_email_twice_is_unchanged(raw: str) -> None:
    try:
        normal = normalize_email(raw)
    except InvalidRequestError:
        return
    assert normalize_email(normal) == normal
    if normal is not None:
        assert normal == unicodedata.normalize("NFC", normal) == normal.lower()
        assert normal.count("@") == 1
        assert normal.partition("@")[2].isascii()
        assert len(normal) <= EMAIL_MAX
        normal.encode()


@given(st.one_of(texts, numbers, st.integers(), st.floats()), st.sampled_from(REGIONS))
@example("003745791310007", "KR")
@example("009404", "US")
@example("+54 9 11 15 2345 6789", "AR")
def test_a_phone_twice_is_unchanged(raw: object, region: str | None) -> None:
    try:
        normal = normalize_phone(raw, region)
    except InvalidRequestError:
        return
    assert normalize_phone(normal, region) == normal
    if normal is not None:
        number, extended, extension = normal.partition(";ext=")
        assert number.removeprefix("+").isdigit()
        assert extension.isdigit() == bool(extended)
        assert normal.isascii()
        assert normal.startswith("+") or region is None
        assert len(normal) <= PHONE_MAX


@given(st.text(" \t\r\n\u00a0\ufeff\x07"), st.one_of(addresses, numbers))
def test_what_is_around_does_not_matter(around: str, raw: str) -> None:
    for normalise in (normalize_email, normalize_phone):
        code = code_of(normalise, raw)
        assert code_of(normalise, around + raw + around) == code
        if code is None:
            assert normalise(around + raw + around) == normalise(raw)


@pytest.mark.slow
def test_every_character_that_has_a_meaning() -> None:
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        if unicodedata.category(character) in {"Cn", "Co"}:
            continue
        for normalise, raw in (
            (normalize_phone, f"{character}1"),
            (normalize_email, f"a{character}@c.org"),
        ):
            try:
                normal = normalise(raw)
            except InvalidRequestError:
                continue
            assert normalise(normal) == normal, ascii(raw)


@pytest.mark.parametrize(
    "points", [range(0x80, 0x3000), range(0x3000, 0x3400), range(0xFB00, 0x10000)]
)
def test_every_character_in_a_domain(points: range) -> None:
    for point in points:
        try:
            normal = normalize_email(f"a@b{chr(point)}c.org")
        except InvalidRequestError:
            continue
        assert normal is not None
        assert normal.isascii()
        assert normalize_email(normal) == normal


# The request


def test_a_request_needs_an_identifier() -> None:
    for email, phone in [(None, None), ("", ""), ("n/a", "-"), (None, "null")]:
        assert code_of(ContactRequest, email, phone) == "no_identifier"


def test_a_request_with_one_bad_value_is_rejected_whole() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ContactRequest("a@b.org", "x12")
    assert (caught.value.code, caught.value.field) == ("bad_phone", "phone")
    with pytest.raises(InvalidRequestError) as caught:
        ContactRequest("a", "12")
    assert (caught.value.code, caught.value.field) == ("bad_email", "email")


def test_a_request_is_a_value() -> None:
    request = ContactRequest("A@b.org", "1 2")
    assert (request.email, request.phone, request.region) == ("a@b.org", "12", None)
    assert request == ContactRequest("a@b.org", "12")
    assert hash(request) == hash(ContactRequest("a@b.org", "12"))
    assert request != ContactRequest("a@b.org", "13")
    assert request != ("a@b.org", "12", None)
    for name in ("email", "phone", "region", "more"):
        with pytest.raises(AttributeError):
            setattr(request, name, "c@d.org")


def test_a_request_does_not_show_what_it_holds() -> None:
    assert "b.org" not in repr(ContactRequest("a@b.org", "12"))


@given(st.text(min_size=10), st.text(min_size=10))
@example("planted@planted@planted", "planted planted")
def test_reasons_show_no_value(email: str, phone: str) -> None:
    error = rejected(ContactRequest, email, phone)
    if error is not None:
        assert email not in error.reason
        assert phone not in error.reason
        assert error.code in REJECT_CODES


def test_every_reject_code_has_a_meaning() -> None:
    assert all(code.replace("_", "").isalpha() for code in REJECT_CODES)
    assert all(REJECT_CODES.values())
    assert normalize.PROFILE_VERSION == 2
