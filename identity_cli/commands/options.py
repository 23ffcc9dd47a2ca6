"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def _set_debug(wanted: bool) -> None:
    # A later group or command on the same line must not take an earlier --debug back.
    output.debug = output.debug or wanted


DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="PostgreSQL to use, over DATABASE_URL; neither: the embedded one.",
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
