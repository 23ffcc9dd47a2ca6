"""The rule in plain Python, and what makes a graph right: what the database is compared with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_T = TypeVar("_T")

# An email and a phone number, of which one may be missing, or two of a kind.
Pair = tuple[str | None, str | None]


class Answer(NamedTuple):
    """As the service's `Outcome`."""

    name: str
    primary_id: int
    contact_id: int | None
    contact_ids: tuple[int, ...] = ()


class Row(NamedTuple):
    """A contact as a reader of the table sees it."""

    id: int
    email: str | None
    phone: str | None
    linked_id: int | None
    precedence: str


class Evidence(NamedTuple):
    value: str
    other_value: str
    primary_id: int
    merged_id: int | None


@dataclass(frozen=True, slots=True)
class _Contact:
    id: int
    at: int
    email: str | None
    phone: str | None


@dataclass(eq=False, slots=True)
class _Identity:
    contacts: list[_Contact]
    oldest: _Contact


@dataclass
class Model:
    """Identities are heaps of contacts; whom a contact links to is worked out, never stored."""

    _of_value: dict[tuple[str, str], _Identity] = field(default_factory=dict)
    _of_contact: list[_Identity] = field(default_factory=list)
    _brought_in_by: dict[tuple[str, str], _Contact] = field(default_factory=dict)
    _contacts: list[_Contact] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    pairs: set[Pair] = field(default_factory=set)
    requests: int = 0

    def reconcile(self, email: str | None, phone: str | None, *, at: int | None = None) -> Answer:
        """One request; `at` is its time, by default its number."""
        return self.reconcile_request(_present(email), _present(phone), at=at)

    def reconcile_request(
        self, emails: Sequence[str], phones: Sequence[str], *, at: int | None = None
    ) -> Answer:
        """One request of any number of values."""
        if not emails and not phones:
            raise ValueError("a request needs an email or a phone number")
        self.requests += 1
        at = self.requests if at is None else at
        answers = [self._reconcile_pair(pair, at) for pair in pairs_of(emails, phones)]
        names = {answer.name for answer in answers}
        stored = [id_ for one in answers for id_ in one.contact_ids or _present(one.contact_id)]
        return Answer(
            next(name for name in ("created", "merged", "linked", "unchanged") if name in names),
            answers[-1].primary_id,
            stored[0] if stored else None,
            tuple(stored) if len(stored) > 1 else (),
        )

    def _reconcile_pair(self, pair: Pair, at: int) -> Answer:
        values = _values(*pair)
        is_alike = len(values) == 2 and values[0][0] == values[1][0]
        kept_as = in_order(pair)
        pair_is_new = kept_as not in self.pairs
        self.pairs.add(kept_as)
        if is_alike:
            # A contact has room for one of them: each that is unknown gets a contact of its own.
            unknown = [value for value in values if value not in self._of_value]
            if unknown:
                return self._link_alike(kept_as, unknown, at)
        email, phone = kept_as
        known = [self._of_value[value] for value in values if value in self._of_value]
        if not known:
            contact = self._store(email, phone, at, None)
            return Answer("created", contact.id, contact.id)
        if known[0] is not known[-1]:
            kept, gave_way = sorted((identity.oldest for identity in known), key=_age)
            self._unite(*known)
            self.evidence.append(Evidence(email or "", phone or "", kept.id, gave_way.id))
            return Answer("merged", kept.id, None)
        primary = known[0].oldest
        if len(known) < len(values):
            # No newcomer is older than the contact that it is linked through.
            through = next(self._brought_in_by[v] for v in values if v in self._brought_in_by)
            contact = self._store(email, phone, max(at, through.at), known[0])
            return Answer("linked", primary.id, contact.id)
        if pair_is_new and len(values) == 2:
            self.evidence.append(Evidence(email or "", phone or "", primary.id, None))
        return Answer("unchanged", primary.id, None)

    def _link_alike(self, pair: Pair, unknown: list[tuple[str, str]], at: int) -> Answer:
        stored = []
        for kind, value in unknown:
            through = next(
                (self._brought_in_by[v] for v in _values(*pair) if v in self._of_value), None
            )
            contact = self._store(
                value if kind == "email" else None,
                value if kind == "phone" else None,
                at if through is None else max(at, through.at),
                None if through is None else self._of_contact[through.id - 1],
            )
            stored.append(contact.id)
        primary = self._of_contact[stored[-1] - 1].oldest
        self.evidence.append(Evidence(pair[0] or "", pair[1] or "", primary.id, None))
        if len(stored) == 2:
            return Answer("created", primary.id, stored[0], tuple(stored))
        return Answer("linked", primary.id, stored[0])

    def _store(
        self, email: str | None, phone: str | None, at: int, identity: _Identity | None
    ) -> _Contact:
        contact = _Contact(len(self._contacts) + 1, at, email, phone)
        self._contacts.append(contact)
        if identity is None:
            identity = _Identity([], contact)
        identity.contacts.append(contact)
        self._of_contact.append(identity)
        for value in _values(email, phone):
            self._of_value[value] = identity
            self._brought_in_by.setdefault(value, contact)
        return contact

    def _unite(self, one: _Identity, other: _Identity) -> None:
        small, large = sorted((one, other), key=lambda identity: len(identity.contacts))
        for contact in small.contacts:
            self._of_contact[contact.id - 1] = large
            for value in _values(contact.email, contact.phone):
                self._of_value[value] = large
        large.contacts += small.contacts
        large.oldest = min(small.oldest, large.oldest, key=_age)

    def primaries(self) -> dict[int, int]:
        """The primary of every contact."""
        return {
            contact.id: identity.oldest.id
            for contact, identity in zip(self._contacts, self._of_contact, strict=True)
        }

    def rows(self) -> list[Row]:
        """The contact rows in the order of their ids."""
        return [
            Row(c.id, c.email, c.phone, None, "primary")
            if identity.oldest is c
            else Row(c.id, c.email, c.phone, identity.oldest.id, "secondary")
            for c, identity in zip(self._contacts, self._of_contact, strict=True)
        ]

    def consolidated(self, contact_id: int) -> dict[str, object]:
        """The consolidated contact of the identity of a contact, as the protocol has it."""
        contacts = sorted(self._of_contact[contact_id - 1].contacts, key=_age)
        return {
            "primaryContatctId": contacts[0].id,
            "emails": _distinct(contact.email for contact in contacts),
            "phoneNumbers": _distinct(contact.phone for contact in contacts),
            "secondaryContactIds": [contact.id for contact in contacts[1:]],
        }

    def partition(self) -> set[frozenset[str]]:
        """Who is who: the values of each identity, as `email:VALUE` and `phone:VALUE`."""
        return {
            frozenset(
                ":".join(value)
                for contact in identity.contacts
                for value in _values(contact.email, contact.phone)
            )
            for identity in set(self._of_contact)
        }


def pairs_of(emails: Sequence[str], phones: Sequence[str]) -> list[Pair]:
    """The pairs of a request in the order in which they are reconciled; or its only value."""
    if len(emails) + len(phones) == 1:
        return [(emails[0], None) if emails else (None, phones[0])]
    return [*product(emails, phones), *combinations(emails, 2), *combinations(phones, 2)]


def in_order(pair: Pair) -> Pair:
    """The pair as evidence holds it: two of a kind by their bytes."""
    one, other = pair
    if one is None or other is None or ("@" in one) != ("@" in other):
        return pair
    first, second = sorted((one, other), key=str.encode)
    return first, second


def _present(value: _T | None) -> list[_T]:
    return [] if value is None else [value]


def _values(*values: str | None) -> list[tuple[str, str]]:
    return [("email" if "@" in v else "phone", v) for v in values if v is not None]


def _age(contact: _Contact) -> tuple[int, int]:
    return contact.at, contact.id


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))


def components(pairs: Iterable[Pair]) -> set[frozenset[str]]:
    """The connected components of the graph whose edges are the pairs, by flooding it."""
    neighbours: dict[str, set[str]] = {}
    for pair in pairs:
        nodes = [":".join(value) for value in _values(*pair)]
        for node in nodes:
            neighbours.setdefault(node, set()).update(nodes)
    found: set[frozenset[str]] = set()
    unseen = set(neighbours)
    while unseen:
        reached: set[str] = set()
        border = {unseen.pop()}
        while border:
            reached |= border
            border = set().union(*(neighbours[node] for node in border)) - reached
        unseen -= reached
        found.add(frozenset(reached))
    return found


def stored_partition(rows: Iterable[Row]) -> set[frozenset[str]]:
    """Who is who by the links of stored rows."""
    identities: dict[int, set[str]] = {}
    for row in rows:
        values = identities.setdefault(row.linked_id or row.id, set())
        values.update(":".join(value) for value in _values(row.email, row.phone))
    return set(map(frozenset, identities.values()))


def problems(
    rows: list[Row], evidence: list[Evidence], oldest_first: list[int] | None = None
) -> list[str]:
    """What is wrong with a stored graph; by default the ids are in the order of age."""
    found: list[str] = []
    by_id = {row.id: row for row in rows}
    age = {id_: place for place, id_ in enumerate(oldest_first or sorted(by_id))}
    owners: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        primary = row.linked_id or row.id
        if (row.precedence == "primary") != (row.linked_id is None):
            found.append(f"contact {row.id} is {row.precedence} with link {row.linked_id}")
        if primary not in by_id or by_id[primary].linked_id is not None:
            found.append(f"contact {row.id} does not point at a primary")
        elif age[primary] > age[row.id]:
            found.append(f"contact {row.id} is older than its primary {primary}")
        for value in _values(row.email, row.phone):
            owners.setdefault(value, set()).add(primary)
    found += [f"{value} leads to {ids}" for value, ids in owners.items() if len(ids) > 1]
    pairs: list[Pair] = [(row.email, row.phone) for row in rows]
    pairs += [(item.value, item.other_value) for item in evidence]
    found += [f"{item} is not in order" for item in evidence if in_order(item[:2]) != item[:2]]
    found += [f"{pair} is kept twice" for pair, times in Counter(pairs).items() if times > 1]
    if components(pairs) != stored_partition(rows):
        found.append("the evidence connects other identities than the links")
    merged = Counter(item.merged_id for item in evidence if item.merged_id is not None)
    found += [f"{one} gave way twice" for one, times in merged.items() if times > 1]
    gave_way = {row.id for row in rows if row.linked_id is not None}
    found += [f"{one} gave way and is no secondary" for one in merged if one not in gave_way]
    return found
