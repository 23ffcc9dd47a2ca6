"""Export one snapshot of the graph, ordered by id, in constant memory.

The same graph gives the same bytes, whatever the settings of the server, role and locale are.
"""

from __future__ import annotations

import codecs
import csv
import selectors
from itertools import groupby, starmap
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, assert_never

from identity_cli.errors import UsageError
from identity_cli.exporter.columns import (
    CHANGE_COLUMNS,
    CONTACT_COLUMNS,
    IDENTITY_COLUMNS,
    REDIRECT_COLUMNS,
)
from identity_cli.files import writing
from identity_cli.meter import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import LiteralString

    import psycopg
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGconn

    from identity_cli.graph.service import ConsolidatedContact
    from identity_cli.meter import Meter
    from identity_cli.postgres.snapshot import Snapshot

FileFormat = Literal["csv", "jsonl", "parquet", "graphml"]
What = Literal["contacts", "identities", "changes", "redirects"]

_SUFFIXES: dict[str, FileFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".graphml": "graphml",
}

# The driver returns an enum as bytes, so it is read as text.
_CONTACTS = """
    SELECT id, email, phone_number, linked_id, link_precedence::text,
           created_at, updated_at, deleted_at
    FROM {contacts} ORDER BY id
"""
# Ordered within an identity as in the consolidated contact.
_MEMBERS = """
    SELECT id, email, phone_number, coalesce(linked_id, id) AS identity
    FROM {contacts} ORDER BY identity, linked_id IS NOT NULL, created_at, id
"""
_LINKS = "SELECT id, linked_id FROM {contacts} WHERE linked_id IS NOT NULL ORDER BY id"
_COPY = "COPY ({query}) TO STDOUT (FORMAT csv, HEADER)"
_SAFE = "SELECT {columns} FROM ({query}) AS record ORDER BY id"
_VALUES = ("email", "phone_number", "old_email", "old_phone_number")
_COUNTS = "SELECT count(*), count(linked_id) FROM {contacts}"
_CHUNK = 1000
# Values that a spreadsheet would calculate instead of show.
_NO_FORMULA = r"""
    CASE WHEN left({0}, 1) IN ('=', '+', '-', '@', E'\t', E'\r') THEN '''' || {0} ELSE {0} END
    AS {0}
"""


class Records(NamedTuple):
    """Records to export: their columns, and the query that returns them in the order of ids."""

    columns: tuple[LiteralString, ...]
    query: LiteralString
    parameters: dict[str, Any]


class Contacts(NamedTuple):
    """The contacts as they are now, or as they were: a relation, and a WITH clause for it."""

    relation: LiteralString
    clause: LiteralString
    parameters: dict[str, Any]

    def query(self, text: LiteralString) -> LiteralString:
        """Return a query of the contacts, from a text with `{contacts}`."""
        return self.clause + text.format(contacts=self.relation)

    def rows(self, graph: Snapshot, text: LiteralString) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of such a query."""
        return graph.rows(self.query(text), self.parameters)


# A negative id is a placeholder's, which is no contact.
CONTACTS_NOW = Contacts("(SELECT * FROM contact WHERE id > 0) AS contact", "", {})


def file_format_for(path: Path | None, what: What) -> FileFormat:
    """Return the format of a file's name, else the default for what is exported."""
    default: FileFormat = "jsonl" if what == "identities" else "csv"
    return _SUFFIXES.get(path.suffix.lower(), default) if path is not None else default


def check_format(
    file_format: FileFormat, what: What = "contacts", *, excel_safe: bool = False
) -> None:
    """Raise `UsageError` if `export` cannot write this format."""
    if excel_safe and file_format != "csv":
        raise UsageError(
            "--excel-safe is for CSV only", hint="omit it: no other format has formulas"
        )
    if file_format == "graphml" and what in ("changes", "redirects"):
        raise UsageError(f"{what} are no graph", hint="use --format csv, jsonl or parquet")
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
    since: str | None = None,
    as_of: str | None = None,
    with_token: bool = False,
    meter: Meter = SILENT,
) -> str | None:
    """Write every contact, identity, change or redirect to the stream.

    `since` and `as_of` name moments: the end of a run by its id, a time or a token. Changes and
    redirects are those since then, by default since the beginning; contacts and identities are as
    they were `as_of` then. `excel_safe` puts an apostrophe before CSV values that a spreadsheet
    takes for a formula. Returns the token of what was exported if `with_token` is set.

    Raises `OutputError`; a pipe that was closed is an `OutputClosedError`. Raises what
    `find_moment` raises.
    """
    from identity_cli.graph.moments import new_token, wait_until_on_disk
    from identity_cli.postgres.snapshot import snapshot

    file_format = file_format or file_format_for(None, what)
    check_format(file_format, what, excel_safe=excel_safe)
    with snapshot(connection) as graph:
        token = new_token(graph) if with_token else None
        contacts = contacts_as_of(graph, as_of)
        with writing("the output"):
            if meter.is_shown:
                _expect_rows(graph, meter, what, contacts, also_links=file_format == "graphml")
                graph.on_rows = meter.advance
            meter.begin(what)
            if what == "identities":
                _write_identities(stream, graph, contacts, file_format)
            elif file_format == "graphml":
                from identity_cli.exporter import graphml

                nodes, edges = contacts.rows(graph, _CONTACTS), contacts.rows(graph, _LINKS)
                graphml.write_contacts(stream, nodes, edges)
            else:
                records = _records(graph, what, contacts, since)
                _write_records(stream, graph, records, file_format, excel_safe=excel_safe)
            stream.flush()
        if with_token:
            wait_until_on_disk(graph)
    return token


def contacts_as_of(graph: Snapshot, moment: str | None) -> Contacts:
    """Return the contacts of the moment that is named, those of now for None."""
    if moment is None:
        return CONTACTS_NOW
    from identity_cli.graph.moments import find_moment
    from identity_cli.graph.past import past_contacts

    found = find_moment(graph, moment)
    return Contacts("past_contact", past_contacts(found), found.parameters)


def identities(graph: Snapshot, contacts: Contacts = CONTACTS_NOW) -> Iterator[ConsolidatedContact]:
    """Yield every consolidated contact by the id of its primary, one in memory at a time."""
    from identity_cli.graph.service import consolidate

    for _, members in groupby(contacts.rows(graph, _MEMBERS), itemgetter(3)):
        yield consolidate(list(members))


def _expect_rows(
    graph: Snapshot, meter: Meter, what: What, contacts: Contacts, *, also_links: bool
) -> None:
    meter.expect(None, "rows")
    if what in ("changes", "redirects") or contacts is not CONTACTS_NOW:
        return  # counting them would take as long as exporting them
    meter.begin("counting")
    row = graph.connection.execute(contacts.query(_COUNTS)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate returns one row
    count, links = row
    meter.expect(count + (links if also_links else 0), "rows")


def _records(graph: Snapshot, what: What, contacts: Contacts, since: str | None) -> Records:
    if what == "contacts":
        return Records(CONTACT_COLUMNS, contacts.query(_CONTACTS), contacts.parameters)
    from identity_cli.exporter.changes import changes_since, redirects_since
    from identity_cli.graph.moments import find_beginning

    moment = find_beginning(graph, since)
    if what == "changes":
        return Records(CHANGE_COLUMNS, changes_since(moment), moment.parameters)
    return Records(REDIRECT_COLUMNS, redirects_since(moment), moment.parameters)


def _write_records(
    stream: BinaryIO,
    graph: Snapshot,
    records: Records,
    file_format: FileFormat,
    *,
    excel_safe: bool,
) -> None:
    if file_format == "csv":
        _copy(stream, graph, records, excel_safe=excel_safe)
        return
    rows = graph.rows(records.query, records.parameters)
    if file_format == "jsonl":
        _write_jsonl(stream, _objects(records.columns, rows))
    else:
        from identity_cli.exporter import parquet

        parquet.write_records(stream, records.columns, rows)


def _write_identities(
    stream: BinaryIO, graph: Snapshot, contacts: Contacts, file_format: FileFormat
) -> None:
    found = identities(graph, contacts)
    if file_format == "csv":
        # A list in brackets or a number is not taken for a formula.
        _write_csv(stream, found)
    elif file_format == "jsonl":
        _write_jsonl(stream, (identity.as_json() for identity in found))
    elif file_format == "parquet":
        from identity_cli.exporter import parquet

        parquet.write_identities(stream, found)
    elif file_format == "graphml":
        from identity_cli.exporter import graphml

        graphml.write_identities(stream, found)
    else:
        assert_never(file_format)


def _copy(stream: BinaryIO, graph: Snapshot, records: Records, *, excel_safe: bool) -> None:
    query = records.query
    if excel_safe:
        cells = [
            _NO_FORMULA.format(column) if column in _VALUES else column
            for column in records.columns
        ]
        query = _SAFE.format(columns=", ".join(cells), query=query)
    connection = graph.connection
    with (
        connection.cursor() as cursor,
        cursor.copy(_COPY.format(query=query), records.parameters),
    ):
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


def _objects(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield records as objects whose keys msgspec writes in camel case."""
    import msgspec

    record = msgspec.defstruct("Record", columns, rename="camel")
    return starmap(record, rows)
