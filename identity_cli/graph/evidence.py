"""The evidence of one identity: its contacts, and the pairs of values that no contact shows."""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from identity_cli.postgres.snapshot import Snapshot

# A contact as the columns of `Evidence`.
CONTACT_AS_EVIDENCE = """
    SELECT id, NULL::bigint, NULL::bigint, NULL::bigint,
           coalesce(email, phone_number),
           CASE WHEN email IS NOT NULL THEN phone_number END,
           CASE WHEN email IS NOT NULL THEN anchors_email ELSE anchors_phone END,
           anchors_phone AND phone_number IS NOT NULL AND email IS NOT NULL,
           run_id, line, created_at
"""
# Contacts with a negative id hold a place for a value; they are not part of any identity.
_CONTACTS = f"""
    {CONTACT_AS_EVIDENCE}
    FROM contact WHERE (id = %(primary)s OR linked_id = %(primary)s) AND id > 0
    ORDER BY created_at, id
"""
# The index of pairs finds evidence by its first value; both are values of the identity.
_PAIRS = """
    WITH own AS (
        SELECT email AS value FROM contact
        WHERE (id = %(primary)s OR linked_id = %(primary)s) AND id > 0 AND email IS NOT NULL
        UNION
        SELECT phone_number FROM contact
        WHERE (id = %(primary)s OR linked_id = %(primary)s) AND id > 0 AND phone_number IS NOT NULL
    )
    SELECT NULL::bigint, e.id, e.primary_id, e.merged_id, e.value, e.other_value, false, false,
           e.run_id, e.line, e.created_at
    FROM own JOIN link_evidence e USING (value) WHERE NOT e.is_held
    ORDER BY e.created_at, e.id
"""
# Of an interrupted run, what it has stored beyond its checkpoint may come from an input of which
# the first line is not recorded yet.
_RUNS = """
    SELECT id, inputs, status = 'finished', checkpoint -> 'marks'
    FROM import_run WHERE id = ANY(%s)
"""


class Evidence(NamedTuple):
    """A stored row that shows one value or two: a contact, or else a row of link evidence.

    `merged_id` is the primary that the row made a secondary of `primary_id` when it linked.
    `is_first` and `is_other_first` report whether a contact brought its value in. `line` is counted
    through the inputs of the run; a row without a run comes from `identify` or HTTP.
    """

    contact_id: int | None
    evidence_id: int | None
    primary_id: int | None
    merged_id: int | None
    value: str
    other_value: str | None
    is_first: bool
    is_other_first: bool
    run_id: int | None
    line: int | None
    time: datetime

    @property
    def name(self) -> str:
        """What the row is called: its table and its id."""
        if self.contact_id is None:
            return f"evidence {self.evidence_id}"
        return f"contact {self.contact_id}"


class Place(NamedTuple):
    """The input that a row comes from, `-` for standard input, and the line in it."""

    path: str
    line: int


class Sources:
    """The inputs of runs, which lead from the lines of a run to lines of files."""

    def __init__(self, runs: Iterable[tuple[int, list[dict[str, Any]], bool, Any]] = ()) -> None:
        self._runs = {run_id: _RunInputs(*run) for run_id, *run in runs}

    def of(self, row: Evidence) -> Place | None:
        """Return where the row comes from; None if no file is known."""
        run = None if row.run_id is None else self._runs.get(row.run_id)
        return None if run is None or row.line is None else run.place(row, row.line)


class _RunInputs:
    def __init__(self, inputs: list[dict[str, Any]], is_finished: bool, marks: Any) -> None:
        begun = [source for source in inputs if source.get("first_line") is not None]
        self._paths = [source["path"] for source in begun]
        self._first_lines = [source["first_line"] for source in begun]
        self._marks = None if is_finished or len(begun) == len(inputs) else marks or (0, 0)

    def place(self, row: Evidence, line: int) -> Place | None:
        index = bisect_left(self._first_lines, line) - 1
        if index < 0:
            return None
        if index == len(self._paths) - 1 and self._marks is not None:
            last_contact, last_evidence = self._marks
            if (row.contact_id or 0) > last_contact or (row.evidence_id or 0) > last_evidence:
                return None
        return Place(self._paths[index], line - self._first_lines[index])


class IdentityEvidence:
    """The contacts and the pairs of one identity, each in the order of their times."""

    def __init__(
        self,
        primary_id: int,
        contacts: Sequence[Evidence],
        pairs: Sequence[Evidence],
        sources: Sources,
    ) -> None:
        self.primary_id = primary_id
        self.contacts = contacts
        self.pairs = pairs
        self.sources = sources

    def rows(self) -> list[Evidence]:
        """Return contacts and pairs in the order of their times."""
        return sorted(chain(self.contacts, self.pairs), key=_time)

    @property
    def origins(self) -> dict[str, Evidence]:
        """The contact that brought each value in."""
        origins = {row.value: row for row in self.contacts if row.is_first}
        origins |= {str(row.other_value): row for row in self.contacts if row.is_other_first}
        return origins

    def contact(self, contact_id: int) -> Evidence:
        """Return the row of a contact of the identity."""
        return next(row for row in self.contacts if row.contact_id == contact_id)


def read_evidence(graph: Snapshot, primary_id: int) -> IdentityEvidence:
    """Read the evidence of an identity. Takes about a kilobyte per contact."""
    parameters = {"primary": primary_id}
    contacts = list(starmap(Evidence, graph.rows(_CONTACTS, parameters)))
    pairs = list(starmap(Evidence, graph.rows(_PAIRS, parameters)))
    return IdentityEvidence(primary_id, contacts, pairs, read_sources(graph, contacts, pairs))


def read_sources(
    graph: Snapshot, contacts: Iterable[Evidence], pairs: Iterable[Evidence]
) -> Sources:
    """Read the inputs of the runs that rows come from."""
    run_ids = {row.run_id for row in chain(contacts, pairs)} - {None}
    runs = graph.connection.execute(_RUNS, (sorted(run_ids, key=int),)).fetchall()  # type: ignore[arg-type]
    return Sources(runs)


def _time(row: Evidence) -> datetime:
    return row.time
