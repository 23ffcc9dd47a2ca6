"""Paths to values inside nested objects: `traits.email`, `emails[].address`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Path:
    """A path to values inside an object.

    `[]` is every element of an array; an array that a path passes through without it is taken the
    same way. A key that is named exactly like the path, or like the rest of it, wins over a path.
    """

    text: str
    # At each level: the rest of the path as it is written, and the key of this level.
    _levels: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        levels = []
        rest = self.text
        while rest:
            key, _, below = rest.partition(".")
            while key.endswith("[]"):
                key = key[:-2]
            levels.append((rest, key))
            rest = below
        object.__setattr__(self, "_levels", tuple(levels))

    def values(self, value: object) -> list[object] | None:
        """Return the values at this path, elements of arrays one by one; None if it is not there.

        What is neither an object nor an array at the end of the path is a value, and so is an
        object.
        """
        found: list[object] = []
        return found if self._collect(value, 0, found) else None

    def _collect(self, value: object, level: int, found: list[object]) -> bool:
        if type(value) is list:
            # Every element counts: any() would leave out those behind the first.
            seen = [self._collect(element, level, found) for element in value]
            return any(seen) or (not seen and level == len(self._levels))
        if level == len(self._levels):
            found.append(value)
            return True
        if type(value) is not dict:
            return False
        rest, key = self._levels[level]
        if rest in value:
            return self._collect(value[rest], len(self._levels), found)
        return key in value and self._collect(value[key], level + 1, found)
