"""Verify a large graph set-wise, on DuckDB; needs the extra `backfill`.

A correct graph without rules is recognised by statements over whole tables: every value leads to
one identity and is anchored once, evidence lies within one identity, and evidence joins as many
components as there are identities. That is all that `identity_cli.graph.verify` checks of such a
graph. Any other one is left to it: it lists what is wrong, and applies rules.
"""

from __future__ import annotations

import tempfile
from array import array
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from itertools import repeat
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from identity_cli.backfill.columns import integers
from identity_cli.backfill.copies import copied
from identity_cli.backfill.database import connect, interruptibly
from identity_cli.backfill.replay import replay
from identity_cli.errors import OutputError
from identity_cli.graph.row_checks import check_rows
from identity_cli.graph.verify import Verification, verify_snapshot
from identity_cli.graph.violations import Violations
from identity_cli.meter import SILENT
from identity_cli.postgres.database import translated
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import LiteralString

    import psycopg

    from identity_cli.meter import Meter
    from identity_cli.postgres.snapshot import Snapshot

# What DuckDB may hold in memory; the rest spills.
_MEMORY = "2GB"
_BATCH_ROWS = 1 << 17
# By their share of the time, and named as those of the other engine.
_STEPS = {"contacts": 35, "graph": 10, "values": 15, "links": 20, "digest": 20}

# With any of these, rules or former rules have a say in what is right.
_HAS_RULES = """
    SELECT rules_in_force() > 0
        OR EXISTS (SELECT FROM blocked_value) OR EXISTS (SELECT FROM unlinked_pair)
        OR EXISTS (SELECT FROM block_pattern) OR EXISTS (SELECT FROM set_aside_contact)
        OR EXISTS (SELECT FROM partner_count) OR EXISTS (SELECT FROM contact_move)
        OR EXISTS (SELECT FROM link_policy WHERE num_nonnulls(email_limit, phone_limit) > 0)
        OR EXISTS (SELECT FROM contact WHERE id < 0)
        OR EXISTS (SELECT FROM link_evidence WHERE is_held)
"""
# The query for each table, and its columns; each contact gets a node besides, from 1.
_TABLES: dict[str, tuple[LiteralString, dict[str, str]]] = {
    "contact": (
        "SELECT id, coalesce(linked_id, id), email, phone_number, anchors_email, anchors_phone"
        " FROM contact",
        {
            "id": "int64",
            "root": "int64",
            "email": "string",
            "phone": "string",
            "anchors_email": "bool_",
            "anchors_phone": "bool_",
        },
    ),
    "evidence": (
        "SELECT value, other_value, primary_id, merged_id FROM link_evidence",
        {"value": "string", "other_value": "string", "primary_id": "int64", "merged_id": "int64"},
    ),
}
# A value by its column: that of evidence is an email if it has an @.
_SHOWN = """
    CREATE VIEW shown AS
    SELECT node, root, true AS is_email, email AS value, anchors_email AS anchors
    FROM contact WHERE email IS NOT NULL
    UNION ALL SELECT node, root, false, phone, anchors_phone FROM contact WHERE phone IS NOT NULL
"""
_ANCHORS = """
    CREATE TABLE anchor AS
    SELECT is_email, value, max(CASE WHEN anchors THEN node END) AS node, min(root) AS root,
           count(CASE WHEN anchors THEN 1 END) = 1 AND min(root) = max(root) AS is_right
    FROM shown GROUP BY is_email, value
"""
_WRONG_VALUES = "SELECT count(*) FROM anchor WHERE NOT is_right"
_PAIRS = """
    CREATE TABLE pair AS
    SELECT l.node AS left_node, r.node AS right_node,
           coalesce(l.root = r.root AND p.root = l.root
                    AND (e.merged_id IS NULL OR m.root = l.root), false) AS is_right
    FROM evidence AS e
        LEFT JOIN anchor AS l ON l.value = e.value AND l.is_email = contains(e.value, '@')
        LEFT JOIN anchor AS r
            ON r.value = e.other_value AND r.is_email = contains(e.other_value, '@')
        LEFT JOIN contact AS p ON p.id = e.primary_id
        LEFT JOIN contact AS m ON m.id = e.merged_id
"""
_WRONG_PAIRS = "SELECT count(*) FROM pair WHERE NOT is_right"
# What is joined lies within one identity by now, so the components are the identities if there are
# as many of them.
_JOINED = """
    SELECT s.node AS left_node, a.node AS right_node
    FROM shown AS s JOIN anchor AS a ON s.value = a.value AND s.is_email = a.is_email
    WHERE NOT s.anchors
    UNION ALL SELECT left_node, right_node FROM pair
"""
_SIZE = "SELECT count(*), count(DISTINCT root) FROM contact"
_DIGESTS = """
    SELECT sha256(string_agg(line, chr(10) ORDER BY line)) AS digest
    FROM (SELECT DISTINCT root, if(is_email, 'email:', 'phone:') || value AS line FROM shown)
    GROUP BY root ORDER BY digest
"""


def verify(connection: psycopg.Connection[Any], meter: Meter = SILENT) -> Verification:
    """Recompute the graph in one snapshot and compare it with what is stored.

    Takes two gigabytes and 8 bytes per contact, and disk in the folder for temporary files. A graph
    that is not right, or with rules, is verified as `identity_cli.graph.verify` does. Raises
    `DatabaseError`, `OutputError`.
    """
    with snapshot(connection) as graph:
        return _found_correct(graph, meter) or verify_snapshot(graph, meter)


def _found_correct(graph: Snapshot, meter: Meter) -> Verification | None:
    """Return the result if the graph has no rules and is correct."""
    with translated():
        row = graph.connection.execute(_HAS_RULES).fetchone()
    if row != (False,):
        return None
    begin = meter.steps(_STEPS)
    begin("contacts")
    violations = Violations()
    check_rows(graph, violations)
    if violations.counts:
        return None
    with _scratch() as work:
        _copy(graph, work, "contact")
        begin("graph")
        _copy(graph, work, "evidence")
        return interruptibly((work,), nullcontext(), _compare, work, begin)


def _compare(work: duckdb.DuckDBPyConnection, begin: Callable[[str], None]) -> Verification | None:
    """Return the result if what was copied is correct."""
    begin("values")
    work.execute(_SHOWN)
    work.execute(_ANCHORS)
    if _numbers(work, _WRONG_VALUES) != (0,):
        return None
    begin("links")
    work.execute(_PAIRS)
    if _numbers(work, _WRONG_PAIRS) != (0,):
        return None
    contacts, identities = _numbers(work, _SIZE)
    if _components(work, contacts) != identities:
        return None
    begin("digest")
    return Verification(contacts, identities, _digest(work), (), {})


@contextmanager
def _scratch() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database that is not kept."""
    with tempfile.TemporaryDirectory(prefix="identity-verify-") as folder:
        work = connect(":memory:", spill=folder, memory=_MEMORY)
        try:
            yield work
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise OutputError(
                f"there is no room left in {folder}",
                hint="set TMPDIR to a folder on a larger disk, or verify without --engine",
            ) from error
        finally:
            work.close()


def _copy(graph: Snapshot, work: duckdb.DuckDBPyConnection, table: str) -> None:
    query, fields = _TABLES[table]
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in fields.items()])
    node = schema.append(pa.field("node", pa.int64()))
    work.from_arrow(node.empty_table()).create(table)
    count = 0
    for rows in copied(graph.connection, query, schema):
        nodes = pa.array(range(count + 1, count + 1 + len(rows)), pa.int64())
        work.from_arrow(rows.append_column("node", nodes)).insert_into(table)
        count += len(rows)


def _components(work: duckdb.DuckDBPyConnection, contacts: int) -> int:
    """Return how many components the contacts are in, joined by values and evidence."""
    parents = array("q", range(contacts + 1))
    joins = 0
    for batch in work.sql(_JOINED).to_arrow_reader(_BATCH_ROWS):
        left_nodes, right_nodes = map(integers, batch.columns)
        _, merged = replay(left_nodes, right_nodes, repeat(0, len(batch)), parents)
        joins += len(merged) - merged.count(0)
    return contacts - joins


def _digest(work: duckdb.DuckDBPyConnection) -> str:
    whole = sha256()
    separator = b""
    work.execute("SET preserve_insertion_order = true")
    for batch in work.sql(_DIGESTS).to_arrow_reader(_BATCH_ROWS):
        whole.update(separator + "\n".join(batch.column(0).to_pylist()).encode())
        separator = b"\n"
    return f"sha256:{whole.hexdigest()}"


def _numbers(work: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    [row] = work.execute(query).fetchall()
    return tuple(row)
