"""Hubs: values that many others share, such as a switchboard's number, which join strangers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import LiteralString

    import psycopg

# With how many others a value may occur before it is a hub.
MOST_PARTNERS = 20
_MOST_NAMED = 100

# Only identities that have grown since the marks are looked at, and of these only the large ones: a
# contact has two values at most, so a hub's identity has half as many contacts as the hub partners.
# All of a hub's partners are in its identity, so the evidence is found by the identity's values.
_LARGE = """
    grown AS (
        SELECT linked_id AS root FROM contact WHERE id > %(contact_id)s AND linked_id IS NOT NULL
        UNION
        SELECT coalesce(c.linked_id, c.id)
        FROM link_evidence e JOIN contact c ON c.id = e.primary_id
        WHERE e.id > %(evidence_id)s AND NOT e.is_held
    ),
    large AS MATERIALIZED (
        SELECT root FROM grown
        WHERE EXISTS (SELECT FROM contact WHERE linked_id = root OFFSET %(most)s / 2 - 1)
    )
"""
# The same by reading all contacts once: faster if most of them are new.
_LARGE_OF_ALL = """
    large AS MATERIALIZED (
        SELECT root FROM (
            SELECT linked_id AS root, max(id) AS newest FROM contact WHERE linked_id IS NOT NULL
            GROUP BY linked_id HAVING count(*) >= %(most)s / 2
        ) AS identity
        WHERE newest > %(contact_id)s OR root IN (
            SELECT coalesce(c.linked_id, c.id)
            FROM link_evidence e JOIN contact c ON c.id = e.primary_id
            WHERE e.id > %(evidence_id)s AND NOT e.is_held
        )
    )
"""
_MORE_MEMORY = """
    SELECT set_config('work_mem', '64MB', true)
    WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB')
"""
_HUBS = """
    WITH {large},
    member AS MATERIALIZED (
        SELECT root, email, phone_number FROM large JOIN contact ON id = root
        UNION ALL
        SELECT root, email, phone_number FROM large JOIN contact ON linked_id = root
    ),
    pair AS (
        SELECT email AS value, phone_number AS partner FROM member
        WHERE email IS NOT NULL AND phone_number IS NOT NULL
        UNION
        SELECT e.value, e.other_value
        FROM (SELECT email AS value FROM member UNION SELECT phone_number FROM member) AS own
        JOIN link_evidence e USING (value)
        WHERE NOT e.is_held
    ),
    hub AS (
        SELECT value, count(*) AS partners
        FROM (SELECT value, partner FROM pair UNION ALL SELECT partner, value FROM pair) AS ways
        GROUP BY value HAVING count(*) > %(most)s
    )
    SELECT (SELECT count(*) FROM hub),
           (SELECT count(*) FROM member GROUP BY root ORDER BY count(*) DESC LIMIT 1),
           ARRAY(SELECT value FROM hub ORDER BY partners DESC, value LIMIT %(named)s),
           ARRAY(SELECT partners FROM hub ORDER BY partners DESC, value LIMIT %(named)s)
"""


class Hub(NamedTuple):
    """A value, and how many others it occurred with."""

    value: str
    partners: int


@dataclass(frozen=True, slots=True)
class Hubs:
    """The hubs of the identities that have grown.

    `count` is the number of all, `named` are those with the most partners. `largest_identity` is
    the number of contacts of the largest of these identities, 0 if none is large.
    """

    count: int
    largest_identity: int
    named: tuple[Hub, ...]

    @property
    def more_than(self) -> int:
        """The number of others that a hub exceeds."""
        return MOST_PARTNERS

    def as_json(self, *, with_values: bool) -> dict[str, Any]:
        """Return the document of a summary; the values are personal data."""
        document: dict[str, Any] = {
            "more_than": self.more_than,
            "count": self.count,
            "largest_identity": self.largest_identity,
        }
        if with_values and self.named:
            document["values"] = [hub._asdict() for hub in self.named]
        return document


def find_hubs(
    connection: psycopg.Connection[Any], marks: tuple[int, int], *, reads_all: bool = False
) -> Hubs:
    """Return the hubs of the identities that have grown since ids of contacts and evidence.

    Costs the size of what was stored since, and of the large identities among that. If it
    `reads_all`, it costs the number of all contacts, but much less for each. Raises driver errors
    as they are.
    """
    large: LiteralString = _LARGE_OF_ALL if reads_all else _LARGE
    parameters = {
        "contact_id": marks[0],
        "evidence_id": marks[1],
        "most": MOST_PARTNERS,
        "named": _MOST_NAMED,
    }
    with connection.transaction():
        if reads_all:
            connection.execute(_MORE_MEMORY)
        row = connection.execute(_HUBS.replace("{large}", large), parameters).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
    count, largest, values, partners = row
    return Hubs(count, largest or 0, tuple(map(Hub, values, partners)))
