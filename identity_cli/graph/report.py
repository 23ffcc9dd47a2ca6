"""What the nightly report shows: statistics, changes, runs and verification in one snapshot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from identity_cli.graph.changes import beginning_of_changes, find_changes
from identity_cli.graph.run_list import list_runs
from identity_cli.graph.statistics import STEPS as STATISTICS_STEPS
from identity_cli.graph.statistics import statistics
from identity_cli.graph.verify import verify_snapshot
from identity_cli.meter import SILENT
from identity_cli.postgres.snapshot import same_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    import psycopg

    from identity_cli.graph.changes import Changes
    from identity_cli.graph.statistics import Statistics
    from identity_cli.graph.verify import Verification
    from identity_cli.meter import Meter
    from identity_cli.postgres.snapshot import Snapshot

# The phases of a report, in this order, with their shares of the time. Verification is what is left
# of it when the others are done.
STEPS = {**STATISTICS_STEPS, "changes": 10, "verification": 270}

_SECONDS_BETWEEN_CANCELS = 0.1


@dataclass(frozen=True, slots=True)
class Report:
    """The state of the graph, and what has changed since the run before the newest one.

    `top` is how many of a kind are listed; `changes` has all of them.
    """

    top: int
    statistics: Statistics
    changes: Changes
    verification: Verification


def compile_report(
    graph: Snapshot,
    *,
    top: int = 10,
    meter: Meter = SILENT,
    second: psycopg.Connection[Any] | None = None,
) -> Report:
    """Return the report of a snapshot, with `top` identities, shared values and runs.

    The verification takes longer than the rest: over a `second` connection, both run at the same
    time.
    """
    begin = meter.steps(STEPS)
    part = meter.part("verification")
    with ExitStack() as stack:
        verification: Callable[[], Verification] = partial(verify_snapshot, graph, part)
        if second is not None:
            other = stack.enter_context(same_snapshot(graph, second))
            verification = stack.enter_context(_verifying(other, part)).result
        newest_runs = list_runs(graph.connection, limit=2)
        since = beginning_of_changes(newest_runs)
        found = statistics(graph, top=top, since=since, on_step=begin)
        begin("changes")
        changes = find_changes(graph, newest_runs)
        begin("verification")
        return Report(top, found, changes, verification())


@contextmanager
def _verifying(graph: Snapshot, meter: Meter) -> Iterator[Future[Verification]]:
    """Verify a snapshot in a thread; the end of the block cancels that if it is not done."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(verify_snapshot, graph, meter)
        try:
            yield future
        finally:
            # Between two queries there is nothing to cancel; the next one is.
            while not future.done():
                graph.cancel()
                wait([future], timeout=_SECONDS_BETWEEN_CANCELS)
