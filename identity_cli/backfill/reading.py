"""One input on its way into a Parquet file of normalised requests.

A row becomes the request, the reject or both that it becomes in an import.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from identity_cli.backfill.forgotten import digest_of
from identity_cli.backfill.parts import PartFile
from identity_cli.backfill.work import InputReport
from identity_cli.errors import InputUnreadableError, RequestForgottenError
from identity_cli.files import writing
from identity_cli.graph.normalize import Normalizer
from identity_cli.importer.digest import InputDigest
from identity_cli.importer.formats import open_reader
from identity_cli.importer.formats.csv import CsvReader
from identity_cli.importer.rejects import RejectsWriter
from identity_cli.importer.report import RejectedRow
from identity_cli.importer.results import ResultFile
from identity_cli.importer.row_requests import read_values
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from identity_cli.backfill.forgotten import ForgottenValues
    from identity_cli.backfill.objects import StoredObject
    from identity_cli.backfill.plain import PlainReader
    from identity_cli.errors import InvalidRequestError
    from identity_cli.importer.formats import InputOptions, Reader, Row
    from identity_cli.importer.formats.blocks import Block

# Rows between two looks at the text read so far.
_FEW_ROWS = 512
_FIRST_REJECTS = 5
SECONDS_BETWEEN_REPORTS = 0.2


@dataclass(frozen=True, slots=True)
class InputTask:
    """An input to read, and where its requests and its rejected rows go.

    `stored` is None for a file. `forgotten` values are those of the process: they are sent once.
    """

    path: str
    stored: StoredObject | None
    options: InputOptions
    reading_options: dict[str, Any]
    region: str | None
    part: Path
    rejects: Path
    forgotten: ForgottenValues | None = None


def read(task: InputTask, report: Callable[[int, int], None]) -> InputReport:
    """Read an input, and call `report` with the bytes and the rows so far now and then.

    Raises `IdentityError`.
    """
    if task.stored is None:
        return _read_file(task, report)
    stored, versions = task.stored, []

    def open_object() -> Source:
        file = stored.open()
        versions.append(file.version)
        return Source(task.path, file=file)

    reading = _read_source(task, open_object, report)
    with stored.open() as file:
        if file.version != versions[-1]:
            raise InputUnreadableError(
                task.path,
                "the object has changed while it was read",
                hint="run the same command again when nobody writes to it",
            )
    return reading.report(versions[-1])


def _read_source(
    task: InputTask, open_source: Callable[[], Source], report: Callable[[int, int], None]
) -> _Reading:
    """Read an input; one that cannot be read further is read again, row by row.

    Only then is the error that of the first such row.
    """
    with closing(open_source()) as source:
        reading = _Reading(task, open_reader(source, task.options))
        try:
            return _run(reading, source, report)
        except InputUnreadableError:
            if not reading.has_blocks:
                raise
    with closing(open_source()) as source:
        reading = _Reading(task, open_reader(source, task.options), row_by_row=True)
        return _run(reading, source, report)


def _run(reading: _Reading, source: Source, report: Callable[[int, int], None]) -> _Reading:
    with writing(str(reading.task.part)):
        reading.run(lambda rows: report(source.offset, rows))
    return reading


def _read_file(task: InputTask, report: Callable[[int, int], None]) -> InputReport:
    before = os.stat(task.path)
    content = content_digest(task.path)
    reading = _read_source(task, lambda: Source(task.path), report)
    after = os.stat(task.path)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputUnreadableError(
            task.path,
            "the file has changed while it was read",
            hint="run the same command again when nobody writes to it",
        )
    return reading.report(content)


def content_digest(path: str) -> str:
    """Return the SHA-256 of a whole file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Reading:
    """One input on its way into a Parquet file."""

    def __init__(self, task: InputTask, reader: Reader, *, row_by_row: bool = False) -> None:
        self.task = task
        self._reader = reader
        self._csv: CsvReader | None = None
        is_plain = task.region is None and task.forgotten is None
        if is_plain and isinstance(reader, CsvReader) and not row_by_row:
            self._csv = reader
        self._report: Callable[[int], None] = lambda _rows: None
        self._report_at = time.monotonic()
        self._normalizer = Normalizer(task.region, null_words=task.options.null_words)
        self._digest = InputDigest(task.reading_options)
        self._digest.begin_input()
        self._requests = PartFile(task.part)
        self._rejects: RejectsWriter | None = None
        self._rows = self._rejected = self._partial = self._local_phones = 0
        self._codes: Counter[str] = Counter()
        self._first_rejects: list[RejectedRow] = []

    @property
    def has_blocks(self) -> bool:
        """Whether an error may come from behind rows that were not looked at yet."""
        return self._csv is not None

    def run(self, report: Callable[[int], None]) -> None:
        """Read to the end of the input, and call `report` with the rows so far now and then."""
        self._report = report
        try:
            for row in self._rows_besides_blocks():
                self._add(row)
                if self._rows % _FEW_ROWS == 0:
                    self._note_progress()
            self._digest.update(self._reader.take_digest_input())
            self._requests.finish()
            if self._rejects is not None:
                self._rejects.file.sync()
            report(self._rows)
        finally:
            self._requests.close()
            if self._rejects is not None:
                self._rejects.file.close()

    def _rows_besides_blocks(self) -> Iterator[Row]:
        """Yield the rows that are to be read one by one; the others are added as columns."""
        if self._csv is None:
            return self._reader.rows()
        from identity_cli.backfill.plain import PlainReader

        return self._csv.rows(partial(self._take, PlainReader(self._normalizer.absent)))

    def _take(self, plain: PlainReader, block: Block) -> bool:
        """Add the rows of a block; return False, and add nothing, if that is not possible."""
        read = plain.read(block)
        if read is None:
            return False
        self._requests.append_columns(read.lines, read.emails, read.phones)
        self._local_phones += read.local_phones
        self._rows += len(read.lines)
        if read.other_places:
            for row in block.rows(read.other_places):
                self._add(row)
        self._note_progress()
        return True

    def _note_progress(self) -> None:
        self._digest.update(self._reader.take_digest_input())
        if time.monotonic() >= self._report_at:
            self._report(self._rows)
            self._report_at = time.monotonic() + SECONDS_BETWEEN_REPORTS

    def _add(self, row: Row) -> None:
        """Add the request of a row, reject the row, or both."""
        task, normalizer = self.task, self._normalizer
        emails, phones, problem = read_values(row, normalizer, strict=task.options.strict)
        is_request = bool(emails or phones)
        if is_request:
            if normalizer.region is None and not all(phone[0] == "+" for phone in phones):
                self._local_phones += 1
            if task.forgotten is None:
                self._requests.append(row.line, emails, phones)
            elif not self._append_rest(row.line, emails, phones, task.forgotten):
                is_request, problem = False, RequestForgottenError()
        if problem is not None:
            self._reject(row, problem, is_partial=is_request)
        self._rows += 1

    def _append_rest(
        self,
        line: int,
        emails: Sequence[str],
        phones: Sequence[str],
        forgotten: ForgottenValues,
    ) -> bool:
        """Add a request without its forgotten values; return False if it has no others."""
        rest_emails, rest_phones = forgotten.left_out(emails), forgotten.left_out(phones)
        if not any(rest_emails) and not any(rest_phones):
            return False
        self._requests.append(line, rest_emails, rest_phones)
        return True

    def report(self, content: str) -> InputReport:
        """Return what was read; `content` is the digest of the file, or the object's version."""
        return InputReport(
            content=content,
            digest=self._digest.hexdigest(),
            lines=self._reader.line,
            rows=self._rows,
            rejected=self._rejected,
            partial=self._partial,
            local_phones=self._local_phones,
            codes=dict(self._codes),
            first_rejects=tuple(self._first_rejects),
            column_report=self._reader.column_report,
            notes=tuple(self._reader.notes),
            missing_keys=tuple(self._reader.unseen_keys),
            forgotten=digest_of(self.task.forgotten),
        )

    def _reject(self, row: Row, problem: InvalidRequestError, *, is_partial: bool) -> None:
        if is_partial:
            self._partial += 1
        else:
            self._rejected += 1
        self._codes[problem.code] += 1
        if self._rejects is None:
            file = ResultFile(str(self.task.rejects))
            self._rejects = RejectsWriter(file, self._reader.layout)
        self._rejects.write(row, problem.code, problem.reason)
        if len(self._first_rejects) < _FIRST_REJECTS:
            self._first_rejects.append(
                RejectedRow(self.task.path, row.line, problem.code, problem.reason)
            )
