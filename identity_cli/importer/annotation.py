"""Add the identity of each row to files, without writing anything to the database.

The rows are read as an import reads them and are looked up in one snapshot, some thousands at a
time. While the server looks up a batch, the one before it is written and the next one is read.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

from identity_cli.errors import InputUnreadableError, UsageError
from identity_cli.files import writing
from identity_cli.graph.lookup import find_primaries
from identity_cli.graph.normalize import Normalizer
from identity_cli.importer.annotated_output import (
    Annotation,
    Beginning,
    Status,
    open_output,
    output_format,
)
from identity_cli.importer.formats import missing_keys, open_reader
from identity_cli.importer.row_requests import read_request
from identity_cli.importer.source import Source, file_size, is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.importer.annotated_output import AnnotatedOutput
    from identity_cli.importer.formats import InputOptions, Reader, Row
    from identity_cli.postgres.snapshot import Snapshot

SCHEMA_VERSION = 1

# What a batch may hold: rows, and characters. A query takes longer than the way to the server and
# back; larger batches would only take more memory.
_BATCH_ROWS = 5_000
_BATCH_CHARACTERS = 1 << 21
# One batch is looked up while another one is written.
_BATCHES_AHEAD = 2

_SPLIT = Annotation(None, "split")
_UNKNOWN = Annotation(None, "unknown")
_BLOCKED = Annotation(None, "blocked")
_REJECTED = Annotation(None, "rejected")


@dataclass(frozen=True, slots=True)
class AnnotationPlan:
    """What to annotate and how to read it.

    `region` is that of phone numbers without a country code.
    """

    paths: tuple[str, ...]
    options: InputOptions
    region: str | None = None


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """How many rows have which status, and why rows were rejected."""

    paths: tuple[str, ...]
    statuses: dict[str, int]
    rejected_by_code: dict[str, int]
    seconds: float

    @property
    def rows(self) -> dict[str, int]:
        """The rows that were read, and those of each status."""
        return {"read": sum(self.statuses.values()), **self.statuses}

    @property
    def rows_per_second(self) -> float:
        return self.rows["read"] / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the document of `--json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "input": list(self.paths),
            "rows": self.rows,
            "rejected_by_code": self.rejected_by_code,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
        }


@dataclass(slots=True)
class _Batch:
    """Rows with the requests to look up; None for a rejected row."""

    rows: list[Row] = field(default_factory=list)
    requests: list[ContactRequest | None] = field(default_factory=list)


def annotate(
    graph: Snapshot,
    stream: BinaryIO,
    plan: AnnotationPlan,
    *,
    show: Callable[[int, int | None, int], None] = lambda _offset, _total, _rows: None,
    remark: Callable[[str], None] = lambda _text: None,
) -> AnnotationReport:
    """Copy the inputs to the stream, each row with the identity that its values lead to.

    Inputs of one format become one file.

    `show` is called with the bytes that were read, those of all inputs (None if that is not known)
    and the rows; `remark` with what a user should know about how an input is read.

    Raises `UsageError` if the inputs do not fit together, `InputUnreadableError` after the rows
    before that place were written, and `OutputError`.
    """
    return _Annotator(graph, stream, plan, show, remark).run()


class _Annotator:
    def __init__(
        self,
        graph: Snapshot,
        stream: BinaryIO,
        plan: AnnotationPlan,
        show: Callable[[int, int | None, int], None],
        remark: Callable[[str], None],
    ) -> None:
        self._graph = graph
        self._stream = stream
        self._plan = plan
        self._show = show
        self._remark = remark
        self._normalizer = Normalizer(plan.region, null_words=plan.options.null_words)
        self._statuses: Counter[Status] = Counter()
        self._codes: Counter[str] = Counter()
        self._output: AnnotatedOutput | None = None
        self._format = ""
        self._bytes_before = 0
        self._total = _total_size(plan.paths)

    def run(self) -> AnnotationReport:
        start = time.monotonic()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="look-up") as lookups:
                for path in self._plan.paths:
                    with closing(Source(path)) as source:
                        self._annotate_input(source, lookups)
                        self._bytes_before += source.offset
        except BaseException:
            with suppress(Exception):  # the first error is the one to report
                self._close_output()
            raise
        self._close_output()
        statuses: dict[str, int] = {status: self._statuses[status] for status in get_args(Status)}
        codes = dict(sorted(self._codes.items()))
        return AnnotationReport(self._plan.paths, statuses, codes, time.monotonic() - start)

    def _close_output(self) -> None:
        with writing("the output"):
            if self._output is not None:
                self._output.close()
            self._stream.flush()

    def _annotate_input(self, source: Source, lookups: ThreadPoolExecutor) -> None:
        reader = open_reader(source, self._plan.options)
        for text in reader.notes:
            self._remark(text)
        rows = reader.rows()
        first = next(rows, None)
        beginning = Beginning(source.name, reader.layout, reader.take_digest_input(), first)
        output = self._begin_input(source, beginning)
        all_rows = chain([] if first is None else [first], rows)
        for batch, found in self._looked_up(self._batches(reader, all_rows), lookups):
            annotations = self._annotations(batch, found)
            with writing("the output"):
                output.write(batch.rows, annotations)
            offset = self._bytes_before + source.offset
            self._show(offset, self._total, self._statuses.total())
        if reader.unseen_keys:
            raise missing_keys(source.name, reader.unseen_keys)

    def _begin_input(self, source: Source, beginning: Beginning) -> AnnotatedOutput:
        format_ = output_format(beginning)
        if format_ == "parquet" and (source.size is None or source.compression is not None):
            raise UsageError(
                f"{source.name}: Parquet cannot be annotated from a pipe or a compressed file",
                hint="save it to a file first, or decompress it",
            )
        if self._output is None:
            self._format = format_
            self._output = open_output(self._stream, beginning, self._plan.options)
        elif format_ != self._format:
            raise UsageError(
                f"{source.name} has another format than the first input",
                hint="annotate each file by itself",
            )
        with writing("the output"):
            self._output.begin_input(beginning)
        return self._output

    def _batches(self, reader: Reader, rows: Iterable[Row]) -> Iterator[_Batch]:
        batch = _Batch()
        before = reader.characters
        normalizer, strict = self._normalizer, self._plan.options.strict
        try:
            for row in rows:
                request, problem = read_request(row, normalizer, strict=strict)
                if request is None and problem is not None:
                    self._codes[problem.code] += 1
                batch.rows.append(row)
                batch.requests.append(request)
                if len(batch.rows) == _BATCH_ROWS or reader.characters - before > _BATCH_CHARACTERS:
                    yield batch
                    batch, before = _Batch(), reader.characters
                    reader.take_digest_input()  # it would be held for an import's digest
        except InputUnreadableError:
            yield batch
            raise
        yield batch

    def _looked_up(
        self, batches: Iterator[_Batch], lookups: ThreadPoolExecutor
    ) -> Iterator[tuple[_Batch, list[set[int] | None]]]:
        """Yield the batches in order with what their requests lead to."""
        waiting: deque[tuple[_Batch, Future[list[set[int] | None]]]] = deque()
        try:
            for batch in batches:
                requests = [request for request in batch.requests if request is not None]
                waiting.append((batch, lookups.submit(find_primaries, self._graph, requests)))
                if len(waiting) == _BATCHES_AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
        except InputUnreadableError:
            for first, future in waiting:
                yield first, future.result()
            raise
        for first, future in waiting:
            yield first, future.result()

    def _annotations(self, batch: _Batch, found: Iterable[set[int] | None]) -> list[Annotation]:
        primaries = iter(found)
        annotations = [
            _REJECTED if request is None else _annotation(next(primaries))
            for request in batch.requests
        ]
        self._statuses.update(map(attrgetter("status"), annotations))
        return annotations


def _annotation(primaries: set[int] | None) -> Annotation:
    if primaries is None:
        return _BLOCKED
    if len(primaries) == 1:
        return Annotation(primaries.pop(), "known")
    return _SPLIT if primaries else _UNKNOWN


def _total_size(paths: Iterable[str]) -> int | None:
    return sum(map(file_size, paths)) if all(map(is_file, paths)) else None
