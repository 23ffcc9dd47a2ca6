"""`identity undo`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli.commands.options import DatabaseUrl, Debug, Json, ShowProgress
from identity_cli.commands.steering import Reason, WithValues, Yes, steer


def undo(
    run_id: Annotated[int, typer.Argument(metavar="RUN", help="Id of the run.")],
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Take back the newest import run that is not undone.

    The graph becomes what it would be without the run; what a request or
    an older run has stated too is kept.

    \b
    Example:
      identity runs
      identity undo 12
    """
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.undo import Undo

    with Steering.open(database_url) as steering:
        steer(
            steering,
            Undo(run_id, reason),
            yes=yes,
            with_values=with_values,
            json=json,
            progress=progress,
        )
