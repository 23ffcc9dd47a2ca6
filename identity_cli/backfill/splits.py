"""The identities that hubs split, as one step on DuckDB: read, replayed, and written.

Their rows are files of the result with names of their own, which `split_load.py` stores: they
replace rows that the target holds, and some come from runs before this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from identity_cli.backfill import hubs
from identity_cli.backfill.files import HELD_LIMITS, SPLIT_RESULTS, replaced, result_path
from identity_cli.backfill.split_graph import (
    FIRST_NEW,
    OWN,
    THIS_RUN,
    Contact,
    Evidence,
    Graph,
    Origin,
    SetAside,
)
from identity_cli.backfill.split_replay import Rules, SplitReplay, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import duckdb

    from identity_cli.backfill import plan
    from identity_cli.importer.stop import StopSwitch

_STRENGTHS = {"created": 1, "merged": 2, "linked": 3}
_FETCHED = 10_000
_INTEGER, _TEXT, _TRUTH = pa.int64(), pa.string(), pa.bool_()
_ORIGIN = {"run_id": _INTEGER, "line": _INTEGER, "created_line": _INTEGER, "created_us": _INTEGER}
_UPDATED = {"updated_line": _INTEGER, "updated_us": _INTEGER}
_VALUES = {"email": _TEXT, "phone_number": _TEXT, "anchors_email": _TRUTH, "anchors_phone": _TRUTH}
# The columns of the files, of which those of `split_former_contact` come from a row or are null.
_SCHEMAS = {
    "split_contact": pa.schema(
        {"id": _INTEGER, **_VALUES, "linked_id": _INTEGER, "initial_linked_id": _INTEGER}
        | _ORIGIN
        | _UPDATED
    ),
    "split_gone": pa.schema({"id": _INTEGER}),
    "split_moved": pa.schema({"id": _INTEGER, "linked_id": _INTEGER, "updated_line": _INTEGER}),
    "split_aside": pa.schema({"id": _INTEGER, **_VALUES, "initial_linked_id": _INTEGER} | _ORIGIN),
    "split_aside_gone": pa.schema({"id": _INTEGER}),
    "split_held": pa.schema({"id": _INTEGER, "is_held": _TRUTH, "primary_id": _INTEGER}),
    "split_hub": pa.schema({"value": _TEXT}),
    "split_command": pa.schema({"number": _INTEGER, "line": _INTEGER}),
    "split_move": pa.schema(
        {
            "contact_id": _INTEGER,
            "from_primary_id": _INTEGER,
            "to_primary_id": _INTEGER,
            "number": _INTEGER,
            "line": _INTEGER,
        }
    ),
    "split_former_contact": pa.schema(
        {
            "contact_id": _INTEGER,
            "primary_id": _INTEGER,
            "next_primary_id": _INTEGER,
            "number": _INTEGER,
            "moment_line": _INTEGER,
            "contact_mark": _INTEGER,
            "evidence_mark": _INTEGER,
            "initial_linked_id": _INTEGER,
            **_VALUES,
            "stored_in": _INTEGER,
        }
        | _ORIGIN
        | _UPDATED
    ),
    "split_former_evidence": pa.schema(
        {
            "evidence_id": _INTEGER,
            "moment_line": _INTEGER,
            "primary_id": _INTEGER,
            "merged_id": _INTEGER,
            "value": _TEXT,
            "other_value": _TEXT,
            "is_held": _TRUTH,
            "stored_in": _INTEGER,
        }
        | _ORIGIN
    ),
}


def split(writer: duckdb.DuckDBPyConnection, work: Path, switch: StopSwitch) -> None:
    """Replay the identities that hubs split, write their rows, and number the others anew."""
    _Splits(writer, work, switch).run()


class _Splits:
    def __init__(self, writer: duckdb.DuckDBPyConnection, work: Path, switch: StopSwitch) -> None:
        self._writer = writer
        self._work = work
        self._switch = switch
        self._held: dict[int, Contact] = {}
        self._held_aside: dict[int, SetAside] = {}
        self._held_evidence: dict[int, Evidence] = {}
        self._contact_ids: list[int] = []
        self._evidence_ids: list[int] = []
        # The last ids given out before each command.
        self._marks: list[tuple[int, int]] = []

    def run(self) -> None:
        self._insert("split_root", {"root": _INTEGER}, [[root] for root in self._roots()])
        self._make(hubs.STATED)
        replayed, outcomes = self._replay()
        graph = replayed.graph
        self._number(graph)
        self._insert("split_outcome", {"line": _INTEGER, "strength": _INTEGER}, outcomes)
        self._insert("split_count", {"value": _TEXT}, [[value] for value in sorted(graph.counted)])
        self._make(hubs.RENUMBERED)
        self._insert_evidence(graph)
        for name, rows in self._files(graph).items():
            self._switch.check()
            table = pa.Table.from_pylist(rows, _SCHEMAS[name])
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
            dict(self._rows(hubs.BLOCKED)),
            frozenset(value for (value,) in self._rows(hubs.NAMED)),
            frozenset((value, other) for value, other in self._rows(hubs.UNLINKED)),
            dict(self._rows(hubs.HUBS)),
        )
        replayed = SplitReplay(self._held_graph(), rules)
        beside_blocked = list(self._rows(hubs.BESIDE_BLOCKED))
        outcomes = []
        for number, row in enumerate(self._rows(hubs.STATEMENTS)):
            if number % _FETCHED == 0:
                self._switch.check()
            statement = Statement(*row)
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
        if not (self._work / HELD_LIMITS["contact_row"]).exists():
            return graph
        for row in self._held_rows(hubs.HELD_CONTACTS, contacts="contact_row"):
            contact = Contact(
                row["id"],
                row["email"],
                row["phone_number"],
                row["anchors_email"],
                row["anchors_phone"],
                row["linked_id"],
                row["initial_linked_id"],
                Origin(row["run_id"], row["line"], row["created_us"]),
                row["updated_us"],
                row["stored_in"],
            )
            self._held[contact.id] = contact
            graph.put_contact(contact)
        for row in self._held_rows(hubs.HELD_EVIDENCE, evidence="evidence_row"):
            evidence = Evidence(
                row["id"],
                row["value"],
                row["other_value"],
                row["primary_id"],
                row["merged_id"],
                row["is_held"],
                Origin(row["run_id"], row["line"], row["created_us"]),
                row["stored_in"],
            )
            self._held_evidence[evidence.id] = evidence
            graph.put_evidence(evidence)
        for row in self._held_rows(hubs.HELD_ASIDE, aside="aside_row"):
            aside = SetAside(
                row["id"],
                row["email"],
                row["phone_number"],
                row["anchors_email"],
                row["anchors_phone"],
                row["initial_linked_id"],
                Origin(row["run_id"], row["line"], row["created_us"]),
                is_elsewhere=row["is_shown"] and row["id"] not in self._held,
            )
            self._held_aside[aside.id] = aside
            graph.put_aside(aside)
        return graph

    # The ids of all that takes one.

    def _number(self, graph: Graph) -> None:
        for kind, (name, turns) in enumerate(
            {"split_contact_id": graph.taken, "split_evidence_id": graph.attested}.items()
        ):
            rows = [[turn, 2 * (place + 1), 1] for place, turn in enumerate(turns)]
            # Several commands may ask before the next id is taken.
            asked = {(one.turn, one.marks[kind]) for one in graph.commands}
            rows += [[turn, 2 * mark + 1, 0] for turn, mark in sorted(asked)]
            self._insert(name, {"turn": _INTEGER, "part": _INTEGER, "weight": _INTEGER}, rows)
        self._make(hubs.IDS)
        ids, marks = [], []
        for table in ("contact_id", "evidence_id"):
            found = self._rows(f"SELECT turn, part, id FROM {table} WHERE part > 0 ORDER BY part")  # noqa: S608 - the names are of this method
            rows = [list(row) for row in found]
            ids.append([number for _, part, number in rows if part % 2 == 0])
            marks.append({(turn, part // 2): number for turn, part, number in rows if part % 2})
        self._contact_ids, self._evidence_ids = ids
        self._marks = [
            (marks[0][one.turn, one.marks[0]], marks[1][one.turn, one.marks[1]])
            for one in graph.commands
        ]

    def _id(self, number: int | None) -> int | None:
        if number is None or number < FIRST_NEW:
            return number
        return self._contact_ids[number - FIRST_NEW]

    def _evidence_id(self, number: int) -> int:
        return number if number < FIRST_NEW else self._evidence_ids[number - FIRST_NEW]

    # What is written.

    def _insert_evidence(self, graph: Graph) -> None:
        rows = [
            [
                self._evidence_id(one.id),
                one.value,
                one.other_value,
                self._id(one.primary_id),
                self._id(one.merged_id),
                one.origin.line,
                one.is_held,
            ]
            for one in graph.evidence.values()
            if one.id >= FIRST_NEW
        ]
        columns = {"id": _INTEGER, "value": _TEXT, "other_value": _TEXT}
        columns |= {"primary_id": _INTEGER, "merged_id": _INTEGER, "line": _INTEGER}
        self._insert("split_evidence", columns | {"is_held": _TRUTH}, rows)

    def _files(self, graph: Graph) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of all files."""
        files: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLIT_RESULTS}
        for contact in graph.contacts.values():
            was = self._held.get(contact.id)
            if contact.stored_in == OWN:
                files["split_contact"].append(self._contact(contact))
            elif was != contact:
                files["split_moved"].append(
                    {
                        "id": contact.id,
                        "linked_id": self._id(contact.linked_id),
                        "updated_line": contact.updated - THIS_RUN,
                    }
                )
        for contact_id in self._held:
            now = graph.contacts.get(contact_id)
            if now is None or now.stored_in == OWN:
                files["split_gone"].append({"id": contact_id})
        for aside in graph.aside.values():
            if aside != self._held_aside.get(aside.id):
                files["split_aside"].append(
                    {
                        "id": self._id(aside.id),
                        **_shown(aside),
                        "initial_linked_id": self._id(aside.initial_linked_id),
                        **_origin(aside.origin),
                    }
                )
        for aside in self._held_aside.values():
            if aside != graph.aside.get(aside.id):
                files["split_aside_gone"].append({"id": aside.id})
        for evidence in graph.evidence.values():
            if evidence.id < FIRST_NEW and evidence != self._held_evidence[evidence.id]:
                files["split_held"].append(
                    {
                        "id": evidence.id,
                        "is_held": evidence.is_held,
                        "primary_id": self._id(evidence.primary_id),
                    }
                )
        lines = [one.turn // 1024 for one in graph.commands]
        for number, command in enumerate(graph.commands):
            files["split_command"].append({"number": number, "line": lines[number]})
            files["split_hub"] += [{"value": value} for value in command.hubs]
        for move in graph.moves:
            files["split_move"].append(
                {
                    "contact_id": self._id(move.contact_id),
                    "from_primary_id": self._id(move.from_primary_id),
                    "to_primary_id": self._id(move.to_primary_id),
                    "number": move.command,
                    "line": lines[move.command],
                }
            )
        for former in graph.former_contacts:
            before = former.before
            contact_mark, evidence_mark = self._marks[former.command]
            files["split_former_contact"].append(
                ({} if before is None else self._contact(before))
                | {
                    "contact_id": self._id(former.contact_id),
                    "primary_id": None if before is None else self._id(before.root),
                    "next_primary_id": self._id(former.next_primary_id),
                    "number": former.command,
                    "moment_line": lines[former.command],
                    "contact_mark": contact_mark,
                    "evidence_mark": evidence_mark,
                    "stored_in": None if before is None else before.stored_in,
                }
            )
        for one in graph.former_evidence:
            files["split_former_evidence"].append(
                {
                    "evidence_id": self._evidence_id(one.before.id),
                    "moment_line": lines[one.command],
                    "primary_id": self._id(one.before.primary_id),
                    "merged_id": self._id(one.before.merged_id),
                    "value": one.before.value,
                    "other_value": one.before.other_value,
                    "is_held": one.before.is_held,
                    "stored_in": one.before.stored_in,
                    **_origin(one.before.origin),
                }
            )
        return files

    def _contact(self, contact: Contact) -> dict[str, Any]:
        return {
            "id": self._id(contact.id),
            **_shown(contact),
            "linked_id": self._id(contact.linked_id),
            "initial_linked_id": self._id(contact.initial_linked_id),
            **_origin(contact.origin),
            **_time("updated", contact.updated),
        }

    # DuckDB.

    def _make(self, statements: Iterable[plan.Statement]) -> None:
        for statement in statements:
            self._switch.check()
            self._writer.execute(f"CREATE TABLE {statement.table} AS {statement.query}")
            for table in statement.last_use_of:
                self._writer.execute(f"DROP TABLE {table}")

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
            yield from rows

    def _held_rows(self, query: str, **tables: str) -> list[dict[str, Any]]:
        files = {
            name: f"read_parquet(getvariable('held_{table}'))" for name, table in tables.items()
        }
        table: pa.Table = self._writer.sql(query.format(**files)).to_arrow_table()
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


def _shown(row: Contact | SetAside) -> dict[str, Any]:
    return {
        "email": row.email,
        "phone_number": row.phone,
        "anchors_email": row.anchors_email,
        "anchors_phone": row.anchors_phone,
    }


def _origin(origin: Origin) -> dict[str, Any]:
    return {
        "run_id": origin.run,
        "line": origin.line,
        **_time("created", origin.created),
    }


def _time(name: str, time: int) -> dict[str, int]:
    """Return a time as a line of this run, or as microseconds."""
    return {f"{name}_line": time - THIS_RUN} if time >= THIS_RUN else {f"{name}_us": time}
