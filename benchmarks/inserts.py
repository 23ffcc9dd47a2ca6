"""Bare one-row INSERTs: what PostgreSQL asks for one row and one commit, without any rule.

The table has the columns and the indexes of `contact` and nothing else: no checks, no triggers, no
foreign key, no generated column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.server import literal, write_script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import psycopg

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
_MAKE = """
    CREATE TABLE bare (LIKE contact INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES);
    CREATE PROCEDURE insert_rows(
        emails text[], phones text[], links bigint[], precedences text[], linked text[],
        email_anchors boolean[], phone_anchors boolean[], runs bigint[], lines bigint[]
    ) LANGUAGE plpgsql AS $$ BEGIN
        FOR i IN 1 .. cardinality(lines) LOOP
            INSERT INTO bare (email, phone_number, linked_id, initial_linked_id, link_precedence,
                              linked_precedence, anchors_email, anchors_phone, run_id, line,
                              created_at, updated_at)
            VALUES (emails[i], phones[i], links[i], links[i], precedences[i]::link_precedence,
                    linked[i]::link_precedence, email_anchors[i], phone_anchors[i], runs[i],
                    lines[i], clock_timestamp(), clock_timestamp());
            COMMIT;
        END LOOP;
    END $$
"""
_READ = """
    SELECT email, phone_number, linked_id, initial_linked_id, link_precedence::text,
           linked_precedence::text, anchors_email, anchors_phone, run_id, line
    FROM contact ORDER BY id
"""
_CALL = """
    CALL insert_rows(%b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::boolean[],
                     %b::boolean[], %b::bigint[], %b::bigint[])
"""
# The statements of a script that is run again and again: pgbench prepares each of them once.
PREPARED = 500
# Of ten rows, as many are contacts of a new identity, the others of a known one.
_PRIMARIES = 6


def stored_rows(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(_READ).fetchall()


def make_table(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(_MAKE)


def insert_rows(connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of `stored_rows` by a procedure that commits each of them."""
    columns = list(map(list, zip(*rows, strict=True)))
    del columns[3]  # the same as the link
    connection.execute(_CALL, columns, binary=True)


def write_scripts(folder: Path, rows: Sequence[tuple[Any, ...]], clients: int) -> list[Path]:
    """A script of literal statements for each client, the rows dealt out among them."""
    return [
        write_script(
            folder / f"insert_{client}_of_{clients}.sql", map(_insert, rows[client::clients])
        )
        for client in range(clients)
    ]


def write_prepared(path: Path, clients: int) -> Path:
    """A script of prepared statements that every client runs again and again, with i at first 0.

    The values follow from a number, which is scattered as those of `benchmarks.requests` are.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write("\\startpipeline\n")
        for number in range(PREPARED):
            file.write(
                f"\\set i :i + {clients}\n\\set n :i + :client_id\n"
                "\\set e :n * 618033988749 % 1099511627791\n"
            )
            is_primary = number % 10 < _PRIMARIES
            link = "NULL, NULL, 'primary', NULL" if is_primary else ":n, :n, 'secondary', 'primary'"
            anchors = "true, true" if is_primary else "true, false"
            file.write(
                "INSERT INTO bare (email, phone_number, linked_id, initial_linked_id,"
                " link_precedence, linked_precedence, anchors_email, anchors_phone, run_id, line,"
                " created_at, updated_at) VALUES ('user.' || to_hex(:e::bigint) ||"
                f" '@example.com', '+1' || :e::bigint, {link}, {anchors}, 1, :n,"
                " clock_timestamp(), clock_timestamp());\n\\syncpipeline\n"
            )
        file.write("\\endpipeline\n")
    return path


def _insert(row: tuple[Any, ...]) -> str:
    given = [(name, value) for name, value in zip(_COLUMNS, row, strict=True) if value is not None]
    names = ", ".join(name for name, _ in given)
    values = ", ".join(literal(value) for _, value in given)
    return (
        f"INSERT INTO bare ({names}, created_at, updated_at)"
        f" VALUES ({values}, clock_timestamp(), clock_timestamp())"
    )
