"""What a backfill computes on Apache Spark is what it computes on DuckDB, row for row."""

from __future__ import annotations

import shutil
import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from backfilled import run_compute
from sparking import (
    SMALL,
    Cluster,
    Driver,
    assert_same_as_duckdb,
    compute_on_duckdb,
    forget_some,
    hold_result,
    hold_rules,
    requests_of,
    skewed,
    why_not,
    write_parts,
)

from identity_cli.errors import OutputError, UsageError
from identity_cli.importer.stop import StopRequestedError, StopSwitch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if why_not() is not None:
    pytest.skip(why_not() or "", allow_module_level=True)

from identity_cli.backfill import tables
from identity_cli.backfill.session import open_session, translated
from identity_cli.backfill.spark import compute

pytestmark = [
    # Of Spark's own Python code, which leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
# Ids and lines that lie in several slices of the tables.
FIRST_ID = (1 << 20) - 50
APART = 3 << 20
FROM_1 = {"first_contact_id": 1, "first_evidence_id": 1}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_session("local[2]", None, tmp_path_factory.mktemp("log") / "log") as session:
        for name, value in SMALL.items():
            session.conf.set(name, value)
        yield session


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few rows be many pieces."""
    monkeypatch.setattr(tables, "_ROWS_FETCHED", 300)


def test_several_values_and_a_held_target_are_computed_as_on_duckdb(
    spark: Any, tmp_path: Path
) -> None:
    requests = requests_of(1, 900)
    empty, held = tmp_path / "empty", tmp_path / "held target"
    parts = write_parts(empty, requests[:400], apart=APART)
    first_ids = {"first_contact_id": FIRST_ID, "first_evidence_id": FIRST_ID}
    compute_on_duckdb(empty, parts, **first_ids)
    compute(spark, empty, parts, switch=StopSwitch(), **first_ids)
    happened = assert_same_as_duckdb(empty)
    assert happened.pop("blocked") == 0
    assert min(happened.values()) > 20, happened

    next_id = hold_result(empty, held, 1)
    parts = write_parts(held, requests[400:])
    first_ids = {"first_contact_id": next_id, "first_evidence_id": 5000}
    compute_on_duckdb(held, parts, **first_ids)
    compute(spark, held, parts, switch=StopSwitch(), **first_ids)
    happened = assert_same_as_duckdb(held)
    assert happened.pop("blocked") == 0
    assert min(happened.values()) > 20, happened


def test_rules_are_computed_as_on_duckdb(spark: Any, tmp_path: Path) -> None:
    hold_rules(tmp_path)
    parts = write_parts(tmp_path, forget_some(requests_of(2, 900)), apart=APART)
    first_ids = {"first_contact_id": FIRST_ID, "first_evidence_id": FIRST_ID}
    compute_on_duckdb(tmp_path, parts, **first_ids)
    compute(spark, tmp_path, parts, switch=StopSwitch(), **first_ids)
    happened = assert_same_as_duckdb(tmp_path)
    assert min(happened.values()) > 5, happened
    for table in ("set_aside_contact", "blocked_value", "released"):
        path = tmp_path / "result" / f"{table}.parquet"
        assert pq.read_metadata(path).num_rows > 5, table


class StopAfter(StopSwitch):
    """Asks for a stop once a table is complete."""

    def __init__(self, work: Path, table: str) -> None:
        super().__init__()
        self._journal, self._table = work / "spark.json", table

    def check(self) -> None:
        if self._journal.exists() and f'"{self._table}":' in self._journal.read_text():
            self.request()
        super().check()


def test_a_stopped_computation_resumes_unless_its_input_has_changed(
    spark: Any, tmp_path: Path
) -> None:
    parts = write_parts(tmp_path, requests_of(5, 200))
    written = set()
    for table in ("first_email", "stored"):
        with pytest.raises(StopRequestedError):
            compute(spark, tmp_path, parts, switch=StopAfter(tmp_path, table), **FROM_1)
        written.add((tmp_path / "spark" / "pair").stat().st_mtime_ns)
    assert len(written) == 1
    shutil.rmtree(tmp_path / "parts")
    parts = write_parts(tmp_path, requests_of(6, 200))
    compute_on_duckdb(tmp_path, parts, **FROM_1)
    compute(spark, tmp_path, parts, switch=StopSwitch(), **FROM_1)
    assert_same_as_duckdb(tmp_path)
    assert not list((tmp_path / "spark").rglob("*.parquet"))


def test_a_signal_stops_the_statement_that_is_being_run(spark: Any, tmp_path: Path) -> None:
    slow = "SELECT count(*) FROM range(1000000000) AS a CROSS JOIN range(1000) AS b"
    switch = StopSwitch()
    previous = signal.signal(signal.SIGALRM, lambda *_: switch.request())
    signal.alarm(3)
    try:
        with pytest.raises(StopRequestedError), translated(spark, switch), switch:
            spark.sql(slow).collect()
    finally:
        signal.signal(signal.SIGALRM, previous)
    # The session is usable, and the workers are free.
    assert spark.sql("SELECT count(*) AS found FROM range(10)").collect()[0].found == 10


def test_a_directory_that_spark_takes_for_a_pattern_is_refused(spark: Any, tmp_path: Path) -> None:
    work = tmp_path / "work[1]"
    parts = write_parts(work, requests_of(5, 20))
    with pytest.raises(UsageError, match="pattern"):
        compute(spark, work, parts, switch=StopSwitch(), **FROM_1)


def test_storage_that_the_workers_cannot_write_to_is_an_error(spark: Any, tmp_path: Path) -> None:
    parts = write_parts(tmp_path, requests_of(5, 20))
    with pytest.raises(OutputError, match="Spark could not compute the rows"):
        compute(spark, tmp_path, parts, switch=StopSwitch(), storage="file:///proc/x", **FROM_1)


@pytest.mark.slow
def test_a_large_identity_and_a_long_chain_are_computed_as_on_duckdb(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS_FETCHED", 10_000)
    parts = write_parts(tmp_path, skewed(30_000), apart=APART)
    compute_on_duckdb(tmp_path, parts, **FROM_1)
    compute(spark, tmp_path, parts, switch=StopSwitch(), **FROM_1)
    assert_same_as_duckdb(tmp_path)


@pytest.mark.slow
def test_a_cluster_that_loses_workers_and_the_driver_computes_the_same(tmp_path: Path) -> None:
    work = tmp_path / "work"
    parts = write_parts(work, requests_of(7, 4000))
    compute_on_duckdb(work, parts, **FROM_1)
    options = ["--first-lines", *(str(part.first_line) for part in parts)]
    cluster = Cluster(tmp_path)
    drivers: list[Driver] = []
    try:
        cluster.start_worker()
        cluster.start_worker()
        drivers.append(Driver(work, "--master", cluster.url, *options))
        # While values are found, and after them the driver while rows are joined.
        drivers[0].wait_until_made("pair")
        cluster.kill_worker()
        cluster.start_worker()
        drivers[0].wait_until_made("stored")
        drivers[0].kill()
        assert "Lost executor" in drivers[0].text()
        # While the result is written.
        drivers.append(Driver(work, "--master", cluster.url, *options))
        drivers[1].wait_until_made("placed")
        cluster.kill_worker()
        drivers[1].finish()
        assert "Lost executor" in drivers[1].text().rpartition("Setting Spark log level")[2]
    finally:
        for driver in drivers:
            driver.kill()
        cluster.stop()
    happened = assert_same_as_duckdb(work)
    assert happened.pop("blocked") == 0
    assert min(happened.values()) > 100, happened


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("grpc") is None, reason="Spark Connect was not tested: pyspark[connect] is missing"
)
def test_spark_connect_computes_the_same_on_storage_of_its_own(tmp_path: Path) -> None:
    before, work, storage = (tmp_path / name for name in ("before", "work", "storage"))
    requests = requests_of(8, 1500)
    run_compute(before, write_parts(before, requests[:500]))
    next_id = hold_result(before, work, 2)
    parts = write_parts(work, requests[500:])
    compute_on_duckdb(work, parts, first_contact_id=next_id, first_evidence_id=5000)
    options = ["--first-lines", *(str(part.first_line) for part in parts)]
    options += ["--first-ids", str(next_id), "5000"]
    driver = Driver(work, "--remote", "local[2]", "--storage", f"file://{storage}", *options)
    try:
        driver.finish()
    finally:
        driver.kill()
    assert_same_as_duckdb(work)
    assert not (work / "spark").exists()
    rows = [pq.read_metadata(path).num_rows for path in storage.rglob("*.parquet")]
    assert rows
    assert not any(rows)
