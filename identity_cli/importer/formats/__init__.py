"""The formats of an input, and the choice of the reader."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from identity_cli.errors import UsageError
from identity_cli.importer.formats.csv import CsvReader
from identity_cli.importer.formats.detection import Detected, detect
from identity_cli.importer.formats.jsonl import JsonLinesReader
from identity_cli.importer.formats.rows import (
    REJECT_COLUMNS,
    ColumnReport,
    InputFormat,
    InputOptions,
    Kind,
    Layout,
    Reader,
    Row,
    missing_keys,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.importer.source import Source

__all__ = [
    "REJECT_COLUMNS",
    "ColumnReport",
    "Detected",
    "InputFormat",
    "InputOptions",
    "Kind",
    "Layout",
    "Reader",
    "Row",
    "detect",
    "missing_keys",
    "open_reader",
]


def open_reader(source: Source, options: InputOptions) -> Reader:
    """Return a reader of the source, whose format is found out by its content.

    The header of a table has been read by then. Raises `InputUnreadableError`, and `UsageError` if
    the format needs an extra that is not installed.
    """
    detected = detect(source, options)
    options = replace(options, encoding=detected.encoding)
    match detected.input_format:
        case "csv":
            return CsvReader(source, options, detected)
        case "jsonl":
            return JsonLinesReader(source, options)
        case "json":
            from identity_cli.importer.formats.json import JsonReader

            return JsonReader(source, options)
        case "vcard":
            from identity_cli.importer.formats.vcard import VcardReader

            return VcardReader(source, options, detected.encoding)
        case "excel":
            with _extra("excel", "Excel files"):
                from identity_cli.importer.formats.excel import ExcelReader
            return ExcelReader(source, options)
        case "parquet":
            with _extra("parquet", "Parquet files"):
                from identity_cli.importer.formats.parquet import ParquetReader
            return ParquetReader(source, options)
        case _:
            assert_never(detected.input_format)


@contextmanager
def _extra(name: str, files: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{files} need the extra {name!r}, which is not installed",
            hint=f"pip install 'identity-cli[{name}]'",
        ) from error
