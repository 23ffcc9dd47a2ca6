"""The rules that keep values from linking: what is blocked, and what is unlinked.

The rule that keeps two identities apart is found if they would be one without it. Where several
rules would have to go together, none is found.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from identity_cli.postgres.snapshot import Snapshot

# More of them explain no more.
_RULES_LISTED = 10

_BLOCKED = """
    SELECT CASE WHEN c.id IS NULL THEN 'hub' WHEN b.command_id IS NULL THEN 'pattern'
                ELSE 'blocked' END,
           ARRAY[b.value], c.id, c.ran_at, c.reason
    FROM blocked_value b
    LEFT JOIN block_pattern p ON p.id = b.pattern_id
    LEFT JOIN steering_command c ON c.id = coalesce(b.command_id, p.command_id)
    WHERE b.value = %s
"""
# Values of one identity that a rule keeps from linking are stated as they were requested: in the
# contacts that were set aside, and in evidence that is held.
_SEPARATING = """
    WITH own AS MATERIALIZED (
        SELECT coalesce(linked_id, id) AS root, email AS value FROM contact
        WHERE (id = ANY(%(primaries)s) OR linked_id = ANY(%(primaries)s)) AND email IS NOT NULL
        UNION
        SELECT coalesce(linked_id, id), phone_number FROM contact
        WHERE (id = ANY(%(primaries)s) OR linked_id = ANY(%(primaries)s))
            AND phone_number IS NOT NULL
    ),
    held AS (
        SELECT root, s.email AS value, s.phone_number AS partner
        FROM own JOIN set_aside_contact s ON s.email = own.value
        UNION
        SELECT root, s.phone_number, s.email
        FROM own JOIN set_aside_contact s ON s.phone_number = own.value
        UNION
        SELECT root, e.value, e.other_value
        FROM own JOIN link_evidence e USING (value) WHERE e.is_held
        UNION
        SELECT root, e.other_value, e.value
        FROM own JOIN link_evidence e ON e.other_value = own.value WHERE e.is_held
    ),
    rule AS (
        SELECT 'unlinked' AS kind, ARRAY[u.value, u.other_value] AS named, u.command_id
        FROM held JOIN unlinked_pair u ON u.value = held.value AND u.other_value = held.partner
        JOIN own ON own.value = held.partner AND own.root <> held.root
        UNION
        SELECT CASE WHEN coalesce(b.command_id, p.command_id) IS NULL THEN 'hub'
                    WHEN b.command_id IS NULL THEN 'pattern' ELSE 'blocked' END,
               ARRAY[b.value], coalesce(b.command_id, p.command_id)
        FROM (SELECT partner FROM held
              WHERE NOT EXISTS (SELECT FROM unlinked_pair u
                                WHERE (u.value, u.other_value) IN ((held.value, partner),
                                                                   (partner, held.value)))
              GROUP BY partner HAVING count(DISTINCT root) = 2) AS shared
        JOIN blocked_value b ON b.value = shared.partner
        LEFT JOIN block_pattern p ON p.id = b.pattern_id
    )
    SELECT kind, named, c.id, c.ran_at, c.reason
    FROM rule LEFT JOIN steering_command c ON c.id = rule.command_id
    ORDER BY c.id NULLS LAST, named LIMIT %(listed)s
"""


class Rule(NamedTuple):
    """A rule, the value that is blocked or the two that are unlinked, and the command.

    A hub has no command: the policy made the rule when the value was seen with too many others.
    """

    kind: Literal["blocked", "pattern", "hub", "unlinked"]
    values: Sequence[str]
    command_id: int | None
    time: datetime | None
    reason: str | None

    @property
    def effect(self) -> str:
        """What the rule did, without the values."""
        if self.kind == "hub":
            return "was seen with more others than the policy allows"
        done = {"blocked": "was blocked", "pattern": "is blocked by a pattern"}
        return f"{done.get(self.kind, 'was unlinked')} (command {self.command_id})"

    def as_json(self) -> dict[str, Any]:
        """Return the document of the rule."""
        return {
            "kind": self.kind,
            "values": list(self.values),
            "command_id": self.command_id,
            "time": None if self.time is None else self.time.isoformat(),
            "reason": self.reason,
        }


def blocking_rule(graph: Snapshot, value: str) -> Rule | None:
    """Return why a value links nobody; None if it is not blocked."""
    row = graph.connection.execute(_BLOCKED, (value,)).fetchone()
    return None if row is None else Rule(*row)


def separating_rules(graph: Snapshot, primary_id: int, other_primary_id: int) -> tuple[Rule, ...]:
    """Return rules of which the removal of any one would join two identities, the oldest first.

    Costs the size of both identities.
    """
    parameters = {"primaries": [primary_id, other_primary_id], "listed": _RULES_LISTED}
    return tuple(starmap(Rule, graph.rows(_SEPARATING, parameters)))
