"""The functions in the database at head, one file for each.

A migration installs its own copy of the functions it changes (`migrations/functions/REVISION`), so
that a released revision never changes; a test compares the newest copy with the file here.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class _Operations(Protocol):
    def execute(self, sqltext: str) -> object: ...


class Routine(NamedTuple):
    """A function or procedure as its file at head defines it."""

    name: str
    body: str
    sets_search_path: bool
    has_owner_rights: bool


_ROUTINE = re.compile(
    r"^CREATE OR REPLACE (?:FUNCTION|PROCEDURE) (\w+)(.*?)\sAS \$\$(.*?)\$\$;",
    re.DOTALL | re.MULTILINE,
)


def routines() -> list[Routine]:
    """Return every function and procedure of the program at head."""
    texts = (
        file.read_text(encoding="utf-8")
        for file in files(__name__).iterdir()
        if file.name.endswith(".sql")
    )
    return [routine for text in texts for routine in _routines(text)]


def routine_names(folder: Path, *, with_owner_rights: bool = False) -> list[str]:
    """Return the routines that a migration's folder defines, or those with their owner's rights."""
    return [
        routine.name
        for file in sorted(folder.glob("*.sql"))
        for routine in _routines(file.read_text(encoding="utf-8"))
        if routine.has_owner_rights or not with_owner_rights
    ]


def _routines(text: str) -> list[Routine]:
    return [
        Routine(name, body, "SET search_path" in header, "SECURITY DEFINER" in header)
        for name, header, body in _ROUTINE.findall(text)
    ]


def install_functions(
    operations: _Operations, folder: Path, *, only: Collection[str] | None = None
) -> None:
    """Create or replace the functions of a migration's folder; `operations` is Alembic's `op`.

    With `only`, those of the files with these names (without `.sql`).
    """
    # `SET search_path FROM CURRENT` then names the schema of the tables and nothing else.
    operations.execute(
        "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
    )
    for file in sorted(folder.glob("*.sql")):
        if only is not None and file.stem not in only:
            continue
        # A colon before a word would be a bound parameter to SQLAlchemy.
        operations.execute(file.read_text(encoding="utf-8").replace(":", r"\:"))
