"""Options that several commands have."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from identity_cli import output

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def _set_debug(wanted: bool) -> None:
    # A later group or command on the same line must not take an earlier --debug back.
    output.debug = output.debug or wanted


def _note_empty_variable(url: str | None) -> str | None:
    if url is None and os.environ.get("DATABASE_URL") == "":
        output.note("DATABASE_URL is empty; using the embedded server")
    return url


DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        callback=_note_empty_variable,
        help="PostgreSQL URL (default: DATABASE_URL, else the embedded server).",
        show_default=False,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, help="Show tracebacks of errors.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Email = Annotated[
    str | None, typer.Option("--email", metavar="E", help="Email.", show_default=False)
]
Phone = Annotated[
    str | None, typer.Option("--phone", metavar="P", help="Phone number.", show_default=False)
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="XX",
        help="ISO 3166 country whose phone numbers these are: they become E.164.",
        show_default=False,
    ),
]
