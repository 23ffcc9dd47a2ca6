"""Parquet files; needs the extra `parquet`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from identity_cli.errors import InputUnreadableError
from identity_cli.importer.formats.columns import choose, none_recognised
from identity_cli.importer.formats.paths import Path
from identity_cli.importer.formats.rows import ColumnReport, Layout, Row
from identity_cli.importer.formats.text import KEEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.importer.formats.columns import Choice
    from identity_cli.importer.formats.rows import InputOptions, Kind
    from identity_cli.importer.source import Source

# What pyarrow raises for a damaged file.
DAMAGE = (pa.ArrowException, OSError, ValueError)
_BATCH_ROWS = 1024
_BUFFER = 1 << 20
_CELL_CHARACTERS = 8
# A schema may nest without end; nobody maps deeper.
_DEEPEST = 8
# How the elements of a list are named in the file itself, and in paths of many tools.
_ELEMENTS = re.compile(r"\.list\.(?:element|item)\b|\.bag\.array_element\b|\[\]")


def open_file(file: Any) -> pq.ParquetFile:
    """Open a Parquet file whose damaged pages are noticed. Raises `DAMAGE`."""
    # Of the columns that are used, some pages are in memory, and not all of a row group.
    return pq.ParquetFile(
        file, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True
    )


def unreadable(name: str, rows: int, error: Exception) -> InputUnreadableError:
    """Return the error for a file that is damaged behind so many rows."""
    # Of pyarrow's error only the first line is about the file; it holds no values.
    problem = "text that is not UTF-8" if isinstance(error, UnicodeError) else str(error)
    return InputUnreadableError(
        f"{name}:{rows + 1}" if rows else name,
        f"the Parquet file cannot be read: {problem.partition(chr(10))[0][:200]}",
        hint="make the file again",
        is_midway=True,
    )


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column of values: its path, and the column of the table that it is in.

    `column` is the index of that column, `inside` the path in its values.
    """

    path: str
    column: int
    inside: Path

    @property
    def is_nested(self) -> bool:
        return bool(self.inside.text)


class ParquetReader:
    """A reader of the used columns of a Parquet file. A row's line is its number, from 1.

    Its rejects have no other columns, as these would have to be read for every row.
    """

    def __init__(self, source: Source, options: InputOptions) -> None:
        self.line = 0
        self.characters = 0
        self.notes: Sequence[str] = ()
        self._name = source.name
        self._untaken: list[str] = []
        try:
            self._file = open_file(source.seekable())
            schema = self._file.schema_arrow
        except DAMAGE as error:
            raise unreadable(self._name, 0, error) from error
        self._names: list[str] = schema.names
        self._leaves = [
            leaf for column, field in enumerate(schema) for leaf in _leaves(field, column)
        ]
        choice = choose([leaf.path for leaf in self._leaves], _resolved(options, self._leaves))
        self._emails, self._phones = (
            [
                at
                for at in indexes
                if kind in dict(options.mapping) or not self._leaves[at].is_nested
            ]
            for kind, indexes in (("email", choice.emails), ("phone", choice.phones))
        )
        self._region, self._key = choice.region, choice.key
        self.column_report = self._report(choice)
        single = [at for at in (choice.region, choice.key) if at is not None]
        self._used = list(dict.fromkeys([*self._emails, *self._phones, *single]))
        self.layout = Layout("parquet", "utf-8", [self._leaves[at].path for at in self._used])
        if not self._emails and not self._phones:
            raise none_recognised(self._name, [leaf.path for leaf in self._leaves])

    @property
    def unseen_keys(self) -> list[str]:
        """Always empty: a mapped column that is missing is an error of the schema."""
        return []

    def take_digest_input(self) -> bytes:
        text = "".join(self._untaken)
        self._untaken.clear()
        return text.encode("utf-8", "surrogatepass")

    def rows(self) -> Iterator[Row]:
        emails, phones = self._positions(self._emails), self._positions(self._phones)
        region, key = self._position(self._region), self._position(self._key)
        for values in self._tuples():
            self.line += 1
            cells = [value if type(value) is str else _cell(value) for value in values]
            self.characters += sum(map(len, cells)) + _CELL_CHARACTERS * len(cells)
            self._untaken.append("\t".join(cells) + "\n")
            yield Row(
                self.line,
                [values[at] for at in emails],
                [values[at] for at in phones],
                cells,
                None,
                None if region is None else _first(values[region]),
                None if key is None else _first(values[key]),
            )

    def _positions(self, leaves: Sequence[int]) -> list[int]:
        return [self._used.index(leaf) for leaf in leaves]

    def _position(self, leaf: int | None) -> int | None:
        return None if leaf is None else self._used.index(leaf)

    def _tuples(self) -> Iterator[tuple[object, ...]]:
        """Yield the values of the used columns, row by row."""
        used = [self._leaves[at] for at in self._used]
        wanted = sorted({leaf.column for leaf in used})
        names = list(dict.fromkeys(self._names[column] for column in wanted))
        # A name that is there twice selects both columns.
        selected = [column for column, name in enumerate(self._names) if name in names]
        try:
            batches = self._file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False)
            for batch in batches:
                lists = {
                    column: _python_values(batch.column(at))
                    for at, column in enumerate(selected)
                    if column in wanted
                }
                yield from zip(*(_values(leaf, lists[leaf.column]) for leaf in used), strict=True)
        except DAMAGE as error:
            raise unreadable(self._name, self.line, error) from error

    def _report(self, choice: Choice) -> ColumnReport:
        used = {*self._emails, *self._phones}
        left: list[tuple[int, Kind]] = [
            *((at, "email") for at in choice.emails if at not in used),
            *((at, "phone") for at in choice.phones if at not in used),
        ]
        nested = {
            (self._leaves[at].path, kind): f"it is not at the top level; to use it:"
            f" --map {kind}={self._leaves[at].path}"
            for at, kind in left
        }
        return ColumnReport(
            tuple(use for use in choice.report.used if use not in nested),
            (
                *((path, reason) for (path, _), reason in nested.items()),
                *choice.report.unused,
            ),
        )


def _leaves(field: Any, column: int) -> Iterator[_Leaf]:
    """Yield what can be mapped of a column."""
    for inside in _inside(field.type, 0):
        # Between a list and a field of its elements there are brackets: emails[].address.
        joint = "" if not inside or inside.startswith("[]") else "."
        yield _Leaf(f"{field.name}{joint}{inside}", column, Path(inside.removeprefix("[].")))


def _inside(value_type: Any, level: int) -> Iterator[str]:
    if level == _DEEPEST:
        return
    if pa.types.is_struct(value_type):
        for field in value_type:
            for inside in _inside(field.type, level + 1):
                joint = "" if not inside or inside.startswith("[]") else "."
                yield f"{field.name}{joint}{inside}"
    elif _is_list(value_type):
        for inside in _inside(value_type.value_type, level + 1):
            yield f"[].{inside}" if inside and not inside.startswith("[]") else inside
    elif not pa.types.is_map(value_type):
        yield ""


def _is_list(value_type: Any) -> bool:
    return bool(
        pa.types.is_list(value_type)
        or pa.types.is_large_list(value_type)
        or pa.types.is_fixed_size_list(value_type)
    )


def _resolved(options: InputOptions, leaves: Sequence[_Leaf]) -> InputOptions:
    """Return the options with paths as they are written here, for example without `.list.item`."""
    paths = {leaf.path for leaf in leaves}
    plain = {_ELEMENTS.sub("", leaf.path): leaf.path for leaf in reversed(leaves)}

    def resolve(name: str) -> str:
        return name if name in paths else plain.get(_ELEMENTS.sub("", name), name)

    return replace(
        options,
        mapping=[(kind, resolve(name)) for kind, name in options.mapping],
        region_column=None if options.region_column is None else resolve(options.region_column),
        key=None if options.key is None else resolve(options.key),
        header=True,
    )


def _python_values(array: Any) -> list[object]:
    """Return the values of a column; a date gets a time, so that it is no phone number."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.string())
    try:
        values: list[object] = array.to_pylist()
    except UnicodeDecodeError:
        # One bad byte is one bad row.
        values = array.cast(pa.large_binary()).to_pylist()
    return values


def _values(leaf: _Leaf, column: Sequence[object]) -> list[object]:
    if not leaf.is_nested:
        return [value if type(value) is str else _plain(value) for value in column]
    found = map(leaf.inside.values, column)
    return [
        None if not values else _plain(values[0] if len(values) == 1 else values)
        for values in found
    ]


def _plain(value: object) -> object:
    """Return a value as JSON would have it: text, a number, or an array of such."""
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", KEEP_BYTES)
    if isinstance(value, Decimal):
        return (
            int(value) if value.is_finite() and value == value.to_integral_value() else str(value)
        )
    if isinstance(value, float) and value != value:
        return None  # how a data frame writes that there is no value
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _cell(value: object) -> str:
    """Return the text of a value in a CSV file; several are a JSON array."""
    if value is None:
        return ""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _first(value: object) -> object:
    if isinstance(value, list):
        return value[0] if value else None
    return value
