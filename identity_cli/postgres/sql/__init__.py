"""The functions that live in the database, one file each, as they are at head.

A migration installs its own copy of what it changes (`migrations/functions/REVISION`), so that a
released revision never changes; a test holds the newest copy of each file equal to the one here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class _Operations(Protocol):
    def execute(self, sqltext: str) -> object: ...


def install_functions(operations: _Operations, folder: Path) -> None:
    """Create or replace the functions of a migration's folder; `operations` is Alembic's `op`."""
    for file in sorted(folder.glob("*.sql")):
        # A colon before a word would be a bound parameter to SQLAlchemy.
        operations.execute(file.read_text(encoding="utf-8").replace(":", r"\:"))
