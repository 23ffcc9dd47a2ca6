"""The pictures in the documentation are those of the program as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browser.pictures import DIGEST, PICTURES, digest_of_sources
from docs.pages import ROOT
from docs.servers import fresh_database, running_server
from docs.terminal import SCENES, picture, pictures, words

if TYPE_CHECKING:
    from pathlib import Path

HINT = "run python tests/docs/terminal.py, and look at the pictures"


def test_pictures_were_made_from_these_sources() -> None:
    hint = "run python tests/browser/pictures.py, and look at the pictures"
    assert DIGEST.read_text() == f"{digest_of_sources()}\n", hint


def test_pictures_of_a_terminal_show_what_the_program_prints() -> None:
    with running_server() as home:
        fresh_database(home)
        made = dict(pictures(home))
    assert sorted(made) == sorted(path.name for path in PICTURES.glob("*.svg")), HINT
    for name, svg in made.items():
        stored = (PICTURES / name).read_text(encoding="utf-8")
        assert words(stored) == words(svg), f"{name}: {HINT}"


def test_pictures_of_a_terminal_show_the_whole_output() -> None:
    assert {scene.command.split()[1] for scene in SCENES} >= {"import", "explain", "stats"}
    for path in PICTURES.glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        assert words(svg)[0].startswith("$identity")
        assert len(words(svg)) > 1
        # Nothing is loaded from elsewhere when somebody reads the page.
        assert re.findall(r"(?:href=|url\()[\"']?(?!#)[^\"')]+", svg) == []


def test_words_of_a_picture_are_those_of_its_text() -> None:
    svg = picture("$ identity verify\n\n\x1b[1mthe graph\x1b[0m is <correct> & [bold]\n", "x")
    assert words(svg) == ["$identityverify", "thegraphis<correct>&[bold]"]


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.[ps][nv]g")), ids=lambda path: path.name)
def test_picture_is_in_a_page_with_a_description(path: Path) -> None:
    pages = [ROOT / "README.md", *PICTURES.parent.glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    shown = re.findall(rf"\[([^\]]+)\]\((?:docs/)?pictures/{re.escape(path.name)}\)", text)
    assert shown
