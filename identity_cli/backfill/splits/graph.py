"""Rows of the identities that hubs split, in memory: what `replay.py` reconciles into.

New contacts and new evidence are numbered from `FIRST_NEW` on; they get their ids afterwards, when
what all others have stored is counted, too. Times are microseconds since 1970 for what the target
holds, and lines of this run from `THIS_RUN` on: then a later one is always greater.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

FIRST_NEW = 1 << 60
THIS_RUN = 1 << 61
# In place of a run and of a transaction: those of this backfill.
OWN = -1

Pair = tuple[str, str]


class Origin(NamedTuple):
    """Who has stated something: the run and its line, and when."""

    run: int | None
    line: int | None
    created: int


@dataclass(frozen=True, slots=True)
class Contact:
    """A row of `contact`."""

    id: int
    email: str | None
    phone: str | None
    anchors_email: bool
    anchors_phone: bool
    linked_id: int | None
    initial_linked_id: int | None
    origin: Origin
    updated: int
    stored_in: int | None = OWN

    @property
    def root(self) -> int:
        """The primary of its identity."""
        return self.id if self.linked_id is None else self.linked_id

    @property
    def anchored(self) -> list[str]:
        """The values that it shows and anchors."""
        shown = ((self.email, self.anchors_email), (self.phone, self.anchors_phone))
        return [value for value, anchors in shown if value is not None and anchors]

    def partner(self, value: str) -> str | None:
        """Return the value that it shows beside another one."""
        return self.phone if value == self.email else self.email


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row of `set_aside_contact`; `is_elsewhere` if its contact is in an identity not loaded."""

    id: int
    email: str | None
    phone: str | None
    anchors_email: bool
    anchors_phone: bool
    initial_linked_id: int | None
    origin: Origin
    is_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A row of `link_evidence`."""

    id: int
    value: str
    other_value: str
    primary_id: int | None
    merged_id: int | None
    is_held: bool
    origin: Origin
    stored_in: int | None = OWN


class Command(NamedTuple):
    """Values that have become hubs at one moment, and how many ids were taken before.

    `marks` counts the contacts and the evidence of the identities that are replayed.
    """

    turn: int
    hubs: tuple[str, ...]
    marks: tuple[int, int]


class FormerContact(NamedTuple):
    """A contact before a command, None if none was shown, and its primary afterwards."""

    contact_id: int
    before: Contact | None
    next_primary_id: int | None
    command: int


class FormerEvidence(NamedTuple):
    """Evidence before a command."""

    before: Evidence
    command: int


class Move(NamedTuple):
    """A contact that a command has moved."""

    contact_id: int
    from_primary_id: int | None
    to_primary_id: int | None
    command: int


@dataclass(slots=True)
class Graph:
    """The rows, and what has become of them.

    `evidence` is by its pair. `taken` and `attested` have the turns at which contacts and evidence
    took their ids. `counted` are the values that got a row in `partner_count` by a command.
    """

    contacts: dict[int, Contact] = field(default_factory=dict)
    aside: dict[int, SetAside] = field(default_factory=dict)
    evidence: dict[Pair, Evidence] = field(default_factory=dict)
    taken: list[int] = field(default_factory=list)
    attested: list[int] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    former_contacts: list[FormerContact] = field(default_factory=list)
    former_evidence: list[FormerEvidence] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    counted: set[str] = field(default_factory=set)
    # The indexes.
    _anchors: dict[str, int] = field(default_factory=dict)
    _members: dict[int, set[int]] = field(default_factory=dict)
    _aside_by_value: dict[str, set[int]] = field(default_factory=dict)
    _aside_pairs: set[tuple[str | None, str | None]] = field(default_factory=set)
    _evidence_by_value: dict[str, set[Pair]] = field(default_factory=dict)

    def anchor(self, value: str | None) -> Contact | None:
        """Return the contact that anchors a value, if there is one."""
        found = None if value is None else self._anchors.get(value)
        return None if found is None else self.contacts[found]

    def members(self, root: int) -> list[Contact]:
        """Return the contacts of an identity."""
        return [self.contacts[member] for member in self._members.get(root, ())]

    def aside_with(self, value: str) -> set[int]:
        """Return the ids of what is set aside with a value."""
        return self._aside_by_value.get(value, set())

    def evidence_with(self, value: str) -> list[Evidence]:
        """Return the evidence of a value."""
        return [self.evidence[pair] for pair in self._evidence_by_value.get(value, ())]

    def is_stored(self, value: str) -> bool:
        """Return whether a contact was stored with a value, as `is_stored()` does."""
        return value in self._anchors or bool(self._aside_by_value.get(value))

    def is_kept(self, left: str, right: str) -> bool:
        """Return whether a pair is evidence or set aside."""
        return (left, right) in self.evidence or (left, right) in self._aside_pairs

    def take_contact_id(self, turn: int) -> int:
        """Return the next id of a contact."""
        self.taken.append(turn)
        return FIRST_NEW + len(self.taken) - 1

    def take_evidence_id(self, turn: int) -> int:
        """Return the next id of evidence."""
        self.attested.append(turn)
        return FIRST_NEW + len(self.attested) - 1

    def put_contact(self, contact: Contact) -> None:
        """Store a contact, in place of the one with its id."""
        self.remove_contact(contact.id)
        self.contacts[contact.id] = contact
        self._members.setdefault(contact.root, set()).add(contact.id)
        for value in contact.anchored:
            self._anchors[value] = contact.id

    def remove_contact(self, contact_id: int) -> None:
        """Remove a contact, if there is one."""
        before = self.contacts.pop(contact_id, None)
        if before is None:
            return
        self._members[before.root].discard(contact_id)
        for value in before.anchored:
            if self._anchors.get(value) == contact_id:
                del self._anchors[value]

    def merge(self, gone: int, kept: int, moved_at: int) -> None:
        """Link the contacts of an identity to the primary of another one."""
        moving = self._members.pop(gone)
        for member in moving:
            self.contacts[member] = replace(self.contacts[member], linked_id=kept, updated=moved_at)
        self._members[kept] |= moving

    def put_aside(self, row: SetAside) -> None:
        """Set a contact aside, in place of what is set aside with its id."""
        self.aside[row.id] = row
        self._aside_pairs.add((row.email, row.phone))
        for value in (row.email, row.phone):
            if value is not None:
                self._aside_by_value.setdefault(value, set()).add(row.id)

    def show_again(self, contact_id: int) -> None:
        """Remove what is set aside of a contact."""
        row = self.aside.pop(contact_id)
        self._aside_pairs.discard((row.email, row.phone))
        for value in (row.email, row.phone):
            if value is not None:
                self._aside_by_value[value].discard(contact_id)

    def put_evidence(self, row: Evidence) -> None:
        """Store evidence, in place of that of its pair."""
        pair = (row.value, row.other_value)
        self.evidence[pair] = row
        for value in pair:
            self._evidence_by_value.setdefault(value, set()).add(pair)
