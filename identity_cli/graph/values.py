"""Values as commands name them: normalised by the one door, and ordered as pairs."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.errors import InvalidRequestError
from identity_cli.graph.references import value_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEADER = "value"


class NamedValue(NamedTuple):
    """A normalised value, why a rule is made for it, and where the user wrote it."""

    value: str
    reason: str | None = None
    place: str | None = None


class LineProblem(NamedTuple):
    """A line of a file that names no value."""

    place: str
    message: str


def named_values(texts: Sequence[str], region: str | None) -> list[NamedValue]:
    """Return the values of arguments. Raises `InvalidRequestError`, which names the argument."""
    found = []
    for place, text in enumerate(texts, 1):
        try:
            found.append(NamedValue(_normal_form(text, region), place=f"value {place}"))
        except InvalidRequestError as error:
            where = f"value {place}: " if len(texts) > 1 else ""
            refused = InvalidRequestError(error.code, f"{where}{error.reason}")
            refused.hint = "write the whole email or phone number"
            raise refused from None
    return found


def read_values(
    lines: Iterable[bytes], path: str, region: str | None
) -> tuple[list[NamedValue], list[LineProblem]]:
    """Return the values of a file, and its lines that name none.

    A line is a value, or a value and a reason with a comma between them, as CSV writes it. Empty
    lines, lines that begin with # and a header are skipped.
    """
    values: list[NamedValue] = []
    problems: list[LineProblem] = []
    is_first = True
    for number, raw in enumerate(lines, 1):
        place = f"{path}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            problems.append(LineProblem(place, "not UTF-8"))
            continue
        if not line or line.startswith("#"):
            continue
        if "\0" in line:
            problems.append(LineProblem(place, "a NUL character"))
            continue
        was_first, is_first = is_first, False
        try:
            cells = [cell.strip() for row in csv.reader([line], strict=True) for cell in row]
        except csv.Error as error:
            problems.append(LineProblem(place, f"not CSV: {error}"))
            continue
        if was_first and cells[0].lower() == _HEADER:
            continue
        if len(cells) > 2:
            problems.append(LineProblem(place, "more than a value and a reason"))
            continue
        try:
            value = _normal_form(cells[0], region)
        except InvalidRequestError as error:
            problems.append(LineProblem(place, error.reason))
            continue
        reason = cells[1] if len(cells) > 1 and cells[1] else None
        values.append(NamedValue(value, reason, place))
    return values, problems


def in_pair_order(value: str, other_value: str) -> tuple[str, str]:
    """Return two values in the order of `link_evidence`: emails first, then by bytes."""
    first, second = sorted((value, other_value), key=lambda text: ("@" not in text, text))
    return first, second


def distinct(values: Sequence[NamedValue]) -> list[NamedValue]:
    """Return the values without repetitions; the first reason of each is kept."""
    found: dict[str, NamedValue] = {}
    for named in values:
        known = found.setdefault(named.value, named)
        if known.reason is None and named.reason is not None:
            found[named.value] = known._replace(reason=named.reason)
    return list(found.values())


def _normal_form(text: str, region: str | None) -> str:
    return str(value_reference(text, region).value)
