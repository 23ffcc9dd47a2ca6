"""The rows of the identities that hubs split, as they are written for the load.

They replace rows that the target holds, and some come from runs before this one: so they are files
of the result with names of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from identity_cli.backfill.splits.graph import FIRST_NEW, OWN, THIS_RUN

if TYPE_CHECKING:
    from identity_cli.backfill.splits.graph import Contact, Evidence, Graph, Origin, SetAside

Rows = list[dict[str, Any]]

INTEGER, TEXT, TRUTH = pa.int64(), pa.string(), pa.bool_()
_ORIGIN = {"run_id": INTEGER, "line": INTEGER, "created_line": INTEGER, "created_us": INTEGER}
_UPDATED = {"updated_line": INTEGER, "updated_us": INTEGER}
_VALUES = {"email": TEXT, "phone_number": TEXT, "anchors_email": TRUTH, "anchors_phone": TRUTH}
# The columns of the files, of which those of `split_former_contact` come from a row or are null.
SCHEMAS = {
    "split_contact": pa.schema(
        {"id": INTEGER, **_VALUES, "linked_id": INTEGER, "initial_linked_id": INTEGER}
        | _ORIGIN
        | _UPDATED
    ),
    "split_gone": pa.schema({"id": INTEGER}),
    "split_moved": pa.schema({"id": INTEGER, "linked_id": INTEGER, "updated_line": INTEGER}),
    "split_aside": pa.schema({"id": INTEGER, **_VALUES, "initial_linked_id": INTEGER} | _ORIGIN),
    "split_aside_gone": pa.schema({"id": INTEGER}),
    "split_held": pa.schema({"id": INTEGER, "is_held": TRUTH, "primary_id": INTEGER}),
    "split_hub": pa.schema({"value": TEXT}),
    "split_command": pa.schema({"number": INTEGER, "line": INTEGER}),
    "split_move": pa.schema(
        {
            "contact_id": INTEGER,
            "from_primary_id": INTEGER,
            "to_primary_id": INTEGER,
            "number": INTEGER,
            "line": INTEGER,
        }
    ),
    "split_former_contact": pa.schema(
        {
            "contact_id": INTEGER,
            "primary_id": INTEGER,
            "next_primary_id": INTEGER,
            "number": INTEGER,
            "moment_line": INTEGER,
            "contact_mark": INTEGER,
            "evidence_mark": INTEGER,
            "initial_linked_id": INTEGER,
            **_VALUES,
            "stored_in": INTEGER,
        }
        | _ORIGIN
        | _UPDATED
    ),
    "split_former_evidence": pa.schema(
        {
            "evidence_id": INTEGER,
            "moment_line": INTEGER,
            "primary_id": INTEGER,
            "merged_id": INTEGER,
            "value": TEXT,
            "other_value": TEXT,
            "is_held": TRUTH,
            "stored_in": INTEGER,
        }
        | _ORIGIN
    ),
}
# Those of evidence, which is stored with that of the others.
EVIDENCE = {"id": INTEGER, "value": TEXT, "other_value": TEXT, "primary_id": INTEGER} | {
    "merged_id": INTEGER,
    "line": INTEGER,
    "is_held": TRUTH,
}


@dataclass(slots=True)
class Held:
    """The rows of the target from before, by their ids."""

    contacts: dict[int, Contact] = field(default_factory=dict)
    aside: dict[int, SetAside] = field(default_factory=dict)
    evidence: dict[int, Evidence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of new contacts and new evidence; `marks` has the last ones before each command."""

    contacts: list[int]
    evidences: list[int]
    marks: list[tuple[int, int]]

    def contact(self, number: int | None) -> int | None:
        """Return the id of a contact."""
        if number is None or number < FIRST_NEW:
            return number
        return self.contacts[number - FIRST_NEW]

    def evidence(self, number: int) -> int:
        """Return the id of evidence."""
        return number if number < FIRST_NEW else self.evidences[number - FIRST_NEW]


class SplitRows:
    """What has become of the rows of a target, as rows with ids."""

    def __init__(self, graph: Graph, held: Held, ids: Ids) -> None:
        self._graph = graph
        self._held = held
        self._ids = ids

    def new_evidence(self) -> list[list[Any]]:
        """Return the new evidence, with the columns of `EVIDENCE`."""
        return [
            [
                self._ids.evidence(one.id),
                one.value,
                one.other_value,
                self._ids.contact(one.primary_id),
                self._ids.contact(one.merged_id),
                one.origin.line,
                one.is_held,
            ]
            for one in self._graph.evidence.values()
            if one.id >= FIRST_NEW
        ]

    def files(self) -> dict[str, Rows]:
        """Return the rows of all files."""
        return self._contacts() | self._asides() | self._evidence() | self._history()

    def _contacts(self) -> dict[str, Rows]:
        graph = self._graph
        files: dict[str, Rows] = {"split_contact": [], "split_moved": [], "split_gone": []}
        for contact in graph.contacts.values():
            was = self._held.contacts.get(contact.id)
            if contact.stored_in == OWN:
                files["split_contact"].append(self._contact(contact))
            elif was != contact:
                files["split_moved"].append(
                    {
                        "id": contact.id,
                        "linked_id": self._ids.contact(contact.linked_id),
                        "updated_line": contact.updated - THIS_RUN,
                    }
                )
        for contact_id in self._held.contacts:
            now = graph.contacts.get(contact_id)
            if now is None or now.stored_in == OWN:
                files["split_gone"].append({"id": contact_id})
        return files

    def _asides(self) -> dict[str, Rows]:
        graph = self._graph
        files: dict[str, Rows] = {"split_aside": [], "split_aside_gone": []}
        for aside in graph.aside.values():
            if aside != self._held.aside.get(aside.id):
                files["split_aside"].append(
                    {
                        "id": self._ids.contact(aside.id),
                        **_shown(aside),
                        "initial_linked_id": self._ids.contact(aside.initial_linked_id),
                        **_origin(aside.origin),
                    }
                )
        for aside in self._held.aside.values():
            if aside != graph.aside.get(aside.id):
                files["split_aside_gone"].append({"id": aside.id})
        return files

    def _evidence(self) -> dict[str, Rows]:
        graph = self._graph
        files: dict[str, Rows] = {"split_held": []}
        for evidence in graph.evidence.values():
            if evidence.id < FIRST_NEW and evidence != self._held.evidence[evidence.id]:
                files["split_held"].append(
                    {
                        "id": evidence.id,
                        "is_held": evidence.is_held,
                        "primary_id": self._ids.contact(evidence.primary_id),
                    }
                )
        return files

    def _history(self) -> dict[str, Rows]:
        graph = self._graph
        files: dict[str, Rows] = {
            name: []
            for name in (
                *("split_command", "split_hub", "split_move"),
                *("split_former_contact", "split_former_evidence"),
            )
        }
        lines = [one.turn // 1024 for one in graph.commands]
        for number, command in enumerate(graph.commands):
            files["split_command"].append({"number": number, "line": lines[number]})
            files["split_hub"] += [{"value": value} for value in command.hubs]
        for move in graph.moves:
            files["split_move"].append(
                {
                    "contact_id": self._ids.contact(move.contact_id),
                    "from_primary_id": self._ids.contact(move.from_primary_id),
                    "to_primary_id": self._ids.contact(move.to_primary_id),
                    "number": move.command,
                    "line": lines[move.command],
                }
            )
        for former in graph.former_contacts:
            before = former.before
            contact_mark, evidence_mark = self._ids.marks[former.command]
            files["split_former_contact"].append(
                ({} if before is None else self._contact(before))
                | {
                    "contact_id": self._ids.contact(former.contact_id),
                    "primary_id": None if before is None else self._ids.contact(before.root),
                    "next_primary_id": self._ids.contact(former.next_primary_id),
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
                    "evidence_id": self._ids.evidence(one.before.id),
                    "moment_line": lines[one.command],
                    "primary_id": self._ids.contact(one.before.primary_id),
                    "merged_id": self._ids.contact(one.before.merged_id),
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
            "id": self._ids.contact(contact.id),
            **_shown(contact),
            "linked_id": self._ids.contact(contact.linked_id),
            "initial_linked_id": self._ids.contact(contact.initial_linked_id),
            **_origin(contact.origin),
            **_time("updated", contact.updated),
        }


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
