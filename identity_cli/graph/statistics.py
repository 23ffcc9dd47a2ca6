"""Statistics of the whole graph: its size, its identities, its hubs, and what each run added.

Every query aggregates on the server, so the client needs the same memory for any graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.graph.hubs import MOST_PARTNERS
from identity_cli.graph.masking import masked
from identity_cli.graph.run_list import list_runs
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import LiteralString

    from identity_cli.graph.run_list import Run
    from identity_cli.postgres.snapshot import Snapshot

SCHEMA_VERSION = 1
# What `statistics` reports to `on_step`, in this order, with its share of the time in percent.
STEPS = {"contacts": 4, "evidence": 1, "identities": 13, "shared values": 67, "runs": 15}

_CONTACTS = """
    SELECT now(), count(*), count(*) FILTER (WHERE linked_id IS NULL),
           count(*) FILTER (WHERE email IS NOT NULL AND anchors_email),
           count(*) FILTER (WHERE phone_number IS NOT NULL AND anchors_phone),
           count(*) FILTER (WHERE email IS NOT NULL AND phone_number IS NOT NULL)
    FROM contact WHERE id > 0
"""
# Each pair is stored once: as a contact, as one that a rule has set aside, or as evidence.
_EVIDENCE = """
    SELECT evidence.pairs + aside.pairs, evidence.held + aside.pairs, evidence.merges
    FROM (SELECT count(*) AS pairs, count(*) FILTER (WHERE is_held) AS held,
                 count(merged_id) AS merges FROM link_evidence) AS evidence,
         (SELECT count(*) AS pairs FROM set_aside_contact
          WHERE email IS NOT NULL AND phone_number IS NOT NULL) AS aside
"""

# The number of identities of each size, then the largest ones. Identities of one contact are left
# out: they are the other primaries, and grouping the secondaries alone is faster.
_SIZES = """
    WITH identity AS MATERIALIZED (
        SELECT linked_id AS primary_id, count(*) + 1 AS contacts
        FROM contact WHERE linked_id IS NOT NULL AND id > 0 GROUP BY linked_id
    )
    SELECT NULL::bigint, contacts, count(*) FROM identity GROUP BY contacts
    UNION ALL (
        SELECT primary_id, contacts, 1 FROM identity
        ORDER BY contacts DESC, primary_id LIMIT %(top)s
    )
"""
_VALUES_OF_IDENTITIES = """
    SELECT primary_id, emails, phone_numbers
    FROM unnest(%(primaries)s::bigint[]) AS primary_id, LATERAL (
        SELECT count(*) FILTER (WHERE email IS NOT NULL AND anchors_email) AS emails,
               count(*) FILTER (WHERE phone_number IS NOT NULL AND anchors_phone) AS phone_numbers
        FROM contact WHERE (id = primary_id OR linked_id = primary_id) AND id > 0
    ) AS own
"""

# How many values have more partners than a hub needs, and how many of these had not at a time;
# then the values with the most partners, and the most shared ones of the new hubs.
_SHARED_VALUES = """
    WITH pair AS (
        SELECT email AS value, phone_number AS partner, created_at <= %(since)s AS is_old
        FROM contact WHERE email IS NOT NULL AND phone_number IS NOT NULL AND id > 0
        UNION ALL
        SELECT email, phone_number, created_at <= %(since)s FROM set_aside_contact
        WHERE email IS NOT NULL AND phone_number IS NOT NULL
        UNION ALL
        SELECT value, other_value, created_at <= %(since)s FROM link_evidence
    ),
    shared AS MATERIALIZED (
        SELECT value, count(*) AS partners, count(*) FILTER (WHERE is_old) AS partners_before
        FROM (SELECT value, is_old FROM pair UNION ALL SELECT partner, is_old FROM pair) AS ways
        GROUP BY value HAVING count(*) > 1
    ),
    new_hub AS (
        SELECT * FROM shared WHERE partners > %(most)s AND partners_before <= %(most)s
    ),
    listed AS (
        (SELECT *, false AS is_new FROM shared ORDER BY partners DESC, value LIMIT %(top)s)
        UNION ALL
        (SELECT *, true FROM new_hub ORDER BY partners DESC, value LIMIT %(top)s)
    )
    SELECT NULL, (SELECT count(*) FROM shared WHERE partners > %(most)s),
           (SELECT count(*) FROM new_hub), NULL, NULL
    UNION ALL
    SELECT value, partners, partners_before,
           (SELECT coalesce(linked_id, id) FROM contact WHERE id > 0
            AND (email = value AND anchors_email OR phone_number = value AND anchors_phone)),
           is_new
    FROM listed
"""

_ROWS_OF_RUNS = """
    SELECT name, sum(number::bigint)::bigint
    FROM import_run, jsonb_each_text(rows) AS counts (name, number)
    WHERE status <> 'undone' GROUP BY name
"""
# What was stored between the ends of two runs, and by which run. A contact that becomes a secondary
# merges its identity, and one that becomes a primary again splits one; no identity is no primary.
# Only what contacts of the graph have gone through counts: with a run that is undone its contacts
# are gone, and with them what they had merged.
_STORED = """
    SELECT width_bucket(created_at, %(ends)s::timestamptz[]),
           CASE WHEN run_id = ANY(%(runs)s::bigint[]) THEN run_id END,
           count(*), count(*) FILTER (WHERE initial_linked_id IS NULL), 0::bigint
    FROM contact WHERE id > 0 GROUP BY 1, 2
    UNION ALL
    SELECT width_bucket(e.created_at, %(ends)s::timestamptz[]),
           CASE WHEN e.run_id = ANY(%(runs)s::bigint[]) THEN e.run_id END, 0, 0, count(*)
    FROM link_evidence AS e JOIN contact ON contact.id = e.merged_id GROUP BY 1, 2
    UNION ALL
    SELECT width_bucket(moved_at, %(ends)s::timestamptz[]), NULL, 0, 0,
           count(*) FILTER (WHERE contact_id = from_primary_id)
           - count(*) FILTER (WHERE contact_id = to_primary_id)
    FROM contact_move JOIN contact ON contact.id = contact_id
    WHERE from_primary_id IS DISTINCT FROM to_primary_id GROUP BY 1
"""


class SizeClass(NamedTuple):
    """Identities that have between `least` and `most` contacts: a power of two to the next."""

    least: int
    most: int
    identities: int
    contacts: int


class LargeIdentity(NamedTuple):
    """One of the largest identities, by its primary."""

    primary_id: int
    contacts: int
    emails: int
    phone_numbers: int


class SharedValue(NamedTuple):
    """A value, how many others it occurs with now and did before, and its identity's primary."""

    value: str
    partners: int
    partners_before: int
    primary_id: int | None

    def as_json(self, *, with_values: bool) -> dict[str, Any]:
        return {
            "value": self.value if with_values else masked(self.value),
            "partners": self.partners,
            "primary_id": self.primary_id,
        }


@dataclass(frozen=True, slots=True)
class Stored:
    """Rows that were stored: contacts, those among them that were primaries then, and merges."""

    contacts: int = 0
    new_identities: int = 0
    merges: int = 0

    @property
    def identities(self) -> int:
        return self.new_identities - self.merges

    def __add__(self, other: Stored) -> Stored:
        return Stored(
            self.contacts + other.contacts,
            self.new_identities + other.new_identities,
            self.merges + other.merges,
        )


class Growth(NamedTuple):
    """What a run has stored, and all that was stored when it ended; None if it has not ended."""

    run: Run
    stored: Stored
    graph: Stored | None

    def as_json(self) -> dict[str, Any]:
        run, graph = self.run, self.graph
        return {
            "run_id": run.id,
            "status": run.state,
            "started_at": run.started_at.isoformat(),
            "finished_at": run.finished_at.isoformat() if run.finished_at else None,
            "rows": run.rows,
            "new_contacts": self.stored.contacts,
            "new_identities": self.stored.new_identities,
            "merges": self.stored.merges,
            "contacts": None if graph is None else graph.contacts,
            "identities": None if graph is None else graph.identities,
        }


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of one snapshot.

    `pairs` are the distinct pairs of values that were ever in one request; of these, rules keep
    `held_pairs` from linking, and `merges` joined two identities. `new_hubs` are those of the
    `hubs` that were none at the time that `statistics` was asked for. `rows` are the counts of all
    runs that were not undone, and `runs` the newest of all.
    """

    taken_at: datetime
    contacts: int
    identities: int
    emails: int
    phone_numbers: int
    pairs: int
    held_pairs: int
    merges: int
    sizes: tuple[SizeClass, ...]
    largest: tuple[LargeIdentity, ...]
    hubs: int
    most_shared: tuple[SharedValue, ...]
    new_hubs: int
    most_shared_new_hubs: tuple[SharedValue, ...]
    rows: dict[str, int]
    runs: tuple[Growth, ...]

    @property
    def requests(self) -> int:
        """The rows of all imports that were not rejected."""
        return self.rows.get("read", 0) - self.rows.get("rejected", 0)

    @property
    def deduplication_rate(self) -> float | None:
        """The share of requests that did not bring a person in.

        None if the graph holds more identities than imports had requests: single requests, which
        are not counted, have stored most of it.
        """
        if self.requests < max(self.identities, 1):
            return None
        return round(1 - self.identities / self.requests, 4)

    def as_json(self, *, with_values: bool) -> dict[str, Any]:
        """Return the document of `--json`; without `with_values`, the values are masked."""
        return {
            "schema_version": SCHEMA_VERSION,
            "taken_at": self.taken_at.isoformat(),
            "contacts": self.contacts,
            "identities": self.identities,
            "values": {"emails": self.emails, "phone_numbers": self.phone_numbers},
            "evidence": {
                "pairs": self.pairs,
                "held": self.held_pairs,
                "merges": self.merges,
            },
            "sizes": [size._asdict() for size in self.sizes],
            "largest": [identity._asdict() for identity in self.largest],
            "hubs": {
                "more_than": MOST_PARTNERS,
                "count": self.hubs,
                "values": [value.as_json(with_values=with_values) for value in self.most_shared],
            },
            "deduplication": {
                "requests": self.requests,
                "contacts": self.contacts,
                "identities": self.identities,
                "rate": self.deduplication_rate,
            },
            "rows": self.rows,
            "runs": [growth.as_json() for growth in self.runs],
        }


def statistics(
    graph: Snapshot,
    *,
    top: int = 10,
    since: datetime | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Statistics:
    """Return the statistics of a snapshot, with `top` identities, shared values and runs.

    What had not happened by `since` is new; None: everything is. `on_step` is called with the name
    of each of the `STEPS` before it begins.
    """
    begin = on_step or (lambda _step: None)
    begin("contacts")
    taken_at, contacts, identities, emails, phone_numbers, shown_pairs = _one(graph, _CONTACTS)
    begin("evidence")
    other_pairs, held_pairs, merges = _one(graph, _EVIDENCE)
    begin("identities")
    sizes, largest = _sizes(graph, identities, top)
    begin("shared values")
    shared = _shared_values(graph, top, since)
    begin("runs")
    return Statistics(
        taken_at=taken_at,
        contacts=contacts,
        identities=identities,
        emails=emails,
        phone_numbers=phone_numbers,
        pairs=shown_pairs + other_pairs,
        held_pairs=held_pairs,
        merges=merges,
        sizes=sizes,
        largest=largest,
        **shared,
        rows=dict(_all(graph, _ROWS_OF_RUNS)),
        runs=_growth(graph, list_runs(graph.connection, limit=top)),
    )


def _sizes(
    graph: Snapshot, identities: int, top: int
) -> tuple[tuple[SizeClass, ...], tuple[LargeIdentity, ...]]:
    """Return the sizes of identities by powers of two, and the largest identities."""
    # By the number of bits of the size.
    counts: Counter[int] = Counter()
    members: Counter[int] = Counter()
    large = []
    for primary_id, contacts, number in _all(graph, _SIZES, {"top": top}):
        if primary_id is not None:
            large.append((primary_id, contacts))
            continue
        counts[contacts.bit_length()] += number
        members[contacts.bit_length()] += number * contacts
    counts[1] = members[1] = identities - counts.total()
    classes = (
        SizeClass(2 ** (bits - 1), 2**bits - 1, counts[bits], members[bits])
        for bits in range(1, max(counts) + 1)
    )
    primaries = {"primaries": [primary_id for primary_id, _ in large]}
    values = {key: numbers for key, *numbers in _all(graph, _VALUES_OF_IDENTITIES, primaries)}
    largest = (LargeIdentity(key, contacts, *values[key]) for key, contacts in large)
    return (
        tuple(classes) if identities else (),
        tuple(sorted(largest, key=lambda one: (-one.contacts, one.primary_id))),
    )


def _shared_values(graph: Snapshot, top: int, since: datetime | None) -> dict[str, Any]:
    """Return the fields of `Statistics` about values that others share."""
    hubs = new_hubs = 0
    listed: dict[bool, list[SharedValue]] = {False: [], True: []}
    parameters = {"top": top, "most": MOST_PARTNERS, "since": since}
    for *found, is_new in _all(graph, _SHARED_VALUES, parameters):
        if is_new is None:
            _, hubs, new_hubs, _ = found
        else:
            listed[is_new].append(SharedValue(*found))
    for values in listed.values():
        # Encoded, they are in the order of the database.
        values.sort(key=lambda one: (-one.partners, one.value.encode()))
    return {
        "hubs": hubs,
        "most_shared": tuple(listed[False]),
        "new_hubs": new_hubs,
        "most_shared_new_hubs": tuple(listed[True]),
    }


def _growth(graph: Snapshot, runs: Sequence[Run]) -> tuple[Growth, ...]:
    """Return what each run has stored, and the size of the graph at its end."""
    ends = sorted({run.finished_at for run in runs if run.finished_at is not None})
    parameters = {"ends": ends, "runs": [run.id for run in runs]}
    stored = {run.id: Stored() for run in runs}
    # What was stored before the first of the ends, before the second one, …, after the last one.
    periods = [Stored()] * (len(ends) + 1)
    for period, run_id, *numbers in _all(graph, _STORED, parameters):
        periods[period] += Stored(*numbers)
        if run_id is not None:
            stored[run_id] += Stored(*numbers)
    at_ends = dict(zip(ends, accumulate(periods), strict=False))
    return tuple(
        Growth(run, stored[run.id], at_ends[run.finished_at] if run.finished_at else None)
        for run in runs
    )


def _all(
    graph: Snapshot, query: LiteralString, parameters: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    with translated():
        return graph.connection.execute(query, parameters).fetchall()


def _one(graph: Snapshot, query: LiteralString) -> tuple[Any, ...]:
    return _all(graph, query)[0]
