"""What a backfill is asked to do, and with how much."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from identity_cli.errors import UsageError
from identity_cli.importer.source import is_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from identity_cli.importer.plan import ImportPlan

_is_size = re.compile(r"[1-9][0-9]*(\.[0-9]+)? ?([KMGT]i?B|%)", re.IGNORECASE).fullmatch


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What to backfill, and with how much: `reading` names the inputs, their options and results.

    Without `work` a temporary directory is used. `memory` is DuckDB's limit, such as "4GB".
    `threads` is the number of processes that read, and of threads that compute; None: the cores.
    """

    reading: ImportPlan
    work: str | None = None
    memory: str = "4GB"
    threads: int | None = None

    def check(self) -> None:
        """Raise what `ImportPlan.check` raises, and `UsageError` for an input that is no file."""
        self.reading.check()
        if not _is_size(self.memory):
            raise UsageError(
                f"--memory takes a size, not {self.memory!r}", hint="for example --memory 4GB"
            )
        if self.reading.restart and self.work is None:
            raise UsageError(
                "--restart is for a --work directory", hint="leave it out, or use --work DIR"
            )
        for path in self.reading.paths:
            if not is_file(path):
                raise UsageError(
                    f"{path} is not a file: a backfill reads files",
                    hint="write it to a file first, or use identity import",
                )


def require_extra(what: str = "a backfill") -> None:
    """Raise `UsageError` if the extra is not installed, which this needs."""
    try:
        import duckdb  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{what} needs the extra 'backfill', which is not installed",
            hint="pip install 'identity-cli[backfill]'",
        ) from error


def expand_patterns(files: Iterable[str]) -> tuple[str, ...]:
    """Return the files, with patterns that no shell has expanded replaced by what they match."""
    paths: list[str] = []
    for file in files:
        matches = [] if os.path.exists(file) else sorted(glob.glob(file))
        paths += matches or [file]
    return tuple(paths)
