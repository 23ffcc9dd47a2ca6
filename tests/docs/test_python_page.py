"""The page about the library shows code that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.pages import ROOT, blocks

if TYPE_CHECKING:
    import pytest


def test_the_examples_print_what_they_made(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    examples = [block for block in blocks(text) if block.language == "python"]
    for example in examples:
        exec("\n".join(example.lines), {})
    assert capsys.readouterr().out.splitlines() == [
        "1 ['mcfly@hillvalley.edu'] ['123456'] []",
        "unchanged 1 None",
        "created 2 2",
        "{'contact': {'primaryContatctId': 1, 'emails': ['mcfly@hillvalley.edu'],"
        " 'phoneNumbers': ['123456'], 'secondaryContactIds': []}}",
        "False",
        "(2,)",
    ]
