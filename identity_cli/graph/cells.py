"""Cells as people fill them: absent values, wrappings around a value, lists of values."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING

from identity_cli.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # Returns the normal form of one value, None if it is absent; raises InvalidRequestError.
    Read = Callable[[object], str | None]

ABSENT = frozenset(
    {
        *("", "null", "none", "nil", "n/a", "na", "n.a", "n.a.", "nan", "undefined", "unknown"),
        *("-", "--", ".", "?", "tbd", "not provided", "not available", "[]", "{}"),
        *("<na>", "\\n", "(none)", "(null)", "(blank)"),
        # The errors of a spreadsheet.
        *("#n/a", "#ref!", "#value!", "#name?", "#num!", "#null!", "#div/0!", "#error!"),
    }
)

# A longer cell is not searched for a list, and a list of more values is not read to its end.
_CELL_MAX = 16_384
_LIST_MAX = 100

# A number before <…> with as many digits is a value of its own, fewer belong to a name.
_NUMBER_DIGITS = 7

_CONTROL = frozenset({"Cc", "Zl", "Zp"})
_QUOTES = (
    "\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u00ab\u00bb\uff02\uff07"
)
# In full width, too.
_TRAILING = ",;. \uff0c\uff1b\uff0e\u3002"
_NO_TEXT = "-.?_\u2010\u2011\u2012\u2013\u2014\u2015\u2026 "

_quoted_local_part = re.compile(r'"(?:[^"\\]|\\.)+"@').match
_formula = re.compile(r'=\s*(?=["\u201c\u201d])').match
_angle_brackets = re.compile(r"([^<>]*)<+([^<>]*)>+").fullmatch
_label = re.compile(
    r"(?:(?:mailto|smtp|e-?mail(?: address)?|sms|smsto|callto|whatsapp|wa"
    r"|(?:mobile|cell|home|work|office)?\s?(?:tel|telephone|phone)(?: number)?"
    r"|mobile|mob|cell|home|work|office|main|ph|[ptmehwco])\.?\s?:(?://)?\s*)+",
    re.IGNORECASE,
).match
_mail_query = re.compile(r"(mailto:[^@?]*@[^?]*)\?", re.IGNORECASE).match

# A list is split at the first of these that leaves only values, its parts at the others.
_SEPARATORS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\r\n|[\n\r\x85\u2028\u2029]",
        r"(?<=>)\s*[,;|/]",
        r"[;\uff1b]",
        r"[|\uff5c]",
        r":::",
        r"\s(?:or|and|&)\s",
        r"[,\uff0c\u3001]",
        r"[/\uff0f]",
    )
)
# A quick look: most cells hold one value.
may_be_list = re.compile(
    r"[;\uff1b|\uff5c,\uff0c\u3001/\uff0f\n\r\x85\u2028\u2029\[{]|:::|\s(?:or|and|&)\s",
    re.IGNORECASE,
).search
_quoted = re.compile(r'"[^"]*"')

_ARTICLE = {"email": "an email", "phone": "a phone number"}


def clean(value: str, limit: int, field: str) -> str:
    """Return the text in NFC, without invisible marks and without white space around it.

    A text that cannot become a value of `limit` characters is rejected.
    """
    if "\0" in value:
        raise InvalidRequestError("control_character", "a NUL character", field=field)
    text = value.strip()
    if not text.isprintable():
        text = _visible(text)
    # NFC makes one character of at most four. It can take time quadratic in the length.
    if len(text) > 4 * limit:
        raise too_long(field, limit)
    if not text.isprintable():
        for character in text:
            category = unicodedata.category(character)
            if category == "Cs":
                raise InvalidRequestError("bad_encoding", f"{field} is not text", field=field)
            if category in _CONTROL:
                raise InvalidRequestError(
                    "control_character", "a control character inside the value", field=field
                )
    return unicodedata.normalize("NFC", text)


def unwrap(text: str, absent: frozenset[str]) -> str | None:
    """Return a cleaned text without what is wrapped around the value; None if it is absent."""
    while True:
        if text.lower() in absent or not text.strip(_NO_TEXT):
            return None
        inner = _unwrap_once(text)
        if inner == text:
            return text
        text = inner


def read_cell(cell: object, read: Read, read_part: Read) -> list[str]:
    """Return the values of a cell: those of a list if `read_part` accepts every part of the text.

    Otherwise `read` gets the whole.
    """
    values = _split(cell, read_part) if isinstance(cell, str) and may_be_list(cell) else None
    if values is not None and len(values) > 1:
        return values
    try:
        value = read(cell)
    except InvalidRequestError:
        if values is None:
            raise
        return values
    return [] if value is None else [value]


def too_long(field: str, limit: int) -> InvalidRequestError:
    """Return the error for a value over its limit."""
    return InvalidRequestError(
        "too_long", f"more than {limit} characters for {_ARTICLE[field]}", field=field
    )


def too_many_values(field: str, limit: int) -> InvalidRequestError:
    """Return the error for a request with more values of one kind than the limit."""
    kind = "emails" if field == "email" else "phone numbers"
    return InvalidRequestError("too_many_values", f"more than {limit} {kind}", field=field)


def _visible(text: str) -> str:
    """Return the text without format characters (Cf) and without control characters around it."""
    text = "".join([c for c in text if c.isprintable() or unicodedata.category(c) != "Cf"])

    def outer(character: str) -> bool:
        return character.isspace() or unicodedata.category(character) in _CONTROL

    start, end = 0, len(text)
    while start < end and outer(text[start]):
        start += 1
    while start < end and outer(text[end - 1]):
        end -= 1
    return text[start:end]


def _unwrap_once(text: str) -> str:
    text = text.rstrip(_TRAILING + _QUOTES).lstrip(",; ").strip()
    if formula := _formula(text):
        text = text[formula.end() :]
    if text[:1] in _QUOTES and not _quoted_local_part(text):
        text = text.lstrip(_QUOTES)
    if query := _mail_query(text):
        text = query[1]
    if label := _label(text):
        text = text[label.end() :]
    if named := _angle_brackets(text):
        name, inner = named.groups()
        if _is_name_of(name, inner):
            text = inner
    return _without_comments(text).strip()


def _is_name_of(name: str, inner: str) -> bool:
    # Another address or number before the brackets is a value, too: this is a list.
    if "@" in name:
        return inner.lower().endswith(name.strip(" " + _QUOTES).lower())
    return "@" in inner or sum(map(str.isdigit, name)) < _NUMBER_DIGITS


def _without_comments(text: str) -> str:
    if text.endswith(")"):
        start = text.rfind("(")
        if start >= 0 and _is_comment(text[start + 1 : -1]):
            text = text[:start].rstrip()
    if text.startswith("("):
        end = text.find(")")
        if end >= 0 and _is_comment(text[1:end]):
            text = text[end + 1 :]
    return text


def _is_comment(text: str) -> bool:
    return bool(text) and "@" not in text and not any(map(str.isdigit, text))


def _split(text: str, read_part: Read, level: int = 0) -> list[str] | None:
    """Return the values of a list, None if the text is not one."""
    text = text.strip()
    if len(text) > _CELL_MAX:
        return None
    # A spreadsheet, or an export for one, writes '[…], "[…]" or ="[…]".
    if level == 0 and (items := _bracketed(text.lstrip("=\"' ").rstrip("\"';, "))) is not None:
        return _read_parts(items, read_part, 1)
    if formula := _formula(text):
        text = text[formula.end() :]
    if text.count('"') == 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    # A separator inside quotes belongs to a name: "Bell, Ann" <ann@x.org>.
    masked = _quoted.sub(lambda quoted: '"' * len(quoted[0]), text)
    for i in range(level, len(_SEPARATORS)):
        parts = _cut(text, masked, _SEPARATORS[i])
        if len(parts) > 1:
            values = _read_parts(parts, read_part, i + 1)
            if values is not None:
                return values
    return None


def _bracketed(text: str) -> list[object] | None:
    """Return the items of `["a", "b"]`, `['a', 'b']`, `[a, b]` or `{a,b}`; None for other text."""
    if (text[:1], text[-1:]) not in {("[", "]"), ("{", "}")}:
        return None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return list(text[1:-1].split(","))
    return items if isinstance(items, list) else None


def _cut(text: str, masked: str, separator: re.Pattern[str]) -> list[str]:
    parts, start = [], 0
    for match in separator.finditer(masked):
        parts.append(text[start : match.start()])
        start = match.end()
    parts.append(text[start:])
    return parts


def _read_parts(parts: Iterable[object], read_part: Read, level: int) -> list[str] | None:
    values: dict[str, None] = {}
    for part in parts:
        if isinstance(part, str) and not part.strip():
            continue
        inner = _split(part, read_part, level) if isinstance(part, str) else None
        if inner is None:
            try:
                value = read_part(part)
            except InvalidRequestError:
                return None
            inner = [] if value is None else [value]
        values.update(dict.fromkeys(inner))
        if len(values) > _LIST_MAX:
            break
    return list(values)
