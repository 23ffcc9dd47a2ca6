"""Copies of inputs with two more columns: the identity of each row."""

from __future__ import annotations

import codecs
import csv
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Protocol

from identity_cli.errors import UsageError
from identity_cli.importer.formats.text import KEEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.importer.formats import InputOptions, Layout, Row

Status = Literal["known", "split", "unknown", "blocked", "rejected"]

ADDED_COLUMNS = ("primary_contact_id", "identity_status")

# The format in which inputs of a format are annotated.
_OUTPUT_FORMATS = {
    "csv": "csv",
    "excel": "csv",
    "jsonl": "jsonl",
    "json": "jsonl",
    "parquet": "parquet",
}
# Rows of a row group of Parquet, which is held in memory.
_ROW_GROUP = 65_536

# Lines that are no objects, to which no key can be added.
_NO_OBJECT = frozenset({"bad_json", "bad_encoding", "too_long"})
# The end of an object that was annotated before, exactly as it is written here.
_OWN_KEYS = re.compile(
    rb',?"primary_contact_id":(?:null|[0-9]+),"identity_status":"[a-z]+"(?=\}[^{}"]*$)'
)


_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


class Annotation(NamedTuple):
    """The identity of a row; `primary_id` is None unless the status is "known"."""

    primary_id: int | None
    status: Status


class Beginning(NamedTuple):
    """What is known about an input before its rows are copied.

    `text` ends with the first row as it was read, `row` is that row; both are empty if the input
    has none.
    """

    path: str
    layout: Layout
    text: bytes
    row: Row | None


class AnnotatedOutput(Protocol):
    """A file that the rows of one or more inputs are copied to."""

    def begin_input(self, beginning: Beginning) -> None:
        """Prepare for the rows of an input. Raises `UsageError` if it is unlike the first one."""
        ...

    def write(self, rows: Sequence[Row], annotations: Sequence[Annotation]) -> None:
        """Write rows of the input, each with its annotation."""
        ...

    def close(self) -> None:
        """Write what belongs at the end of the file, also of one that ends early."""
        ...


class CsvOutput:
    """A CSV file with the delimiter, encoding, quoting and line ends of its first input.

    Columns that the input has already are replaced where they are.
    """

    def __init__(self, stream: BinaryIO, *, header: bool, escape: str | None) -> None:
        self._stream = stream
        self._header = header
        self._escape = escape
        self._first: Layout | None = None
        self._lines: list[str] = []

    def begin_input(self, beginning: Beginning) -> None:
        layout = beginning.layout
        if self._first is not None:
            if list(layout.columns) != list(self._first.columns):
                raise UsageError(
                    f"{beginning.path} has other columns than the first input",
                    hint="annotate each file by itself",
                )
            return
        self._first = layout
        self._encoder = codecs.getincrementalencoder(layout.encoding)(KEEP_BYTES)
        self._line_end, self._writer = self._as_written(beginning)
        self._width = len(layout.columns)
        columns = list(layout.columns)
        if self._header:
            columns += [name for name in ADDED_COLUMNS if name not in columns]
            self._places = tuple(map(columns.index, ADDED_COLUMNS))
            self._writer.writerow(columns)
            self._flush()
        else:
            columns += ADDED_COLUMNS
            self._places = (self._width, self._width + 1)
        self._added = [""] * (len(columns) - self._width)

    def write(self, rows: Sequence[Row], annotations: Sequence[Annotation]) -> None:
        self._writer.writerows(map(self._cells, rows, annotations))
        self._flush()

    def close(self) -> None:
        pass

    def _cells(self, row: Row, annotation: Annotation) -> Sequence[Any]:
        content, width = row.content, self._width
        if len(content) == width and len(self._added) == len(annotation):
            return (*content, *annotation)  # nearly every row, and the fastest
        cells = [*content[:width], *[""] * (width - len(content)), *self._added]
        for place, value in zip(self._places, annotation, strict=True):
            cells[place] = value
        # Cells beyond the header come last, so that the columns keep their places.
        cells += content[width:]
        return cells

    def _flush(self) -> None:
        # The writer quotes the characters of its own line end; it is "\r\n" whatever the file's is.
        text = "".join(self._lines)
        if self._line_end != "\r\n":
            if '"' not in text and self._escape is None:  # no line end is in a cell
                text = text.replace("\r\n", self._line_end)
            else:
                text = "".join([f"{line[:-2]}{self._line_end}" for line in self._lines])
        self._lines.clear()
        self._stream.write(self._encoder.encode(text))

    def _as_written(self, beginning: Beginning) -> tuple[str, Any]:
        """Return the line end and the writer that write the first row as it was read."""
        text = beginning.text.decode("utf-8", "surrogatepass")
        line_end = next((end for end in ("\r\n", "\n", "\r") if text.endswith(end)), "\n")
        delimiter = beginning.layout.delimiter
        if beginning.row is not None:
            writer = self._make_writer(delimiter, csv.QUOTE_ALL)
            writer.writerow(beginning.row.content)
            if text.removesuffix(line_end).endswith(self._lines.pop().removesuffix("\r\n")):
                return line_end, writer
        return line_end, self._make_writer(delimiter, csv.QUOTE_MINIMAL)

    def _make_writer(self, delimiter: str, quoting: int) -> Any:
        # It calls `write` once for each row.
        return csv.writer(
            SimpleNamespace(write=self._lines.append),
            delimiter=delimiter,
            quoting=quoting,  # type: ignore[arg-type]
            escapechar=self._escape,
            doublequote=self._escape is None,
            lineterminator="\r\n",
        )


class JsonLinesOutput:
    """A JSON Lines file; the text of each object is kept, and two keys are added at its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._encode: codecs.IncrementalEncoder | None = None

    def begin_input(self, beginning: Beginning) -> None:
        encoding = beginning.layout.encoding
        if self._encode is None and codecs.lookup(encoding).name not in {"utf-8", "ascii"}:
            self._encode = codecs.getincrementalencoder(encoding)(KEEP_BYTES)

    def write(self, rows: Sequence[Row], annotations: Sequence[Annotation]) -> None:
        data = b"".join(map(_annotated_line, rows, annotations))
        if self._encode is not None:
            data = self._encode.encode(data.decode("utf-8", "surrogatepass"))
        self._stream.write(data)

    def close(self) -> None:
        pass


def _annotated_line(row: Row, annotation: Annotation) -> bytes:
    import msgspec

    primary_id = b"null" if annotation.primary_id is None else b"%d" % annotation.primary_id
    added = b'"primary_contact_id":%b,"identity_status":"%b"' % (
        primary_id,
        annotation.status.encode(),
    )
    if row.problem is not None and row.problem.code in _NO_OBJECT:
        # No object can hold the same: the line is kept as text.
        raw = row.content.decode("utf-8", "backslashreplace").rstrip("\r\n")
        return b'{"_raw":%b,%b}\n' % (msgspec.json.encode(raw), added)
    line: bytes = row.content
    text = line.rstrip(b"\r\n")
    # An object of a JSON document may take several lines; none of its line breaks is in a value.
    line = text.translate(_ONE_LINE) + (line[len(text) :] or b"\n")
    if b'"primary_contact_id"' in line or b'"identity_status"' in line:
        line = _without_added_keys(line)
    end = line.rindex(b"}")
    comma = b"" if line[:end].rstrip().endswith(b"{") else b","
    return b"%b%b%b%b" % (line[:end], comma, added, line[end:])


def _without_added_keys(line: bytes) -> bytes:
    import msgspec

    shorter = _OWN_KEYS.sub(b"", line)
    values = msgspec.json.decode(shorter[: shorter.rindex(b"}") + 1], type=dict[str, msgspec.Raw])
    if values.keys().isdisjoint(ADDED_COLUMNS):
        return shorter
    kept = ((key, value) for key, value in values.items() if key not in ADDED_COLUMNS)
    pairs = (b"%b: %b" % (msgspec.json.encode(key), bytes(value)) for key, value in kept)
    return b"{%b}\n" % b", ".join(pairs)


class ParquetOutput:
    """A Parquet file with the columns of its first input and the two added ones.

    The columns are read once more by themselves, as a row does not hold all of them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._writer: Any = None
        self._path = ""
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._rows_before = 0  # of the input, before the batch
        self._kept: list[int] = []
        self._annotations: list[Annotation] = []

    def begin_input(self, beginning: Beginning) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from identity_cli.importer.formats.parquet import open_file

        self._path = beginning.path
        file = open_file(beginning.path)  # its reader has opened it, too
        # By position: two columns may have one name.
        self._kept = [
            at for at, name in enumerate(file.schema_arrow.names) if name not in ADDED_COLUMNS
        ]
        fields = [file.schema_arrow.field(at) for at in self._kept]
        types = (pa.int64(), pa.string())
        fields += [pa.field(*pair) for pair in zip(ADDED_COLUMNS, types, strict=True)]
        schema = pa.schema(fields, file.schema_arrow.metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._stream, schema)
        elif not schema.equals(self._writer.schema):
            raise UsageError(
                f"{beginning.path} has other columns than the first input",
                hint="annotate each file by itself",
            )
        self._batches = file.iter_batches(_ROW_GROUP)
        self._rows_before = 0
        self._batch = self._next_batch()

    def write(
        self,
        rows: Sequence[Row],  # noqa: ARG002 - the batches hold all columns
        annotations: Sequence[Annotation],
    ) -> None:
        self._annotations += annotations
        while self._batch is not None and len(self._annotations) >= self._batch.num_rows:
            count = self._batch.num_rows
            self._write_batch(self._annotations[:count])
            del self._annotations[:count]
            self._rows_before += count
            self._batch = self._next_batch()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        finally:
            # Else its destructor closes it again, and prints what goes wrong.
            writer.is_open = False

    def _next_batch(self) -> Any:
        from identity_cli.importer.formats.parquet import DAMAGE, unreadable

        # Damage in a column that is not used is met here first.
        try:
            return next(self._batches, None)
        except DAMAGE as error:
            raise unreadable(self._path, self._rows_before, error) from error

    def _write_batch(self, annotations: Sequence[Annotation]) -> None:
        import pyarrow as pa

        schema = self._writer.schema
        added = [
            pa.array(values, type_)
            for values, type_ in zip(zip(*annotations, strict=True), schema.types[-2:], strict=True)
        ]
        columns = [*map(self._batch.column, self._kept), *added]
        self._writer.write_batch(pa.record_batch(columns, schema=schema))


def open_output(stream: BinaryIO, beginning: Beginning, options: InputOptions) -> AnnotatedOutput:
    """Return an output in the format of the first input, or in the nearest that has columns.

    Raises `UsageError` for a format that has no place for two more values.
    """
    kind = output_format(beginning)
    if kind == "csv":
        return CsvOutput(stream, header=options.header, escape=options.escape)
    return JsonLinesOutput(stream) if kind == "jsonl" else ParquetOutput(stream)


def output_format(beginning: Beginning) -> str:
    """Return the format in which an input is annotated. Raises `UsageError` if there is none."""
    kind = _OUTPUT_FORMATS.get(beginning.layout.input_format)
    if kind is None:
        raise UsageError(
            f"{beginning.path}: {beginning.layout.input_format} files cannot be annotated",
            hint="they have no columns; convert the file to CSV first",
        )
    return kind
