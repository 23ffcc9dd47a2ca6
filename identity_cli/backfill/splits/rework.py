"""Identities worked out again when values become hubs, as `rework()` in `rework.sql` does.

What that function does for commands that take rules or statements away is left out: a backfill has
none of these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from identity_cli.backfill.splits.graph import (
    OWN,
    THIS_RUN,
    Contact,
    FormerContact,
    FormerEvidence,
    Move,
    Origin,
    SetAside,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from identity_cli.backfill.splits.graph import Evidence, Graph

# The rank of a contact among those that show a value, its time and its id.
_Carrier = tuple[int, int, int]


@dataclass(slots=True)
class _Fact:
    """What a contact was stored with, and what it shows of that; `before` is None if nothing."""

    id: int
    email: str | None
    phone: str | None
    anchors_email: bool
    anchors_phone: bool
    initial_linked_id: int | None
    origin: Origin
    before: Contact | None
    is_elsewhere: bool = False
    shows_email: bool = False
    shows_phone: bool = False

    def carried(self) -> Iterable[tuple[str, _Carrier]]:
        """Yield the values that it shows, with its rank among those that could anchor them."""
        before = self.before
        for value, shows, anchors, was_anchor in (
            (
                self.email,
                self.shows_email,
                self.anchors_email,
                before is not None and before.email is not None and before.anchors_email,
            ),
            (
                self.phone,
                self.shows_phone,
                self.anchors_phone,
                before is not None and before.phone is not None and before.anchors_phone,
            ),
        ):
            if value is not None and shows:
                rank = 0 if was_anchor else 1 if anchors else 2
                yield value, (rank, self.origin.created, self.id)


class Rework:
    """The rules that identities are worked out by: `is_off` and `is_unlinked` are those."""

    def __init__(
        self,
        graph: Graph,
        is_off: Callable[[str], bool],
        is_unlinked: Callable[[str, str], bool],
    ) -> None:
        self._graph = graph
        self._is_off = is_off
        self._is_unlinked = is_unlinked

    def run(self, roots: set[int], hubs: Iterable[str], turn: int) -> None:
        """Work out the identities of these primaries again, without the hubs."""
        graph = self._graph
        command = len(graph.commands) - 1
        moment = THIS_RUN + turn // 1024
        members = [member for root in sorted(roots) for member in graph.members(root)]
        area = {value for member in members for value in member.anchored} | set(hubs)
        facts = self._facts(members, area)
        pairs = {
            (one.value, one.other_value): one
            for value in area
            for one in graph.evidence_with(value)
            if one.value == value or one.is_held
        }
        labels = self._labels(area, facts, list(pairs.values()))
        self.count(members)
        for fact in facts:
            self._show(fact, labels)
        anchors = _anchors(facts)
        rows = [
            (labels[value], _as_contact(fact, anchors, moment))
            for fact in facts
            if (value := _shown_value(fact)) is not None
        ]
        made = self._made(labels, anchors, facts, pairs.values(), turn, moment)
        self._replace(facts, rows, made, command, moment)
        self._set_aside(facts)
        self._hold(pairs.values(), labels, command)

    def count(self, members: Iterable[Contact]) -> None:
        """Give values rows in `partner_count`: the contacts beside which they are may change."""
        for member in members:
            if member.email is not None and member.phone is not None:
                self._graph.counted.update(member.anchored)

    def _facts(self, members: list[Contact], area: set[str]) -> list[_Fact]:
        graph = self._graph
        facts = []
        for member in members:
            aside = graph.aside.get(member.id)
            if aside is None:
                stored = (member.email, member.phone, member.anchors_email, member.anchors_phone)
            else:
                stored = (
                    aside.email,
                    aside.phone,
                    (aside if member.email is None else member).anchors_email,
                    (aside if member.phone is None else member).anchors_phone,
                )
            facts.append(_Fact(member.id, *stored, member.initial_linked_id, member.origin, member))
        own = {member.id for member in members}
        others = {one for value in area for one in graph.aside_with(value)} - own
        facts += [
            _Fact(
                aside.id,
                aside.email,
                aside.phone,
                aside.anchors_email,
                aside.anchors_phone,
                aside.initial_linked_id,
                aside.origin,
                None,
                is_elsewhere=aside.is_elsewhere or aside.id in graph.contacts,
            )
            for aside in (graph.aside[one] for one in sorted(others))
        ]
        return facts

    def _labels(self, area: set[str], facts: list[_Fact], pairs: list[Evidence]) -> dict[str, str]:
        """Return for each value that may link a value that stands for its component."""
        links = [(fact.email, fact.phone) for fact in facts]
        links += [(pair.value, pair.other_value) for pair in pairs]
        stated = {value for link in links for value in link if value is not None}
        parents = {value: value for value in area & stated if not self._is_off(value)}

        def find(value: str) -> str:
            while (parent := parents[value]) != value:
                parents[value] = value = parents[parent]
            return value

        for left, right in links:
            if left is None or right is None or left not in parents or right not in parents:
                continue
            if not self._is_unlinked(left, right):
                parents[find(left)] = find(right)
        return {value: find(value) for value in parents}

    def _show(self, fact: _Fact, labels: dict[str, str]) -> None:
        """Let a contact show those of its values that may link, one if the two may not."""
        if fact.is_elsewhere:
            return
        has_email, has_phone = fact.email in labels, fact.phone in labels
        is_apart = (
            fact.email is not None
            and fact.phone is not None
            and self._is_unlinked(fact.email, fact.phone)
        )
        fact.shows_email = has_email and (
            not has_phone or not is_apart or fact.anchors_email or not fact.anchors_phone
        )
        fact.shows_phone = has_phone and (
            not has_email or not is_apart or (fact.anchors_phone and not fact.anchors_email)
        )

    def _made(
        self,
        labels: dict[str, str],
        anchors: dict[str, int],
        facts: list[_Fact],
        pairs: Iterable[Evidence],
        turn: int,
        moment: int,
    ) -> list[tuple[str, Contact]]:
        """Return new contacts for the values that no contact shows, as they were stated first."""
        missing = sorted(labels.keys() - anchors.keys())
        if not missing:
            return []
        origins: dict[str, Origin] = {}
        stated = [((fact.email, fact.phone), fact.origin) for fact in facts]
        stated += [((pair.value, pair.other_value), pair.origin) for pair in pairs]
        for values, origin in stated:
            for value in values:
                if value is not None:
                    earliest = origins.setdefault(value, origin)
                    if origin.created < earliest.created:
                        origins[value] = origin
        made = []
        for value in missing:
            is_email = "@" in value
            contact = Contact(
                self._graph.take_contact_id(turn),
                value if is_email else None,
                None if is_email else value,
                is_email,
                not is_email,
                None,
                None,
                origins[value],
                moment,
            )
            made.append((labels[value], contact))
        return made

    def _replace(
        self,
        facts: list[_Fact],
        rows: list[tuple[str, Contact]],
        made: list[tuple[str, Contact]],
        command: int,
        moment: int,
    ) -> None:
        """Replace the contacts that change, and keep them as they were."""
        graph = self._graph
        primaries: dict[str, tuple[int, int]] = {}
        for label, contact in (*rows, *made):
            age = (contact.origin.created, contact.id)
            primaries[label] = min(age, primaries.get(label, age))
        before = {fact.id: fact.before for fact in facts}
        changed = []
        for label, contact in rows:
            primary = primaries[label][1]
            now = replace(contact, linked_id=None if primary == contact.id else primary)
            if _differs(before[contact.id], now):
                changed.append(now)
        for label, contact in made:
            primary = primaries[label][1]
            linked = None if primary == contact.id else primary
            changed.append(replace(contact, linked_id=linked, initial_linked_id=linked))
        shown = {contact.id for _, contact in rows}
        leaving = [fact.before for fact in facts if fact.before and fact.id not in shown]
        for contact in sorted(changed, key=lambda one: one.id):
            was = before.get(contact.id)
            if was is None or was.root != contact.root:
                from_root = None if was is None else was.root
                graph.moves.append(Move(contact.id, from_root, contact.root, command))
            graph.former_contacts.append(FormerContact(contact.id, was, contact.root, command))
        for was in sorted(leaving, key=lambda one: one.id):
            graph.moves.append(Move(was.id, was.root, None, command))
            graph.former_contacts.append(FormerContact(was.id, was, None, command))
            graph.remove_contact(was.id)
        for contact in changed:
            graph.remove_contact(contact.id)
        for contact in changed:
            graph.put_contact(replace(contact, updated=moment, stored_in=OWN))

    def _set_aside(self, facts: list[_Fact]) -> None:
        """Keep what contacts no longer show, and drop what they show again."""
        graph = self._graph
        for fact in facts:
            if fact.is_elsewhere:
                continue
            if fact.shows_email == (fact.email is not None) and (
                fact.shows_phone == (fact.phone is not None)
            ):
                if fact.id in graph.aside:
                    graph.show_again(fact.id)
                continue
            known = graph.aside.get(fact.id)
            graph.put_aside(
                SetAside(
                    fact.id,
                    fact.email,
                    fact.phone,
                    fact.anchors_email,
                    fact.anchors_phone,
                    fact.initial_linked_id if known is None else known.initial_linked_id,
                    fact.origin if known is None else known.origin,
                )
            )

    def _hold(self, pairs: Iterable[Evidence], labels: dict[str, str], command: int) -> None:
        """Hold the evidence that does not link any longer."""
        for pair in pairs:
            links = (
                pair.value in labels
                and pair.other_value in labels
                and not self._is_unlinked(pair.value, pair.other_value)
            )
            if links == pair.is_held:
                root = self._graph.anchor(pair.value) if links else None
                self._graph.former_evidence.append(FormerEvidence(pair, command))
                self._graph.put_evidence(
                    replace(
                        pair,
                        is_held=not links,
                        primary_id=pair.primary_id
                        if pair.primary_id is not None or root is None
                        else root.root,
                    )
                )


def _anchors(facts: list[_Fact]) -> dict[str, int]:
    """Return the contact that anchors each value that is shown."""
    best: dict[str, _Carrier] = {}
    for fact in facts:
        for value, carrier in fact.carried():
            best[value] = min(carrier, best.get(value, carrier))
    return {value: carrier[2] for value, carrier in best.items()}


def _shown_value(fact: _Fact) -> str | None:
    """Return a value that a contact shows, None if it shows none."""
    return fact.email if fact.shows_email else fact.phone if fact.shows_phone else None


def _as_contact(fact: _Fact, anchors: dict[str, int], moment: int) -> Contact:
    """Return the row of a contact that shows something, as if it were a primary."""
    email = fact.email if fact.shows_email else None
    phone = fact.phone if fact.shows_phone else None
    return Contact(
        fact.id,
        email,
        phone,
        fact.email is None and fact.anchors_email if email is None else anchors[email] == fact.id,
        fact.phone is None and fact.anchors_phone if phone is None else anchors[phone] == fact.id,
        None,
        fact.initial_linked_id,
        fact.origin,
        moment,
    )


def _differs(before: Contact | None, now: Contact) -> bool:
    return (
        before is None
        or (before.email, before.phone, before.linked_id) != (now.email, now.phone, now.linked_id)
        or (now.email is not None and before.anchors_email != now.anchors_email)
        or (now.phone is not None and before.anchors_phone != now.anchors_phone)
    )
