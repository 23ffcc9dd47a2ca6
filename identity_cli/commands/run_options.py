"""Options about the results of a run, for `identity import` and `identity backfill`."""

from __future__ import annotations

from typing import Annotated

import typer

Rejects = Annotated[
    str | None,
    typer.Option(
        "--rejects",
        metavar="PATH",
        help="Write rejected rows to PATH (default: FILE.RUN.rejects).",
        show_default=False,
    ),
]
Summary = Annotated[
    str | None,
    typer.Option(
        "--summary",
        metavar="PATH",
        help="Write counts and the result to PATH as JSON.",
        show_default=False,
    ),
]
MaxRejects = Annotated[
    str,
    typer.Option("--max-rejects", metavar="N|P%", help="Exit with 3 if more rows are rejected."),
]
MinRows = Annotated[
    int,
    typer.Option("--min-rows", metavar="N", min=0, help="Exit with 3 if fewer rows are read."),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print only fatal errors, and why it exits with 3.")
]
