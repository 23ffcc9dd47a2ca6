"""The door: inputs become Parquet files of normalised requests, several inputs side by side.

Processes read one input each at a time, by the readers of the import. A row becomes the request,
the reject or both that it becomes there.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import signal
import time
import traceback
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from identity_cli.backfill.forgotten import digest_of
from identity_cli.backfill.parts import PartFile
from identity_cli.backfill.work import InputReport
from identity_cli.errors import IdentityError, InputUnreadableError, RequestForgottenError
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
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from identity_cli.backfill.forgotten import ForgottenValues
    from identity_cli.backfill.objects import StoredObject
    from identity_cli.backfill.plain import PlainReader
    from identity_cli.backfill.work import WorkDirectory
    from identity_cli.errors import InvalidRequestError
    from identity_cli.importer.formats import InputOptions, Reader, Row
    from identity_cli.importer.formats.blocks import Block
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.stop import StopSwitch

# Rows between two looks at the text read so far.
_FEW_ROWS = 512
_FIRST_REJECTS = 5
_SECONDS_BETWEEN_REPORTS = 0.2


@dataclass(frozen=True, slots=True)
class _Task:
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


def read_inputs(
    work: WorkDirectory,
    plan: ImportPlan,
    objects: Mapping[str, StoredObject],
    forgotten: ForgottenValues | None,
    *,
    processes: int,
    switch: StopSwitch,
    show: Callable[[int, int], None],
) -> None:
    """Read the inputs that the work directory does not have yet, in so many processes.

    `objects` are those of the inputs that are in object storage, by name. The `forgotten` values
    are left out of the requests; a row that has no others is rejected.
    `show` is called with the number of bytes and of rows read so far, those of finished inputs
    included. Raises the error of the first input that cannot be read, when all before it have been
    read; `OutputError`, and `StopRequestedError`.
    """
    reports = work.require_manifest().reports
    pool = _Pool(work, plan, objects, forgotten, show)
    try:
        pool.run([i for i, report in enumerate(reports) if report is None], processes, switch)
    finally:
        pool.end()


class _Pool:
    """The processes at work, each with the pipe to it and the index of the input that it reads."""

    def __init__(
        self,
        work: WorkDirectory,
        plan: ImportPlan,
        objects: Mapping[str, StoredObject],
        forgotten: ForgottenValues | None,
        show: Callable[[int, int], None],
    ) -> None:
        self._work = work
        self._plan = plan
        self._objects = objects
        self._forgotten = forgotten
        self._show = show
        self._children: dict[Connection, BaseProcess] = {}
        self._reading: dict[Connection, int] = {}
        self._failures: dict[int, Exception] = {}
        manifest = work.require_manifest()
        # Of each input, the bytes and the rows that were read.
        self._read = {
            index: (manifest.inputs[index]["size"] or 0, report.rows)
            for index, report in enumerate(manifest.reports)
            if report is not None
        }

    def run(self, indexes: Sequence[int], processes: int, switch: StopSwitch) -> None:
        """Read these inputs. Raises the error of the first one that fails."""
        waiting = list(reversed(indexes))
        for _ in range(min(processes, len(indexes))):
            self._start()
        while waiting or self._reading:
            switch.check()
            for pipe in self._children.keys() - self._reading.keys():
                if waiting:
                    self._begin(pipe, waiting.pop())
            for ready in wait(list(self._reading), timeout=_SECONDS_BETWEEN_REPORTS):
                if isinstance(ready, Connection):
                    self._receive(ready)
            if self._failures:
                # What comes before it may fail, too: the first error is the one to report.
                first = min(self._failures)
                waiting = [index for index in waiting if index < first]
                self._end_behind(first)
            read = list(self._read.values())
            self._show(sum(offset for offset, _ in read), sum(rows for _, rows in read))
        if self._failures:
            raise self._failures[min(self._failures)]

    def end(self) -> None:
        """End the processes; what they are at is not needed."""
        for pipe in list(self._children):
            self._forget(pipe)

    def _end_behind(self, first: int) -> None:
        for pipe, index in list(self._reading.items()):
            if index > first:
                self._forget(pipe)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_read_for, args=(theirs, self._forgotten), daemon=True)
        # The parent alone decides what an interrupt does; the mask is inherited. The first process
        # starts the tracker, which would unblock it.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        self._children[ours] = process

    def _begin(self, pipe: Connection, index: int) -> None:
        plan = self._plan
        self._reading[pipe] = index
        with suppress(BrokenPipeError):  # that it has ended is noticed next
            pipe.send(
                _Task(
                    plan.paths[index],
                    self._objects.get(plan.paths[index]),
                    plan.options,
                    plan.reading_options(),
                    plan.region,
                    _unfinished(self._work.part(index)),
                    _unfinished(self._work.rejects(index)),
                )
            )

    def _receive(self, pipe: Connection) -> None:
        index = self._reading[pipe]
        try:
            kind, content = pipe.recv()
        except (EOFError, ConnectionResetError):
            self._forget(pipe)
            self._failures[index] = IdentityError(
                f"the process that reads {self._plan.paths[index]} has ended unexpectedly",
                hint="check that there is enough memory, and run the same command again",
            )
            return
        if kind == "read":
            self._read[index] = content
            return
        del self._reading[pipe]
        match kind:
            case "done":
                self._keep(index, content)
            case "failed":
                self._failures[index] = _rebuilt(*content)
            case _:
                self._failures[index] = RuntimeError(content)

    def _keep(self, index: int, report: InputReport) -> None:
        for path in (self._work.rejects(index), self._work.part(index)):
            with writing(str(path)):
                if _unfinished(path).exists():
                    os.replace(_unfinished(path), path)
                else:
                    path.unlink(missing_ok=True)
        size = self._work.require_manifest().inputs[index]["size"]
        self._read[index] = (size or 0, report.rows)
        self._work.note_report(index, report)

    def _forget(self, pipe: Connection) -> None:
        process = self._children.pop(pipe)
        self._reading.pop(pipe, None)
        pipe.close()
        process.kill()
        process.join()
        process.close()


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _read_for(pipe: Connection, forgotten: ForgottenValues | None) -> None:
    """Read one input after the other in a process of its own, and report to the parent."""
    # Rows come and go without any cycles: looking for some would take a fifth of the time.
    gc.freeze()
    gc.set_threshold(100_000)
    with suppress(EOFError, BrokenPipeError):  # the parent has ended
        while True:
            task = replace(pipe.recv(), forgotten=forgotten)
            try:
                pipe.send(("done", _read(task, lambda *read: pipe.send(("read", read)))))
            except IdentityError as error:
                pipe.send(("failed", (type(error), str(error), error.__dict__)))
            except BrokenPipeError:
                raise
            except Exception:  # noqa: BLE001 - the parent reports it as a defect
                pipe.send(("defect", traceback.format_exc()))


def _rebuilt(kind: type[IdentityError], message: str, state: dict[str, Any]) -> IdentityError:
    """Return an error as another process has raised it, whatever its constructor takes."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


def _read(task: _Task, report: Callable[[int, int], None]) -> InputReport:
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
    task: _Task, open_source: Callable[[], Source], report: Callable[[int, int], None]
) -> _Reading:
    try:
        return _read_rows(task, open_source, report, in_blocks=_may_have_blocks(task))
    except InputUnreadableError:
        if not _may_have_blocks(task):
            raise
    # An error behind rows that were not looked at yet is not the first: read row by row.
    return _read_rows(task, open_source, report, in_blocks=False)


def _may_have_blocks(task: _Task) -> bool:
    """Return whether rows need not be looked at one by one, if their values are normal."""
    return task.region is None and task.forgotten is None


def _read_rows(
    task: _Task,
    open_source: Callable[[], Source],
    report: Callable[[int, int], None],
    *,
    in_blocks: bool,
) -> _Reading:
    with closing(open_source()) as source:
        reading = _Reading(task, open_reader(source, task.options))
        with writing(str(task.part)):
            reading.run(lambda rows: report(source.offset, rows), in_blocks=in_blocks)
    return reading


def _read_file(task: _Task, report: Callable[[int, int], None]) -> InputReport:
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

    def __init__(self, task: _Task, reader: Reader) -> None:
        self._task = task
        self._reader = reader
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

    def run(self, report: Callable[[int], None], *, in_blocks: bool) -> None:
        """Read to the end of the input, and call `report` with the rows so far now and then.

        If it is read in blocks, an error may come from behind rows that were not looked at yet.
        """
        self._report = report
        try:
            for row in self._rows_besides_blocks() if in_blocks else self._reader.rows():
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
        if not isinstance(self._reader, CsvReader):
            return self._reader.rows()
        from identity_cli.backfill.plain import PlainReader

        return self._reader.rows(partial(self._take, PlainReader(self._normalizer.absent)))

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
            self._report_at = time.monotonic() + _SECONDS_BETWEEN_REPORTS

    def _add(self, row: Row) -> None:
        """Add the request of a row, reject the row, or both."""
        task, normalizer = self._task, self._normalizer
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
            forgotten=digest_of(self._task.forgotten),
        )

    def _reject(self, row: Row, problem: InvalidRequestError, *, is_partial: bool) -> None:
        if is_partial:
            self._partial += 1
        else:
            self._rejected += 1
        self._codes[problem.code] += 1
        if self._rejects is None:
            file = ResultFile(str(self._task.rejects))
            self._rejects = RejectsWriter(file, self._reader.layout)
        self._rejects.write(row, problem.code, problem.reason)
        if len(self._first_rejects) < _FIRST_REJECTS:
            self._first_rejects.append(
                RejectedRow(self._task.path, row.line, problem.code, problem.reason)
            )
