"""`identity forget`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli.commands.options import DatabaseUrl, Debug, Json, Region, ShowProgress
from identity_cli.commands.steering import Reason, WithValues, Yes, steer


def forget(
    values: Annotated[list[str], typer.Argument(metavar="VALUE…", help="Emails, phone numbers.")],
    identity: Annotated[
        bool, typer.Option("--identity", help="Forget all values of its identity.")
    ] = False,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Erase values for good, and drop them from every later request.

    The receipt lists what was erased, and what outside of the database
    may still hold a value. It cannot be undone.

    \b
    Example:
      identity forget lorraine@hillvalley.edu --reason 'ticket 4711'
    """
    from identity_cli.graph.forgetting import Forget
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.values import named_values

    with Steering.open(database_url, region=region) as steering:
        named = tuple(named_values(values, steering.region))
        command = Forget(named, with_identity=identity, reason=reason)
        steer(steering, command, yes=yes, with_values=with_values, json=json, progress=progress)
