"""The functions in the database at head, one file for each.

A migration installs its own copy of the functions it changes (`migrations/functions/REVISION`), so
that a released revision never changes; a test compares the newest copy with the file here.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class _Operations(Protocol):
    def execute(self, sqltext: str) -> object: ...


class Routine(NamedTuple):
    """A function or procedure as its file at head defines it."""

    name: str
    body: str
    sets_search_path: bool


_ROUTINE = re.compile(
    r"^CREATE OR REPLACE (?:FUNCTION|PROCEDURE) (\w+)(.*?) AS \$\$(.*?)\$\$;",
    re.DOTALL | re.MULTILINE,
)


def routines() -> list[Routine]:
    """Return every function and procedure of the program at head."""
    texts = (
        file.read_text(encoding="utf-8")
        for file in files(__name__).iterdir()
        if file.name.endswith(".sql")
    )
    return [
        Routine(name, body, "SET search_path" in header)
        for text in texts
        for name, header, body in _ROUTINE.findall(text)
    ]


def install_functions(operations: _Operations, folder: Path) -> None:
    """Create or replace the functions of a migration's folder; `operations` is Alembic's `op`."""
    # `SET search_path FROM CURRENT` then names the schema of the tables and nothing else.
    operations.execute(
        "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
    )
    for file in sorted(folder.glob("*.sql")):
        # A colon before a word would be a bound parameter to SQLAlchemy.
        operations.execute(file.read_text(encoding="utf-8").replace(":", r"\:"))
