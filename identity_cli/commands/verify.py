"""`identity verify`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from identity_cli import output
from identity_cli.commands.options import (
    DatabaseUrl,
    Debug,
    Json,
    Metrics,
    ShowProgress,
    value_of,
)
from identity_cli.commands.signals import orderly_end
from identity_cli.exit_codes import code_after, exit_code
from identity_cli.files import check_folder
from identity_cli.settings import open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    import psycopg

    from identity_cli.errors import UsageError
    from identity_cli.graph.verify import Verification
    from identity_cli.meter import Meter


Engine = Annotated[
    Literal["python", "duckdb"],
    typer.Option("--engine", help="What recomputes; duckdb is faster for large graphs."),
]


def verify(
    engine: Engine = "python",
    json: Json = False,
    progress: ShowProgress = "auto",
    metrics: Metrics = None,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> int:
    """Verify the stored graph and list violations. Exits with 3 if there are any.

    \b
    Example:
      identity verify --json
    """
    from identity_cli.graph.verify import LISTED
    from identity_cli.postgres import schema

    recompute = _recompute(engine)

    if metrics is not None:
        check_folder(metrics)
    with _Ending(metrics) as ending, orderly_end():
        with (
            open_database(database_url) as database,
            schema.connect(database)[0] as connection,
            output.progress("verify", progress) as meter,
        ):
            found = ending.found = recompute(connection, meter)
        if json:
            output.document(found.as_json())
        else:
            output.line(f"contacts: {found.contacts}")
            output.line(f"identities: {found.identities}")
            output.line(f"digest: {found.digest}")
            for violation in found.violations:
                about = "" if violation.contact_id is None else f" contact {violation.contact_id}:"
                output.line(f"{violation.code}:{about} {violation.message}")
        if found.ok:
            output.note("the graph is correct")
            return 0
        ending.code = 3
        kinds = ", ".join(f"{count} {code}" for code, count in found.counts.items())
        output.note(f"violations: {kinds}")
        if found.is_cut:
            output.note(f"only the first {LISTED} of each kind are listed")
    return ending.code


def _recompute(engine: str) -> Callable[[psycopg.Connection[Any], Meter], Verification]:
    if engine == "duckdb":
        from identity_cli.backfill.assignment import require_extra

        require_extra("--engine duckdb")
        from identity_cli.backfill.verification import verify
    else:
        from identity_cli.graph.verify import verify
    return verify


class _Ending:
    """Writes the metrics, however the block ends."""

    def __init__(self, metrics: str | None) -> None:
        self.found: Verification | None = None
        self.code = 0
        self._metrics = metrics
        self._started_at = time.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._metrics is None:
            return
        from identity_cli.output.metrics import save_metrics, verify_metrics

        code = self.code if error is None else code_after(error)
        metrics = verify_metrics(self.found, code, self._started_at, time.time())
        save_metrics(self._metrics, metrics, has_failed=error is not None)


def save_refused_metrics(arguments: list[str], error: UsageError) -> None:
    """Write the metrics of a command line that was refused; old ones would be taken for its own."""
    from identity_cli.output.metrics import save_metrics, verify_metrics

    path = value_of("--metrics", arguments)
    if path is None:
        return
    now = time.time()
    save_metrics(path, verify_metrics(None, exit_code(error), now, now), has_failed=True)
