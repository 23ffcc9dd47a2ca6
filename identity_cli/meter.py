"""How far long work is: what does the work reports it here, and what shows it derives from this."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Meter:
    """Takes reports of how far work is, and shows nothing.

    `is_shown` is whether it is worth finding out how much work there is. `phase` names what is
    being done, `done` and `total` are in the `unit`, and `total` is None if it is not known. `rows`
    are those that were read, where the unit is another one.
    """

    is_shown = False

    def __init__(self) -> None:
        self.phase = ""
        self.done = 0
        self.total: int | None = None
        self.unit = "steps"
        self.rows: int | None = None

    def expect(self, total: int | None, unit: str) -> None:
        """Note how much work there is."""
        self.total, self.unit = total, unit

    def begin(self, phase: str) -> None:
        """Begin a phase; the one before it has ended."""
        self.phase = phase
        self._changed(is_new_phase=True)

    def advance(self, count: int) -> None:
        """Add to what is done."""
        self.reach(self.done + count)

    def reach(self, done: int, *, rows: int | None = None) -> None:
        """Note what is done altogether. More than the total means that there was more to do."""
        self.done, self.rows = done, rows
        if self.total is not None and done > self.total:
            self.total = done
        self._changed(is_new_phase=False)

    def read(self, offset: int, total: int | None, rows: int) -> None:
        """Note how many bytes of the inputs were read, of how many, and how many rows."""
        self.expect(total, "bytes")
        self.reach(offset, rows=rows)

    def steps(self, weights: Mapping[str, int]) -> Callable[[str], None]:
        """Expect steps, by their share of the time.

        Returns a function that takes the name of each step before it begins.
        """
        self.expect(100, "percent")
        whole = sum(weights.values())
        shares = (round(100 * share / whole) for share in accumulate(weights.values(), initial=0))
        done_before = dict(zip(weights, shares, strict=False))

        def begin(step: str) -> None:
            self.done = done_before[step]
            self.begin(step)

        return begin

    def _changed(self, *, is_new_phase: bool) -> None:
        """Show a change."""


SILENT = Meter()
