"""Plays requests and commands against a database, and compares it with what is right."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from steered import Everything, Request, ordered

from identity_cli.graph.verify import verify

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    import psycopg

_SHOWN = """
    SELECT coalesce(linked_id, id), value
    FROM contact, LATERAL (VALUES (email), (phone_number)) AS shown (value)
    WHERE id > 0 AND value IS NOT NULL
"""
# A value without a row occurs with the one that its anchor shows beside it.
_PARTNERS = """
    SELECT value, partners FROM partner_count WHERE partners > 0
    UNION ALL
    SELECT email, 1 FROM contact WHERE anchors_email AND num_nonnulls(email, phone_number) = 2
        AND NOT EXISTS (SELECT FROM partner_count WHERE value = email)
    UNION ALL
    SELECT phone_number, 1 FROM contact
    WHERE anchors_phone AND num_nonnulls(email, phone_number) = 2
        AND NOT EXISTS (SELECT FROM partner_count WHERE value = phone_number)
"""
_PROBLEMS = {
    "a value is not anchored exactly once": """
        SELECT value FROM (
            SELECT email AS value, anchors_email AS anchors FROM contact
            UNION ALL SELECT phone_number, anchors_phone FROM contact
        ) AS carrier WHERE value IS NOT NULL
        GROUP BY value HAVING count(*) FILTER (WHERE anchors) <> 1
    """,
    "a primary is not the oldest": """
        SELECT c.id FROM contact AS c JOIN contact AS p ON p.id = c.linked_id
        WHERE (p.created_at, p.id) > (c.created_at, c.id)
    """,
    "a secondary points at no primary": """
        SELECT c.id FROM contact AS c LEFT JOIN contact AS p ON p.id = c.linked_id
        WHERE c.linked_id IS NOT NULL AND (p.id IS NULL OR p.linked_id IS NOT NULL OR p.id < 0)
    """,
    "a placeholder without a rule": """
        SELECT id FROM contact AS c WHERE id < 0
            AND NOT EXISTS (SELECT FROM blocked_value WHERE value IN (c.email, c.phone_number))
            AND NOT EXISTS (SELECT FROM unlinked_pair
                            WHERE c.email IN (value, other_value)
                               OR c.phone_number IN (value, other_value))
    """,
    "a rule without a placeholder or a contact": """
        SELECT value FROM (
            SELECT value FROM blocked_value
            UNION SELECT value FROM unlinked_pair UNION SELECT other_value FROM unlinked_pair
        ) AS named
        WHERE NOT EXISTS (SELECT FROM contact WHERE email = value AND anchors_email)
          AND NOT EXISTS (SELECT FROM contact WHERE phone_number = value AND anchors_phone)
    """,
    "a contact shows what it was not stored with": """
        SELECT c.id FROM contact AS c JOIN set_aside_contact AS s USING (id)
        WHERE c.email <> s.email OR c.phone_number <> s.phone_number
           OR (c.email, c.phone_number) IS NOT DISTINCT FROM (s.email, s.phone_number)
    """,
    "evidence is held and links, or neither": """
        SELECT e.id FROM link_evidence AS e
        WHERE is_held <> (
            EXISTS (SELECT FROM blocked_value AS b WHERE b.value IN (e.value, e.other_value))
            OR EXISTS (SELECT FROM unlinked_pair AS u
                       WHERE u.value = e.value AND u.other_value = e.other_value))
    """,
    "a pair is stored twice": """
        SELECT value, other_value FROM (
            SELECT coalesce(s.email, c.email) AS value,
                   coalesce(s.phone_number, c.phone_number) AS other_value
            FROM contact AS c FULL JOIN set_aside_contact AS s USING (id)
            WHERE coalesce(c.id, s.id) > 0
            UNION ALL SELECT value, other_value FROM link_evidence
        ) AS fact WHERE value IS NOT NULL AND other_value IS NOT NULL
        GROUP BY value, other_value HAVING count(*) > 1
    """,
}


class Player:
    """Sends steps to the database and remembers what they mean.

    `check` compares the two and raises `AssertionError`. The connection is in autocommit mode.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.truth = Everything()
        self.runs: list[int] = []
        self._time = 0

    def start_run(self) -> None:
        row = self.connection.execute(
            "INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at)"
            " VALUES ('finished', '[]', '', -1, '{}', now()) RETURNING id"
        ).fetchone()
        assert row is not None
        self.runs.append(row[0])

    def request(
        self, emails: Sequence[str], phones: Sequence[str], *, in_run: bool = False
    ) -> tuple[Any, ...]:
        """Reconcile a request, in the newest run or in none; return the database's answer."""
        run = self.runs[-1] if in_run and self.runs else None
        self._time += 1
        answer = self.connection.execute(
            "SELECT * FROM reconcile_request(%s, %s, %s, %s, %s)",
            (list(emails), list(phones), self.time(), run, None if run is None else self._time),
        ).fetchone()
        assert answer is not None
        self.truth.requests.append(Request(tuple(emails), tuple(phones), run))
        return answer

    def time(self) -> datetime:
        """Return the time of the next request."""
        return datetime.fromtimestamp(self._time, UTC)

    def block(self, values: Iterable[str]) -> None:
        wanted = sorted(set(values) - self.truth.forgotten)
        self._command("block_values(%s::text[], %s, true)", wanted)
        self.truth.blocked.update(wanted)

    def unblock(self, values: Iterable[str]) -> None:
        wanted = sorted(set(values))
        self._command("unblock_values(%s::text[], %s, by_command => true)", wanted)
        self.truth.blocked.difference_update(wanted)

    def unlink(self, value: str, other: str) -> None:
        if not {value, other} & self.truth.forgotten:
            self._command("unlink_pair(%s, %s, %s)", *ordered(value, other))
            self.truth.unlinked.add(ordered(value, other))

    def relink(self, value: str, other: str) -> None:
        self._command("relink_pair(%s, %s, %s)", *ordered(value, other))
        self.truth.unlinked.discard(ordered(value, other))

    def add_pattern(self, pattern: str) -> None:
        self._command("add_pattern(%s, %s)", pattern)
        self.truth.patterns.add(pattern)

    def remove_pattern(self, pattern: str) -> None:
        self._command("remove_pattern(%s, %s)", pattern)
        self.truth.patterns.discard(pattern)

    def limit(self, emails: int | None, phones: int | None) -> None:
        self._command("set_hub_limits(%s::integer, %s::integer, %s)", emails, phones)
        self.truth.email_limit, self.truth.phone_limit = emails, phones

    def exempt(self, value: str, *, is_exempt: bool) -> None:
        if is_exempt and value not in self.truth.forgotten:
            self._command("exempt_values(ARRAY[%s], %s, true)", value)
            self.truth.exempt.add(value)
        elif not is_exempt:
            self._command("exempt_values(ARRAY[%s], %s, false)", value)
            self.truth.exempt.discard(value)

    def undo(self) -> None:
        """Take the newest run back, if there is one."""
        if self.runs:
            run = self.runs[-1]
            self._command("undo_run(%s, %s)", run)
            self.runs.pop()
            self.truth.requests = [r for r in self.truth.requests if r.run != run]

    def forget(self, values: Iterable[str]) -> None:
        gone = set(values)
        self._command("forget_values(%s::text[], %s)", sorted(gone))
        truth = self.truth
        truth.forgotten |= gone
        truth.blocked -= gone
        truth.exempt -= gone
        truth.unlinked = {pair for pair in truth.unlinked if not gone & set(pair)}
        truth.patterns = {p for p in truth.patterns if not any(v in p for v in gone)}

    def _command(self, call: str, *arguments: object) -> None:
        with self.connection.transaction():
            self.connection.execute("LOCK TABLE steering_command IN SHARE UPDATE EXCLUSIVE MODE")
            row = self.connection.execute(
                "INSERT INTO steering_command (verb) VALUES ('test') RETURNING id"
            ).fetchone()
            assert row is not None
            self.connection.execute("SELECT " + call, (*arguments, row[0]))  # type: ignore[arg-type]

    def identities(self) -> set[frozenset[str]]:
        """Return the identities that the database shows."""
        shown: dict[int, set[str]] = {}
        for root, value in self.connection.execute(_SHOWN):
            shown.setdefault(root, set()).add(value)
        return set(map(frozenset, shown.values()))

    def check(self) -> None:
        identities, wanted = self.identities(), self.truth.identities()
        assert identities == wanted, f"{identities - wanted} instead of {wanted - identities}"
        facts = self.truth.facts()
        stated = self.connection.execute("SELECT value, other_value FROM stated_pairs()")
        pairs = {fact for fact in facts if len(fact) == 2}
        found = set(stated.fetchall())
        assert pairs == found, f"missing: {pairs - found}, never stated: {found - pairs}"
        known = self.connection.execute("""
            SELECT email FROM contact WHERE email IS NOT NULL AND id > 0
            UNION SELECT phone_number FROM contact WHERE phone_number IS NOT NULL AND id > 0
            UNION SELECT email FROM set_aside_contact WHERE email IS NOT NULL
            UNION SELECT phone_number FROM set_aside_contact WHERE phone_number IS NOT NULL
        """)
        assert {value for fact in facts for value in fact} == {value for (value,) in known}
        if (self.truth.email_limit, self.truth.phone_limit) != (None, None):
            counts = self.connection.execute(_PARTNERS)
            assert self.truth.partners() == dict(counts.fetchall())
        for problem, query in _PROBLEMS.items():
            assert self.connection.execute(query).fetchall() == [], problem  # type: ignore[arg-type]
        verified = verify(self.connection)
        assert verified.violations == ()
        assert verified.digest == self.truth.digest()


EMAILS = tuple(f"e{number}@x.org" for number in range(5))
PHONES = tuple(f"10{number}" for number in range(5))
VALUES = EMAILS + PHONES
PATTERNS = ("e[12]@x.org", "10[34]", "e0.*")

# The name of a method of `Player` and its arguments.
Step = tuple[str, tuple[Any, ...], dict[str, Any]]

_TABLES = (
    "contact, link_evidence, set_aside_contact, restatement, steering_command, contact_move,"
    " former_contact, former_evidence, block_pattern, blocked_value, unlinked_pair, hub_exemption,"
    " partner_count, forgotten_value, forget_key, import_run, normalization_profile"
)


def empty(connection: psycopg.Connection[Any]) -> None:
    """Take everything out of a database, rules too."""
    connection.execute("SET synchronous_commit = off")
    connection.execute(f"TRUNCATE {_TABLES} RESTART IDENTITY")  # type: ignore[arg-type]
    connection.execute("UPDATE link_policy SET email_limit = NULL, phone_limit = NULL")
    connection.execute("SELECT set_rules_in_force()")


def random_request(draw: random.Random) -> Step:
    emails, phones = draw.choices(
        [(1, 1), (1, 0), (0, 1), (2, 0), (0, 2), (2, 1), (1, 2), (2, 2)],
        [12, 2, 1, 1, 1, 1, 1, 1],
    )[0]
    return (
        "request",
        (draw.sample(EMAILS, emails), draw.sample(PHONES, phones)),
        {"in_run": draw.random() < 0.5},
    )


def random_rule(draw: random.Random) -> Step:
    limits = [None, 1, 2, 3]
    steps: list[Step] = [
        ("block", (draw.sample(VALUES, draw.choice([1, 1, 2])),), {}),
        ("unblock", (draw.sample(VALUES, draw.choice([1, 1, 3])),), {}),
        ("unlink", tuple(draw.sample(VALUES, 2)), {}),
        ("relink", tuple(draw.sample(VALUES, 2)), {}),
        ("limit", (draw.choice(limits), draw.choice(limits)), {}),
        ("add_pattern", (draw.choice(PATTERNS),), {}),
        ("remove_pattern", (draw.choice(PATTERNS),), {}),
        ("exempt", (draw.choice(VALUES),), {"is_exempt": draw.random() < 0.5}),
    ]
    return draw.choice(steps)


def random_script(draw: random.Random, *, forgets: bool = True) -> list[Step]:
    """Return 5 to 45 steps: requests in runs and outside of them, and every command."""
    script = []
    for _ in range(draw.randint(5, 45)):
        chance = draw.random()
        if chance < 0.45:
            script.append(random_request(draw))
        elif chance < 0.8:
            script.append(random_rule(draw))
        elif chance < 0.88:
            script.append(("start_run", (), {}))
        elif chance < 0.97 or not forgets:
            script.append(("undo", (), {}))
        else:
            script.append(("forget", ([draw.choice(VALUES)],), {}))
    return script


def play(player: Player, script: Iterable[Step]) -> None:
    """Play the steps; check after each of them."""
    for name, arguments, named in script:
        getattr(player, name)(*arguments, **named)
        player.check()
