"""`identity runs`."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def show() -> None:
    """Being written."""
