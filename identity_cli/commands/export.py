"""`identity export`."""

from __future__ import annotations


def export() -> None:
    """Being written."""
