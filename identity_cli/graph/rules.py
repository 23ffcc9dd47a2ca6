"""The commands that block values, unlink pairs and limit hubs, as `Steering` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from psycopg import errors as pg

from identity_cli.errors import RuleNotFoundError, UsageError
from identity_cli.graph.paths import joining_path
from identity_cli.graph.steering import CommandLog, Effect
from identity_cli.graph.values import NamedValue, distinct, in_pair_order

if TYPE_CHECKING:
    from collections.abc import Sequence

HubLimit = Literal["hub-limit-email", "hub-limit-phone"]

_FORGOTTEN = """
    SELECT min(place) FROM unnest(%s::text[]) WITH ORDINALITY AS named (value, place)
    WHERE EXISTS (SELECT FROM forgotten_value) AND rule_for_new_value(value) = 'forgotten'
"""
_BLOCKED = """
    SELECT value, b.command_id IS NOT NULL, pattern, is_hub
    FROM blocked_value AS b LEFT JOIN block_pattern AS p ON p.id = b.pattern_id
    WHERE value = ANY (%s)
"""
_COUNT_BLOCKED = "SELECT count(*) FROM blocked_value"
_PATTERN_MATCHES = """
    SELECT count(b.value)
    FROM block_pattern AS p LEFT JOIN blocked_value AS b ON b.pattern_id = p.id
    WHERE pattern = %s GROUP BY p.id
"""
_ARE_STATED = """
    SELECT EXISTS (SELECT FROM link_evidence WHERE value = %(left)s AND other_value = %(right)s)
        OR EXISTS (SELECT FROM set_aside_contact
                   WHERE email = %(left)s AND phone_number = %(right)s)
        OR EXISTS (
            SELECT FROM contact WHERE email = %(left)s AND phone_number = %(right)s AND id > 0)
"""
_PAIR = "SELECT FROM unlinked_pair WHERE value = %s AND other_value = %s"


@dataclass(frozen=True, slots=True)
class Block:
    """Block values, and every value that a regular expression matches as a whole."""

    values: tuple[NamedValue, ...] = ()
    patterns: tuple[str, ...] = ()
    reason: str | None = None
    name: str = "block"

    def run(self, log: CommandLog) -> Effect:
        """Write one entry for each distinct reason, and one for each pattern."""
        values = distinct(self.values)
        refuse_forgotten(log, values)
        before = {row[0]: row[1] for row in log.rows(_BLOCKED, [one.value for one in values])}
        [(blocked_before,)] = log.rows(_COUNT_BLOCKED)
        notes = []
        if known := sum(before.values()):
            notes.append(f"{_counted(known, 'value is', 'values are')} blocked already")
        by_reason: dict[str | None, list[str]] = {}
        for named in values:
            if not before.get(named.value):
                by_reason.setdefault(named.reason or self.reason, []).append(named.value)
        for reason, of_values in by_reason.items():
            command = log.enter(
                "block", detail=_counted(len(of_values), "value", "values"), reason=reason
            )
            log.rows("SELECT block_values(%s::text[], %s, true)", of_values, command)
        for pattern in self.patterns:
            notes += self._block_pattern(log, pattern)
        [(blocked_now,)] = log.rows(_COUNT_BLOCKED)
        return Effect(
            tuple(notes),
            {
                "values": [one.value for one in values],
                "patterns": list(self.patterns),
                "stop_linking": blocked_now - blocked_before,
            },
        )

    def _block_pattern(self, log: CommandLog, pattern: str) -> list[str]:
        if log.rows(_PATTERN_MATCHES, pattern):
            return [f"the pattern {pattern!r} is blocked already"]
        command = log.enter("block", detail="pattern", reason=self.reason)
        try:
            log.rows("SELECT add_pattern(%s, %s)", pattern, command)
        except pg.InvalidRegularExpression as error:
            raise UsageError(
                f"--matching {pattern!r}: {error.diag.message_primary}",
                hint="write a regular expression of PostgreSQL, such as 'info@.*', without options"
                " such as (?i): it has to match the whole value, and emails are in lower case",
            ) from error
        [(matches,)] = log.rows(_PATTERN_MATCHES, pattern)
        return [] if matches else [f"the pattern {pattern!r} matches no value so far"]


@dataclass(frozen=True, slots=True)
class Unblock:
    """Take values and patterns back that were blocked by a command."""

    values: tuple[NamedValue, ...] = ()
    patterns: tuple[str, ...] = ()
    reason: str | None = None
    name: str = "unblock"

    def run(self, log: CommandLog) -> Effect:
        """Write one entry for the values and one for each pattern.

        Raises `RuleNotFoundError` if none of them is blocked by a command.
        """
        values = [one.value for one in distinct(self.values)]
        blocked = [row[0] for row in log.rows(_BLOCKED, values) if row[1]]
        [(blocked_before,)] = log.rows(_COUNT_BLOCKED)
        patterns = [one for one in self.patterns if log.rows(_PATTERN_MATCHES, one)]
        if blocked:
            command = log.enter(
                "unblock", detail=_counted(len(blocked), "value", "values"), reason=self.reason
            )
            log.rows("SELECT unblock_values(%s::text[], %s, by_command => true)", blocked, command)
        for pattern in patterns:
            command = log.enter("unblock", detail="pattern", reason=self.reason)
            log.rows("SELECT remove_pattern(%s, %s)", pattern, command)
        notes = self._notes(log, values, was_blocked=set(blocked))
        notes += [
            f"the pattern {one!r} is not blocked" for one in self.patterns if one not in patterns
        ]
        if not blocked and not patterns:
            raise RuleNotFoundError(
                "; ".join(notes) or "nothing is blocked",
                hint="identity block --list shows what is blocked, and by what",
            )
        [(blocked_now,)] = log.rows(_COUNT_BLOCKED)
        return Effect(
            tuple(notes),
            {
                "values": blocked,
                "patterns": patterns,
                "link_again": blocked_before - blocked_now,
            },
        )

    def _notes(self, log: CommandLog, values: list[str], *, was_blocked: set[str]) -> list[str]:
        """Return why some of the values are still blocked, or were not blocked at all."""
        remaining = log.rows(_BLOCKED, values)
        notes = []
        not_blocked = len(set(values) - was_blocked - {row[0] for row in remaining})
        if not_blocked:
            notes.append(f"{_counted(not_blocked, 'value is', 'values are')} not blocked")
        for pattern in sorted({row[2] for row in remaining if row[2] is not None}):
            count = sum(row[2] == pattern for row in remaining)
            notes.append(
                f"{_counted(count, 'value is', 'values are')} blocked by the pattern {pattern!r}:"
                " use --matching to unblock it"
            )
        if hubs := sum(row[3] for row in remaining):
            notes.append(
                f"{_counted(hubs, 'value is a hub', 'values are hubs')} by the policy:"
                " use identity policy allow"
            )
        return notes


@dataclass(frozen=True, slots=True)
class Unlink:
    """Keep two values from linking with each other."""

    value: NamedValue
    other_value: NamedValue
    reason: str | None = None
    name: str = "unlink"

    def run(self, log: CommandLog) -> Effect:
        """Store the rule, and find the path that still joins the two."""
        refuse_forgotten(log, [self.value, self.other_value])
        left, right = _pair(self.value, self.other_value)
        notes = []
        if log.rows(_PAIR, left, right):
            notes.append("this pair is unlinked already")
        else:
            command = log.enter("unlink", detail="pair", reason=self.reason)
            log.rows("SELECT unlink_pair(%s, %s, %s)", left, right, command)
        [(are_stated,)] = log.connection.execute(
            _ARE_STATED, {"left": left, "right": right}
        ).fetchall()
        if not are_stated:
            notes.append("these two were never stated together; the rule waits for such a request")
        path = joining_path(log.connection, self.value.value, self.other_value.value)
        if path:
            notes.append(
                "another path still joins the two: identity unlink A B --cut proposes the fewest"
                " pairs that separate them"
            )
        return Effect(
            tuple(notes),
            {"values": [self.value.value, self.other_value.value]},
            tuple(path),
        )


@dataclass(frozen=True, slots=True)
class Relink:
    """Let two values link with each other again."""

    value: NamedValue
    other_value: NamedValue
    reason: str | None = None
    name: str = "relink"

    def run(self, log: CommandLog) -> Effect:
        """Remove the rule. Raises `RuleNotFoundError` if the pair is not unlinked."""
        left, right = _pair(self.value, self.other_value)
        if not log.rows(_PAIR, left, right):
            raise RuleNotFoundError(
                "this pair is not unlinked", hint="identity unlink --list shows the pairs that are"
            )
        command = log.enter("relink", detail="pair", reason=self.reason)
        log.rows("SELECT relink_pair(%s, %s, %s)", left, right, command)
        return Effect(details={"values": [self.value.value, self.other_value.value]})


@dataclass(frozen=True, slots=True)
class SetHubLimits:
    """Set limits of the policy; a limit that is not named stays as it is, None is no limit."""

    limits: tuple[tuple[HubLimit, int | None], ...]
    reason: str | None = None
    name: str = "policy set"

    def run(self, log: CommandLog) -> Effect:
        """Count the partners of all values anew, and stop and release hubs."""
        [(emails, phones)] = log.rows("SELECT email_limit, phone_limit FROM link_policy")
        wanted = {"hub-limit-email": emails, "hub-limit-phone": phones, **dict(self.limits)}
        detail = ", ".join(
            f"{name} {'off' if limit is None else limit}" for name, limit in self.limits
        )
        command = log.enter("policy", detail=detail, reason=self.reason)
        log.rows(
            "SELECT set_hub_limits(%s, %s, %s)",
            wanted["hub-limit-email"],
            wanted["hub-limit-phone"],
            command,
        )
        [(hubs,)] = log.rows("SELECT count(*) FROM blocked_value WHERE is_hub")
        return Effect(
            details={
                "hub_limit_email": wanted["hub-limit-email"],
                "hub_limit_phone": wanted["hub-limit-phone"],
                "hubs": hubs,
            }
        )


@dataclass(frozen=True, slots=True)
class Exempt:
    """Let values link whatever the limits say, or let the limits apply to them again."""

    values: tuple[NamedValue, ...]
    is_exempt: bool
    reason: str | None = None

    @property
    def name(self) -> str:
        """The command as the user types it."""
        return "policy allow" if self.is_exempt else "policy disallow"

    def run(self, log: CommandLog) -> Effect:
        """Write one entry. Raises `RuleNotFoundError` if no value to disallow was allowed."""
        named = distinct(self.values)
        values = [one.value for one in named]
        if self.is_exempt:
            refuse_forgotten(log, named)
        known = {
            row[0]
            for row in log.rows("SELECT value FROM hub_exemption WHERE value = ANY (%s)", values)
        }
        notes = []
        if self.is_exempt and known:
            notes.append(f"{_counted(len(known), 'value is', 'values are')} allowed already")
        if not self.is_exempt and not known:
            raise RuleNotFoundError(
                "the policy does not allow this value: it has no exemption to take back",
                hint="identity policy show lists the values that it allows",
            )
        wanted = [value for value in values if (value in known) != self.is_exempt]
        if wanted:
            command = log.enter(
                "allow" if self.is_exempt else "disallow",
                detail=_counted(len(wanted), "value", "values"),
                reason=self.reason,
            )
            log.rows("SELECT exempt_values(%s::text[], %s, %s)", wanted, command, self.is_exempt)
        return Effect(tuple(notes), {"values": values})


def refuse_forgotten(log: CommandLog, values: Sequence[NamedValue]) -> None:
    """Raise `UsageError` if one of the values was forgotten: a rule would hold it again."""
    [(place,)] = log.rows(_FORGOTTEN, [one.value for one in values])
    if place is None:
        return
    where = values[place - 1].place or f"value {place}"
    raise UsageError(
        f"{where} was forgotten: a rule would store it again",
        hint="leave it out: a forgotten value is dropped from every request",
    )


def _pair(value: NamedValue, other_value: NamedValue) -> tuple[str, str]:
    if value.value == other_value.value:
        raise UsageError(
            "both values are the same after normalisation", hint="name two different values"
        )
    return in_pair_order(value.value, other_value.value)


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"
