"""The times of a run's requests: by the server's clock, and rising with the lines.

They decide who is the oldest, so they must not depend on kills or on the number of connections.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.postgres.clock import ServerClock


class RunClock:
    """Dates a run's requests by their run lines.

    Lines are dated in segments: from a segment's first line on, each line is a microsecond after
    the one before it. A segment begins with a checkpoint, which stores it before the first of its
    requests is sent; a run that was killed therefore dates every line again as it did before.
    """

    def __init__(self, clock: ServerClock, segments: list[tuple[int, int]] | None = None) -> None:
        self._clock = clock
        self.segments = list(segments or ())
        self._first_line, self._base_us = self.segments[-1] if self.segments else (0, 0)
        self.started_at = datetime.fromtimestamp(clock.now_us() / 1_000_000, UTC)

    def time_us(self, run_line: int) -> int:
        """Return the time of a request, in microseconds since 1970."""
        if run_line >= self._first_line:
            return self._base_us + run_line - self._first_line
        first_line, base_us = next(s for s in reversed(self.segments) if s[0] <= run_line)
        return base_us + run_line - first_line

    def times_us(self, run_lines: Sequence[int]) -> list[int]:
        """Return the times of requests in the order of their lines."""
        if run_lines and run_lines[0] >= self._first_line:
            offset = self._base_us - self._first_line
            return [offset + run_line for run_line in run_lines]
        return list(map(self.time_us, run_lines))

    def lag_us(self, run_line: int) -> int:
        """Return how long ago the time is that a line would be given now."""
        return self._clock.now_us() - self.time_us(run_line)

    def advance(self, next_line: int) -> None:
        """Begin a segment with the next line: it gets the present time, or follows the last one."""
        now_us = self._clock.now_us()
        if self.segments:
            now_us = max(now_us, self.time_us(next_line))
        if self.segments and self.segments[-1][0] == next_line:
            self.segments.pop()
        self.segments.append((next_line, now_us))
        self._first_line, self._base_us = next_line, now_us

    def forget_before(self, run_line: int) -> None:
        """Drop the segments that date only lines before this one."""
        while len(self.segments) > 1 and self.segments[1][0] <= run_line:
            del self.segments[0]
