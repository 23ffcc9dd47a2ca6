"""Normalisation of emails."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from identity_cli.errors import InvalidRequestError
from identity_cli.graph.cells import ABSENT, clean, read_cell, too_long, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

EMAIL_MAX = 320

# What most rows hold already: it only has to be looked at. A leading apostrophe is a wrapping.
PLAIN_EMAIL = r"[a-z0-9!#$%&*+/=?^_{|}~.-][a-z0-9!#$%&'*+/=?^_`{|}~.-]*@[a-z0-9-]+(?:\.[a-z0-9-]+)*"
is_plain_email = re.compile(PLAIN_EMAIL).fullmatch

_domain = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*").fullmatch
_quoted_text = re.compile(r'"(?:[^"\\]|\\.)+"').fullmatch
_not_in_local_part = re.compile(r'[\s<>()\[\],;:\\"]').search


def normalize_email(value: object, *, absent: frozenset[str] = ABSENT) -> str | None:
    """Return the email in lower case, its domain in IDNA form; None if it is absent."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _bad_email("an email must be text")
    if len(value) <= EMAIL_MAX and is_plain_email(value) and value not in absent:
        return value
    text = unwrap(clean(value, EMAIL_MAX, "email"), absent)
    if text is None:
        return None
    if len(text) > EMAIL_MAX:
        raise too_long("email", EMAIL_MAX)
    local, at, domain = text.partition("@")
    if any(map(str.isspace, text)) and not _quoted_text(local):
        raise _bad_email("white space inside the email")
    if not at or "@" in domain:
        raise _bad_email("an email needs exactly one @")
    if not local or not domain:
        raise _bad_email("an email needs something on both sides of the @")
    local = unicodedata.normalize("NFC", local.lower())
    if _not_in_local_part(local) and not _quoted_text(local):
        raise _bad_email("a character before the @ that is allowed only in quotes")
    text = f"{local}@{_ascii_domain(domain)}"
    if len(text) > EMAIL_MAX:
        raise too_long("email", EMAIL_MAX)
    return text


def email_values(cell: object, absent: frozenset[str] = ABSENT) -> list[str]:
    """Return the emails of a cell, which may be a list."""

    def read(value: object) -> str | None:
        return normalize_email(value, absent=absent)

    return read_cell(cell, read, read)


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        domain = domain.lower()
    else:
        try:
            domain = _idna_encode()(domain)
        except UnicodeError as error:
            raise _bad_email("the domain has no IDNA form") from error
    if not _domain(domain):
        raise _bad_email("the domain must consist of letters, digits, hyphens and single dots")
    return domain


@lru_cache(maxsize=1)
def _idna_encode() -> Callable[[str], str]:
    import idna

    return lru_cache(maxsize=4096)(lambda domain: idna.encode(domain, uts46=True).decode().lower())


def _bad_email(reason: str) -> InvalidRequestError:
    return InvalidRequestError("bad_email", reason, field="email")
