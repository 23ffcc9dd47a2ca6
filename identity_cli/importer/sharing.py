"""Values that many rows share: a placeholder or a switchboard, which would join strangers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is remembered: values and their partners, together; and partners of one value.
_MOST_REMEMBERED = 400_000
_MOST_PARTNERS = 1_000


class SharedValue(NamedTuple):
    """A value with the number of its rows and of the distinct other values in them."""

    value: str
    rows: int
    partners: int

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(slots=True)
class _Seen:
    """What is known about a value; up to `missed` rows with it came before that."""

    missed: int
    rows: int = 0
    partners: set[str] = field(default_factory=set)


class SharingCounter:
    """Counts with how many other values each value occurs, in bounded memory.

    When too much is remembered, the values with the fewest rows are forgotten (lossy counting). A
    value that comes again may then have up to `missed` rows more than are counted, and at least
    as many partners as are counted. No more than 1,000 partners of a value are counted.
    """

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self.missed = 0
        self._most = most
        self._remembered = 0
        self._seen: dict[str, _Seen] = {}

    def add(self, values: Sequence[str]) -> None:
        """Count the values of one row."""
        for value in values:
            seen = self._seen.get(value)
            if seen is None:
                seen = self._seen[value] = _Seen(self.missed)
                self._remembered += 1
            seen.rows += 1
            before = len(seen.partners)
            if len(values) > 1 and before < _MOST_PARTNERS:
                seen.partners.update(values)
                seen.partners.discard(value)
                self._remembered += len(seen.partners) - before
        if self._remembered > self._most:
            self._forget()

    def most_shared(self, count: int, at_least: int, *, rows: int = 1) -> list[SharedValue]:
        """Return the values with the most partners, of those with `at_least` so many in `rows`."""
        shared = (
            SharedValue(value, seen.rows, min(len(seen.partners), _MOST_PARTNERS))
            for value, seen in self._seen.items()
            if seen.rows >= rows and len(seen.partners) >= at_least
        )
        return sorted(shared, key=lambda item: (-item.partners, -item.rows, item.value))[:count]

    def _forget(self) -> None:
        """Forget the values with the fewest rows until half of the memory is free."""
        by_rows = sorted(self._seen.items(), key=lambda item: item[1].rows + item[1].missed)
        for value, seen in by_rows:
            if self._remembered <= self._most // 2:
                break
            self.missed = max(self.missed, seen.rows + seen.missed)
            self._remembered -= 1 + len(seen.partners)
            del self._seen[value]
