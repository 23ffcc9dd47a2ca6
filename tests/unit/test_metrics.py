"""Files for Prometheus' textfile collector."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from identity_cli.errors import OutputError
from identity_cli.graph.hubs import Hubs
from identity_cli.graph.run_list import ROWS
from identity_cli.graph.verify import Verification
from identity_cli.importer.report import ImportReport, refused_report
from identity_cli.output.metrics import (
    Metric,
    exposition,
    import_metrics,
    verify_metrics,
    write_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    Labels = frozenset[tuple[str, str]]


def samples(text: str) -> dict[tuple[str, Labels], float]:
    """Return all samples as Prometheus' own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    assert text.endswith("\n")
    return found


def read(metrics: Iterable[Metric], **labels: str) -> dict[str, float]:
    """Return the samples that have these labels beside that of the file."""
    wanted = frozenset({"file": "night", **labels}.items())
    found = samples(exposition(metrics, "night"))
    return {name: value for (name, own), value in found.items() if own == wanted}


def report(**changes: object) -> ImportReport:
    rows = dict.fromkeys(ROWS, 0) | {"read": 9, "created": 4, "merged": 3, "rejected": 2}
    fields: dict[str, object] = {
        "run_id": 7,
        "status": "finished",
        "exit_code": 3,
        "dry_run": False,
        "input": ("a.csv",),
        "rows": rows,
        "started_at": "2026-11-30T01:00:00+00:00",
        "finished_at": "2026-11-30T01:00:04.5+00:00",
        "seconds": 4.5,
        "hubs": Hubs(2, 40, ()),
    }
    return ImportReport(**(fields | changes))  # type: ignore[arg-type]


def test_metrics_of_an_import() -> None:
    assert read(import_metrics(report())) == {
        "identity_import_exit_code": 3,
        "identity_import_started_timestamp_seconds": 1796000400,
        "identity_import_finished_timestamp_seconds": 1796000404.5,
        "identity_import_duration_seconds": 4.5,
        "identity_import_partial_rows": 0,
        "identity_import_rows_per_second": 2,
        "identity_import_retries": 0,
        "identity_import_dry_run": 0,
        "identity_import_shared_values": 2,
        "identity_import_largest_identity_contacts": 40,
    }
    for outcome, count in (("created", 4), ("linked", 0), ("merged", 3), ("rejected", 2)):
        assert read(import_metrics(report()), outcome=outcome) == {"identity_import_rows": count}


def test_rows_of_all_outcomes_are_the_rows_that_were_read() -> None:
    found = samples(exposition(import_metrics(report()), "night"))
    counts = [value for (name, _), value in found.items() if name == "identity_import_rows"]
    assert sum(counts) == 9
    assert set(ROWS) - {"read", "partial"} == {
        dict(labels)["outcome"] for name, labels in found if name == "identity_import_rows"
    }


def test_import_that_was_refused_has_an_exit_code_and_a_time() -> None:
    found = read(import_metrics(refused_report(("a.csv",), 2, None)))
    assert found["identity_import_exit_code"] == 2
    assert found["identity_import_finished_timestamp_seconds"] > 1.7e9
    assert "identity_import_shared_values" not in found


def test_metrics_of_a_verification() -> None:
    wrong = Verification(10, 4, "sha256:0", (), {"unmerged": 2, "self_link": 3})
    assert read(verify_metrics(wrong, 3, 1000.25, 1002.0)) == {
        "identity_verify_exit_code": 3,
        "identity_verify_started_timestamp_seconds": 1000.25,
        "identity_verify_finished_timestamp_seconds": 1002,
        "identity_verify_duration_seconds": 1.75,
        "identity_verify_contacts": 10,
        "identity_verify_identities": 4,
        "identity_verify_violations": 5,
    }
    # What is not known is left out, and a clock that was set back is no negative duration.
    assert read(verify_metrics(None, 5, 1000.0, 990.0)) == {
        "identity_verify_exit_code": 5,
        "identity_verify_started_timestamp_seconds": 1000,
        "identity_verify_finished_timestamp_seconds": 990,
        "identity_verify_duration_seconds": 0,
    }


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "żółw", "a}b"])
def test_names_of_files_are_escaped(name: str) -> None:
    [(_, labels)] = samples(exposition([Metric("identity_x", "X.", 1)], name))
    assert labels == frozenset({("file", name)})


def test_file_can_be_read_by_the_collector_and_keeps_the_mode_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "night.prom"
    before = os.umask(0o077)
    try:
        write_metrics(str(path), [Metric("identity_x", "X.", 1)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.read_text().splitlines()[-1] == 'identity_x{file="night"} 1'
    path.chmod(0o640)
    write_metrics(str(path), [Metric("identity_x", "X.", 2)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["night.prom"]


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        write_metrics(str(tmp_path / "nowhere/night.prom"), [])
