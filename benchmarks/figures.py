"""Figures: what was measured, what it is held against, and whether the goal is reached."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """Pairs of (measured, reference), each taken one right after the other.

    The ratio is the median of the pairs' ratios: what slows the machine down for a while slows
    both of a pair. `at_most` turns the goal around.
    """

    name: str
    pairs: Sequence[tuple[float, float]]
    goal: float
    unit: str
    at_most: bool = False

    @property
    def ratio(self) -> float:
        return median(measured / reference for measured, reference in self.pairs)

    @property
    def spread(self) -> str:
        ratios = [measured / reference for measured, reference in self.pairs]
        return f"{_short(min(ratios))} to {_short(max(ratios))}"

    @property
    def reached(self) -> bool:
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def show(*figures: Figure) -> None:
    """Print the table; behind each ratio the least and the greatest of its pairs."""
    width = max(len(figure.name) for figure in figures) + 2
    print(
        f"{'':{width}}{'measured':>12}{'reference':>12}  {'':12}{'ratio':>8}"
        f"{'spread':>17}{'goal':>9}  reached"
    )
    for figure in figures:
        measured = median(pair[0] for pair in figure.pairs)
        reference = median(pair[1] for pair in figure.pairs)
        goal = f"{'≤' if figure.at_most else '≥'} {figure.goal:g}"
        print(
            f"{figure.name:{width}}{_short(measured):>12}{_short(reference):>12}  {figure.unit:12}"
            f"{_short(figure.ratio):>8}{figure.spread:>17}{goal:>9}"
            f"  {'yes' if figure.reached else 'no'}",
            flush=True,
        )


def note(text: str) -> None:
    """A line of its own, about a round or a setting."""
    print(f"  {text}", flush=True)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
