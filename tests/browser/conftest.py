"""The browser of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser.chromium import running_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator


# Its event loop is running as long as it is there: other tests could not run one of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the tests fail, they are not skipped."""
    with running_chromium() as chromium:
        yield chromium
