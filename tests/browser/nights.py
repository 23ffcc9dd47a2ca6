"""Two nightly imports of made-up people, and the report after the second one."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from browser.commands import run_identity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PEOPLE = 400
_CALLERS = 40


def write_report(folder: Path, environment: Mapping[str, str], *, odd_name: str) -> Path:
    """Import two nights and a few single requests; return the report's path in `folder`.

    The second night has rejects in two files, of which one has the `odd_name`, an identity that
    has doubled, a value that has become a hub, and merges.
    """
    chosen = random.Random(1)
    people = [
        f"person{i}@hillvalley.example,+1202555{chosen.randrange(_PEOPLE):04d}"
        for i in range(_PEOPLE)
    ]
    callers = [f"caller{i}@twinpines.example,+12025550007" for i in range(_CALLERS)]
    moved = [
        f"person{i}@hillvalley.example,+1202555{chosen.randrange(_PEOPLE):04d}" for i in range(60)
    ]
    inputs = {
        "contacts-2026-11-28.csv": people,
        "contacts-2026-11-29.csv": [*people, *callers, *moved, "not an email,", ",not a number"],
        odd_name: ["bad,", "doc@hillvalley.example,+12025559999"],
    }

    identity = partial(run_identity, folder, environment)

    for name, rows in inputs.items():
        (folder / name).write_text("\n".join(["email,phone", *rows, ""]))
    first, *others = inputs
    identity("import", first, "-q")
    identity("import", *others, "-q", "--max-rejects", "9")
    identity("identify", "--email", "late@hillvalley.example", "--phone", "+12025550007")
    identity("report", "-o", "report.html")
    return folder / "report.html"
