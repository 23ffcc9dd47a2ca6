"""What a run reports of the columns of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from identity_cli.importer.formats import ColumnReport

_USES = {"email": "emails", "phone": "phone numbers", "region": "regions", "key": "keys"}
_MOST_NAMES = 10


class ReadInput(Protocol):
    """How an input is read: its reader, or what another process reports of it."""

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def column_report(self) -> ColumnReport: ...


class ColumnNotes:
    """The columns of each input, used or not: for a note, and for the summary.

    A table's columns are noted before its rows are read, keys of JSON after them. Inputs with the
    same columns are noted once.
    """

    def __init__(self, paths: Sequence[str], say: Callable[[str], None]) -> None:
        self._paths = paths
        self._say = say
        self._readers: dict[int, ReadInput] = {}
        self._noted: set[str] = set()

    def begin_input(self, index: int, reader: ReadInput) -> None:
        """Note how an input is read."""
        self.end_input()
        self._readers[index] = reader
        for note in reader.notes:
            self._say(note)
        if reader.column_report.used:
            self._note(index, reader.column_report)

    def end_input(self) -> None:
        """Note the columns of the last input that was begun, if that was not possible before."""
        if self._readers:
            index = max(self._readers)
            self._note(index, self._readers[index].column_report)

    def as_json(self) -> dict[str, Any] | None:
        """Return the summary's document; None if no input was opened."""
        if not self._readers:
            return None
        document: dict[str, list[dict[str, str]]] = {"used": [], "unused": []}
        for index, reader in self._readers.items():
            for name, columns in reader.column_report.as_json().items():
                document[name] += ({"input": self._paths[index], **column} for column in columns)
        return document

    def _note(self, index: int, report: ColumnReport) -> None:
        text = describe_columns(report)
        if text and text not in self._noted:
            self._noted.add(text)
            name = "standard input" if self._paths[index] == "-" else self._paths[index]
            self._say(f"{name}: {text}")


def describe_columns(report: ColumnReport) -> str:
    """Return a sentence about the columns that are used and those that are not."""
    parts = []
    for use, plural in _USES.items():
        names = [name for name, its_use in report.used if its_use == use]
        if names:
            parts.append(f"{plural} from {_listed(names)}")
    by_reason: dict[str, list[str]] = {}
    for name, reason in report.unused:
        by_reason.setdefault(reason, []).append(name)
    if by_reason:
        unused = [f"{_listed(names)} ({reason})" for reason, names in by_reason.items()]
        parts.append(f"not used: {', '.join(unused)}")
    return "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    shown = list(map(repr, names[:_MOST_NAMES]))
    if len(names) > _MOST_NAMES:
        shown.append(f"{len(names) - _MOST_NAMES} more")
    return ", ".join(shown)
