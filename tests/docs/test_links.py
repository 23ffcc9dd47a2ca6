"""Links lead somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from docs.pages import EVERY_PAGE, PAGES, ROOT, anchors, prose

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)
def test_links_of_the_page_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.is_file(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_readme_links_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"](docs/{page.name})" in text
