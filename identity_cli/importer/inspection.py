"""How a file would be imported: its format, its columns, and what becomes of its rows.

A database is needed only to find out what its rules would do to the rows.
"""

from __future__ import annotations

import shlex
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.errors import InputUnreadableError
from identity_cli.graph.normalize import Normalizer
from identity_cli.importer.formats import missing_keys, open_reader
from identity_cli.importer.report import RunError
from identity_cli.importer.row_requests import read_request
from identity_cli.importer.sharing import SharedValue, SharingCounter
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from identity_cli.graph.effects import EffectCounter
    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.importer.formats import ColumnReport, InputOptions, Layout, Reader, Row

SCHEMA_VERSION = 1

# How many rows are read unless all are asked for.
ROWS = 10_000

# How often the progress is shown, in rows.
_SHOW_EVERY = 1_000

# How many requests are compared with the rules of a database at a time.
_BATCH_ROWS = 5_000

_FIRST_REQUESTS = 10
_FIRST_REJECTS = 10
_SHARED_VALUES = 10
# Two people in a household share a value; a value with so many others is worth a look.
_SHARED_WITH = 3

# Formats that are text, and so have an encoding.
_TEXT_FORMATS = frozenset({"csv", "jsonl", "json", "vcard"})
# Formats whose values are found by columns or keys.
_MAPPED_FORMATS = frozenset({"csv", "excel", "jsonl", "json", "parquet"})


class InspectedRequest(NamedTuple):
    """A request as it would be reconciled."""

    line: int
    emails: tuple[str, ...]
    phone_numbers: tuple[str, ...]


class InspectedReject(NamedTuple):
    """A row that would be in the rejects file; `partial` if its good values would be reconciled."""

    line: int
    code: str
    reason: str
    partial: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """How a file would be imported.

    `rows` holds read, accepted, partial and rejected: a partial row is accepted with its good
    values. `is_complete` is whether all rows were read. `rejected_by_code` counts the rows of the
    rejects file, partial ones among them, by their first code. `without_country` is the number of
    phone numbers that have no country code although there is no region. `rows_missed` is by how
    much the rows of a shared value may be too few. `command` imports the file with all of this
    passed explicitly. `error` is why the file cannot be read any further. `effects` is what the
    rules of a database do to its rows and values, None without a database.
    """

    path: str
    layout: Layout
    compression: str | None
    header_line: int | None
    columns: ColumnReport
    notes: tuple[str, ...]
    rows: dict[str, int]
    is_complete: bool
    first_requests: tuple[InspectedRequest, ...]
    rejected_by_code: dict[str, int]
    first_rejects: tuple[InspectedReject, ...]
    shared_values: tuple[SharedValue, ...]
    rows_missed: int
    without_country: int
    command: str
    error: InputUnreadableError | None = None
    effects: Mapping[str, Mapping[str, int]] | None = None

    @property
    def encoding(self) -> str | None:
        """The encoding of a text; None for other formats."""
        return self.layout.encoding if self.layout.input_format in _TEXT_FORMATS else None

    @property
    def delimiter(self) -> str | None:
        """The delimiter of a CSV file; None for other formats."""
        return self.layout.delimiter if self.layout.input_format == "csv" else None

    def as_json(self) -> dict[str, Any]:
        """Return the document of `--json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "input": self.path,
            "format": self.layout.input_format,
            "compression": self.compression,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "header_line": self.header_line,
            "columns": self.columns.as_json(),
            "notes": list(self.notes),
            "complete": self.is_complete,
            "rows": self.rows,
            "rejected_by_code": self.rejected_by_code,
            "first_rejects": [reject._asdict() for reject in self.first_rejects],
            "first_requests": [request._asdict() for request in self.first_requests],
            "shared_values": [shared.as_json() for shared in self.shared_values],
            "shared_rows_missed": self.rows_missed,
            "local_phone_numbers": self.without_country,
            "rules": None if self.effects is None else dict(self.effects),
            "command": self.command,
            "error": None if self.error is None else RunError.of(self.error).as_json(),
        }


def inspect_input(
    path: str,
    options: InputOptions,
    *,
    region: str | None = None,
    limit: int | None = ROWS,
    effects: EffectCounter | None = None,
    show: Callable[[int, int | None, int], None] = lambda _offset, _total, _rows: None,
) -> Inspection:
    """Read the first `limit` rows of an input, or all, and return how it would be imported.

    Where the input cannot be read any further, the inspection holds the error and what was read
    before. `effects` is asked what the rules of a database do to the requests. `show` is called
    with the bytes that were read, those of the input, and the rows.

    Raises `InputNotFoundError`, `UsageError`, and `InputUnreadableError` if not even the header can
    be read.
    """
    with closing(Source(path)) as source:
        reader = open_reader(source, options)
        layout = reader.layout
        header_line = None
        if layout.columns and options.header and layout.input_format == "csv":
            # A header with line breaks in it ends below the line that it begins on.
            header_line = reader.line - sum(name.count("\n") for name in layout.columns)
        normalizer = Normalizer(region, null_words=options.null_words)
        tally = _Tally(normalizer, strict=options.strict, effects=effects)
        error = None
        is_complete = True
        try:
            for row in reader.rows():
                if tally.read == limit:
                    is_complete = False
                    break
                tally.add(row)
                if tally.read % _SHOW_EVERY == 0:
                    reader.take_digest_input()  # it would be held for an import's digest
                    show(source.offset, source.size, tally.read)
        except InputUnreadableError as failure:
            error, is_complete = failure, False
        show(source.offset, source.size, tally.read)
        tally.end()
        notes, error = _missing_keys(reader, path, is_complete=is_complete, error=error)
        command = import_command(
            path,
            options,
            layout,
            reader.column_report,
            header_line=header_line,
            region=region,
        )
        return Inspection(
            path=path,
            layout=layout,
            compression=source.compression,
            header_line=header_line,
            columns=reader.column_report,
            notes=(*reader.notes, *notes),
            rows=tally.rows,
            is_complete=is_complete,
            first_requests=tuple(tally.first_requests),
            rejected_by_code=dict(sorted(tally.codes.items())),
            first_rejects=tuple(tally.first_rejects),
            shared_values=tuple(tally.sharing.most_shared(_SHARED_VALUES, _SHARED_WITH, rows=2)),
            rows_missed=tally.sharing.missed,
            without_country=tally.without_country,
            command=command,
            error=error,
            effects=None if effects is None else effects.as_json(),
        )


class _Tally:
    """What would become of the rows so far."""

    def __init__(
        self, normalizer: Normalizer, *, strict: bool, effects: EffectCounter | None
    ) -> None:
        self.read = 0
        self.partial = 0
        self.rejected = 0
        self.without_country = 0
        self.codes: Counter[str] = Counter()
        self.first_requests: list[InspectedRequest] = []
        self.first_rejects: list[InspectedReject] = []
        self.sharing = SharingCounter()
        self._normalizer = normalizer
        self._strict = strict
        self._effects = effects
        self._uncounted: list[ContactRequest] = []

    @property
    def rows(self) -> dict[str, int]:
        return {
            "read": self.read,
            "accepted": self.read - self.rejected,
            "partial": self.partial,
            "rejected": self.rejected,
        }

    def add(self, row: Row) -> None:
        """Count a row."""
        self.read += 1
        request, problem = read_request(row, self._normalizer, strict=self._strict)
        if problem is not None:
            self.codes[problem.code] += 1
            is_partial = request is not None
            if len(self.first_rejects) < _FIRST_REJECTS:
                self.first_rejects.append(
                    InspectedReject(row.line, problem.code, problem.reason, is_partial)
                )
            self.partial += is_partial
            self.rejected += not is_partial
        if request is not None:
            self._add_request(row.line, request)

    def _add_request(self, line: int, request: ContactRequest) -> None:
        if len(self.first_requests) < _FIRST_REQUESTS:
            self.first_requests.append(InspectedRequest(line, request.emails, request.phones))
        if self._normalizer.region is None:
            self.without_country += sum(not phone.startswith("+") for phone in request.phones)
        self.sharing.add((*request.emails, *request.phones))
        if self._effects is not None:
            self._uncounted.append(request)
            if len(self._uncounted) == _BATCH_ROWS:
                self.end()

    def end(self) -> None:
        """Count what the rules do to the requests since the last time."""
        if self._effects is not None and self._uncounted:
            self._effects.add(self._uncounted)
            self._uncounted.clear()


def import_command(
    path: str,
    options: InputOptions,
    layout: Layout,
    columns: ColumnReport,
    *,
    header_line: int | None,
    region: str | None,
) -> str:
    """Return the command that imports an input without anything left to be detected."""
    words = ["identity", "import", path, "--input-format", layout.input_format]
    if layout.input_format == "csv":
        words += ["--delimiter", "\\t" if layout.delimiter == "\t" else layout.delimiter]
    if layout.input_format in _TEXT_FORMATS:
        words += ["--encoding", layout.encoding]
    skip_lines = options.skip_lines
    if skip_lines is None and header_line is not None and header_line > 1:
        skip_lines = header_line - 1
    if skip_lines is not None:
        words += ["--skip-lines", str(skip_lines)]
    words += [] if options.header else ["--no-header"]
    words += ["--escape", options.escape] if options.escape is not None else []
    words += ["--sheet", options.sheet] if options.sheet is not None else []
    if layout.input_format in _MAPPED_FORMATS:
        for kind, name in _mapping(columns):
            words += ["--map", f"{kind}={name}"]
    for option, value in (
        ("--region", region),
        ("--region-column", options.region_column),
        *(("--null", word) for word in options.null_words),
        ("--key", options.key),
    ):
        words += [] if value is None else [option, value]
    words += ["--strict"] if options.strict else []
    return shlex.join(words)


def _mapping(columns: ColumnReport) -> Iterator[tuple[str, str]]:
    for kind in ("email", "phone"):
        names = [name for name, use in columns.used if use == kind]
        # Two columns of one name cannot be told apart by --map; they are recognised together.
        if len(set(names)) == len(names):
            yield from ((kind, name) for name in names)


def _missing_keys(
    reader: Reader, path: str, *, is_complete: bool, error: InputUnreadableError | None
) -> tuple[list[str], InputUnreadableError | None]:
    """Return a note about mapped keys that no row had so far, or the error if it was the last."""
    if error is not None or not reader.unseen_keys:
        return [], error
    missing = missing_keys(path, reader.unseen_keys)
    return ([], missing) if is_complete else ([f"{missing} so far"], None)
