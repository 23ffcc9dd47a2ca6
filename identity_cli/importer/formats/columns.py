"""Which columns and keys hold emails and phone numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from identity_cli.errors import InputUnreadableError, UsageError
from identity_cli.importer.formats.column_words import comparable, gives_way, terms_of
from identity_cli.importer.formats.rows import ColumnReport, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from identity_cli.importer.formats.column_words import Meaning, Term
    from identity_cli.importer.formats.rows import InputOptions

_KINDS: frozenset[Meaning] = frozenset({"email", "phone", "phone_alone"})
# The header of a table is looked for in so many lines.
HEADER_LINES = 20
# What a name of a column never is, but a cell with a value often.
_value = re.compile(r"@|\d{5}").search
# A table of many more is damaged, and nobody reads them.
_MOST_UNUSED = 100
_REASONS: dict[Meaning, str] = {
    "another_party": "'{}' may refer to another person or thing",
    "not_a_phone": "'{}' is not a phone number of a person",
    "property": "'{}' is about the value",
    "unknown": "'{}' is not a known word",
    "unclear": "'{}' may be a number, or yes or no",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns of a table that are used, as indexes from 0."""

    emails: tuple[int, ...]
    phones: tuple[int, ...]
    region: int | None
    key: int | None
    report: ColumnReport


def kind_of(name: str) -> Kind | None:
    """Return the kind of value that a column of this name holds; None if it is not used."""
    return _judge(name)[0]


def why_unused(name: str) -> str | None:
    """Return why a column that looks like a contact value is not used; None for any other."""
    return _judge(name)[1]


def choose(names: Sequence[str], options: InputOptions) -> Choice:
    """Choose the columns of a table.

    Columns that `options.mapping` names are used instead of those of the same kind that are
    recognised. Raises `UsageError` if a named column does not exist.
    """
    chosen, reasons = _recognise(names)
    mapped = _mapped(names, options)
    taken = {index for indexes in mapped.values() for index in indexes}
    for kind in chosen:
        chosen[kind] = mapped.get(kind) or [i for i in chosen[kind] if i not in taken]
    region, key = (
        None if name is None else find(names, name, f"{option} {name}")
        for option, name in (("--region-column", options.region_column), ("--key", options.key))
    )
    uses: list[tuple[int | None, Literal["email", "phone", "region", "key"]]] = [
        *((index, "email") for index in chosen["email"]),
        *((index, "phone") for index in chosen["phone"]),
        (region, "region"),
        (key, "key"),
    ]
    used = tuple((names[index], use) for index, use in uses if index is not None)
    taken = {index for index, _ in uses if index is not None}
    unused = [(names[index], reasons[index]) for index in sorted(reasons.keys() - taken)]
    report = ColumnReport(used, tuple(unused[:_MOST_UNUSED]))
    return Choice(tuple(chosen["email"]), tuple(chosen["phone"]), region, key, report)


def has_mapped(names: Sequence[str], options: InputOptions) -> bool:
    """Return whether all columns that `options.mapping` names are there."""
    try:
        for kind, name in options.mapping:
            find(names, name, kind)
    except UsageError:
        return False
    return True


def holds_value(cells: Sequence[str]) -> bool:
    """Return whether a record has a value in it, and so is not a header."""
    return any(map(_value, cells))


def none_recognised(location: str, names: Sequence[str]) -> InputUnreadableError:
    """Return the error for a table without a column that is used."""
    listed = ", ".join(repr(name[:40]) for name in names[:20] if name)
    return InputUnreadableError(
        location,
        "no column is an email or a phone number",
        hint=f"the columns are {listed}: use --map email=COLUMN or --map phone=COLUMN",
    )


def find(names: Sequence[str], wanted: str, option: str) -> int:
    """Return the index of a column that an option names.

    Names are compared exactly first, then without case, then without accents and what is between
    words. Raises `UsageError` if there is no such column, or more than one.
    """
    for form in (str.strip, _without_case, comparable):
        form_wanted = form(wanted)
        found = [index for index, name in enumerate(names) if form(name) == form_wanted]
        if found and form_wanted:
            break
    else:
        found = []
    if len(found) != 1:
        problem = f"there is no column {wanted!r}" if not found else f"{len(found)} columns match"
        listed = ", ".join(repr(name[:40]) for name in names[:20])
        raise UsageError(f"{option}: {problem}", hint=f"the columns are {listed}")
    return found[0]


def _without_case(name: str) -> str:
    return name.strip().casefold()


def _mapped(names: Sequence[str], options: InputOptions) -> dict[Kind, list[int]]:
    mapped: dict[Kind, list[int]] = {}
    for kind, name in options.mapping:
        index = find(names, name, f"--map {kind}={name}")
        if any(index in indexes for other, indexes in mapped.items() if other != kind):
            raise UsageError(
                f"--map {kind}={name}: a column cannot hold both emails and phone numbers",
                hint="name another column",
            )
        if index not in mapped.setdefault(kind, []):
            mapped[kind].append(index)
    return mapped


def _recognise(names: Sequence[str]) -> tuple[dict[Kind, list[int]], dict[int, str]]:
    """Return the columns that are recognised, and why others that look like it are not used."""
    recognised: dict[Kind, list[int]] = {"email": [], "phone": []}
    reasons: dict[int, str] = {}
    verdicts = [_judge(name) for name in names]
    words = {
        term.text
        for name, (kind, _) in zip(names, verdicts, strict=True)
        if kind is not None
        for term in terms_of(name)
    }
    for index, (kind, reason) in enumerate(verdicts):
        why = reason if kind is None else _why_it_gives_way(names[index], words)
        if why is not None:
            reasons[index] = why
        elif kind is not None:
            recognised[kind].append(index)
    return recognised, reasons


def _why_it_gives_way(name: str, words: Collection[str]) -> str | None:
    for term in terms_of(name):
        beside = next((word for word in gives_way(term.text) if word in words), None)
        if beside is not None:
            return f"'{term.text}' may be another person than '{beside}'"
    return None


@lru_cache(maxsize=4096)
def _judge(name: str) -> tuple[Kind | None, str | None]:
    """Return the kind of a column, or why it is not used although it looks like one."""
    terms = terms_of(name)
    meanings = {term.meaning for term in terms}
    kinds = meanings & _KINDS
    looks_alike = kinds or "not_a_phone" in meanings or meanings == {"unclear"}
    if not looks_alike and not any(map(_names_a_kind, terms)):
        return None, None
    reason = _first_reason(terms, tuple(_REASONS))
    if reason is not None or not kinds:
        return None, reason
    if "email" not in kinds:
        return "phone", None
    if "phone" in kinds or "phone_noun" in meanings:
        return None, "it may hold emails or phone numbers"
    return "email", None


def _names_a_kind(term: Term) -> bool:
    """Return whether a word of an entry, such as "no phone", is a kind by itself."""
    words = term.text.split()
    return len(words) > 1 and any(
        part.meaning in _KINDS for word in words for part in terms_of(word)
    )


def _first_reason(terms: Sequence[Term], meanings: Sequence[Meaning]) -> str | None:
    for meaning in meanings:
        for term in terms:
            if term.meaning == meaning:
                return _REASONS[meaning].format(term.text[:40])
    return None
