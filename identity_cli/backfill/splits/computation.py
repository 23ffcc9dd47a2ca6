"""The identities that hubs split, as one step on DuckDB: read, replayed, and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from identity_cli.backfill.database import make_table, order_preserved
from identity_cli.backfill.files import replaced, result_path
from identity_cli.backfill.splits import plan
from identity_cli.backfill.splits.graph import Contact, Evidence, Graph, Origin, SetAside
from identity_cli.backfill.splits.replay import Rules, SplitReplay, Statement
from identity_cli.backfill.splits.rows import (
    EVIDENCE,
    INTEGER,
    SCHEMAS,
    TEXT,
    Held,
    Ids,
    SplitRows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import duckdb

    from identity_cli.backfill.plan import Statement as PlannedStatement
    from identity_cli.importer.stop import StopSwitch

_STRENGTHS = {"created": 1, "merged": 2, "linked": 3}
_FETCHED = 10_000


def split(writer: duckdb.DuckDBPyConnection, work: Path, switch: StopSwitch) -> None:
    """Replay the identities that hubs split, write their rows, and number the others anew."""
    _Splits(writer, work, switch).run()


class _Splits:
    def __init__(self, writer: duckdb.DuckDBPyConnection, work: Path, switch: StopSwitch) -> None:
        self._writer = writer
        self._work = work
        self._switch = switch
        self._held = Held()

    def run(self) -> None:
        self._insert("split_root", {"root": INTEGER}, [[root] for root in self._roots()])
        self._make(plan.STATED)
        replayed, outcomes = self._replay()
        graph = replayed.graph
        rows = SplitRows(graph, self._held, self._ids(graph))
        self._insert("split_outcome", {"line": INTEGER, "strength": INTEGER}, outcomes)
        self._insert("split_count", {"value": TEXT}, [[value] for value in sorted(graph.counted)])
        self._make(plan.RENUMBERED)
        self._insert("split_evidence", EVIDENCE, rows.new_evidence())
        for name, of_file in rows.files().items():
            self._switch.check()
            table = pa.Table.from_pylist(of_file, SCHEMAS[name])
            with replaced(result_path(self._work, name)) as temporary:
                pq.write_table(table, temporary)

    # What is replayed.

    def _roots(self) -> set[int]:
        """Return the primaries of the identities that are split, and of those they depend on."""
        beside: dict[int, list[int]] = {}
        for left, right in self._rows("SELECT left_root, right_root FROM split_edge"):
            beside.setdefault(left, []).append(right)
            beside.setdefault(right, []).append(left)
        border = [root for (root,) in self._rows("SELECT root FROM split_seed")]
        found = set(border)
        while border:
            for root in beside.get(border.pop(), ()):
                if root not in found:
                    found.add(root)
                    border.append(root)
        return found

    def _replay(self) -> tuple[SplitReplay, list[list[int]]]:
        rules = Rules(
            dict(self._rows(plan.BLOCKED)),
            frozenset(value for (value,) in self._rows(plan.NAMED)),
            frozenset((value, other) for value, other in self._rows(plan.UNLINKED)),
            dict(self._rows(plan.HUBS)),
        )
        replayed = SplitReplay(self._held_graph(), rules)
        beside_blocked = list(self._rows(plan.BESIDE_BLOCKED))
        outcomes = []
        with order_preserved(self._writer):
            for statement in map(Statement._make, self._rows(plan.STATEMENTS)):
                while beside_blocked and beside_blocked[-1][0] <= statement.turn:
                    replayed.count(beside_blocked.pop()[1])
                strength = _STRENGTHS.get(replayed.state(statement))
                if strength is not None:
                    outcomes.append([statement.turn // 1024, strength])
        while beside_blocked:
            replayed.count(beside_blocked.pop()[1])
        return replayed, outcomes

    def _held_graph(self) -> Graph:
        graph = Graph()
        for row in self._held_rows(plan.HELD_CONTACTS, contacts="contact_row"):
            contact = Contact(
                row["id"],
                row["email"],
                row["phone_number"],
                row["anchors_email"],
                row["anchors_phone"],
                row["linked_id"],
                row["initial_linked_id"],
                _origin(row),
                row["updated_us"],
                row["stored_in"],
            )
            self._held.contacts[contact.id] = contact
            graph.put_contact(contact)
        for row in self._held_rows(plan.HELD_EVIDENCE, evidence="evidence_row"):
            evidence = Evidence(
                row["id"],
                row["value"],
                row["other_value"],
                row["primary_id"],
                row["merged_id"],
                row["is_held"],
                _origin(row),
                row["stored_in"],
            )
            self._held.evidence[evidence.id] = evidence
            graph.put_evidence(evidence)
        for row in self._held_rows(plan.HELD_ASIDE, aside="aside_row"):
            aside = SetAside(
                row["id"],
                row["email"],
                row["phone_number"],
                row["anchors_email"],
                row["anchors_phone"],
                row["initial_linked_id"],
                _origin(row),
                is_elsewhere=row["is_shown"] and row["id"] not in self._held.contacts,
            )
            self._held.aside[aside.id] = aside
            graph.put_aside(aside)
        return graph

    # The ids of all that takes one, and the last ones before each command.

    def _ids(self, graph: Graph) -> Ids:
        for kind, (name, turns) in enumerate(
            {"split_contact_id": graph.taken, "split_evidence_id": graph.attested}.items()
        ):
            rows = [[turn, 2 * (place + 1), 1] for place, turn in enumerate(turns)]
            # Several commands may ask before the next id is taken.
            asked = {(one.turn, one.marks[kind]) for one in graph.commands}
            rows += [[turn, 2 * mark + 1, 0] for turn, mark in sorted(asked)]
            self._insert(name, {"turn": INTEGER, "part": INTEGER, "weight": INTEGER}, rows)
        self._make(plan.IDS)
        contacts, contact_marks = self._taken("contact_id")
        evidence, evidence_marks = self._taken("evidence_id")
        marks = [
            (contact_marks[one.turn, one.marks[0]], evidence_marks[one.turn, one.marks[1]])
            for one in graph.commands
        ]
        return Ids(contacts, evidence, marks)

    def _taken(self, table: str) -> tuple[list[int], dict[tuple[int, int], int]]:
        """Return the ids of a table in their order, and the last ones by the marks of commands."""
        ids, marks = [], {}
        query = f"SELECT turn, part, id FROM {table} WHERE part > 0 ORDER BY part"  # noqa: S608 - the names are of this module
        with order_preserved(self._writer):
            for turn, part, number in self._rows(query):
                if part % 2:
                    marks[turn, part // 2] = number
                else:
                    ids.append(number)
        return ids, marks

    # DuckDB.

    def _make(self, statements: Iterable[PlannedStatement]) -> None:
        for statement in statements:
            self._switch.check()
            make_table(statement, self._writer)

    def _insert(
        self, name: str, columns: dict[str, pa.DataType], rows: Sequence[Sequence[Any]]
    ) -> None:
        lists = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
        arrays = [pa.array(one, kind) for one, kind in zip(lists, columns.values(), strict=True)]
        table = pa.table(arrays, names=list(columns))
        self._writer.from_arrow(table).create(name)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        found = self._writer.execute(query)
        while rows := found.fetchmany(_FETCHED):
            self._switch.check()
            yield from rows

    def _held_rows(self, query: str, **tables: str) -> list[dict[str, Any]]:
        files = {
            name: f"read_parquet(getvariable('held_{table}'))" for name, table in tables.items()
        }
        table: pa.Table = self._writer.sql(query.format(**files)).to_arrow_table()
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


def _origin(row: dict[str, Any]) -> Origin:
    return Origin(row["run_id"], row["line"], row["created_us"])
