"""What a run has to show so far: its counts, its rejects, its outcomes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, assert_never

from identity_cli.importer.formats import format_of
from identity_cli.importer.rejects import RejectsWriter
from identity_cli.importer.report import RejectedRow
from identity_cli.importer.results import ResultFile, outcome_line
from identity_cli.importer.runs import Counts

if TYPE_CHECKING:
    from identity_cli.graph.service import Outcome
    from identity_cli.importer.formats import Reader, Row
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.runs import Checkpoint

_FIRST_REJECTS = 5
_BUFFER = 1 << 16


class Ledger:
    """Written in input order; a checkpoint keeps where it stood, and it goes back to that.

    Raises `OutputError` when a file cannot be written.
    """

    def __init__(self, plan: ImportPlan) -> None:
        self.counts = Counts()
        self.first_rejects: list[RejectedRow] = []
        self._plan = plan
        self._rejects = [ResultFile(plan.rejects_path(i)) for i in range(len(plan.paths))]
        self._writers: dict[int, RejectsWriter] = {}
        self._outcomes = None if plan.outcomes is None else ResultFile(plan.outcomes)
        self._lines = bytearray()
        # A dry run leaves nothing that was not asked for.
        self._keeps_rejects = not plan.dry_run or plan.rejects is not None

    @property
    def has_outcomes(self) -> bool:
        return self._outcomes is not None

    @property
    def rejects_paths(self) -> list[str]:
        """The rejects files that were needed."""
        return [file.path for file in self._rejects if file.used]

    def open(self) -> None:
        """Begin the outcomes file; rejects files are made when there is a reject."""
        if self._outcomes is not None:
            self._outcomes.open()

    def begin_input(self, index: int, reader: Reader) -> None:
        self._writers[index] = RejectsWriter(
            self._rejects[index],
            format_of(self._plan.paths[index], self._plan.options),
            columns=reader.columns,
            delimiter=reader.delimiter,
            encoding=self._plan.options.encoding,
        )

    def reject(self, index: int, row: Row, code: str, reason: str) -> None:
        self.counts.read += 1
        self.counts.rejected += 1
        if self._keeps_rejects:
            self._writers[index].write(row, code, reason)
        if len(self.first_rejects) < _FIRST_REJECTS:
            path = self._plan.paths[index]
            self.first_rejects.append(RejectedRow(path, row.line, code, reason))

    def answer(self, index: int, row: Row, outcome: Outcome) -> None:
        counts = self.counts
        counts.read += 1
        match outcome.name:
            case "created":
                counts.created += 1
            case "linked":
                counts.linked += 1
            case "merged":
                counts.merged += 1
            case "unchanged":
                counts.unchanged += 1
            case _:
                assert_never(outcome.name)
        if self._outcomes is not None:
            # Which file a line is in has to be said only where there are several.
            path = self._plan.paths[index] if len(self._plan.paths) > 1 else None
            self._lines += outcome_line(row.line, outcome, path)
            if len(self._lines) > _BUFFER:
                self._flush()

    def sync(self) -> None:
        """Bring the files to the disk."""
        self._flush()
        for file in self._files():
            file.sync()

    def note(self, checkpoint: Checkpoint) -> None:
        """Write into the checkpoint where the ledger stands; `sync` before it is saved."""
        checkpoint.counts = replace(self.counts)
        checkpoint.rejects = [file.size for file in self._rejects]
        checkpoint.outcomes = None if self._outcomes is None else self._outcomes.size

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Stand where the checkpoint found it. Raises `ResumeError` when a file is not there."""
        self.counts = replace(checkpoint.counts)
        self._lines.clear()
        for file, size in zip_longest(self._rejects, checkpoint.rejects):
            file.cut_back(size)
        if self._outcomes is not None:
            self._outcomes.cut_back(checkpoint.outcomes)

    def close(self) -> None:
        """Close the files; `sync` before, what was not written by then is left out."""
        with ExitStack() as stack:
            for file in self._files():
                stack.callback(file.close)

    def _files(self) -> list[ResultFile]:
        return [*self._rejects, *([] if self._outcomes is None else [self._outcomes])]

    def _flush(self) -> None:
        if self._outcomes is not None and self._lines:
            self._outcomes.write(bytes(self._lines))
            self._lines.clear()
