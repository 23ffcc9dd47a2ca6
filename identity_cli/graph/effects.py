"""What the rules of a database do to values and requests, without writing anything."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from psycopg import errors as pg

from identity_cli.errors import PermissionDeniedError
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import psycopg

    from identity_cli.graph.normalize import ContactRequest

# A value that is known has been compared with the patterns.
_BLOCKED = """
    SELECT own.value FROM unnest(%s::text[]) AS own (value)
    WHERE EXISTS (SELECT FROM blocked_value AS b WHERE b.value = own.value)
       OR EXISTS (SELECT FROM block_pattern WHERE own.value ~ whole_value(pattern))
"""
_RULES = """
    SELECT value, rule FROM (
        SELECT own.value, CASE
            WHEN b.value IS NULL THEN replace(rule_for_new_value(own.value), 'blocked', 'pattern')
            WHEN b.pattern_id IS NOT NULL THEN 'pattern'
            ELSE 'blocked'
        END AS rule
        FROM unnest(%s::text[]) AS own (value)
        LEFT JOIN blocked_value AS b ON b.value = own.value
    ) AS found
    WHERE rule IS NOT NULL
"""
_UNLINKED = "SELECT value, other_value FROM unlinked_pair WHERE value = ANY (%s)"


def find_blocked(connection: psycopg.Connection[Any], values: Collection[str]) -> set[str]:
    """Return those of the values that are blocked: named, by a pattern, or as hubs.

    The values are new ones, or such that no contact shows. Raises driver errors.
    """
    rows = connection.execute(_BLOCKED, (list(values),))
    return {value for (value,) in rows}


class EffectCounter:
    """Counts what the rules of a database would do to requests.

    Rows are counted by what becomes of them, values each time that they occur. Values that would
    become hubs meanwhile are not foreseen.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._rows = dict.fromkeys(
            ("blocked", "with_blocked_value", "forgotten", "with_forgotten_value", "unlinked"), 0
        )
        self._values = dict.fromkeys(("blocked", "pattern", "forgotten"), 0)

    def add(self, requests: Sequence[ContactRequest]) -> None:
        """Count requests. Raises `DatabaseError`, and `PermissionDeniedError` for a reader."""
        listed = [(*request.emails, *request.phones) for request in requests]
        distinct = sorted({value for values in listed for value in values})
        with translated():
            try:
                rules = dict(self._connection.execute(_RULES, (distinct,)).fetchall())
            except pg.InsufficientPrivilege as error:
                # A role that only reads must not find out by trial what was forgotten.
                raise PermissionDeniedError(
                    "this role may not look up which values were forgotten",
                    hint="let the owner of the database run: identity db grant ROLE",
                ) from error
            pairs = set(self._connection.execute(_UNLINKED, (distinct,)).fetchall())
        if not rules and not pairs:
            return
        for values in listed:
            self._add(values, [rules.get(value) for value in values], pairs)

    def _add(
        self, values: Sequence[str], rules: Sequence[str | None], pairs: set[tuple[str, str]]
    ) -> None:
        rows = self._rows
        for rule in rules:
            if rule is not None:
                self._values[rule] += 1
        has_blocked = any(rule in ("blocked", "pattern") for rule in rules)
        has_forgotten = "forgotten" in rules
        if None not in rules:
            # What is forgotten is dropped first.
            rows["blocked" if has_blocked else "forgotten"] += 1
        rows["with_blocked_value"] += has_blocked
        rows["with_forgotten_value"] += has_forgotten
        linking = [value for value, rule in zip(values, rules, strict=True) if rule is None]
        rows["unlinked"] += any(
            pair in pairs or pair[::-1] in pairs for pair in combinations(linking, 2)
        )

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return the counts of rows and of values."""
        return {"rows": dict(self._rows), "values": dict(self._values)}
