"""Normalisation: every raw value becomes part of a `ContactRequest`, or is rejected.

Normalising a value twice changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from identity_cli.errors import InvalidRequestError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Stored in the database: values of two versions do not meet in one graph.
PROFILE_VERSION = 1

EMAIL_MAX = 320
PHONE_MAX = 64

REJECT_CODES = {
    "no_identifier": "neither an email nor a phone number",
    "bad_email": "not an email address",
    "bad_phone": "not a phone number",
    "too_long": f"an email over {EMAIL_MAX} characters, a phone number over {PHONE_MAX}",
    "control_character": "a NUL, or a control character inside a value",
    "bad_encoding": "bytes that are not text in the input's encoding",
    "bad_row": "a CSV row with more or fewer cells than the header, an ambiguous object",
    "bad_json": "a line that is not one JSON object with distinct keys",
}

_ABSENT = frozenset({"", "null", "none", "nil", "n/a", "na", "nan", "undefined", "unknown", "-"})
_CONTROL = frozenset({"Cc", "Cf", "Zl", "Zp"})
_SEPARATORS = str.maketrans("", "", " -.()/")

# A whole number that has been through a float, as spreadsheets and data frames write it. After
# fewer than five digits, three zeros or more are a group of a phone number: 555.0000.
_float_text = re.compile(r"\+?(?:[0-9]+\.0{1,2}|[0-9]{5,}\.0+)").fullmatch

# What most rows hold already: it only has to be looked at.
_plain_email = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@[a-z0-9.-]+").fullmatch
_plain_phone = re.compile(r"\+?[0-9]+").fullmatch


class ContactRequest:
    """A request of normalised values: emails, phone numbers, or both.

    A phone number may be a whole number, as in JSON. `emails` and `phones` are further values
    besides `email` and `phone`; each value is kept once, in the order in which they are passed.
    `region` is an ISO 3166 country code; with it, phone numbers become E.164.

    Raises `InvalidRequestError`.
    """

    __slots__ = ("emails", "phones", "region")

    emails: tuple[str, ...]
    phones: tuple[str, ...]
    region: str | None

    def __init__(
        self,
        email: object = None,
        phone: object = None,
        *,
        emails: Iterable[object] = (),
        phones: Iterable[object] = (),
        region: str | None = None,
    ) -> None:
        normal_emails = _distinct(map(normalize_email, (email, *emails)))
        normal_phones = _distinct(normalize_phone(value, region) for value in (phone, *phones))
        if not normal_emails and not normal_phones:
            raise InvalidRequestError("no_identifier", "no email and no phone number")
        set_field = object.__setattr__
        set_field(self, "emails", normal_emails)
        set_field(self, "phones", normal_phones)
        set_field(self, "region", region)

    @property
    def email(self) -> str | None:
        """The first email."""
        return self.emails[0] if self.emails else None

    @property
    def phone(self) -> str | None:
        """The first phone number."""
        return self.phones[0] if self.phones else None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a ContactRequest is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContactRequest):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.emails, self.phones, self.region

    def __repr__(self) -> str:
        return "ContactRequest(…)"  # no contact data in logs and tracebacks


class Normalizer:
    """Normalises rows that may have bad values beside good ones."""

    def __init__(self, region: str | None = None, *, null_words: Iterable[str] = ()) -> None:
        self.region = region
        self._null_words = frozenset(word.strip().lower() for word in null_words)

    def good_values(
        self,
        emails: Iterable[object],
        phones: Iterable[object],
        *,
        region: object = None,  # noqa: ARG002
    ) -> tuple[ContactRequest | None, list[InvalidRequestError]]:
        """Return the request of the good values, None if there is none, and the problems."""
        problems: list[InvalidRequestError] = []
        if not self._null_words:
            with suppress(InvalidRequestError):
                return ContactRequest(emails=emails, phones=phones, region=self.region), problems
        good_emails = self._good(emails, normalize_email, problems)
        good_phones = self._good(phones, lambda v: normalize_phone(v, self.region), problems)
        try:
            request = ContactRequest(emails=good_emails, phones=good_phones, region=self.region)
        except InvalidRequestError as error:
            return None, problems or [error.with_traceback(None)]
        return request, problems

    def _good(
        self,
        values: Iterable[object],
        normalize: Callable[[object], str | None],
        problems: list[InvalidRequestError],
    ) -> list[str | None]:
        found = []
        for value in values:
            if isinstance(value, str) and value.strip().lower() in self._null_words:
                continue
            try:
                found.append(normalize(value))
            except InvalidRequestError as error:
                problems.append(error.with_traceback(None))
        return found


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))


def check_region(region: str | None) -> str | None:
    """Return the region in upper case. Raises `UsageError` if it has no known phone numbers."""
    if region is None:
        return None
    import phonenumbers

    region = region.upper()
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise UsageError(
            f"no phone numbers are known for region {region!r}",
            hint="use an ISO 3166 country code, for example --region US",
        )
    return region


def normalize_email(value: object) -> str | None:
    """Return the email in lower case, its domain in IDNA form; None if it is absent."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequestError("bad_email", "an email must be text", field="email")
    if len(value) <= EMAIL_MAX and _plain_email(value):
        return value
    text = _clean(value, EMAIL_MAX, "email")
    if text is None:
        return None
    if any(map(str.isspace, text)):
        raise InvalidRequestError("bad_email", "white space inside the email", field="email")
    local, at, domain = text.partition("@")
    if not at or "@" in domain:
        raise InvalidRequestError("bad_email", "an email needs exactly one @", field="email")
    if not local or not domain:
        raise InvalidRequestError(
            "bad_email", "an email needs something on both sides of the @", field="email"
        )
    text = f"{unicodedata.normalize('NFC', local.lower())}@{_ascii_domain(domain)}"
    if len(text) > EMAIL_MAX:
        raise _too_long("email", EMAIL_MAX)
    return text


def normalize_phone(value: object, region: str | None = None) -> str | None:
    """Return digits with an optional leading +, with a region E.164; None if it is absent."""
    if value is None:
        return None
    if not isinstance(value, str):
        value = _number_text(value)
    if len(value) <= PHONE_MAX and _plain_phone(value):
        return value if region is None else _e164(value, region)
    text = _clean(value, PHONE_MAX, "phone")
    if text is None:
        return None
    text = "".join([_ascii_digit(c) for c in text])
    if _float_text(text):
        text = text.partition(".")[0]
    text = text.translate(_SEPARATORS)
    if not _plain_phone(text):
        raise InvalidRequestError(
            "bad_phone", "a phone number may contain only digits and a leading +", field="phone"
        )
    return text if region is None else _e164(text, region)


def _clean(value: str, limit: int, field: str) -> str | None:
    """Return NFC without outer white space and control characters; None for an absent value."""
    if "\0" in value:
        raise InvalidRequestError("control_character", "a NUL character", field=field)
    text = value.strip()
    if not text.isprintable():
        text = _strip_control(text)
    # NFC makes one character of at most four. It can take time quadratic in the length.
    if len(text) > 4 * limit:
        raise _too_long(field, limit)
    if not text.isprintable():
        for character in text:
            category = unicodedata.category(character)
            if category == "Cs":
                raise InvalidRequestError("bad_encoding", f"{field} is not text", field=field)
            if category in _CONTROL:
                raise InvalidRequestError(
                    "control_character", "a control character inside the value", field=field
                )
    text = unicodedata.normalize("NFC", text)
    if len(text) > limit:
        raise _too_long(field, limit)
    return None if text.lower() in _ABSENT else text


def _strip_control(text: str) -> str:
    def outer(character: str) -> bool:
        return character.isspace() or unicodedata.category(character) in _CONTROL

    start, end = 0, len(text)
    while start < end and outer(text[start]):
        start += 1
    while start < end and outer(text[end - 1]):
        end -= 1
    return text[start:end]


def _too_long(field: str, limit: int) -> InvalidRequestError:
    return InvalidRequestError(
        "too_long", f"more than {limit} characters for {_ARTICLE[field]}", field=field
    )


_ARTICLE = {"email": "an email", "phone": "a phone number"}


def _number_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and value < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequestError(
            "bad_phone", "a phone number must be text or a whole number", field="phone"
        )
    if value >= 10**PHONE_MAX:  # checked before str(), which refuses huge numbers
        raise _too_long("phone", PHONE_MAX)
    return str(value)


def _ascii_digit(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    try:
        return _idna_encode()(domain)
    except UnicodeError as error:
        raise InvalidRequestError(
            "bad_email", "the domain has no IDNA form", field="email"
        ) from error


@lru_cache(maxsize=1)
def _idna_encode() -> Callable[[str], str]:
    import idna

    return lru_cache(maxsize=4096)(lambda domain: idna.encode(domain, uts46=True).decode().lower())


@lru_cache(maxsize=65536)
def _e164(text: str, region: str) -> str:
    normal = _parsed_and_formatted(text, region)
    # Some impossible numbers lose a trunk prefix each time that they are parsed.
    if normal is None or (normal != text and _parsed_and_formatted(normal, region) != normal):
        raise InvalidRequestError(
            "bad_phone", f"cannot be a phone number in region {region}", field="phone"
        )
    return normal


def _parsed_and_formatted(text: str, region: str) -> str | None:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    # "Possible" also accepts a number without its area code, which has no E.164 form.
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != phonenumbers.ValidationResult.IS_POSSIBLE and not phonenumbers.is_valid_number(
        number
    ):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
