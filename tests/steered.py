"""The identities from scratch: everything that was requested, and the rules as they are now.

Nothing here is derived step by step, so the order of requests and rules cannot matter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from typing import NamedTuple

# A value alone, or two that occurred in one request.
Fact = tuple[str, ...]


class Request(NamedTuple):
    """The values of a request, and the run that stated it (None: a command, HTTP)."""

    emails: tuple[str, ...]
    phones: tuple[str, ...]
    run: int | None = None


def ordered(value: str, other: str) -> tuple[str, str]:
    """Return two values in the order of the stored evidence."""
    left, right = sorted((value, other), key=lambda each: ("@" not in each, each))
    return left, right


@dataclass
class Everything:
    """All requests that were not undone, and all rules."""

    requests: list[Request] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    unlinked: set[tuple[str, str]] = field(default_factory=set)
    email_limit: int | None = None
    phone_limit: int | None = None
    exempt: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)

    def facts(self) -> set[Fact]:
        """Return what was stated, without the forgotten values."""
        found: set[Fact] = set()
        for request in self.requests:
            values = [v for v in (*request.emails, *request.phones) if v not in self.forgotten]
            if len(values) == 1:
                found.add((values[0],))
            found.update(ordered(*pair) for pair in combinations(values, 2))
        return found

    def partners(self) -> dict[str, int]:
        """Return with how many others each value was stated."""
        found: defaultdict[str, int] = defaultdict(int)
        for fact in self.facts():
            if len(fact) == 2:
                for value in fact:
                    found[value] += 1
        return dict(found)

    def off(self) -> set[str]:
        """Return the values that were stated and link nobody."""
        partners = self.partners()

        def is_off(value: str) -> bool:
            limit = self.email_limit if "@" in value else self.phone_limit
            is_hub = limit is not None and partners.get(value, 0) > limit
            return (
                value in self.blocked
                or any(re.fullmatch(pattern, value) for pattern in self.patterns)
                or (is_hub and value not in self.exempt)
            )

        return {value for fact in self.facts() for value in fact if is_off(value)}

    def identities(self) -> set[frozenset[str]]:
        """Return the connected components of what links."""
        off = self.off()
        beside: dict[str, set[str]] = {}
        for fact in self.facts():
            linking = [value for value in fact if value not in off]
            for value in linking:
                beside.setdefault(value, set())
            if len(linking) == 2 and fact not in self.unlinked:
                left, right = linking
                beside[left].add(right)
                beside[right].add(left)
        found = set()
        while beside:
            reached: set[str] = set()
            border = {next(iter(beside))}
            while border:
                reached |= border
                border = set().union(*(beside[value] for value in border)) - reached
            for value in reached:
                del beside[value]
            found.add(frozenset(reached))
        return found

    def digest(self) -> str:
        """Return the digest that `verify` prints for these identities."""
        digests = sorted(
            sha256(
                "\n".join(
                    sorted(("email:" if "@" in value else "phone:") + value for value in identity)
                ).encode()
            ).hexdigest()
            for identity in self.identities()
        )
        return "sha256:" + sha256("\n".join(digests).encode()).hexdigest()
