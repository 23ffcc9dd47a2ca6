"""How fast work goes and how long the rest of it takes, in numbers and in words."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

# Work may become slower as a table grows: what was long ago does not count.
_WINDOW_SECONDS = 30.0
_BETWEEN_SAMPLES_SECONDS = 1.0
# Of fewer steps, a share in percent would pretend to know more than it does.
_FEW = 100
_UNITS_OF_BYTES = ("bytes", "kB", "MB", "GB", "TB")


class Pace:
    """The rate of the last half minute, and the time left; times are in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._samples = deque([(now, 0)])
        self._done = 0

    def note(self, done: int, now: float) -> None:
        """Note what is done altogether."""
        if done == self._done:
            return
        self._done = done
        if now - self._samples[-1][0] >= _BETWEEN_SAMPLES_SECONDS:
            self._samples.append((now, done))
        # The first sample is the last one from before the window.
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW_SECONDS:
            self._samples.popleft()

    def rate(self, now: float) -> float | None:
        """Return how much is done in a second, None while nothing is done."""
        time, done = self._samples[0]
        if done == self._done:  # a step that takes longer than the window
            time, done = self._started, 0
        if now <= time or self._done == done:
            return None
        return (self._done - done) / (now - time)

    def seconds_left(self, total: int | None, now: float) -> float | None:
        """Return how long the rest takes at this rate, None if that cannot be known."""
        if total is None:
            return None
        if self._done >= total:
            return 0.0
        rate = self.rate(now)
        return None if rate is None else (total - self._done) / rate


def amount(done: int, total: int | None, unit: str) -> str:
    """Return how much is done as text."""
    if total is None:
        return _bytes(done) if unit == "bytes" else f"{done:,} {unit}"
    if total < _FEW:
        return f"{done}/{total} {unit}"
    return f"{done * 100 // total}%"


def speed(rate: float | None, unit: str) -> str:
    """Return a rate as text."""
    if rate is None:
        return "-"
    if unit == "percent":
        return f"{rate:.1f}%/s"
    if unit == "bytes":
        return f"{_bytes(round(rate))}/s"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def duration(seconds: float | None) -> str:
    """Return hours, minutes and seconds as text."""
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


def _bytes(number: int) -> str:
    amount = float(number)
    for unit in _UNITS_OF_BYTES:
        if amount < 1000 or unit == _UNITS_OF_BYTES[-1]:
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
