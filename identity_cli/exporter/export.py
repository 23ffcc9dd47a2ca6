"""Export one snapshot of the graph, ordered by id, in constant memory.

The same graph gives the same bytes, whatever the settings of the server, role and locale are.
"""

from __future__ import annotations

import codecs
import csv
import selectors
from itertools import groupby, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, assert_never

from identity_cli.errors import UsageError
from identity_cli.exporter.columns import CONTACT_COLUMNS, IDENTITY_COLUMNS
from identity_cli.files import writing
from identity_cli.meter import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import psycopg
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGconn

    from identity_cli.graph.service import ConsolidatedContact
    from identity_cli.meter import Meter
    from identity_cli.postgres.snapshot import Snapshot

FileFormat = Literal["csv", "jsonl", "parquet", "graphml"]
What = Literal["contacts", "identities"]

_SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".graphml": "graphml",
}

# A negative id is a placeholder's, which is no contact. The driver returns an enum as bytes, so it
# is read as text.
_CONTACTS = """
    SELECT id, email, phone_number, linked_id, link_precedence::text,
           created_at, updated_at, deleted_at
    FROM contact WHERE id > 0 ORDER BY id
"""
# Ordered within an identity as in the consolidated contact.
_MEMBERS = """
    SELECT id, email, phone_number, coalesce(linked_id, id) AS identity
    FROM contact WHERE id > 0
    ORDER BY identity, linked_id IS NOT NULL, created_at, id
"""
_COPY = """
    COPY (SELECT id, {email} AS email, {phone_number} AS phone_number, linked_id, link_precedence,
                 created_at, updated_at, deleted_at
          FROM contact WHERE id > 0 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)
"""
_COUNTS = "SELECT count(*), count(linked_id) FROM contact WHERE id > 0"
_LINKS = "SELECT id, linked_id FROM contact WHERE linked_id IS NOT NULL ORDER BY id"
_CHUNK = 1000
# Values that a spreadsheet would calculate instead of show.
_NO_FORMULA = r"""
    CASE WHEN left({0}, 1) IN ('=', '+', '-', '@', E'\t', E'\r') THEN '''' || {0} ELSE {0} END
"""


def file_format_for(path: Path | None, what: What) -> FileFormat:
    """Return the format of a file's name, else the default for what is exported."""
    default: FileFormat = "csv" if what == "contacts" else "jsonl"
    return _SUFFIXES.get(path.suffix.lower(), default) if path is not None else default


def check_format(file_format: FileFormat, *, excel_safe: bool = False) -> None:
    """Raise `UsageError` if `export` cannot write this format."""
    if excel_safe and file_format != "csv":
        raise UsageError(
            "--excel-safe is for CSV only", hint="omit it: no other format has formulas"
        )
    if file_format == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "Parquet needs pyarrow", hint="pip install 'identity-cli[parquet]'"
            ) from error


def export(
    connection: psycopg.Connection[Any],
    stream: BinaryIO,
    *,
    what: What = "contacts",
    file_format: FileFormat | None = None,
    excel_safe: bool = False,
    meter: Meter = SILENT,
) -> None:
    """Write every contact, or every identity, to the stream.

    `excel_safe` puts an apostrophe before CSV values that a spreadsheet takes for a formula.
    Raises `OutputError`; a pipe that was closed is an `OutputClosedError`.
    """
    from identity_cli.postgres.snapshot import snapshot

    file_format = file_format or file_format_for(None, what)
    check_format(file_format, excel_safe=excel_safe)
    with snapshot(connection) as graph, writing("the output"):
        if meter.is_shown:
            _expect_contacts(graph, meter, also_links=file_format == "graphml")
            graph.on_rows = meter.advance
        meter.begin(what)
        if file_format == "csv":
            if what == "contacts":
                _copy_contacts(graph, stream, excel_safe=excel_safe)
            else:
                # A list in brackets or a number is not taken for a formula.
                _write_csv(stream, identities(graph))
        elif file_format == "jsonl":
            if what == "contacts":
                _write_jsonl(stream, _objects(graph.rows(_CONTACTS)))
            else:
                _write_jsonl(stream, (identity.as_json() for identity in identities(graph)))
        elif file_format == "parquet":
            from identity_cli.exporter import parquet

            if what == "contacts":
                parquet.write_contacts(stream, graph.rows(_CONTACTS))
            else:
                parquet.write_identities(stream, identities(graph))
        elif file_format == "graphml":
            from identity_cli.exporter import graphml

            if what == "contacts":
                graphml.write_contacts(stream, graph.rows(_CONTACTS), graph.rows(_LINKS))
            else:
                graphml.write_identities(stream, identities(graph))
        else:
            assert_never(file_format)
        stream.flush()


def identities(graph: Snapshot) -> Iterator[ConsolidatedContact]:
    """Yield every consolidated contact by the id of its primary, one in memory at a time."""
    from identity_cli.graph.service import consolidate

    for _, members in groupby(graph.rows(_MEMBERS), itemgetter(3)):
        yield consolidate(list(members))


def _expect_contacts(graph: Snapshot, meter: Meter, *, also_links: bool) -> None:
    meter.expect(None, "rows")
    meter.begin("counting")
    row = graph.connection.execute(_COUNTS).fetchone()
    assert row is not None  # noqa: S101 - an aggregate returns one row
    contacts, links = row
    meter.expect(contacts + (links if also_links else 0), "rows")


def _copy_contacts(graph: Snapshot, stream: BinaryIO, *, excel_safe: bool) -> None:
    email, phone_number = "email", "phone_number"
    if excel_safe:
        email, phone_number = _NO_FORMULA.format(email), _NO_FORMULA.format(phone_number)
    query = _COPY.format(email=email, phone_number=phone_number)
    connection = graph.connection
    with connection.cursor() as cursor, cursor.copy(query):
        rows = _copied(connection.pgconn)
        stream.writelines(rows if graph.on_rows is None else _reported(rows, graph.on_rows))


def _reported(rows: Iterable[Buffer], on_rows: Callable[[int], None]) -> Iterator[Buffer]:
    """Yield the rows, of which the first one is the header, and report how many there were."""
    number = 0
    for number, row in enumerate(rows):
        yield row
        if number and number % _CHUNK == 0:
            on_rows(_CHUNK)
    on_rows(number % _CHUNK)


def _copied(pgconn: PGconn) -> Iterator[Buffer]:
    """Yield what psycopg's `Copy` yields at half the cost: that sets up a wait for every row."""
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        while True:
            size, data = pgconn.get_copy_data(1)
            if size > 0:
                yield data
            elif size == 0:
                selector.select()
                pgconn.consume_input()
            else:
                break
    while (result := pgconn.get_result()) is not None:
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result)


def _write_csv(stream: BinaryIO, records: Iterable[ConsolidatedContact]) -> None:
    import msgspec

    encode = msgspec.json.Encoder().encode
    writer = csv.writer(codecs.getwriter("utf-8")(stream), lineterminator="\n")
    writer.writerow(IDENTITY_COLUMNS)
    for record in records:
        primary_id, *lists = record.as_json()["contact"].values()
        writer.writerow([primary_id, *(encode(cell).decode() for cell in lists)])


def _write_jsonl(stream: BinaryIO, records: Iterable[Any]) -> None:
    import msgspec

    encode = msgspec.json.Encoder().encode
    for record in records:
        stream.write(encode(record) + b"\n")


def _objects(contacts: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield contacts as objects whose keys msgspec writes in camel case."""
    import msgspec

    contact = msgspec.defstruct("Contact", CONTACT_COLUMNS, rename="camel")
    return starmap(contact, contacts)
