"""Names of columns and keys that hold an email or a phone number."""

from __future__ import annotations

_ALIASES = {
    "email": frozenset({"email", "mail", "emailaddress"}),
    "phone": frozenset({"phone", "phonenumber", "mobile", "tel", "telephone"}),
}
_BETWEEN_WORDS = str.maketrans("", "", " -_")


def is_alias(name: str, what: str) -> bool:
    return name.strip().lower().translate(_BETWEEN_WORDS) in _ALIASES[what]
