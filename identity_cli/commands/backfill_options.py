"""Options of `identity backfill` that no other command has."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from identity_cli.commands.options import note_empty_variable

Files = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="Inputs or URLs, or patterns of names.")
]
Into = Annotated[
    str | None,
    typer.Option(
        "--into",
        metavar="URL",
        callback=note_empty_variable,
        help="PostgreSQL URL (default: DATABASE_URL, else the embedded server).",
        show_default=False,
    ),
]
ComputeInto = Annotated[
    str | None,
    typer.Option(
        "--into",
        metavar="URL",
        help="PostgreSQL URL to compute for (default: an empty database).",
        show_default=False,
    ),
]
Engine = Annotated[
    Literal["duckdb", "spark"], typer.Option("--engine", help="What computes the rows.")
]
Master = Annotated[
    str | None,
    typer.Option(
        "--master",
        metavar="URL",
        help="Master of the Spark cluster (default: Spark's configuration).",
        show_default=False,
    ),
]
Remote = Annotated[
    str | None,
    typer.Option(
        "--remote", metavar="URL", help="Server of Spark Connect: sc://HOST.", show_default=False
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Directory for Spark's tables (default: that of --work).",
        show_default=False,
    ),
]
Work = Annotated[
    str | None,
    typer.Option(
        "--work",
        metavar="DIR",
        help="Directory to resume from (default: a temporary one).",
        show_default=False,
    ),
]
KeptWork = Annotated[
    str, typer.Option("--work", metavar="DIR", help="Directory of the computed rows.")
]
Memory = Annotated[
    str, typer.Option("--memory", metavar="SIZE", help="Memory for computing; the rest spills.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Files to read at once, and threads to compute with.",
        show_default="one for each core",
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Start over in the --work directory instead of resuming.")
]
