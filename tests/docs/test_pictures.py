"""The pictures in the documentation are those of the program as it is."""

from __future__ import annotations

from browser.pictures import DIGEST, PICTURES, digest_of_sources


def test_pictures_were_made_from_these_sources() -> None:
    hint = "run python tests/browser/pictures.py, and look at the pictures"
    assert DIGEST.read_text() == f"{digest_of_sources()}\n", hint


def test_every_picture_is_in_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PICTURES.parent.glob("*.md"))
    pictures = sorted(PICTURES.glob("*.png"))
    assert len(pictures) >= 4
    for picture in pictures:
        assert f"](pictures/{picture.name})" in text
