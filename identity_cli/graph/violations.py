"""Violations: what is wrong with a stored graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

# How many violations of each code are listed; all are counted.
LISTED = 100


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation, by a stable code; `contact_id` is None if it is not about one contact.

    The message contains ids, never a value.
    """

    code: str
    contact_id: int | None
    message: str


class Violations:
    """The violations found so far: the first of each code, and how many there are."""

    def __init__(self) -> None:
        self.listed: list[Violation] = []
        self.counts: Counter[str] = Counter()

    def add(self, code: str, contact_id: int | None, message: str) -> None:
        self.counts[code] += 1
        if self.counts[code] <= LISTED:
            self.listed.append(Violation(code, contact_id, message))
