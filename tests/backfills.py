"""Messy files in several formats, and what a database holds apart from the times."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Cells = tuple[str, str, str, str]

HEADER = ("Email", "Email 2", "Phone", "Note")

# Ids, values, links and lines; ages and changes by their order, as times differ.
# A hub changes contacts at the server's time, which is no request's.
_CONTACTS = """
    SELECT id, email, phone_number, linked_id, initial_linked_id, link_precedence::text,
           linked_precedence::text, anchors_email, anchors_phone, run_id, line, deleted_at,
           dense_rank() OVER (PARTITION BY id > 0 ORDER BY created_at),
           CASE WHEN NOT by_hub
               THEN dense_rank() OVER (PARTITION BY id > 0, by_hub ORDER BY updated_at) END,
           CASE WHEN NOT by_hub THEN updated_at = created_at END
    FROM (SELECT *, EXISTS (
              SELECT FROM former_contact AS f JOIN steering_command AS c ON f.command_id = c.id
              WHERE f.contact_id = contact.id AND c.run_id IS NOT NULL) AS by_hub
          FROM contact) AS changed
    ORDER BY id
"""
_EVIDENCE = """
    SELECT id, value, other_value, primary_id, merged_id, run_id, line, is_held,
           dense_rank() OVER (ORDER BY created_at)
    FROM link_evidence ORDER BY id
"""
_RUNS = """
    SELECT id, status, rows, options, checkpoint -> 'codes', checkpoint -> 'input_codes',
           CASE WHEN jsonb_array_length(inputs) = 1 THEN checkpoint -> 'milestones' -> -1 END,
           checkpoint -> 'marks', checkpoint -> 'first_marks',
           (SELECT array_agg(input -> 'first_line' ORDER BY place)
            FROM jsonb_array_elements(inputs) WITH ORDINALITY AS x (input, place))
    FROM import_run ORDER BY id
"""
_SEQUENCES = """
    SELECT pg_sequence_last_value(pg_get_serial_sequence('contact', 'id')),
           pg_sequence_last_value(pg_get_serial_sequence('link_evidence', 'id'))
"""
_PROFILE = "SELECT version, region FROM normalization_profile"


def graph(url: str) -> dict[str, list[Any]]:
    """Return all that a database holds of the graph, apart from runs and times."""
    with psycopg.connect(url) as connection:
        return {
            "contacts": connection.execute(_CONTACTS).fetchall(),
            "evidence": connection.execute(_EVIDENCE).fetchall(),
            "sequences": connection.execute(_SEQUENCES).fetchall(),
            "profile": connection.execute(_PROFILE).fetchall(),
        }


def stored(url: str) -> dict[str, list[Any]]:
    """Return all that a database holds of the graph and of its runs, apart from times."""
    with psycopg.connect(url) as connection:
        return graph(url) | {"runs": connection.execute(_RUNS).fetchall()}


def without_runs(held: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what `graph` returns, without the ids of runs, which have gaps after a kill."""
    contacts = [(*row[:9], *row[10:]) for row in held["contacts"]]
    evidence = [(*row[:5], *row[6:]) for row in held["evidence"]]
    return held | {"contacts": contacts, "evidence": evidence}


def messy_rows(seed: int, count: int, people: int | None = None) -> list[Cells]:
    """Return rows of people who use several values, with strangers' and bad ones among them."""
    source = random.Random(seed)
    people = people or max(3, count // 4)
    rows: list[Cells] = []
    for _ in range(count):
        person = int(people * source.random() ** 2)
        email = f"p{person}.{source.randrange(2)}@x.org"
        second = f"p{person}.{source.randrange(3)}@y.org" if source.random() < 0.15 else ""
        phone = f"555{person:05}{source.randrange(2)}"
        match source.randrange(40):
            case 0:
                phone = f"555{source.randrange(people):05}0"
            case 1 | 2 | 3:
                email = ""
            case 4 | 5 | 6:
                phone = ""
            case 7:
                email = "no address"
            case 8:
                phone = "call me"
            case 9:
                email, second, phone = "", "", "n/a"
            case 10:
                email, phone = email.upper(), f"({phone[:3]}) {phone[3:]}"
            case 11:
                email = f"{email}; q{person}@z.org"
            case 12:
                phone = "5550000001"
            case 13:
                email, phone = "", ""
        rows.append((email, second, phone, source.choice(["", "a, b", 'say "hi"', "two\nlines"])))
    return rows


def as_csv(path: Path, rows: Sequence[Cells], *, delimiter: str = ",", quote: int = 0) -> Path:
    """Write rows as CSV with some blank lines; quoted as the constants of `csv` say."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quote)
    writer.writerow(HEADER)
    for number, row in enumerate(rows):
        writer.writerow(row)
        if number % 50 == 7:
            text.write("\r\n")
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_json_lines(path: Path, rows: Sequence[Cells]) -> Path:
    """Write rows as JSON Lines, some of them broken."""
    lines = [json.dumps(_document(row)) for row in rows]
    lines[len(lines) // 2 : len(lines) // 2] = ["{broken", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def as_json(path: Path, rows: Sequence[Cells]) -> Path:
    """Write rows as one JSON array."""
    path.write_text(json.dumps([_document(row) for row in rows]), encoding="utf-8")
    return path


def as_parquet(path: Path, rows: Sequence[Cells]) -> Path:
    """Write rows as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [list(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=list(HEADER)), path)
    return path


def as_vcards(path: Path, rows: Sequence[Cells]) -> Path:
    """Write rows as an address book."""
    cards = []
    for email, second, phone, _ in rows:
        lines = ["BEGIN:VCARD", "VERSION:3.0", "FN:Somebody"]
        lines += [f"EMAIL:{value}" for value in (email, second) if value]
        lines += [f"TEL:{phone}"] if phone else []
        cards.append("\r\n".join([*lines, "END:VCARD", ""]))
    path.write_text("".join(cards), encoding="utf-8", newline="")
    return path


def _document(row: Cells) -> dict[str, str | None]:
    return {
        name: value or None for name, value in zip(("email", "email2", "phone"), row, strict=False)
    }
