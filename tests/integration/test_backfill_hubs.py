"""A backfill into a database with hub limits stores what an import of the same file stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ruled import Clone, compare

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS_TOGETHER = 20


@pytest.mark.parametrize("seed", range(4))
def test_hubs_stop_linking_as_in_an_import(
    cloned_database: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    limits = ((2, 2), (None, 3), (1, None), (3, 1))[seed]
    happened = compare(
        cloned_database, tmp_path, seed, SCRIPTS_TOGETHER, monkeypatch, limits=limits
    )
    assert happened["hubs"] > 0
