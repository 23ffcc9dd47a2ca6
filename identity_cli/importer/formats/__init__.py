"""The formats of an input, and the choice of the reader."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from identity_cli.errors import UsageError
from identity_cli.importer.formats.csv import CsvReader
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
)

if TYPE_CHECKING:
    from identity_cli.importer.source import Source

__all__ = [
    "REJECT_COLUMNS",
    "ColumnReport",
    "InputFormat",
    "InputOptions",
    "Kind",
    "Layout",
    "Reader",
    "Row",
    "format_of",
    "open_reader",
]


# Rejects files are named FILE.RUN.rejects and have the format of FILE.
_REJECTS_ENDING = re.compile(r"(\.[0-9]+)?\.rejects$")
_CSV_ENDINGS = (".csv", ".tsv", ".tab")
_TAB_ENDINGS = (".tsv", ".tab")
_JSONL_ENDINGS = (".jsonl", ".ndjson")


def format_of(path: str, options: InputOptions) -> InputFormat:
    """Return the format that was asked for, else the one that the name shows."""
    if options.input_format is not None:
        return options.input_format
    name = _uncompressed_name(path)
    if name.endswith(_CSV_ENDINGS):
        return "csv"
    if name.endswith(_JSONL_ENDINGS):
        return "jsonl"
    raise UsageError(
        f"cannot tell the format of {'standard input' if path == '-' else path}",
        hint="use --input-format csv or --input-format jsonl",
    )


def open_reader(source: Source, options: InputOptions) -> Reader:
    """Return a reader of the source; the header of a CSV file has been read by then."""
    if format_of(source.path, options) == "jsonl":
        return JsonLinesReader(source, options)
    is_tabs = _uncompressed_name(source.path).endswith(_TAB_ENDINGS)
    return CsvReader(source, options, options.delimiter or ("\t" if is_tabs else ","))


def _uncompressed_name(path: str) -> str:
    name = _REJECTS_ENDING.sub("", path.lower())
    return name.removesuffix(".gz").removesuffix(".zst")
