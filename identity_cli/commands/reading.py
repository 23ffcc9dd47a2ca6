"""Options that decide how a file is read, for all commands that read one."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from identity_cli.importer.formats import InputOptions, Kind

FORMATS = ("auto", "csv", "jsonl", "json", "excel", "parquet", "vcard")

Files = Annotated[list[str], typer.Argument(metavar="FILE…", help="Inputs; - is standard input.")]
InputFormat = Annotated[
    str,
    typer.Option("--input-format", metavar="|".join(FORMATS), help="Format; auto: detected."),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter", metavar="C", help="CSV delimiter (default: detected).", show_default=False
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="Text encoding (default: by the BOM, else UTF-8).",
        show_default=False,
    ),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="KIND=COLUMN",
        help="Column to read as email or phone, as in email=Mail.",
        show_default=False,
    ),
]
SkipLines = Annotated[
    int | None,
    typer.Option(
        "--skip-lines",
        metavar="N",
        min=0,
        help="Lines before the header (default: detected).",
        show_default=False,
    ),
]
NoHeader = Annotated[
    bool, typer.Option("--no-header", help="Name the columns by numbers; there is no header line.")
]
Escape = Annotated[
    str | None,
    typer.Option(
        "--escape",
        metavar="C",
        help="Character before a quote that is part of a CSV cell.",
        show_default=False,
    ),
]
Sheet = Annotated[
    str | None,
    typer.Option(
        "--sheet",
        metavar="NAME|N",
        help="Sheet of an Excel file (default: the first).",
        show_default=False,
    ),
]
RegionColumn = Annotated[
    str | None,
    typer.Option(
        "--region-column",
        metavar="COLUMN",
        help="Column with the country of the row's phone numbers.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="COLUMN",
        help="Column with the row's own id in its source.",
        show_default=False,
    ),
]
NullWords = Annotated[
    list[str] | None,
    typer.Option(
        "--null",
        metavar="WORD",
        help="Word that means that a value is absent; can be repeated.",
        show_default=False,
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Reject a row if one of its values is bad.")]


def input_options(
    *,
    input_format: str,
    delimiter: str | None,
    encoding: str | None,
    mapping: list[str] | None,
    skip_lines: int | None = None,
    no_header: bool = False,
    escape: str | None = None,
    sheet: str | None = None,
    region_column: str | None = None,
    key: str | None = None,
    null_words: list[str] | None = None,
    strict: bool = False,
) -> InputOptions:
    """Return the options of the command line as the readers take them.

    Raises `UsageError`.
    """
    from identity_cli.importer.formats import InputOptions

    if input_format not in FORMATS:
        raise UsageError(
            f"there is no input format {input_format}", hint=f"use one of {', '.join(FORMATS)}"
        )
    return InputOptions(
        None if input_format == "auto" else input_format,  # type: ignore[arg-type]
        {"\\t": "\t"}.get(delimiter or "", delimiter),
        encoding,
        _parse_map(mapping or []),
        skip_lines=skip_lines,
        header=not no_header,
        escape=escape,
        sheet=sheet,
        region_column=region_column,
        key=key,
        null_words=tuple(null_words or ()),
        strict=strict,
    )


def expect_many_rows() -> None:
    """Let Python look for cycles seldom: rows come and go by the hundred without any.

    Looking for some would take a fifth of an import's time.
    """
    gc.freeze()
    gc.set_threshold(100_000)


def _parse_map(pairs: list[str]) -> list[tuple[Kind, str]]:
    mapping: list[tuple[Kind, str]] = []
    for pair in pairs:
        kind, equals, column = pair.partition("=")
        if kind not in ("email", "phone") or not equals or not column:
            raise UsageError(
                f"--map {pair} names no column",
                hint="use --map email=COLUMN or --map phone=COLUMN",
            )
        mapping.append((kind, column))  # type: ignore[arg-type]
    return mapping
