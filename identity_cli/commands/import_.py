"""`identity import`."""

from __future__ import annotations


def import_files() -> None:
    """Being written."""
