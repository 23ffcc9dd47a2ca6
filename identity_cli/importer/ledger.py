"""What a run has to show so far: its counts, its rejects, its outcomes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from identity_cli.files import is_regular
from identity_cli.importer.checkpoints import Counts
from identity_cli.importer.rejects import RejectsWriter
from identity_cli.importer.report import RejectedRow
from identity_cli.importer.results import ResultFile, as_text, open_rejects, outcome_line

if TYPE_CHECKING:
    from identity_cli.graph.service import Outcome
    from identity_cli.importer.checkpoints import Checkpoint
    from identity_cli.importer.formats import Layout, Reader, Row
    from identity_cli.importer.plan import ImportPlan

_FIRST_REJECTS = 5
_BUFFER = 1 << 16


class Ledger:
    """Counts rows and writes rejects and outcomes, in input order.

    A checkpoint keeps how far it has come, and `go_back` returns to that. Raises `OutputError` if a
    file cannot be written.
    """

    def __init__(self, plan: ImportPlan) -> None:
        self.counts = Counts()
        self.codes: Counter[str] = Counter()
        self._input_codes: defaultdict[int, Counter[str]] = defaultdict(Counter)
        # Rows with a number without a country code, read without a region.
        self.local_phones = 0
        self.first_rejects: list[RejectedRow] = []
        self._plan = plan
        self._run_id = 0
        self._rejected_before = 0
        self._rejects: dict[int, ResultFile] = {}
        self._writers: dict[int, RejectsWriter] = {}
        self._layouts: dict[int, Layout] = {}
        self._outcomes = None if plan.outcomes is None else ResultFile(plan.outcomes)
        self._special_rejects: ResultFile | None = None
        # /dev/fd/3 means what was open when the program started, not what it opens later.
        if self._outcomes is not None and not is_regular(self._outcomes.path):
            self._outcomes.open()
        if plan.rejects is not None and not is_regular(plan.rejects):
            self._special_rejects = ResultFile(plan.rejects)
            self._special_rejects.open()
        self._lines = bytearray()
        # A dry run leaves nothing that was not asked for.
        self._keeps_rejects = not plan.dry_run or plan.rejects is not None

    @property
    def writes_outcomes(self) -> bool:
        return self._outcomes is not None

    @property
    def rejects_paths(self) -> list[str]:
        """The rejects files that were written, by the order of their inputs."""
        return [file.path for _, file in sorted(self._rejects.items()) if file.used]

    def open(self, run_id: int) -> None:
        """Begin the files of a new run; a rejects file is made when there is a reject."""
        self._run_id = run_id
        if self._plan.rejects is not None:
            ResultFile(self._plan.rejects).remove()
        if self._outcomes is not None and is_regular(self._outcomes.path):
            self._outcomes.open()

    def resume(self, run_id: int, checkpoint: Checkpoint) -> None:
        """Continue the files of an interrupted run."""
        self._run_id = run_id
        self._rejected_before = checkpoint.counts.in_rejects_file
        self.go_back(checkpoint)

    def why_not_resumed(self, run_id: int, checkpoint: Checkpoint) -> str | None:
        """Return why the files of an interrupted run cannot be continued, if they cannot."""
        for index, (text, size) in checkpoint.rejects.items():
            path = self._rejects_path(index, run_id, text)
            if path is None:
                return "--rejects names another file"
            if not _holds(path, size):
                return f"{path} has changed"
        has_outcomes = checkpoint.outcomes is not None
        if has_outcomes != self.writes_outcomes and checkpoint.counts.read > 0:
            return f"it ran {'with' if has_outcomes else 'without'} --outcomes"
        if self._plan.outcomes is not None and not _holds(
            self._plan.outcomes, checkpoint.outcomes or 0
        ):
            return f"{self._plan.outcomes} has changed"
        return None

    def begin_input(self, index: int, reader: Reader) -> None:
        """Note how an input is read; its rejects are written the same way."""
        self._layouts[index] = reader.layout

    def reject(self, index: int, row: Row, code: str, reason: str) -> None:
        """Count a row that was not imported."""
        self.counts.read += 1
        self.counts.rejected += 1
        self._write_reject(index, row, code, reason)

    def leave_out(self, index: int, row: Row, code: str, reason: str) -> None:
        """Count a row of which a value was left out; its outcome is counted by `answer`."""
        self.counts.partial += 1
        self._write_reject(index, row, code, reason)

    def _write_reject(self, index: int, row: Row, code: str, reason: str) -> None:
        self.codes[code] += 1
        self._input_codes[index][code] += 1
        if self._keeps_rejects:
            self._writer(index).write(row, code, reason)
        if len(self.first_rejects) < _FIRST_REJECTS:
            path = self._plan.paths[index]
            self.first_rejects.append(RejectedRow(path, row.line, code, reason))

    def count(self, letters: str) -> None:
        """Count rows by the letters of their outcomes, if there is nothing else to note of them."""
        counts, count = self.counts, letters.count
        counts.read += len(letters)
        counts.created += count("c")
        counts.linked += count("l")
        counts.merged += count("m")
        counts.unchanged += count("u")
        counts.blocked += count("b")

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
            case "blocked":
                counts.blocked += 1
            case _:
                assert_never(outcome.name)
        if self._outcomes is not None:
            # Which file a line is in has to be said only if there are several.
            path = self._plan.paths[index] if len(self._plan.paths) > 1 else None
            key = None if self._plan.options.key is None else (row.key,)
            self._lines += outcome_line(row.line, outcome, path, key)
            if len(self._lines) > _BUFFER:
                self._flush()

    def sync(self) -> None:
        """Bring the files to the disk."""
        self._flush()
        for file in self._files():
            file.sync()

    def note(self, checkpoint: Checkpoint) -> None:
        """Write into the checkpoint how far the ledger has come; `sync` before it is saved."""
        checkpoint.counts = replace(self.counts)
        checkpoint.codes = dict(self.codes)
        checkpoint.input_codes = {i: dict(codes) for i, codes in self._input_codes.items()}
        checkpoint.local_phones = self.local_phones
        checkpoint.rejects = {
            index: (as_text(file.path), file.size)
            for index, file in self._rejects.items()
            if file.size
        }
        checkpoint.outcomes = None if self._outcomes is None else self._outcomes.size

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Return to where the checkpoint found it. Raises `OutputError` if a file is not there."""
        self.counts = replace(checkpoint.counts)
        self.codes = Counter(checkpoint.codes)
        self._input_codes.clear()
        for index, codes in checkpoint.input_codes.items():
            self._input_codes[index].update(codes)
        self.local_phones = checkpoint.local_phones
        kept = checkpoint.counts.in_rejects_file - self._rejected_before
        del self.first_rejects[max(0, kept) :]
        self._lines.clear()
        for index, file in list(self._rejects.items()):
            if index not in checkpoint.rejects:
                file.remove()
                del self._rejects[index]
        for index, (text, size) in checkpoint.rejects.items():
            path = self._rejects_path(index, self._run_id, text) or text
            file = self._rejects.setdefault(index, self._special_rejects or ResultFile(path))
            file.cut_back(size)
        self._writers.clear()
        if self._outcomes is not None:
            if checkpoint.outcomes is None:
                self._outcomes.open()
            else:
                self._outcomes.cut_back(checkpoint.outcomes)

    def close(self) -> None:
        """Close the files; `sync` before, what was not written by then is left out."""
        with ExitStack() as stack:
            for file in self._files():
                stack.callback(file.close)

    def _writer(self, index: int) -> RejectsWriter:
        writer = self._writers.get(index)
        if writer is None:
            if index not in self._rejects:
                self._rejects[index] = self._open_rejects(index)
            writer = self._writers[index] = RejectsWriter(
                self._rejects[index], self._layouts[index]
            )
        return writer

    def _rejects_path(self, index: int, run_id: int, text: str) -> str | None:
        paths = self._plan.rejects_paths(index, run_id)
        return next((path for path in paths if as_text(path) == text), None)

    def _open_rejects(self, index: int) -> ResultFile:
        if self._special_rejects is not None:
            return self._special_rejects
        return open_rejects(self._plan.rejects_paths(index, self._run_id))

    def _files(self) -> list[ResultFile]:
        return [*self._rejects.values(), *([] if self._outcomes is None else [self._outcomes])]

    def _flush(self) -> None:
        if self._outcomes is not None and self._lines:
            self._outcomes.write(bytes(self._lines))
            self._lines.clear()


def _holds(path: str, size: int) -> bool:
    """Return whether a file has at least so many bytes; a special file is never cut back."""
    if not is_regular(path):
        return True
    return os.path.isfile(path) and os.path.getsize(path) >= size
