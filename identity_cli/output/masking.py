"""Values made unreadable for those who only need to recognise them."""

from __future__ import annotations

_DIGITS_SHOWN = 2


def masked(value: str) -> str:
    """Return an email with only the first character before the @, a number with its last digits."""
    local, at, domain = value.rpartition("@")
    if at:
        return f"{local[:1]}***@{domain}"
    return f"***{value[-_DIGITS_SHOWN:]}" if len(value) > 2 * _DIGITS_SHOWN else "***"
