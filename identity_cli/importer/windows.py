"""Windows: some hundreds of rows of one input, read and normalised in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from identity_cli.errors import InputUnreadableError
from identity_cli.graph.batches import RequestColumns
from identity_cli.importer.digest import InputDigest
from identity_cli.importer.formats import open_reader
from identity_cli.importer.lanes import Ticket
from identity_cli.importer.row_requests import read_values
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_cli.errors import InvalidRequestError
    from identity_cli.graph.normalize import Normalizer
    from identity_cli.importer.checkpoints import Checkpoint
    from identity_cli.importer.clock import RunClock
    from identity_cli.importer.formats import Reader, Row
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.stop import StopSwitch

# What a window may hold, in characters.
_MOST_CHARACTERS = 1 << 21
# What a row takes besides its text, in bytes.
_ROW_WEIGHT = 500
# After so many rows a comparison reports how far it is.
_REPORT_EVERY = 10_000


@dataclass(slots=True)
class Window:
    """Rows of one input and their requests.

    `problems` has what is wrong with a row, by its index. Such a row has a request if it was read
    without the values that are wrong; `skipped` has the indexes of those without one.

    `lines_before` is the number of lines in the inputs before this one; with a row's line added it
    is the row's run line, which is counted through all inputs. `milestones` say how far the inputs
    had been read at the window's end. `local_phones` counts rows with a number without a country
    code if there is no region to add one.
    """

    input: int
    lines_before: int
    rows: list[Row] = field(default_factory=list)
    problems: dict[int, InvalidRequestError] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    requests: RequestColumns = field(default_factory=RequestColumns)
    milestones: list[tuple[int, str]] = field(default_factory=list)
    local_phones: int = 0
    characters: int = 0
    ticket: Ticket = field(default_factory=lambda: Ticket(0))
    marks: tuple[int, int] = (0, 0)

    @property
    def weight(self) -> int:
        """The memory that it takes, in bytes, roughly."""
        return self.characters + _ROW_WEIGHT * len(self.rows)

    @property
    def first_run_line(self) -> int:
        return self.lines_before + self.rows[0].line

    @property
    def last_run_line(self) -> int:
        return self.lines_before + self.rows[-1].line


class WindowReader:
    """Reads the inputs one after the other and hands their rows on in windows.

    The inputs may first be compared with what an interrupted run has read (`skip_to`); `read` then
    continues behind it, or from the beginning after `start_over`. `size` is the number of rows in
    a window, `offset` the number of bytes read so far, `first_lines` the number of lines before
    each input that was begun. `on_compared` is called now and then with the number of rows that
    were compared.
    """

    def __init__(self, plan: ImportPlan, switch: StopSwitch) -> None:
        self.size = 1
        self.first_lines: list[int] = []
        self.on_compared: Callable[[int], None] = lambda _rows: None
        self._plan = plan
        self._switch = switch
        self._digest = InputDigest(plan.reading_options())
        # Kept from the comparison, as their beginnings cannot be read twice.
        self._pipes: dict[int, Source] = {}
        self._is_comparing = False
        self._on_idle: Callable[[bool], None] | None = None
        self._start()

    def _start(self) -> None:
        self.first_lines.clear()
        self._digest.restart()
        self._source: Source | None = None
        self._reader: Reader | None = None
        self._rows: Iterator[Row] = iter(())
        self._rows_read = 0
        self._bytes_before = 0
        self._last_run_line = 0
        self._window: Window | None = None
        # A mapped key that some row has had is not missing.
        self._missing_keys: set[str] | None = None

    @property
    def offset(self) -> int:
        return self._bytes_before + (self._source.offset if self._source is not None else 0)

    @property
    def next_run_line(self) -> int:
        """The least run line that the next row can have."""
        return self._last_run_line + 1

    @property
    def missing_keys(self) -> list[str]:
        """The mapped keys that no row had; for the end of the inputs."""
        return sorted(self._missing_keys or ())

    def skip_to(self, checkpoint: Checkpoint) -> bool:
        """Read what a checkpoint has again; return whether it is the same.

        Raises `StopRequestedError`. After False only `start_over` makes sense.
        """
        self._is_comparing = True
        self._digest.milestones = checkpoint.milestones[:-1]
        try:
            return all(
                self._skip_rows(rows) and self._digest.hexdigest() == digest
                for rows, digest in checkpoint.milestones
            )
        except InputUnreadableError:
            return False
        finally:
            self._is_comparing = False

    def _skip_rows(self, until: int) -> bool:
        while self._rows_read < until:
            for row in self._rows:
                self._last_run_line = self.first_lines[-1] + row.line
                self._rows_read += 1
                if self._rows_read % _REPORT_EVERY == 0:
                    self.on_compared(self._rows_read)
                if self._rows_read == until:
                    break
            self._take_digest()
            if self._rows_read < until and not self._begin_next():
                return False
        return True

    def accept(self) -> None:
        """Keep what was compared: the inputs are read from here on."""
        for source in self._pipes.values():
            if source is self._source:
                source.release()
            else:
                source.close()
        self._pipes.clear()

    def start_over(self) -> None:
        """Return to the beginning of all inputs; nothing that came from a pipe is lost."""
        if self._source is not None and self._source.size is not None:
            self._source.close()
        for source in self._pipes.values():
            source.rewind()
        self._start()

    def close(self) -> None:
        for source in (*self._pipes.values(), self._source):
            if source is not None:
                source.close()

    def read(
        self,
        clock: RunClock,
        normalizer: Normalizer,
        *,
        consume: Callable[[Window], None],
        begin_input: Callable[[int, Reader], None],
        on_idle: Callable[[bool], None],
    ) -> None:
        """Read to the end of the inputs and hand every window to `consume`.

        `begin_input` gets an input's index and its reader before the first of its rows. While a
        pipe has nothing to read, `on_idle` is called with True every few hundredths of a second,
        after what was read so far has been handed on; with False when it has again.

        Raises `InputUnreadableError` when everything before that place was handed on, and
        `StopRequestedError`.
        """
        self._on_idle = on_idle
        self._consume = consume
        self._clock = clock
        if self._reader is not None:
            begin_input(len(self.first_lines) - 1, self._reader)
        try:
            while True:
                try:
                    self._read_input(normalizer)
                except InputUnreadableError:
                    self._hand_over()
                    raise
                self._hand_over()
                if not self._begin_next():
                    return
                assert self._reader is not None  # noqa: S101 - _begin_next opened it
                begin_input(len(self.first_lines) - 1, self._reader)
        finally:
            self._on_idle = None

    def _read_input(self, normalizer: Normalizer) -> None:
        reader, strict = self._reader, self._plan.options.strict
        if reader is None:
            return
        has_region = normalizer.region is not None
        lines_before = self.first_lines[-1]
        characters = reader.characters
        for row in self._rows:
            window = self._window
            if window is None:
                window = self._window = Window(len(self.first_lines) - 1, lines_before)
            run_line = self._last_run_line = lines_before + row.line
            self._rows_read += 1
            emails, phones, problem = read_values(row, normalizer, strict=strict)
            if problem is not None:
                window.problems[len(window.rows)] = problem
            if emails or phones:
                window.requests.append(emails, phones)
                window.requests.run_lines.append(run_line)
                if not has_region and not all(phone[0] == "+" for phone in phones):
                    window.local_phones += 1
            else:
                window.skipped.add(len(window.rows))
            window.rows.append(row)
            window.characters += reader.characters - characters
            characters = reader.characters
            if len(window.rows) >= self.size or window.characters > _MOST_CHARACTERS:
                self._hand_over()

    def _hand_over(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.requests.times_us = self._clock.times_us(window.requests.run_lines)
            self._take_digest()
            window.milestones = self._digest.milestones_at(self._rows_read)
            self._consume(window)

    def _take_digest(self) -> None:
        if self._reader is not None:
            self._digest.update(self._reader.take_digest_input())

    def _begin_next(self) -> bool:
        """Close the input that is at its end and open the next; return whether there is one."""
        lines_before = 0
        if self._reader is not None and self._source is not None:
            lines_before = self.first_lines[-1] + self._reader.line
            self._end_input(self._reader, self._source)
        index = len(self.first_lines)
        self._reader = None
        if index == len(self._plan.paths):
            return False
        self._source = self._open(index)
        self._digest.begin_input()
        self._reader = open_reader(self._source, self._plan.options)
        self._rows = self._reader.rows()
        self.first_lines.append(lines_before)
        self._last_run_line = lines_before
        return True

    def _end_input(self, reader: Reader, source: Source) -> None:
        missing = set(reader.unseen_keys)
        self._missing_keys = missing & (
            missing if self._missing_keys is None else self._missing_keys
        )
        self._bytes_before += source.offset
        self._source = None
        if not (self._is_comparing and source.size is None):
            source.close()
            self._pipes.pop(len(self.first_lines) - 1, None)

    def _open(self, index: int) -> Source:
        kept = self._pipes.get(index)
        if kept is not None:
            return kept
        source = Source(
            self._plan.paths[index], while_reading=self._switch, while_idle=self._while_idle
        )
        if source.size is None and self._is_comparing:
            source.keep()
            self._pipes[index] = source
        return source

    def _while_idle(self, is_idle: bool) -> None:
        if self._on_idle is not None:
            self._hand_over()
            self._on_idle(is_idle)
