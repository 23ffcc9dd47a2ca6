"""The progress of long work: a bar on a terminal, or JSON events for programs."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from identity_cli.meter import Meter
from identity_cli.output.pace import Pace, amount, duration, speed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ProgressMode = Literal["auto", "json", "none"]

SCHEMA_VERSION = 1

_SECONDS_BETWEEN_EVENTS = 1.0
_BAR_WIDTH = 20


@contextmanager
def progress(
    command: str, mode: ProgressMode, *, hidden: bool = False, completes: bool = True
) -> Iterator[Meter]:
    """Show how far a command is: a bar if standard error is a terminal, or events.

    `hidden` is for the bar alone: who asks for events gets them. What `completes` is all done when
    the block ends without an error.
    """
    if mode == "json":
        meter: _ShownMeter = _Events(command)
    # Rich would draw into a pipe under FORCE_COLOR.
    elif mode == "auto" and not hidden and sys.stderr.isatty():
        meter = _Bar()
    else:
        yield Meter()
        return
    with meter.shown():
        yield meter
        if completes and meter.total is not None:
            meter.reach(meter.total, rows=meter.rows)


class _ShownMeter(Meter):
    is_shown = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.started = clock()
        self.pace = Pace(self.started)
        self.row_pace = Pace(self.started)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the meter until the block ends."""
        yield

    def _changed(self, *, is_new_phase: bool) -> None:
        now = self.clock()
        self.pace.note(self.done, now)
        if self.rows is not None:
            self.row_pace.note(self.rows, now)
        self._show(now, is_new_phase=is_new_phase)

    def _show(self, now: float, *, is_new_phase: bool) -> None:
        raise NotImplementedError


class _Events(_ShownMeter):
    """Writes at most one event a second, and one at the beginning of each phase and at the end."""

    def __init__(self, command: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._command = command
        self._next_at = self.started
        self._is_pending = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._is_pending:
                self._write(self.clock())

    def _show(self, now: float, *, is_new_phase: bool) -> None:
        self._is_pending = True
        if is_new_phase or now >= self._next_at:
            self._write(now)

    def _write(self, now: float) -> None:
        self._is_pending = False
        self._next_at = now + _SECONDS_BETWEEN_EVENTS
        sys.stderr.write(f"{json.dumps(self._event(now))}\n")
        sys.stderr.flush()

    def _event(self, now: float) -> dict[str, Any]:
        event = {
            "schema_version": SCHEMA_VERSION,
            "event": "progress",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "command": self._command,
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": _rounded(self.pace.rate(now)),
            "eta": _rounded(self.pace.seconds_left(self.total, now)),
        }
        if self.rows is not None:
            event |= {"rows": self.rows, "rows_per_second": _rounded(self.row_pace.rate(now))}
        return event


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


class _Bar(_ShownMeter):
    """Draws a bar with Rich, which also redraws it ten times a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        super().__init__(clock)
        self.rich = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(_BAR_WIDTH),
            self._column(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self.rich.add_task("connecting", total=None)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self.rich:
            yield

    def _column(self) -> Any:
        from rich.progress import ProgressColumn
        from rich.text import Text

        meter = self

        class Figures(ProgressColumn):
            # Rich would keep a text for half a second.
            max_refresh = None

            def render(self, _task: object) -> Text:
                return Text(meter.figures(meter.clock()))

        return Figures()

    def figures(self, now: float) -> str:
        """Return what is beside the bar: how much is done, the rate, the time so far and left."""
        elapsed = f"{duration(now - self.started)}"
        if self.total is None and not self.done:
            return elapsed
        if self.rows is None:
            parts = [amount(self.done, self.total, self.unit)]
            parts.append(speed(self.pace.rate(now), self.unit))
        else:
            parts = [f"{self.rows:,} rows", speed(self.row_pace.rate(now), "rows")]
            if self.total is None:
                parts.append(amount(self.done, None, self.unit))
        parts.append(elapsed)
        if self.total is not None:
            parts.append(f"{duration(self.pace.seconds_left(self.total, now))} left")
        return "  ".join(parts)

    def _show(self, _now: float, *, is_new_phase: bool) -> None:
        if is_new_phase:
            self.rich.update(self._task, description=self.phase)
        self.rich.update(self._task, completed=self.done, total=self.total)
