"""The engine of a plan at work: DuckDB or Apache Spark, which compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.backfill.files import counts_path, plan_for
from identity_cli.backfill.hubs import LIMITED
from identity_cli.errors import TargetUnsuitableError

if TYPE_CHECKING:
    from identity_cli.backfill.assignment import BackfillPlan
    from identity_cli.backfill.work import WorkDirectory
    from identity_cli.importer.stop import StopSwitch
    from identity_cli.meter import Meter


def compute_rows(plan: BackfillPlan, work: WorkDirectory, switch: StopSwitch, meter: Meter) -> None:
    """Compute the rows to store in the work directory, unless they are there.

    It does not matter which engine has computed them.

    Raises `StopRequestedError`, `OutputError`, `UsageError` if the engine cannot be used, and
    `TargetUnsuitableError` if it does not apply a rule of the target.
    """
    manifest = work.require_manifest()
    if manifest.is_computed and counts_path(work.path).exists():
        return
    first_contact_id, first_evidence_id = manifest.first_ids
    if plan.cluster is None:
        from identity_cli.backfill import duck

        duck.compute(
            work.path,
            work.parts(),
            first_contact_id=first_contact_id,
            first_evidence_id=first_evidence_id,
            memory=plan.memory,
            threads=plan.threads,
            meter=meter,
            switch=switch,
        )
        return
    if plan_for(work.path) is LIMITED:
        raise limits_on_spark()
    from identity_cli.backfill import spark
    from identity_cli.backfill.session import open_session

    log = work.path / spark.LOG
    with open_session(plan.cluster.master, plan.cluster.remote, log) as session:
        spark.compute(
            session,
            work.path,
            work.parts(),
            first_contact_id=first_contact_id,
            first_evidence_id=first_evidence_id,
            storage=plan.cluster.storage,
            meter=meter,
            switch=switch,
        )


def limits_on_spark() -> TargetUnsuitableError:
    """Return the error for hub limits, which only DuckDB applies."""
    return TargetUnsuitableError(
        "the database has hub limits, which a backfill on Spark does not apply",
        hint="use --engine duckdb, or identity import",
    )
