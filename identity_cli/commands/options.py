"""Options that several commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from identity_cli import output

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


@dataclass(slots=True)
class Invocation:
    """What one run of the command line shares: the object of Typer's context."""

    debug: bool = False


def _set_debug(context: typer.Context, wanted: bool) -> None:
    # A group and its command both take --debug: the one without it must not reset the other.
    invocation = context.find_object(Invocation)
    if invocation is not None and wanted:
        invocation.debug = True


def note_empty_variable(url: str | None) -> str | None:
    if url is None and os.environ.get("DATABASE_URL") == "":
        output.note("DATABASE_URL is empty; using the embedded server")
    return url


DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        callback=note_empty_variable,
        help="PostgreSQL URL (default: DATABASE_URL, else the embedded server).",
        show_default=False,
    ),
]
OutputPath = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="File to write (default: standard output).",
        show_default=False,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace the file at PATH; its owner and mode are kept.")
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="RUN|TIME",
        help="Show the graph as it was after a run or at a time.",
        show_default=False,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, help="Print the traceback of an error.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ShowProgress = Annotated[
    output.ProgressMode,
    typer.Option("--progress", help="Show a bar on a terminal (auto), JSON events, or nothing."),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="PATH",
        help="Write metrics for Prometheus' textfile collector to PATH.",
        show_default=False,
    ),
]
Top = Annotated[
    int,
    typer.Option(
        "--top", metavar="N", min=1, help="Number of identities, values and runs to list."
    ),
]
Values = Annotated[
    bool, typer.Option("--values", help="Print emails and phone numbers instead of masking them.")
]
Email = Annotated[
    str | None, typer.Option("--email", metavar="E", help="Email address.", show_default=False)
]
Phone = Annotated[
    str | None, typer.Option("--phone", metavar="P", help="Phone number.", show_default=False)
]
Emails = Annotated[
    list[str] | None,
    typer.Option(
        "--email", metavar="E", help="Email address; can be repeated.", show_default=False
    ),
]
Phones = Annotated[
    list[str] | None,
    typer.Option("--phone", metavar="P", help="Phone number; can be repeated.", show_default=False),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="XX",
        envvar="IDENTITY_REGION",
        show_envvar=False,
        help="Country of phone numbers, which become E.164; for example US.",
        show_default=False,
    ),
]


def value_of(option: str, arguments: list[str]) -> str | None:
    """Return the last value of an option in arguments that Typer could not parse."""
    value = None
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == option and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
    return value or None
