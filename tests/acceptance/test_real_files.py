"""Exports as other programs write them come out right, by the options that a user would try first.

`expected.json` holds the options of one command and the identities, each as its sorted values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

FILES = Path(__file__).parents[1] / "files" / "real"
EXPECTED: list[dict[str, Any]] = json.loads((FILES / "expected.json").read_text())
# The lines below the table of a report are not contacts, and one email is cut off.
WITH_REJECTS = {"07-salesforce-report.csv", "45-decorated.csv"}
# A value that has lost digits is left out of its row.
WITH_PARTIAL_ROWS = {"38-excel-damage.csv"}
WITHOUT_IDENTIFIERS = {"29-linkedin-connections.csv"}
FAILS = WITH_REJECTS | WITH_PARTIAL_ROWS | WITHOUT_IDENTIFIERS


def cases() -> list[Any]:
    """Every case; all but the first of a kind of file and of an exit code are slow."""
    kinds = set()
    found = []
    for case in EXPECTED:
        kind = (Path(case["file"]).suffix, case["file"] in FAILS)
        marks = [pytest.mark.slow] if kind in kinds else []
        kinds.add(kind)
        found.append(pytest.param(case, id=case["file"], marks=marks))
    return found


def identities(run_identity: Run) -> list[list[str]]:
    done = run_identity("export", "--what", "identities", "--format", "jsonl")
    contacts = [json.loads(line)["contact"] for line in done.stdout.splitlines()]
    return sorted(sorted(c["emails"] + c["phoneNumbers"]) for c in contacts)


@pytest.mark.parametrize("case", cases())
def test_real_export_comes_out_right_and_changes_nothing_the_second_time(
    run_identity: Run, tmp_path: Path, case: dict[str, Any]
) -> None:
    arguments = (
        *("import", FILES / case["file"], *case["options"], "--json"),
        *("--rejects", tmp_path / "rejects"),
    )
    done = run_identity(*arguments)
    assert identities(run_identity) == sorted(case["identities"])
    assert done.returncode == (3 if case["file"] in FAILS else 0), done.stderr
    assert json.loads(done.stdout)["columns"]["used"]
    rows = json.loads(run_identity(*arguments).stdout)["rows"]
    assert rows["read"] == rows["unchanged"] + rows["rejected"]
