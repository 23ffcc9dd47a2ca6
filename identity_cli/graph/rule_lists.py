"""The rules that are in force, with who made them, when and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

_BLOCKED = """
    SELECT b.value, p.pattern, b.is_hub, n.partners, b.command_id IS NOT NULL,
           s.id, s.reason, s.role_name, s.ran_at
    FROM blocked_value AS b
    LEFT JOIN block_pattern AS p ON p.id = b.pattern_id
    LEFT JOIN partner_count AS n ON b.is_hub AND n.value = b.value
    LEFT JOIN steering_command AS s ON s.id = coalesce(b.command_id, p.command_id)
    ORDER BY s.id NULLS LAST, b.value
"""
_PATTERNS = """
    SELECT p.pattern, (SELECT count(*) FROM blocked_value WHERE pattern_id = p.id),
           s.id, s.reason, s.role_name, s.ran_at
    FROM block_pattern AS p LEFT JOIN steering_command AS s ON s.id = p.command_id
    ORDER BY p.id
"""
_PAIRS = """
    SELECT u.value, u.other_value, s.id, s.reason, s.role_name, s.ran_at
    FROM unlinked_pair AS u LEFT JOIN steering_command AS s ON s.id = u.command_id
    ORDER BY s.id, u.value, u.other_value
"""
_POLICY = """
    SELECT email_limit, phone_limit,
           (SELECT count(*) FROM blocked_value WHERE is_hub AND strpos(value, '@') > 0),
           (SELECT count(*) FROM blocked_value WHERE is_hub AND strpos(value, '@') = 0)
    FROM link_policy
"""
_EXEMPTIONS = """
    SELECT h.value, s.id, s.reason, s.role_name, s.ran_at
    FROM hub_exemption AS h LEFT JOIN steering_command AS s ON s.id = h.command_id
    ORDER BY s.id, h.value
"""


class Author(NamedTuple):
    """The command that made a rule; each part is None for a rule that no command made."""

    command_id: int | None
    reason: str | None
    role: str | None
    at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the author's part of a rule's document."""
        return {
            "command_id": self.command_id,
            "reason": self.reason,
            "role": self.role,
            "at": None if self.at is None else self.at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class BlockedValue:
    """A value that links nobody: by a command, by a pattern, as a hub with `partners` others."""

    value: str
    pattern: str | None
    is_hub: bool
    partners: int | None
    by_command: bool
    author: Author

    @property
    def causes(self) -> tuple[str, ...]:
        """What keeps it from linking; each is removed by a command of its own."""
        causes = {
            "value": self.by_command,
            "pattern": self.pattern is not None,
            "hub": self.is_hub,
        }
        return tuple(name for name, holds in causes.items() if holds)

    def as_json(self) -> dict[str, Any]:
        """Return the document of the value."""
        return {
            "value": self.value,
            "blocked_by": list(self.causes),
            "pattern": self.pattern,
            "partners": self.partners,
            **self.author.as_json(),
        }


@dataclass(frozen=True, slots=True)
class BlockPattern:
    """A pattern, and how many values it blocks now."""

    pattern: str
    values: int
    author: Author

    def as_json(self) -> dict[str, Any]:
        """Return the document of the pattern."""
        return {"pattern": self.pattern, "values": self.values, **self.author.as_json()}


@dataclass(frozen=True, slots=True)
class UnlinkedPair:
    """Two values that do not link with each other."""

    value: str
    other_value: str
    author: Author

    def as_json(self) -> dict[str, Any]:
        """Return the document of the pair."""
        return {"value": self.value, "other_value": self.other_value, **self.author.as_json()}


@dataclass(frozen=True, slots=True)
class AllowedValue:
    """A value that links whatever the limits say."""

    value: str
    author: Author

    def as_json(self) -> dict[str, Any]:
        """Return the document of the value."""
        return {"value": self.value, **self.author.as_json()}


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits, None if there is none, how many values they stop, and what they spare."""

    email_limit: int | None
    phone_limit: int | None
    email_hubs: int
    phone_hubs: int
    allowed: tuple[AllowedValue, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the document of the policy."""
        return {
            "schema_version": 1,
            "hub_limit_email": self.email_limit,
            "hub_limit_phone": self.phone_limit,
            "hubs": {"email": self.email_hubs, "phone": self.phone_hubs},
            "allowed": [one.as_json() for one in self.allowed],
        }


def list_blocked(
    connection: psycopg.Connection[Any],
) -> tuple[list[BlockedValue], list[BlockPattern]]:
    """Return the blocked values and the patterns, oldest first."""
    with translated():
        values = connection.execute(_BLOCKED).fetchall()
        patterns = connection.execute(_PATTERNS).fetchall()
    return (
        [
            BlockedValue(value, pattern, is_hub, partners, by_command, Author(*author))
            for value, pattern, is_hub, partners, by_command, *author in values
        ],
        [BlockPattern(pattern, count, Author(*author)) for pattern, count, *author in patterns],
    )


def list_unlinked(connection: psycopg.Connection[Any]) -> list[UnlinkedPair]:
    """Return the unlinked pairs, oldest first."""
    with translated():
        rows = connection.execute(_PAIRS).fetchall()
    return [UnlinkedPair(value, other, Author(*author)) for value, other, *author in rows]


def read_policy(connection: psycopg.Connection[Any]) -> Policy:
    """Return the policy that is in force."""
    with translated():
        row = connection.execute(_POLICY).fetchone()
        allowed = connection.execute(_EXEMPTIONS).fetchall()
    assert row is not None  # noqa: S101 - the table has one row
    email_limit, phone_limit, email_hubs, phone_hubs = row
    return Policy(
        email_limit,
        phone_limit,
        email_hubs,
        phone_hubs,
        tuple(AllowedValue(value, Author(*author)) for value, *author in allowed),
    )
