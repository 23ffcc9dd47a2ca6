"""What is computed, as statements that every engine runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file of requests: `line`, `emails`, `phones`.

    `first_line` is the number of lines of all inputs before: what a `line` of this file has to be
    increased by so that it counts through all inputs.
    """

    path: Path
    first_line: int
