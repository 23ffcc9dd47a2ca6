"""Which tables of a computation are made, in a file: what one that was killed resumes from."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from identity_cli.backfill.files import replaced
from identity_cli.files import writing

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """A journal for one input, which `stamp` stands for; that of another input is not resumed.

    `columns` has the columns of each table that was made, `dropped` those that were emptied since.
    `name` is one that no other journal has, and that it keeps.
    Raises `OutputError` if it cannot be read or written.
    """

    def __init__(self, path: Path, stamp: str) -> None:
        self._path = path
        self._stamp = stamp
        found = self._read()
        self.is_resumed = found.get("stamp") == stamp
        self.name: str = found.get("name") or secrets.token_hex(8)
        self.columns: dict[str, str] = found["columns"] if self.is_resumed else {}
        self.dropped: list[str] = found["dropped"] if self.is_resumed else []

    def begin(self) -> None:
        """Replace the journal of another input: from now on, this one is resumed."""
        self._save()

    def note_made(self, table: str, columns: str) -> None:
        """Note that a table is complete."""
        self.columns[table] = columns
        self._save()

    def note_dropped(self, table: str) -> None:
        """Note that a table is empty now."""
        self.dropped.append(table)
        self._save()

    def _read(self) -> dict[str, Any]:
        with writing(str(self._path)):
            try:
                found = json.loads(self._path.read_bytes())
            except FileNotFoundError:
                return {}
        document: dict[str, Any] = found
        return document

    def _save(self) -> None:
        document = {
            "stamp": self._stamp,
            "name": self.name,
            "columns": self.columns,
            "dropped": self.dropped,
        }
        with replaced(self._path) as temporary:
            temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
