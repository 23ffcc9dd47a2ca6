"""The running digest of a run's inputs: what was read, and how."""

from __future__ import annotations

import hashlib
import json
from typing import Any


class InputDigest:
    """A SHA-256 over the rows as they were read, and over the options that they were read with.

    `milestones` are (rows, digest) pairs whose rows at least double from one to the next, so that
    an input that differs is found out soon after the first difference.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self._digest = hashlib.sha256(json.dumps(self._options, sort_keys=True).encode())
        self.milestones: list[tuple[int, str]] = []

    def begin_input(self) -> None:
        """Keep the rows of two inputs apart."""
        self._digest.update(b"\n\0input\n")

    def update(self, data: bytes) -> None:
        self._digest.update(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def milestones_at(self, rows: int) -> list[tuple[int, str]]:
        """Return the milestones, the last one being where the reading is now, after `rows`."""
        now = (rows, self.hexdigest())
        if not self.milestones or rows >= 2 * self.milestones[-1][0]:
            self.milestones.append(now)
        return [*(one for one in self.milestones if one[0] < rows), now]
