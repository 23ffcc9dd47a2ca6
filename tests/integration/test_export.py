"""The exporter: every format, one snapshot, the same bytes, constant memory."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import psycopg
import pyarrow.parquet as pq
import pytest
from memory import peak_of

from identity_cli import ContactRequest, IdentityService
from identity_cli.errors import ConnectionLostError, OutputClosedError, OutputError, UsageError
from identity_cli.exporter.export import (
    FileFormat,
    What,
    check_format,
    export,
    file_format_for,
    identities,
)
from identity_cli.postgres.snapshot import snapshot

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
WHATS: tuple[What, ...] = ("contacts", "identities")
GRAPHML = "{http://graphml.graphdrawing.org/xmlns}"
AT = datetime(2024, 2, 29, 12, 30, 15, 250_000, UTC)


@pytest.fixture
def graph(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Three identities; contact 3 is older than 2, so its email comes first."""
    connection.execute(
        "INSERT INTO contact (id, email, phone_number, linked_id, link_precedence, anchors_email,"
        "                     anchors_phone, created_at, updated_at, deleted_at) VALUES"
        " (1, 'a@x.org', '123', NULL, 'primary', true, true, %(at)s, %(at)s, NULL),"
        " (2, 'b@x.org', '123', 1, 'secondary', true, false, %(at)s + '2 h', %(at)s, NULL),"
        " (3, 'c@x.org', '123', 1, 'secondary', true, false, %(at)s + '1 h', %(at)s, NULL),"
        " (4, '=cmd|''<&>\"\"@x.org', NULL, NULL, 'primary', true, true, %(at)s, %(at)s, %(at)s),"
        " (7, NULL, '+4479', NULL, 'primary', true, true, %(at)s, %(at)s, NULL),"
        " (8, 'grüße🙂@x.org', '+4479', 7, 'secondary', true, false, %(at)s, %(at)s, NULL)",
        {"at": AT},
    )
    return connection


def exported(connection: psycopg.Connection[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    export(connection, stream, **options)
    return stream.getvalue()


def test_contacts_as_csv(graph: psycopg.Connection[Any]) -> None:
    assert exported(graph).decode() == (
        "id,email,phone_number,linked_id,link_precedence,created_at,updated_at,deleted_at\n"
        "1,a@x.org,123,,primary,2024-02-29 12:30:15.25+00,2024-02-29 12:30:15.25+00,\n"
        "2,b@x.org,123,1,secondary,2024-02-29 14:30:15.25+00,2024-02-29 12:30:15.25+00,\n"
        "3,c@x.org,123,1,secondary,2024-02-29 13:30:15.25+00,2024-02-29 12:30:15.25+00,\n"
        '4,"=cmd|\'<&>""""@x.org",,,primary,2024-02-29 12:30:15.25+00,'
        "2024-02-29 12:30:15.25+00,2024-02-29 12:30:15.25+00\n"
        "7,,+4479,,primary,2024-02-29 12:30:15.25+00,2024-02-29 12:30:15.25+00,\n"
        "8,grüße🙂@x.org,+4479,7,secondary,2024-02-29 12:30:15.25+00,2024-02-29 12:30:15.25+00,\n"
    )


def test_contacts_as_json_lines(graph: psycopg.Connection[Any]) -> None:
    lines = exported(graph, file_format="jsonl").decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["id"] for record in records] == [1, 2, 3, 4, 7, 8]
    assert records[1] == {
        "id": 2,
        "email": "b@x.org",
        "phoneNumber": "123",
        "linkedId": 1,
        "linkPrecedence": "secondary",
        "createdAt": "2024-02-29T14:30:15.250000Z",
        "updatedAt": "2024-02-29T12:30:15.250000Z",
        "deletedAt": None,
    }
    assert list(records[1]) == [
        "id", "email", "phoneNumber", "linkedId",
        "linkPrecedence", "createdAt", "updatedAt", "deletedAt",
    ]  # fmt: skip
    assert records[3]["deletedAt"] == "2024-02-29T12:30:15.250000Z"
    assert '"grüße🙂@x.org"' in lines[5]


def test_identities_as_json_lines(graph: psycopg.Connection[Any]) -> None:
    records = [
        json.loads(line)
        for line in exported(graph, what="identities", file_format="jsonl").splitlines()
    ]
    assert records[0] == {
        "contact": {
            "primaryContatctId": 1,
            "emails": ["a@x.org", "c@x.org", "b@x.org"],
            "phoneNumbers": ["123"],
            "secondaryContactIds": [3, 2],
        }
    }
    service = IdentityService(graph)
    assert records == [service.find(contact_id=number).as_json() for number in (1, 4, 7)]


def test_identities_as_csv(graph: psycopg.Connection[Any]) -> None:
    written = exported(graph, what="identities", file_format="csv").decode()
    header, *rows = csv.reader(io.StringIO(written))
    assert header == ["primaryContatctId", "emails", "phoneNumbers", "secondaryContactIds"]
    assert rows[0] == ["1", '["a@x.org","c@x.org","b@x.org"]', '["123"]', "[3,2]"]
    assert json.loads(rows[1][1]) == ['=cmd|\'<&>""@x.org']
    assert rows[2] == ["7", '["grüße🙂@x.org"]', '["+4479"]', "[8]"]


def test_parquet(graph: psycopg.Connection[Any]) -> None:
    table = pq.read_table(io.BytesIO(exported(graph, file_format="parquet")))
    assert str(table.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    rows = table.to_pylist()
    assert rows == [
        dict(zip(table.column_names, row, strict=True))
        for row in graph.execute(
            "SELECT id, email, phone_number, linked_id, link_precedence::text,"
            " created_at, updated_at, deleted_at FROM contact ORDER BY id"
        )
    ]
    table = pq.read_table(io.BytesIO(exported(graph, what="identities", file_format="parquet")))
    assert table.to_pylist()[0] == {
        "primaryContatctId": 1,
        "emails": ["a@x.org", "c@x.org", "b@x.org"],
        "phoneNumbers": ["123"],
        "secondaryContactIds": [3, 2],
    }


def test_graphml_of_contacts(graph: psycopg.Connection[Any]) -> None:
    root = ET.fromstring(exported(graph, file_format="graphml"))
    nodes = {
        node.get("id"): {data.get("key"): data.text for data in node}
        for node in root.iter(f"{GRAPHML}node")
    }
    assert list(nodes) == ["1", "2", "3", "4", "7", "8"]
    assert nodes["4"]["email"] == '=cmd|\'<&>""@x.org'
    assert nodes["7"] == {
        "phone_number": "+4479",
        "link_precedence": "primary",
        "created_at": "2024-02-29T12:30:15.250000+00:00",
        "updated_at": "2024-02-29T12:30:15.250000+00:00",
    }
    edges = [(edge.get("source"), edge.get("target")) for edge in root.iter(f"{GRAPHML}edge")]
    assert edges == [("2", "1"), ("3", "1"), ("8", "7")]
    keys = {key.get("id") for key in root.iter(f"{GRAPHML}key")}
    assert keys == {key for data in nodes.values() for key in data}


def test_graphml_of_identities(graph: psycopg.Connection[Any]) -> None:
    root = ET.fromstring(exported(graph, what="identities", file_format="graphml"))
    nodes = {
        node.get("id"): {data.get("key"): data.text for data in node}
        for node in root.iter(f"{GRAPHML}node")
    }
    assert nodes["7"] == {"kind": "identity"}
    reached = [
        nodes[edge.get("target")]
        for edge in root.iter(f"{GRAPHML}edge")
        if edge.get("source") == "7"
    ]
    assert reached == [
        {"kind": "email", "value": "grüße🙂@x.org"},
        {"kind": "phone", "value": "+4479"},
    ]


def test_graphml_of_what_xml_cannot_hold(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO contact (email, link_precedence) VALUES (E'\\x01\\uffff\\r]]>@x', 'primary')"
    )
    root = ET.fromstring(exported(connection, file_format="graphml"))
    assert root.findtext(f".//{GRAPHML}data[@key='email']") == "\ufffd\ufffd\r]]>@x"


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_an_empty_graph(
    connection: psycopg.Connection[Any], file_format: FileFormat, what: What
) -> None:
    written = exported(connection, file_format=file_format, what=what)
    match file_format:
        case "csv":
            assert written.count(b"\n") == 1
        case "jsonl":
            assert written == b""
        case "parquet":
            assert pq.read_table(io.BytesIO(written)).num_rows == 0
        case "graphml":
            assert not list(ET.fromstring(written).iter(f"{GRAPHML}node"))


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_graph_gives_the_same_bytes(
    graph: psycopg.Connection[Any], database_url: str, file_format: FileFormat, what: What
) -> None:
    first = exported(graph, file_format=file_format, what=what)
    # The rows move within the table; the session is set up as oddly as can be.
    graph.execute("UPDATE contact SET email = email WHERE id = 1")
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(
            "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German';"
            " SET enable_seqscan = off; SET lc_time = 'C'"
        )
        assert exported(other, file_format=file_format, what=what) == first


def test_excel_safe(connection: psycopg.Connection[Any]) -> None:
    values = ["=1+1@x", "+1@x", "-1@x", "@x", "\t@x", "\r@x", "a=@x", "'@x", "1@x"]
    for value in values:
        connection.execute(
            "INSERT INTO contact (email, link_precedence) VALUES (%s, 'primary')", (value,)
        )
    connection.execute(
        "INSERT INTO contact (phone_number, link_precedence) VALUES ('+44', 'primary')"
    )
    written = exported(connection, excel_safe=True).decode()
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [row["email"] for row in rows] == [
        *(f"'{value}" for value in values[:6]),
        *values[6:],
        "",
    ]
    assert rows[-1]["phone_number"] == "'+44"
    plain = list(csv.DictReader(io.StringIO(exported(connection).decode(), newline="")))
    assert [row["email"] for row in plain[:-1]] == values


class _Watched(io.BytesIO):
    """Calls back at the first byte that is written."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call

    def write(self, data: Any) -> int:
        if self._call is not None:
            call, self._call = self._call, None
            call()
        return super().write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_write_during_the_export_is_not_seen(
    graph: psycopg.Connection[Any], database_url: str, file_format: FileFormat, what: What
) -> None:
    before = exported(graph, file_format=file_format, what=what)

    def write() -> None:
        with psycopg.connect(database_url, autocommit=True) as other:
            IdentityService(other).reconcile(ContactRequest("a@x.org", "+4479"))
            IdentityService(other).reconcile(ContactRequest("late@x.org"))

    stream = _Watched(write)
    export(graph, stream, what=what, file_format=file_format)
    assert stream.getvalue() == before
    assert exported(graph, file_format=file_format, what=what) != before


def test_a_failing_stream_leaves_the_connection_usable(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute(
        "INSERT INTO contact (email, link_precedence)"
        " SELECT g || '@x.org', 'primary' FROM generate_series(1, 20000) g"
    )
    for what in WHATS:
        for file_format in FORMATS:

            def fail(kind: type[OSError]) -> Any:
                def call() -> None:
                    raise kind(28, "No space left on device")

                return call

            with pytest.raises(OutputError, match="No space left") as caught:
                export(connection, _Watched(fail(OSError)), what=what, file_format=file_format)
            assert caught.value.hint
            with pytest.raises(OutputClosedError):
                export(
                    connection,
                    _Watched(fail(BrokenPipeError)),
                    what=what,
                    file_format=file_format,
                )
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_server_that_goes_away(
    connection: psycopg.Connection[Any], database_url: str, file_format: FileFormat
) -> None:
    connection.execute(
        "INSERT INTO contact (email, link_precedence)"
        " SELECT g || '@x.org', 'primary' FROM generate_series(1, 100000) g"
    )

    def terminate() -> None:
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

    with pytest.raises(ConnectionLostError):
        export(connection, _Watched(terminate), file_format=file_format)


def test_an_identity_of_100_000_contacts(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "ALTER TABLE contact DISABLE TRIGGER USER;"
        "INSERT INTO contact (id, email, phone_number, linked_id, link_precedence, anchors_phone)"
        " SELECT g, g || '@x.org', '1', nullif(1, g), CASE g WHEN 1 THEN 'primary'::link_precedence"
        " ELSE 'secondary' END, g = 1 FROM generate_series(1, 100000) g"
    )
    with snapshot(connection) as graph:
        (one,) = identities(graph)
    assert one.secondary_ids == list(range(2, 100_001))
    assert one.phone_numbers == ["1"]
    assert len(one.emails) == 100_000


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_memory_does_not_grow_with_the_graph(
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    file_format: FileFormat,
    what: What,
) -> None:
    def peak(contacts: int) -> int:
        connection.execute(
            "TRUNCATE contact; INSERT INTO contact (email, phone_number, link_precedence)"
            f" SELECT g || '@x.org', g, 'primary' FROM generate_series(1, {contacts}) g"
        )
        with open(os.devnull, "wb") as stream:
            return peak_of(lambda: export(connection, stream, file_format=file_format, what=what))

    monkeypatch.setattr("identity_cli.exporter.parquet.ROW_GROUP", 1000)
    peak(100)  # modules and caches
    assert peak(15_000) < 1.3 * peak(3_000) + 100_000


def test_the_format_by_name() -> None:
    assert file_format_for(None, "contacts") == "csv"
    assert file_format_for(None, "identities") == "jsonl"
    assert file_format_for(Path("x.CSV"), "identities") == "csv"
    assert file_format_for(Path("x.ndjson"), "contacts") == "jsonl"
    assert file_format_for(Path("x.jsonl"), "contacts") == "jsonl"
    assert file_format_for(Path("x.parquet"), "contacts") == "parquet"
    assert file_format_for(Path("x.graphml"), "contacts") == "graphml"
    assert file_format_for(Path("x.txt"), "contacts") == "csv"


def test_excel_safe_is_for_csv() -> None:
    check_format("csv", excel_safe=True)
    with pytest.raises(UsageError, match="--excel-safe"):
        check_format("jsonl", excel_safe=True)


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError) as caught:
        check_format("parquet")
    assert caught.value.hint == "pip install 'identity-cli[parquet]'"
