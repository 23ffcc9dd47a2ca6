"""Bare one-row INSERTs: what PostgreSQL asks for one row and one commit, without any rule.

The table has the columns and the indexes of `contact` and nothing else: no checks, no triggers, no
foreign key, no generated column. The rows are those that an import has stored, so the indexes get
the same entries; the values stand in the statements, which pgbench sends pipelined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.server import literal, write_script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from identity_cli.postgres.database import Database

_COLUMNS = (
    "email",
    "phone_number",
    "linked_id",
    "initial_linked_id",
    "link_precedence",
    "linked_precedence",
    "anchors_email",
    "anchors_phone",
    "run_id",
    "line",
)
_MAKE = "CREATE TABLE bare (LIKE contact INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES)"
_READ = """
    SELECT email, phone_number, linked_id, initial_linked_id, link_precedence::text,
           linked_precedence::text, anchors_email, anchors_phone, run_id, line
    FROM contact ORDER BY id
"""


def stored_rows(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(_READ).fetchall()


def make_table(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(_MAKE)


def write_scripts(folder: Path, rows: Sequence[tuple[Any, ...]], clients: int) -> list[Path]:
    """A script for each client, the rows dealt out among them."""
    return [
        write_script(
            folder / f"insert_{client}_of_{clients}.sql", map(_insert, rows[client::clients])
        )
        for client in range(clients)
    ]


def _insert(row: tuple[Any, ...]) -> str:
    given = [(name, value) for name, value in zip(_COLUMNS, row, strict=True) if value is not None]
    names = ", ".join(name for name, _ in given)
    values = ", ".join(literal(value) for _, value in given)
    return (
        f"INSERT INTO bare ({names}, created_at, updated_at)"
        f" VALUES ({values}, clock_timestamp(), clock_timestamp())"
    )
