"""Requests reconciled one by one, for the identities that hubs split.

This is the rule as `reconcile.sql` and `reconcile_steered.sql` have it, for one writer, on rows in
memory: the pairs come in the order of their turns, each when it is stated first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.backfill.splits.graph import (
    OWN,
    THIS_RUN,
    Command,
    Contact,
    Evidence,
    Graph,
    Origin,
    SetAside,
)
from identity_cli.backfill.splits.rework import Rework

if TYPE_CHECKING:
    from collections.abc import Mapping

    from identity_cli.backfill.splits.graph import Pair


class Statement(NamedTuple):
    """A pair, or a value alone, in the order of its request."""

    turn: int
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the target, and what becomes of values.

    `blocked` has the blocked values with the turn at which each is stated first, `named` those that
    a rule named before that, and a pattern blocks then. `hubs` has the turn of the pair that makes
    a hub of a value.
    """

    blocked: Mapping[str, int] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    unlinked: frozenset[Pair] = frozenset()
    hubs: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Answer:
    outcome: str
    contact_id: int | None = None


class SplitReplay:
    """Replays statements on a graph."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self.graph = graph
        self._rules = rules
        self._hubs: set[str] = set()
        self._turn = 0
        self._apart: dict[str, set[str]] = {}
        for value, other in rules.unlinked:
            self._apart.setdefault(value, set()).add(other)
            self._apart.setdefault(other, set()).add(value)
        self._rework = Rework(graph, self._is_off, self._is_unlinked)

    def state(self, statement: Statement) -> str:
        """Reconcile a statement; return its outcome, as `reconcile()` does."""
        if statement.turn <= self._turn:
            raise AssertionError("the statements are not in the order of their turns")
        self._turn, left, right = statement
        if left is None or right is None:
            value = left if right is None else right
            assert value is not None  # noqa: S101 - a statement has a value
            return self._state_value(value).outcome
        return self._state_pair(left, right).outcome

    def count(self, value: str) -> None:
        """Give the values of its identity rows in `partner_count`, as a command does."""
        contact = self.graph.anchor(value)
        if contact is not None:
            self._rework.count(self.graph.members(contact.root))

    # The rules.

    def _is_off(self, value: str) -> bool:
        return value in self._hubs or value in self._rules.blocked

    def _is_unlinked(self, left: str, right: str) -> bool:
        return (left, right) in self._rules.unlinked

    def _is_stored(self, value: str) -> bool:
        """Return whether a contact was stored with a value, perhaps in another identity."""
        first = self._rules.blocked.get(value)
        return self.graph.is_stored(value) or (first is not None and first < self._turn)

    # Statements.

    def _state_value(self, value: str) -> _Answer:
        if self._is_off(value):
            if not self._is_stored(value):
                self._set_aside_new(value)
            return _Answer("blocked")
        if self.graph.anchor(value) is not None:
            return _Answer("unchanged")
        is_email = "@" in value
        return _Answer(
            "created",
            self._store(
                value if is_email else None, None if is_email else value, is_email, not is_email
            ),
        )

    def _state_pair(self, left: str, right: str) -> _Answer:
        first, second = _ordered(left, right)
        if self._is_off(left) or self._is_off(right) or self._is_unlinked(first, second):
            return self._state_apart(first, second)
        is_mixed = "@" in left and "@" not in right
        known, other = self.graph.anchor(left), self.graph.anchor(right)
        if known is not None and other is not None:
            return self._join(first, second)
        if not is_mixed:
            return self._state_alike(left, right, known, other)
        if known is None and other is None:
            return _Answer("created", self._store(left, right, True, True))
        through = known or other
        assert through is not None  # noqa: S101 - one of them is known
        stored = self._store(left, right, known is None, other is None, through.root)
        return self._after_count(_Answer("linked", stored), left, right)

    def _state_alike(
        self, left: str, right: str, known: Contact | None, other: Contact | None
    ) -> _Answer:
        """Store contacts for those of two values of a kind that are new, and join the two."""
        is_email = "@" in left
        through = known or other
        new = right if known is not None else left
        answer = _Answer(
            "created" if through is None else "linked",
            self._store(
                new if is_email else None,
                None if is_email else new,
                is_email or known is None,
                not is_email or other is None,
                None if through is None else through.root,
            ),
        )
        self._state_pair(left, right)
        return answer

    def _join(self, left: str, right: str) -> _Answer:
        """Keep a pair of two known values, and merge their identities if they are two."""
        graph = self.graph
        known, other = graph.anchor(left), graph.anchor(right)
        assert known is not None  # noqa: S101 - both are known
        assert other is not None  # noqa: S101
        if known.root == other.root:
            if (
                known.partner(left) == right
                or other.partner(right) == left
                or (left, right) in graph.evidence
            ):
                return _Answer("unchanged")
            self._attest(left, right, known.root)
            return self._after_count(_Answer("unchanged"), left, right)
        roots = (graph.contacts[known.root], graph.contacts[other.root])
        kept, gone = sorted(roots, key=lambda one: (one.origin.created, one.id))
        graph.merge(gone.id, kept.id, self._now())
        self._attest(left, right, kept.id, gone.id)
        return self._after_count(_Answer("merged"), left, right)

    def _state_apart(self, left: str, right: str) -> _Answer:
        """Reconcile each value by itself, and hold what the pair says."""
        # A pattern is looked for when the value is reconciled by itself.
        is_alone = {
            value: self._is_met_by_pattern(value)
            and (
                self._is_unlinked(left, right)
                or (self._is_off(other) and not self._is_met_by_pattern(other))
            )
            for value, other in ((left, right), (right, left))
        }
        answer = _Answer("blocked")
        if is_alone[right] or not self._is_off(right):
            answer = self._state_value(right)
        if is_alone[left] or not self._is_off(left):
            step = self._state_value(left)
            if step.outcome != "blocked":
                if step.contact_id is None and answer.contact_id is not None:
                    step = _Answer("created", answer.contact_id)
                answer = step
        return self._hold_pair(answer, left, right)

    def _is_met_by_pattern(self, value: str) -> bool:
        return value in self._rules.named and not self._is_stored(value)

    def _hold_pair(self, answer: _Answer, left: str, right: str) -> _Answer:
        graph = self.graph
        is_mixed = "@" in left and "@" not in right
        if is_mixed and answer.contact_id is not None:
            contact = graph.contacts[answer.contact_id]
            graph.put_aside(
                SetAside(
                    contact.id,
                    left,
                    right,
                    contact.email is not None or not self._is_stored(left),
                    contact.phone is not None or not self._is_stored(right),
                    contact.initial_linked_id,
                    contact.origin,
                )
            )
        else:
            if graph.is_kept(left, right):
                return answer
            is_left_stored, is_right_stored = self._is_stored(left), self._is_stored(right)
            if is_mixed and not is_left_stored and not is_right_stored:
                self._set_aside_new(left, right)
            else:
                if not is_left_stored:
                    self._set_aside_new(left)
                if not is_right_stored:
                    self._set_aside_new(right)
                self._attest(left, right, None, is_held=True)
        return self._after_count(answer, left, right)

    # Hubs.

    def _after_count(self, answer: _Answer, left: str, right: str) -> _Answer:
        """Let those of two values stop linking of which this pair makes hubs."""
        turns = self._rules.hubs
        hubs = tuple(value for value in (left, right) if turns.get(value) == self._turn)
        if not hubs:
            return answer
        self._stop(hubs)
        graph = self.graph
        found = [graph.anchor(value) for value in (left, right) if not self._is_off(value)]
        roots = list(dict.fromkeys(one.root for one in found if one is not None))
        contact_id = answer.contact_id
        if contact_id is not None and contact_id not in graph.contacts:
            contact_id = None
        outcome = answer.outcome
        if not roots:
            outcome = "blocked"
        elif contact_id == roots[0]:
            outcome = "created"
        elif contact_id is None and (outcome != "merged" or len(roots) > 1):
            outcome = "unchanged"
        return _Answer(outcome, contact_id)

    def _stop(self, hubs: tuple[str, ...]) -> None:
        graph = self.graph
        marks = (len(graph.taken), len(graph.attested))
        graph.commands.append(Command(self._turn, hubs, marks))
        self._hubs.update(hubs)
        touched = set(hubs).union(*(self._apart.get(hub, ()) for hub in hubs))
        found = [graph.anchor(value) for value in touched]
        roots = {contact.root for contact in found if contact is not None}
        self._rework.run(roots, hubs, self._turn)

    # Rows.

    def _now(self) -> int:
        return THIS_RUN + self._turn // 1024

    def _origin(self) -> Origin:
        return Origin(OWN, self._turn // 1024, self._now())

    def _store(
        self,
        email: str | None,
        phone: str | None,
        anchors_email: bool,
        anchors_phone: bool,
        root: int | None = None,
    ) -> int:
        new_id = self.graph.take_contact_id(self._turn)
        self.graph.put_contact(
            Contact(
                new_id,
                email,
                phone,
                anchors_email,
                anchors_phone,
                root,
                root,
                self._origin(),
                self._now(),
            )
        )
        return new_id

    def _set_aside_new(self, value: str, other: str | None = None) -> None:
        is_email = "@" in value
        self.graph.put_aside(
            SetAside(
                self.graph.take_contact_id(self._turn),
                value if is_email else None,
                other if is_email else value,
                is_email,
                not is_email or other is not None,
                None,
                self._origin(),
            )
        )

    def _attest(
        self,
        left: str,
        right: str,
        primary_id: int | None,
        merged_id: int | None = None,
        *,
        is_held: bool = False,
    ) -> None:
        new_id = self.graph.take_evidence_id(self._turn)
        self.graph.put_evidence(
            Evidence(new_id, left, right, primary_id, merged_id, is_held, self._origin())
        )


def _ordered(value: str, other: str) -> Pair:
    """Return two values in the order of `link_evidence`."""
    left, right = sorted((value, other), key=lambda one: ("@" not in one, one.encode()))
    return left, right
