"""`identity history`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Json, Region


def history(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[VALUE|ID]", help="A contact, by its id or a value.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Number of events to list.")
    ] = 20,
    region: Region = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """List runs, merges and commands, newest first, by their ids.

    With the id of a contact or a value, what happened to that contact,
    and the merges of its identity. A number is an id if there is such a contact.

    \b
    Example:
      identity history
      identity history mcfly@hillvalley.edu
    """
    from identity_cli.graph.history import read_history, read_history_of
    from identity_cli.graph.steering import Steering

    with Steering.open(database_url, region=region) as steering:
        if subject is None:
            events = read_history(steering.connection, limit=limit)
        else:
            events = read_history_of(
                steering.connection, subject, region=steering.region, limit=limit
            )
    if json:
        output.document({"schema_version": 1, "events": [event.as_json() for event in events]})
    else:
        output.history(events)
