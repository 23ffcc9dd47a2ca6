"""Formats of an input: which reader reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.errors import UsageError
from identity_cli.importer.formats.csv import CsvReader
from identity_cli.importer.formats.jsonl import JsonLinesReader
from identity_cli.importer.formats.rows import (
    REJECT_COLUMNS,
    InputFormat,
    InputOptions,
    Reader,
    Row,
)

if TYPE_CHECKING:
    from identity_cli.importer.source import Source

__all__ = [
    "REJECT_COLUMNS",
    "InputFormat",
    "InputOptions",
    "Reader",
    "Row",
    "format_of",
    "open_reader",
]


def format_of(path: str, options: InputOptions) -> InputFormat:
    """The format that was asked for, or that the name says."""
    if options.input_format is not None:
        return options.input_format
    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".csv", ".tsv", ".tab")):
        return "csv"
    if name.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    what = "standard input" if path == "-" else f"the name {path}"
    raise UsageError(
        f"{what} does not tell the format", hint="give --input-format csv or --input-format jsonl"
    )


def open_reader(source: Source, options: InputOptions) -> Reader:
    """A reader for the source, whose header (of CSV) is read already."""
    if format_of(source.path, options) == "jsonl":
        return JsonLinesReader(source, options)
    name = source.path.lower().removesuffix(".gz").removesuffix(".zst")
    delimiter = options.delimiter or ("\t" if name.endswith((".tsv", ".tab")) else ",")
    return CsvReader(source, options, delimiter)
