"""Values made unrecognisable, for pages and messages that other people read."""

from __future__ import annotations

_HIDDEN = "***"
# The last digits of a shorter number would be most of it.
_SHORTEST_PHONE = 6


def masked(value: str) -> str:
    """Return enough of a stored email or phone number to recognise it again, but not to use it.

    `lorraine@hillvalley.edu` becomes `l***@h***.edu`, `123456` becomes `***56`.
    """
    local_part, at, domain = value.rpartition("@")
    if at:
        suffix = domain.rpartition(".")[1:]
        return f"{local_part[:1]}{_HIDDEN}@{domain[:1]}{_HIDDEN}{''.join(suffix) * ('.' in domain)}"
    number = value.partition(";")[0]  # without the extension
    return f"{_HIDDEN}{number[-2:] if len(number) >= _SHORTEST_PHONE else ''}"
