"""Normalisation: every raw value becomes part of a `ContactRequest`, or is rejected.

Normalising a value twice changes nothing.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from identity_cli.errors import InvalidRequestError
from identity_cli.graph.cells import ABSENT, too_many_values
from identity_cli.graph.emails import EMAIL_MAX, email_values, is_plain_email, normalize_email
from identity_cli.graph.phones import (
    PHONE_MAX,
    is_plain_phone,
    needs_region,
    normalize_phone,
    phone_values,
)
from identity_cli.graph.regions import check_region, region_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "EMAIL_MAX",
    "PHONE_MAX",
    "PROFILE_VERSION",
    "REJECT_CODES",
    "VALUES_MAX",
    "ContactRequest",
    "Normalizer",
    "check_region",
    "normalize_email",
    "normalize_phone",
    "region_code",
]

# Stored in the database with the first contact. A version reads what an older one stored as the
# same values.
PROFILE_VERSION = 2

# Of each kind. The pairs of a request grow with the square of its values.
VALUES_MAX = 10

REJECT_CODES = {
    "no_identifier": "neither an email nor a phone number",
    "bad_email": "not an email address",
    "bad_phone": "not a phone number",
    "bad_region": "a country that is not known, for a phone number without a country code",
    "placeholder": "a phone number such as 1234567890 or 9999999999, with a region",
    "too_many_values": f"more than {VALUES_MAX} emails or more than {VALUES_MAX} phone numbers",
    "too_long": f"an email over {EMAIL_MAX} characters, a phone number over {PHONE_MAX}",
    "control_character": "a NUL, or a control character inside a value",
    "bad_encoding": "bytes that are not text in the input's encoding",
    "bad_row": "a row with more cells than the header, a vCard without an end",
    "bad_json": "a line that is not one JSON object with distinct keys",
    "refused": "a request that the database refuses",
    "forgotten": "a request whose values are all forgotten",
}


class ContactRequest:
    """A request of normalised values: emails, phone numbers, or both.

    A phone number may be a whole number, as in JSON; any value may be a list, as a cell may be.
    `emails` and `phones` are further values besides `email` and `phone`; each value is kept once,
    in the order in which they are passed. `region` is an ISO 3166 country code; with it, phone
    numbers become E.164.

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
        normal_emails = _emails((email, *emails), ABSENT, None)
        normal_phones = _phones((phone, *phones), region, ABSENT, None)
        if not normal_emails and not normal_phones:
            raise _no_identifier()
        _set_emails(self, normal_emails)
        _set_phones(self, normal_phones)
        _set_region(self, region)

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


# The descriptors of the slots: the way past __setattr__ that costs the least.
_set_emails = vars(ContactRequest)["emails"].__set__
_set_phones = vars(ContactRequest)["phones"].__set__
_set_region = vars(ContactRequest)["region"].__set__


class Normalizer:
    """A way of reading raw values: a default region, and more words for an absent value.

    A raw value is text, a whole number for a phone number, a list of those, or None. A text may be
    a list, too, as in a cell `a@x.org; b@x.org`.
    """

    __slots__ = ("_absent", "_region")

    def __init__(self, region: str | None = None, *, null_words: Iterable[str] = ()) -> None:
        self._region = region
        self._absent = ABSENT | {
            unicodedata.normalize("NFC", word.strip()).lower() for word in null_words
        }

    @property
    def region(self) -> str | None:
        """The region of phone numbers in rows without a region of their own."""
        return self._region

    @property
    def absent(self) -> frozenset[str]:
        """The words that are absent values, in lower case."""
        return self._absent

    def request(
        self, emails: Sequence[object], phones: Sequence[object], *, region: object = None
    ) -> ContactRequest:
        """Return the request of all values. Raises `InvalidRequestError` for the first bad one.

        `region` is the cell of a row's region column: a code or an English name.
        """
        normal_emails, normal_phones = self._read(emails, phones, region, None)
        if not normal_emails and not normal_phones:
            raise _no_identifier()
        return self.request_of(normal_emails, normal_phones)

    def good_values(
        self, emails: Sequence[object], phones: Sequence[object], *, region: object = None
    ) -> tuple[ContactRequest | None, list[InvalidRequestError]]:
        """Return the request of the good values, None if there is none, and the problems.

        There is a problem for each bad value, and one if there are no values at all.
        """
        normal_emails, normal_phones, problems = self.good_texts(emails, phones, region=region)
        if not normal_emails and not normal_phones:
            return None, problems
        return self.request_of(normal_emails, normal_phones), problems

    def good_texts(
        self, emails: Sequence[object], phones: Sequence[object], *, region: object = None
    ) -> tuple[tuple[str, ...], tuple[str, ...], list[InvalidRequestError]]:
        """Return the good emails, the good phone numbers, and the problems, as `good_values`."""
        problems: list[InvalidRequestError] = []
        normal_emails, normal_phones = self._read(emails, phones, region, problems)
        if not normal_emails and not normal_phones and not problems:
            problems.append(_no_identifier())
        return normal_emails, normal_phones, problems

    def request_of(self, emails: Iterable[str], phones: Iterable[str]) -> ContactRequest:
        """Return the request of values that are normal already."""
        request = ContactRequest.__new__(ContactRequest)
        _set_emails(request, tuple(emails))
        _set_phones(request, tuple(phones))
        # Not the row's region: this is the one of the database's profile.
        _set_region(request, self._region)
        return request

    def _read(
        self,
        emails: Sequence[object],
        phones: Sequence[object],
        region: object,
        problems: list[InvalidRequestError] | None,
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        normal_emails = _emails(emails, self._absent, problems)
        row_region = self._region
        if region is not None and not self._is_absent(region):
            row_region = region_code(region) if isinstance(region, str) else None
            if row_region is None:
                phones = self._without_region(phones, problems)
                row_region = self._region
        return normal_emails, _phones(phones, row_region, self._absent, problems)

    def _is_absent(self, region: object) -> bool:
        return isinstance(region, str) and region.strip().lower() in self._absent

    def _without_region(
        self, phones: Sequence[object], problems: list[InvalidRequestError] | None
    ) -> list[object]:
        """Return the phone numbers that need no region; the others are problems."""
        kept = []
        for cell in phones:
            if not needs_region(cell, self._absent):
                kept.append(cell)
                continue
            problem = InvalidRequestError(
                "bad_region", "a phone number without + in an unknown region", field="phone"
            )
            if problems is None:
                raise problem
            problems.append(problem)
        return kept


def _emails(
    cells: Iterable[object], absent: frozenset[str], problems: list[InvalidRequestError] | None
) -> tuple[str, ...]:
    values: list[str] = []
    for cell in cells:
        if cell is None or cell == "":
            continue
        if (
            isinstance(cell, str)
            and is_plain_email(cell)
            and len(cell) <= EMAIL_MAX
            and cell not in absent
        ):
            values.append(cell)
        else:
            values += _cell_values(cell, lambda item: email_values(item, absent), problems)
    return tuple(values) if len(values) < 2 else _distinct(values, "email", problems)


def _phones(
    cells: Iterable[object],
    region: str | None,
    absent: frozenset[str],
    problems: list[InvalidRequestError] | None,
) -> tuple[str, ...]:
    values: list[str] = []
    for cell in cells:
        if cell is None or cell == "":
            continue
        if (
            region is None
            and isinstance(cell, str)
            and is_plain_phone(cell)
            and len(cell) <= PHONE_MAX
            and cell != "0"
            and cell not in absent
        ):
            values.append(cell)
        else:
            values += _cell_values(cell, lambda item: phone_values(item, region, absent), problems)
    return tuple(values) if len(values) < 2 else _distinct(values, "phone", problems)


def _cell_values(
    cell: object,
    read: Callable[[object], list[str]],
    problems: list[InvalidRequestError] | None,
) -> list[str]:
    """Return the values of a cell, or of a list whose bad items do not cost the good ones."""
    values: list[str] = []
    for item in cell if isinstance(cell, list) else (cell,):
        try:
            values += read(item)
        except InvalidRequestError as error:
            if problems is None:
                raise
            problems.append(error)
    return values


def _distinct(
    values: list[str], field: str, problems: list[InvalidRequestError] | None
) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(values))
    if len(distinct) <= VALUES_MAX:
        return distinct
    error = too_many_values(field, VALUES_MAX)
    if problems is None:
        raise error
    problems.append(error)
    return ()


def _no_identifier() -> InvalidRequestError:
    return InvalidRequestError("no_identifier", "no email and no phone number")
