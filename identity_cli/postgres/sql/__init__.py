"""The functions that live in the database, one file each."""

from __future__ import annotations

from importlib.resources import files
from typing import Protocol


class _Operations(Protocol):
    def execute(self, sqltext: str) -> object: ...


def install_functions(operations: _Operations) -> None:
    """Create or replace every function: called by a migration, with Alembic's `op`.

    A database gets the functions of the program that upgraded it last, so a migration that
    changes one only has to call this.
    """
    for file in sorted(files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            # A colon before a word would be a bound parameter to SQLAlchemy.
            operations.execute(file.read_text(encoding="utf-8").replace(":", r"\:"))
