"""Normalisation of phone numbers: as digits, or with a region as E.164."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from identity_cli.errors import InvalidRequestError
from identity_cli.graph.cells import ABSENT, clean, may_be_list, read_cell, too_long, unwrap

PHONE_MAX = 64

# Fewer digits are not a number of their own in a list: 08024/12345 is one number.
_PART_DIGITS = 7
# Fewer digits are not a number with an extension: 0x10.
_EXTENDED_DIGITS = 3

# Every space and dash of Unicode, and the punctuation of phone numbers, in full width, too.
_SEPARATORS = dict.fromkeys(
    map(
        ord,
        " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
        "\u202f\u205f\u3000"
        "-\u058a\u05be\u1400\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
        "\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u2e5d\u301c\u3030\u30a0\u30fc\ufe31\ufe32\ufe58\ufe63\uff0d\U00010ead"
        ".()/\uff0e\uff08\uff09\uff0f",
    ),
    "",
) | {ord("\uff0b"): "+"}

# A whole number that has been through a float, as spreadsheets and data frames write it. After
# fewer than five digits, three zeros or more are a group of a phone number: 555.0000.
_float_text = re.compile(r"\+?(?:[0-9]+\.0{1,2}|[0-9]{5,}\.0+)").fullmatch
# A spreadsheet keeps six digits of a wide number, and fills it up with zeros.
_scientific = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+").fullmatch

_extension = re.compile(
    r"(?:;\s*ext|,{2,}|x|#|\b(?:extension|extn?|ext\.?no|poste|durchwahl|anexo|ramal|toestel"
    r"|interno|\u0434\u043e\u0431))[\s.:=#]*([0-9]{1,9})$",
    re.IGNORECASE,
).search
# The zero that is dialled only inside the country: +44 (0)20 …
_trunk_zero = re.compile(r"(\(?(?:\+|\uff0b|00)[0-9]{1,3}\)?[\s.-]?)\(0\)").match

PLAIN_PHONE = r"\+?[0-9]+"
is_plain_phone = re.compile(PLAIN_PHONE).fullmatch

# Typed into a form that demands a number, as is one digit all along.
_SEQUENCES = ("0123456789", "1234567890", "9876543210", "0987654321")
_SEQUENCE_DIGITS = 7
_REPEATED_DIGITS = 5


def normalize_phone(
    value: object, region: str | None = None, *, absent: frozenset[str] = ABSENT
) -> str | None:
    """Return digits with an optional leading +, with a region E.164; None if it is absent.

    An extension follows as `;ext=5`.
    """
    numbers = _read(value, region, absent)
    if len(numbers) > 1:
        raise _bad_phone("several phone numbers in one text")
    return numbers[0] if numbers else None


def phone_values(
    cell: object, region: str | None = None, absent: frozenset[str] = ABSENT
) -> list[str]:
    """Return the phone numbers of a cell, which may be a list."""
    if not (isinstance(cell, str) and may_be_list(cell)):
        return _read(cell, region, absent)

    def read(value: object) -> str | None:
        return normalize_phone(value, region, absent=absent)

    def read_part(value: object) -> str | None:
        number = read(value)
        if number is None:
            if _digits(str(value)):
                raise _bad_phone("too short for a part of a list")
        elif len(_digits(number.partition(";")[0])) < _PART_DIGITS:
            raise _bad_phone("too short for a part of a list")
        return number

    try:
        return read_cell(cell, read, read_part)
    except InvalidRequestError:
        if region is None:
            raise
        return _read(cell, region, absent)


def needs_region(cell: object, absent: frozenset[str] = ABSENT) -> bool:
    """Return whether a cell holds a phone number that is not in international form."""
    try:
        numbers = phone_values(cell, None, absent)
    except InvalidRequestError:
        return True
    return not all(number.startswith("+") for number in numbers)


def _read(value: object, region: str | None, absent: frozenset[str]) -> list[str]:
    """Return the phone number of a text; several only if there are words around them."""
    if value is None:
        return []
    text = value if isinstance(value, str) else _number_text(value)
    if len(text) <= PHONE_MAX and is_plain_phone(text):
        return [] if text == "0" or text in absent else [_international(text, region)]
    cleaned = unwrap(clean(text, PHONE_MAX, "phone"), absent)
    if cleaned is None:
        return []
    text = "".join(map(_ascii_digit, cleaned))
    if _float_text(text):
        text = text.partition(".")[0]
    if _scientific(text):
        raise _bad_phone("a number in scientific notation has lost digits")
    base, extension = _without_extension(text)
    number = _trunk_zero_removed(base, region).translate(_SEPARATORS)
    if is_plain_phone(number):
        if len(number) + len(extension) > PHONE_MAX:
            raise too_long("phone", PHONE_MAX)
        if extension:
            if len(_digits(number)) < _EXTENDED_DIGITS:
                raise _bad_phone("an extension without a phone number")
        elif number == "0":
            return []
        return [_international(number, region) + extension]
    numbers = [] if region is None else _found(text, region)
    if not numbers:
        raise _bad_phone("a phone number may contain only digits and a leading +")
    return numbers


def _international(number: str, region: str | None) -> str:
    return number if region is None else e164(number, region)


def _without_extension(text: str) -> tuple[str, str]:
    match = _extension(text)
    if match is None:
        return text, ""
    return text[: match.start()].rstrip(" ,;."), f";ext={match[1]}"


def _trunk_zero_removed(text: str, region: str | None) -> str:
    match = _trunk_zero(text)
    if match is None:
        return text
    without = match[1] + text[match.end() :]
    # In Italy the zero belongs to the number.
    if region is not None and not _is_valid(without, region) and _is_valid(text, region):
        return text
    return without


def _number_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and value < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _bad_phone("a phone number must be text or a whole number")
    if value >= 10**PHONE_MAX:  # checked before str(), which refuses huge numbers
        raise too_long("phone", PHONE_MAX)
    return str(value)


def _ascii_digit(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _bad_phone(reason: str) -> InvalidRequestError:
    return InvalidRequestError("bad_phone", reason, field="phone")


@lru_cache(maxsize=65536)
def e164(text: str, region: str) -> str:
    """Return the E.164 form of digits with an optional leading +. Raises `InvalidRequestError`."""
    if _is_placeholder(text.removeprefix("+")):
        raise _placeholder()
    normal = _parsed_and_formatted(text, region)
    if normal is None and text.startswith("00"):
        # Written with 00 in a region that dials another prefix.
        foreign = "+" + text[2:]
        normal = _parsed_and_formatted(foreign, region) if _is_valid(foreign, region) else None
    # Some impossible numbers lose a trunk prefix each time that they are parsed.
    if normal is None or (normal != text and _parsed_and_formatted(normal, region) != normal):
        raise _bad_phone(f"cannot be a phone number in region {region}")
    if _is_placeholder(_national(normal)):
        raise _placeholder()
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


def _is_valid(text: str, region: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _found(text: str, region: str) -> list[str]:
    """Return the phone numbers in a text with words."""
    import phonenumbers

    for leniency in (phonenumbers.Leniency.VALID, phonenumbers.Leniency.POSSIBLE):
        matches = list(phonenumbers.PhoneNumberMatcher(text, region, leniency))
        if matches:
            break
    else:
        return []
    # Perhaps an extension: without it, two people would become one. "Phone 2:" is none.
    rest = text[matches[-1].end :]
    if not any(map(str.isalpha, text)):
        rest += text[: matches[0].start]
    if _digits(rest):
        raise _bad_phone("more digits than those of the phone number")
    found = []
    for match in matches:
        number = match.number
        international = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        if len(_national(international)) < _PART_DIGITS:
            raise _bad_phone("no phone number among the words")
        extension = f";ext={number.extension}" if number.extension else ""
        found.append(e164(international, region) + extension)
    return found


def _national(international: str) -> str:
    import phonenumbers

    return phonenumbers.national_significant_number(phonenumbers.parse(international))


def _is_placeholder(digits: str) -> bool:
    return (len(digits) >= _REPEATED_DIGITS and digits == digits[0] * len(digits)) or (
        len(digits) >= _SEQUENCE_DIGITS
        and any(sequence.startswith(digits) for sequence in _SEQUENCES)
    )


def _placeholder() -> InvalidRequestError:
    return InvalidRequestError(
        "placeholder", "a placeholder instead of a phone number", field="phone"
    )
