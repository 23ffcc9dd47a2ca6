"""What a user names an identity by: an email, a phone number, or the id of a contact."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from identity_cli.errors import InvalidRequestError, UsageError
from identity_cli.graph.normalize import normalize_email, normalize_phone

Kind = Literal["email", "phone", "id"]

# Ids are positive and fit into a bigint; a number with a leading zero is none.
_bare_number = re.compile(r"[1-9][0-9]{0,18}").fullmatch
_ID_MAX = 2**63 - 1


class Reference(NamedTuple):
    """A normalised value, or the id of a contact."""

    kind: Kind
    value: str | int


def read_reference(text: str, region: str | None) -> tuple[Reference, ...]:
    """Return what a text may stand for, the preferred one first.

    A text with an @ is an email. A bare number is the id of a contact, and a phone number if no
    contact has that id. Anything else is a phone number. Raises `InvalidRequestError`.
    """
    text = text.strip()
    if not (_bare_number(text) and int(text) <= _ID_MAX):
        return (value_reference(text, region),)
    contact = Reference("id", int(text))
    try:
        return contact, value_reference(text, region)
    except InvalidRequestError:
        return (contact,)


def value_reference(text: str, region: str | None) -> Reference:
    """Return the reference of an email or a phone number; a text with an @ is an email.

    Raises `InvalidRequestError`.
    """
    return email_reference(text) if "@" in text else phone_reference(text, region)


def email_reference(email: str) -> Reference:
    """Return the reference of an email. Raises `InvalidRequestError`."""
    return _reference("email", normalize_email(email))


def phone_reference(phone: str | int, region: str | None) -> Reference:
    """Return the reference of a phone number. Raises `InvalidRequestError`."""
    return _reference("phone", normalize_phone(phone, region))


def _reference(kind: Kind, value: str | None) -> Reference:
    if value is None:
        raise InvalidRequestError("no_identifier", "neither an email nor a phone number")
    return Reference(kind, value)


def read_lookup(
    value: str | None,
    *,
    email: str | None,
    phone: str | int | None,
    contact_id: int | None,
    region: str | None,
) -> tuple[tuple[Reference, ...], bool]:
    """Return the references of a look-up, and whether all of them have to lead to one identity.

    Raises `UsageError` if it is not by one value, by one id, or by an email and a phone number,
    and `InvalidRequestError`.
    """
    has_values = email is not None or phone is not None
    if sum((value is not None, contact_id is not None, has_values)) != 1:
        raise UsageError(
            "look up by one value, by one id, or by an email and a phone number",
            hint="use VALUE, --id, or --email and --phone",
        )
    if value is not None:
        return read_reference(value, region), False
    if contact_id is not None:
        return (Reference("id", contact_id),), False
    emails = () if email is None else (email_reference(email),)
    phones = () if phone is None else (phone_reference(phone, region),)
    return (*emails, *phones), True
