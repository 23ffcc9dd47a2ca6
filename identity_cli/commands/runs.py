"""`identity runs`: the import runs, and how each ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from identity_cli import output
from identity_cli.commands.options import HELP_NAMES, DatabaseUrl, Debug, Json

if TYPE_CHECKING:
    from identity_cli.graph.run_list import Run

app = typer.Typer(
    rich_markup_mode=None,
    context_settings=HELP_NAMES,
    help="List the import runs, newest first."
    "\n\n\b\nExample:\n  identity runs\n  identity runs show 7",
)


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Number of runs to list.")
    ] = 20,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from identity_cli.graph.run_list import list_runs
    from identity_cli.postgres import schema
    from identity_cli.settings import open_database

    with open_database(database_url) as database:
        connection, _ = schema.connect(database)
        with connection:
            found = list_runs(connection, limit=limit)
    if json:
        output.document([_document(run) for run in found])
    else:
        output.runs(found)


@app.command()
def show(
    run_id: Annotated[int, typer.Argument(metavar="ID")],
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Print one run: its inputs, its counts, and the error that ended it.

    \b
    Example:
      identity runs show 7 --json
    """
    from identity_cli.graph.run_list import find_run
    from identity_cli.postgres import schema
    from identity_cli.settings import open_database

    with open_database(database_url) as database:
        connection, _ = schema.connect(database)
        with connection:
            run = find_run(connection, run_id)
    if json:
        output.document(_document(run))
    else:
        output.run(run)


def _document(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "status": run.state,
        "input": run.paths,
        "inputs": [
            {"path": source["path"], "first_line": source.get("first_line")}
            for source in run.inputs
        ],
        "rows": run.rows,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "seconds": round(run.seconds, 3),
        "rows_per_second": run.rows_per_second,
        "error": run.error,
    }
