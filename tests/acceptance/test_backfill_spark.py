"""`identity backfill --engine spark` beside DuckDB, as a user sees them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from backfills import as_csv, messy_rows, stored
from sparking import why_not

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Clone = Callable[[], AbstractContextManager[str]]

needs_spark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
SPARK = ("--engine", "spark", "--master", "local[2]")


@needs_spark
@pytest.mark.slow
def test_spark_computes_what_is_loaded_after_duckdb(
    run_identity: Run, cloned_database: Clone, database_url: str, tmp_path: Path
) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(4, 300))
    # Into a database that holds contacts.
    as_csv(tmp_path / "before.csv", messy_rows(4, 100))
    with cloned_database() as other_url:
        options = ("backfill", "a.csv", "--max-rejects", "100%")
        loaded = []
        for url, engine in ((other_url, ()), (database_url, SPARK)):
            env = {"DATABASE_URL": url, "PYTHONWARNINGS": None}
            done = run_identity("import", "before.csv", "--max-rejects", "100%", env=env)
            assert done.returncode == 0, done.stderr
            done = run_identity(*options, *engine, env=env, timeout=400)
            assert done.returncode == 0, done.stderr
            loaded.append(re.sub("finished in .*", "", done.stderr))
        assert stored(database_url) == stored(other_url)
    # Spark's own messages are not printed.
    assert loaded[0] == loaded[1]


@needs_spark
@pytest.mark.slow
def test_a_cluster_that_is_unreachable_is_an_error(run_identity: Run, tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(4, 10))
    done = run_identity(
        *("backfill", "compute", "a.csv", "--work", "w", "--max-rejects", "100%"),
        *("--engine", "spark", "--master", "spark://localhost"),
        env={"PYTHONWARNINGS": None},
    )
    assert done.returncode == 2, done.stderr
    assert "error: Spark could not be started" in done.stderr
    assert "hint: look into w/spark.log" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "w" / "spark.log").stat().st_size > 0


@needs_spark
def test_what_duckdb_has_computed_is_not_computed_again(run_identity: Run, tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(4, 50))
    command = ("backfill", "compute", "a.csv", "--work", "w", "--max-rejects", "100%")
    assert run_identity(*command).returncode == 0
    computed = (tmp_path / "w/result/contact.parquet").read_bytes()
    assert run_identity(*command, *SPARK).returncode == 0
    assert (tmp_path / "w/result/contact.parquet").read_bytes() == computed
    assert not (tmp_path / "w/spark").exists()


def test_options_of_spark_without_spark_are_refused(run_identity: Run, tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(4, 10))
    for option in ("--master", "--remote", "--storage"):
        done = run_identity("backfill", "a.csv", option, "x")
        assert done.returncode == 2
        assert f"error: {option} is for Spark" in done.stderr
        assert "hint: use --engine spark" in done.stderr
    done = run_identity("backfill", "a.csv", *SPARK, "--remote", "sc://x")
    assert done.returncode == 2
    assert "--master and --remote exclude each other" in done.stderr


@pytest.mark.skipif(why_not() is None, reason="Spark is installed")
def test_spark_that_is_not_installed_is_named(run_identity: Run, tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", messy_rows(4, 10))
    done = run_identity("backfill", "a.csv", *SPARK)
    assert done.returncode == 2
    assert "needs the extra 'spark', which is not installed" in done.stderr
    assert "hint: pip install 'identity-cli[spark]'" in done.stderr
