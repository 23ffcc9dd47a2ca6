"""How far long work is: what does the work reports it here, and what shows it derives from this."""

from __future__ import annotations

from itertools import accumulate, pairwise
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
        self._shares: dict[str, tuple[int, int]] = {}

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

        Returns a function that takes the name of each step before it begins. One that is begun
        again goes on from what is done.
        """
        self.expect(100, "percent")
        whole = sum(weights.values())
        ends = [round(100 * end / whole) for end in accumulate(weights.values(), initial=0)]
        self._shares = dict(zip(weights, pairwise(ends), strict=True))

        def begin(step: str) -> None:
            first, _ = self._shares[step]
            self.done = max(self.done, first)
            self.begin(step)

        return begin

    def part(self, step: str) -> Meter:
        """Return a meter for one of the steps; what it takes counts once the step has begun."""
        return _Part(self, step, *self._shares[step])

    def _changed(self, *, is_new_phase: bool) -> None:
        """Show a change."""


class _Part(Meter):
    """Takes reports of a step of other work, also in another thread and before its turn."""

    def __init__(self, whole: Meter, step: str, first: int, last: int) -> None:
        super().__init__()
        self.is_shown = whole.is_shown
        self._whole = whole
        self._step = step
        self._first = first
        self._last = last

    def _changed(self, *, is_new_phase: bool) -> None:  # noqa: ARG002 - both count alike
        if self.total and self._whole.phase == self._step:
            share = (self._last - self._first) * self.done // self.total
            self._whole.reach(max(self._whole.done, self._first + share))


SILENT = Meter()
