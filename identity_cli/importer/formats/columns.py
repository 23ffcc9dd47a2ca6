"""Which columns and keys hold emails and phone numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from identity_cli.errors import UsageError
from identity_cli.importer.formats.rows import ColumnReport, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.importer.formats.rows import InputOptions

_ALIASES: dict[Kind, frozenset[str]] = {
    "email": frozenset({"email", "mail", "emailaddress"}),
    "phone": frozenset({"phone", "phonenumber", "mobile", "tel", "telephone"}),
}
_BETWEEN_WORDS = str.maketrans("", "", " -_")


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
    word = name.strip().lower().translate(_BETWEEN_WORDS)
    return next((kind for kind, names in _ALIASES.items() if word in names), None)


def why_unused(name: str) -> str | None:
    """Return why a column that looks like a contact value is not used; None for any other."""
    return "it names somebody else" if name.strip().lower() in {"owner email"} else None


def choose(names: Sequence[str], options: InputOptions) -> Choice:
    """Choose the columns of a table.

    Columns that `options.mapping` names are used instead of those of the same kind that are
    recognised. Raises `UsageError` if a named column does not exist.
    """
    chosen: dict[Kind, list[int]] = {"email": [], "phone": []}
    for kind, name in options.mapping:
        chosen[kind].append(find(names, name, f"--map {kind}={name}"))
    for kind in chosen.keys() - {kind for kind, _ in options.mapping}:
        chosen[kind] = [index for index, name in enumerate(names) if kind_of(name) == kind]
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
    taken = {index for index, _ in uses}
    unused = tuple(
        (name, reason)
        for index, name in enumerate(names)
        if index not in taken and (reason := why_unused(name)) is not None
    )
    report = ColumnReport(used, unused)
    return Choice(tuple(chosen["email"]), tuple(chosen["phone"]), region, key, report)


def find(names: Sequence[str], wanted: str, option: str) -> int:
    """Return the index of a column that an option names; names are compared exactly first.

    Raises `UsageError` if there is no such column, or more than one.
    """
    found = [index for index, name in enumerate(names) if name.strip() == wanted.strip()] or [
        index for index, name in enumerate(names) if name.strip().lower() == wanted.strip().lower()
    ]
    if len(found) != 1:
        problem = f"there is no column {wanted!r}" if not found else f"{len(found)} columns match"
        listed = ", ".join(repr(name[:40]) for name in names[:20])
        raise UsageError(f"{option}: {problem}", hint=f"the columns are {listed}")
    return found[0]
