"""People to look up: a family of files, a blocked mailbox, hostile values, a crowd."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from browser.commands import run_identity
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from serving import Served

_SHOP = """email,phone
george@hillvalley.example,+12025550141
lorraine@hillvalley.example,+12025550142
biff@hillvalley.example,+12025550143
"""
_LETTERS = """email,phone
marty@twinpines.example,+12025550144
marty@hillvalley.example,+12025550144
george@hillvalley.example,+12025550142
"""
_CALLS = """email,phone
lorraine@hillvalley.example,+12025550144
marty@hillvalley.example,+12025550145
george@hillvalley.example,+12025550144
info@hillvalley.example,+12025550149
"""


def fill_database(folder: Path, environment: Mapping[str, str]) -> None:
    """Import a family of three nights, and block a mailbox that it shares."""

    identity = partial(run_identity, folder, environment)

    for name, text in (
        ("shop-2026-11-27.csv", _SHOP),
        ("letters-2026-11-28.csv", _LETTERS),
        ("calls-2026-11-29.csv", _CALLS),
    ):
        (folder / name).write_text(text)
        identity("import", name, "-q")
    identity("identify", "--email", "marty@hillvalley.example", "--phone", "+12025550146")
    identity("block", "info@hillvalley.example", "--reason", "front office", "--yes")


@contextmanager
def looking_up(folder: Path, environment: Mapping[str, str], **changes: str) -> Iterator[Served]:
    """Run `identity serve` in the folder."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "identity_cli", *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment, **changes},
            cwd=folder,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    with serving(start) as served:
        yield served
    assert served.process.stderr is not None
    served.process.stderr.close()
