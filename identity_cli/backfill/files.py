"""Files of a work directory that a computation reads and writes, whatever the engine."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from identity_cli.backfill.hubs import LIMITED
from identity_cli.backfill.plan import PLAIN
from identity_cli.backfill.rules import RULED
from identity_cli.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from identity_cli.backfill.plan import Part, Plan

# What the target holds, if it holds anything.
HELD_CONTACTS = Path("held", "contact.parquet")
HELD_EVIDENCE = Path("held", "link_evidence.parquet")
# Its rules, by the names of the plan. All of the files exist, or none if it has no rules.
HELD_RULES = {
    name: Path("held", f"{name}.parquet")
    for name in ("blocked", "matched", "unlinked", "placeholder", "aside")
}
# The same if it has hub limits, besides its rules.
HELD_LIMITS = {
    name: Path("held", f"{name}.parquet")
    for name in (
        *("policy", "exempt", "hub", "partners"),
        *("contact_row", "evidence_row", "aside_row"),
    )
}
# Files of the result that no statement makes.
SPLIT_RESULTS = (
    *("split_contact", "split_gone", "split_moved", "split_aside", "split_aside_gone"),
    *("split_held", "split_hub", "split_command", "split_move"),
    *("split_former_contact", "split_former_evidence"),
)
_RESULT = "result"
# Written last: the result is complete if it exists.
_COUNTS = "counts.json"


def plan_for(work: Path) -> Plan:
    """Return the plan for what the target holds."""
    if not all((work / path).exists() for path in HELD_RULES.values()):
        return PLAIN
    return LIMITED if all((work / path).exists() for path in HELD_LIMITS.values()) else RULED


def result_path(work: Path, table: str) -> Path:
    """Return the path of the rows of a table in the result."""
    return work / _RESULT / f"{table}.parquet"


def counts_path(work: Path) -> Path:
    """Return the path of the rows by outcome, which are written when all else is."""
    return work / _RESULT / _COUNTS


def drop_result(work: Path) -> None:
    """Remove a result, the file first that says that it is complete."""
    with writing(str(work / _RESULT)):
        counts_path(work).unlink(missing_ok=True)
        for name in (*(statement.table for statement in LIMITED.results), *SPLIT_RESULTS):
            result_path(work, name).unlink(missing_ok=True)


def write_counts(
    work: Path, requests: int, *, created: int, merged: int, linked: int, blocked: int = 0
) -> None:
    """Write the rows by outcome, which completes the result."""
    counts = {
        "created": created,
        "linked": linked,
        "merged": merged,
        "unchanged": requests - created - linked - merged - blocked,
        "blocked": blocked,
    }
    with replaced(counts_path(work)) as temporary:
        temporary.write_text(json.dumps(counts), encoding="utf-8")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Take what is written to a temporary path as the file, once it is complete and on disk.

    Unlike `replaced_file`, it is for engines that open the path themselves, and its name is always
    the same: what a killed computation has left is written anew.
    """
    temporary = path.with_name(f".{path.name}")
    with writing(str(path)):
        path.parent.mkdir(exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def fingerprint(
    work: Path, parts: Sequence[Part], first_ids: Mapping[str, int], queries: Sequence[str]
) -> str:
    """Return a text that differs if another result were to be computed, or in another way.

    `queries` are those of the engine besides the plan.
    """
    files: list[tuple[str, int, int, int]] = []
    held_files = (HELD_CONTACTS, HELD_EVIDENCE, *HELD_RULES.values(), *HELD_LIMITS.values())
    held = [(work / path, 0) for path in held_files if (work / path).exists()]
    for path, first_line in [*((part.path, part.first_line) for part in parts), *held]:
        status = path.stat()
        name = os.path.relpath(path, work)
        files.append((name, first_line, status.st_size, status.st_mtime_ns))
    planned = [statement.query for statement in plan_for(work).statements]
    described = json.dumps([files, dict(first_ids), planned, list(queries)])
    return hashlib.sha256(described.encode()).hexdigest()
