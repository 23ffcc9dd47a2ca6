"""`identity stats`."""

from __future__ import annotations

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Json, ShowProgress, Top, Values
from identity_cli.commands.signals import orderly_end
from identity_cli.settings import open_database


def stats(
    top: Top = 10,
    values: Values = False,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Print statistics of the graph: sizes, hubs, deduplication and growth.

    \b
    Example:
      identity stats --top 20
    """
    from identity_cli.graph.statistics import STEPS, statistics
    from identity_cli.postgres import schema
    from identity_cli.postgres.snapshot import snapshot

    with orderly_end():
        with (
            open_database(database_url) as database,
            schema.connect(database)[0] as connection,
            output.progress("stats", progress) as meter,
            snapshot(connection) as graph,
        ):
            found = statistics(graph, top=top, on_step=meter.steps(STEPS))
        if json:
            output.document(found.as_json(with_values=values))
        else:
            output.statistics(found, with_values=values)
