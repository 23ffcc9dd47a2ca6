"""Stopping between two rows: what a signal handler sets and a run looks at."""

from __future__ import annotations


class StopRequestedError(Exception):
    """The run is to end between two rows."""


class StopSwitch:
    """Asked between rows whether to stop; entered around a read that may wait for its input."""

    def __init__(self) -> None:
        self.requested = False
        self._is_reading = False

    def request(self) -> None:
        """Stop soon, and at once if the reader waits for input. For a signal handler."""
        self.requested = True
        if self._is_reading:
            raise StopRequestedError

    def check(self) -> None:
        """Raise `StopRequestedError` if a stop was requested."""
        if self.requested:
            raise StopRequestedError

    def __enter__(self) -> None:
        self._is_reading = True
        if self.requested:
            self._is_reading = False
            raise StopRequestedError

    def __exit__(self, *_: object) -> None:
        self._is_reading = False
