"""What a backfill has to show: counts, columns, and rejects files as an import writes them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from identity_cli.errors import InputNotFoundError, UsageError
from identity_cli.importer.checkpoints import Checkpoint, Counts
from identity_cli.importer.column_notes import ColumnNotes
from identity_cli.importer.formats import missing_keys
from identity_cli.importer.results import ResultFile, as_text, open_rejects

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.backfill.load import Loaded
    from identity_cli.backfill.work import InputReport, Manifest, WorkDirectory
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.report import RejectedRow

_FIRST_REJECTS = 5
_BLOCK = 1 << 20


class Tally:
    """The counts and results of a backfill so far.

    `reading` names the inputs and the rejects file, `options` decide how the inputs are read.
    """

    def __init__(self, reading: ImportPlan, say: Callable[[str], None]) -> None:
        self.reading = reading
        self.options: dict[str, Any] = reading.reading_options()
        self.counts = Counts()
        self.rejects_paths: list[str] = []
        self.reports: list[InputReport] = []
        self._columns = ColumnNotes(reading.paths, say)
        # The rejects files as a checkpoint has them.
        self._rejects: dict[int, tuple[str, int]] = {}

    @property
    def columns(self) -> dict[str, Any] | None:
        """The columns of the inputs, as in a summary; None until all were read."""
        return self._columns.as_json()

    @property
    def local_phones(self) -> int:
        """How many rows had a number without a country code and no region."""
        return sum(report.local_phones for report in self.reports)

    @property
    def codes(self) -> dict[str, int]:
        """The rows in the rejects files by their codes."""
        codes: Counter[str] = Counter()
        for report in self.reports:
            codes.update(report.codes)
        return dict(sorted(codes.items()))

    @property
    def first_rejects(self) -> tuple[RejectedRow, ...]:
        """The first rows in the rejects files."""
        rows = [row for report in self.reports for row in report.first_rejects]
        return tuple(rows[:_FIRST_REJECTS])

    @property
    def last_line(self) -> int:
        """The last line, counted through all inputs."""
        return sum(report.lines for report in self.reports)

    def use_region(self, region: str | None) -> None:
        """Take the region that the database has, too."""
        self.reading = replace(self.reading, region=region)
        self.options = self.reading.reading_options()

    def take_inputs(self, manifest: Manifest) -> None:
        """Take the inputs of a work directory. Raises `UsageError` if the results do not fit."""
        self.reading = replace(
            self.reading, paths=manifest.paths, region=manifest.options["region"]
        )
        self.options = manifest.options
        # They were noted when the files were read.
        self._columns = ColumnNotes(manifest.paths, lambda _text: None)
        if self.reading.rejects is not None and len(manifest.paths) > 1:
            raise UsageError(
                "--rejects takes one input",
                hint="without it every input gets a rejects file of its own",
            )

    def note_inputs(self, manifest: Manifest) -> None:
        """Count what was read. Raises `InputUnreadableError` if no row has a mapped key."""
        self.reports = manifest.finished_reports
        for index, report in enumerate(self.reports):
            self._columns.begin_input(index, report)
        self._columns.end_input()
        self.counts.read = sum(report.rows for report in self.reports)
        self.counts.rejected = sum(report.rejected for report in self.reports)
        self.counts.partial = sum(report.partial for report in self.reports)
        # A key that one of the inputs has is not missing.
        keys = set.intersection(*(set(report.missing_keys) for report in self.reports))
        if keys and self.counts.read:
            raise missing_keys(
                ", ".join(self.reading.paths), sorted(keys), kept="nothing was loaded"
            )

    def note_outcomes(self, work: WorkDirectory) -> None:
        """Count the outcomes of the requests, which were computed."""
        self.counts = replace(self.counts, **work.counts())

    def find_rejects(self, work: WorkDirectory) -> None:
        """Name the rejected rows where the work directory has them."""
        paths = [work.rejects(index) for index in range(len(self.reports))]
        self.rejects_paths = [str(path) for path in paths if path.exists()]

    def save_rejects(self, work: WorkDirectory, run_id: int) -> None:
        """Write the rejects files where an import with this run would write them.

        Raises `OutputError`.
        """
        if self.reading.rejects is not None:
            ResultFile(self.reading.rejects).remove()
        for index in range(len(self.reports)):
            found = work.rejects(index)
            if not found.exists():
                continue
            file = self._open_rejects(index, run_id)
            with open(found, "rb") as rejects:
                while block := rejects.read(_BLOCK):
                    file.write(block)
            file.sync()
            file.close()
            self.rejects_paths.append(file.path)
            self._rejects[index] = (as_text(file.path), found.stat().st_size)

    def checkpoint(self, loaded: Loaded, seconds: float) -> Checkpoint:
        """Return the checkpoint of the finished run."""
        milestones = [(report.rows, report.digest) for report in self.reports]
        return Checkpoint(
            # That of several inputs is a digest over all of them, which no process has seen.
            milestones=milestones if len(milestones) == 1 else [],
            segments=[(0, loaded.base_us)],
            counts=replace(self.counts),
            codes=self.codes,
            input_codes={i: report.codes for i, report in enumerate(self.reports) if report.codes},
            local_phones=self.local_phones,
            seconds=seconds,
            marks=loaded.marks,
            first_marks=loaded.first_marks,
            rejects=self._rejects,
        )

    def rows(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self.counts)

    def _base_name(self, index: int) -> str:
        """Return the last part of an input's name, with its number if an earlier one has it."""
        names = [os.path.basename(path) for path in self.reading.paths[: index + 1]]
        return names[-1] if names[-1] not in names[:-1] else f"{names[-1]}.{index + 1}"

    def _open_rejects(self, index: int, run_id: int) -> ResultFile:
        try:
            paths = self.reading.rejects_paths(index, run_id)
        except InputNotFoundError:  # in object storage, or computed on another machine
            paths = [f"{self._base_name(index)}.{run_id}.rejects"]
        return open_rejects(paths)
