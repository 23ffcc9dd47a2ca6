"""Windows: some hundreds of rows of one input, read and normalised in one go."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from identity_cli.errors import InputUnreadableError, InvalidRequestError, ResumeError
from identity_cli.graph.normalize import ContactRequest
from identity_cli.graph.service import RunRequest
from identity_cli.importer.formats import open_reader
from identity_cli.importer.lanes import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.graph.service import Outcome
    from identity_cli.importer.formats import InputOptions, Reader, Row
    from identity_cli.importer.runs import Checkpoint
    from identity_cli.importer.source import Source

# What a window may hold, in characters.
_MOST_CHARACTERS = 1 << 21
# What a row takes besides its text, in bytes.
_ROW_WEIGHT = 500


@dataclass(slots=True)
class Window:
    """Rows with their requests or what is wrong with them, and how far the input was read.

    `first_line` is the number of lines in the inputs before this one, `rows_done` how many rows of
    the input are done with this window, `clock` the time of line 0 in microseconds since 1970.
    `answers` are known before they are asked for: what a run that broke off had stored already.
    """

    input: int
    first_line: int
    rows_done: int
    clock: int
    rows: list[tuple[Row, ContactRequest | InvalidRequestError]] = field(default_factory=list)
    requests: list[RunRequest] = field(default_factory=list)
    position: tuple[int, str] = (0, "")
    characters: int = 0
    answers: dict[int, Outcome] = field(default_factory=dict)
    ticket: Ticket = field(default_factory=lambda: Ticket(0))
    marks: tuple[int, int] = (0, 0)

    @property
    def weight(self) -> int:
        """What it takes in memory, in bytes more or less."""
        return self.characters + _ROW_WEIGHT * len(self.rows)

    @property
    def last_line(self) -> int:
        return self.first_line + self.rows[-1][0].line


class StopRequestedError(Exception):
    """The run is to end between two rows: raised in the reader when it waits for input."""


class StopSwitch:
    """Asked between windows whether to stop; entered around a read that may wait."""

    def __init__(self) -> None:
        self.requested = False
        self._reading = False

    def request(self) -> None:
        """For a signal handler: stop soon, and at once where the reader waits for input."""
        self.requested = True
        if self._reading:
            raise StopRequestedError

    def __enter__(self) -> None:
        self._reading = True
        if self.requested:
            self._reading = False
            raise StopRequestedError

    def __exit__(self, *_: object) -> None:
        self._reading = False


class WindowReader:
    """The windows of all inputs, in order.

    `opened` is called with an input's index and its reader when that input is begun.
    """

    def __init__(
        self,
        sources: list[Source],
        options: InputOptions,
        *,
        region: str | None,
        opened: Callable[[int, Reader], None],
    ) -> None:
        self._sources = sources
        self._options = options
        self._region = region
        self._opened = opened
        self._clock = 0
        # Rows in the next window; goes with the number of lanes.
        self.size = 1

    def windows(self, start: Checkpoint) -> Iterator[Window]:
        """From the row after the checkpoint on.

        Raises `InputUnreadableError`, `StopRequestedError`, and `ResumeError` when a pipe does not
        bring what it brought before the checkpoint.
        """
        first_line = start.first_line
        self._clock = start.clock
        for index in range(start.input, len(self._sources)):
            source = self._sources[index]
            reader = open_reader(source, self._options)
            self._opened(index, reader)
            rows = reader.rows()
            done = _skip(rows, source, start) if index == start.input else 0
            while True:
                # Times go up with the lines and never back: they decide who is the oldest.
                now = time.time_ns() // 1000 - first_line - reader.line
                self._clock = max(self._clock, now)
                window = Window(index, first_line, done, self._clock)
                broken = self._fill(window, rows, reader)
                if window.rows:
                    done = window.rows_done
                    window.position = source.position
                    yield window
                if broken is not None:
                    raise broken
                if not window.rows:
                    break
            first_line += reader.line

    def _fill(
        self, window: Window, rows: Iterator[Row], reader: Reader
    ) -> InputUnreadableError | None:
        """Read rows into the window; what ends the reading is returned, not to lose them."""
        before = reader.characters
        broken = None
        try:
            for row in islice(rows, self.size):
                self._take(window, row)
                if reader.characters - before > _MOST_CHARACTERS:
                    break
        except InputUnreadableError as error:
            broken = error
        window.characters = reader.characters - before
        reader.take_digest_input()  # held by the reader until it is taken
        window.rows_done += len(window.rows)
        return broken

    def _take(self, window: Window, row: Row) -> None:
        problem = row.problem
        if problem is None:
            try:
                request = ContactRequest(row.email, row.phone, region=self._region)
            except InvalidRequestError as error:
                # Its traceback would hold this frame, which holds the error: a cycle for each row.
                problem = error.with_traceback(None)
            else:
                line = window.first_line + row.line
                window.rows.append((row, request))
                window.requests.append(RunRequest(request, line, window.clock + line))
                return
        window.rows.append((row, problem))


def _skip(rows: Iterator[Row], source: Source, start: Checkpoint) -> int:
    """Pass over the rows that the checkpoint has; what a pipe brings must be the same."""
    skipped = sum(1 for _ in islice(rows, start.rows))
    if (
        source.size is None
        and start.rows
        and (
            skipped < start.rows
            or (source.offset >= start.position[0] and source.position != start.position)
        )
    ):
        raise ResumeError(
            f"{source.name} does not begin as it did in the run that broke off",
            hint="give it the same rows again, or read from the top with --restart",
        )
    return skipped
