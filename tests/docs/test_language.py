"""The documentation and the help are in plain English."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import typer
from docs.pages import EVERY_PAGE, prose

from identity_cli.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

# A word or a turn that readers have to decode, and what to write.
REPLACEMENTS = {
    r"mends?\b|mended": "fix, hint",
    r"rows? (that )?stands?\b|rows before .{0,40}\bstand": "rows are kept",
    r"(broke|broken|breaks?) off": "was interrupted",
    r"(go|goes|going|went|gone) on\b": "resumes, continues",
    r"away|out of reach": "unreachable",
    r"tells?\b|says?\b": "reports, prints",
    r"see that": "check that",
    r"give (--|-\w|an? (email|phone|path|option)|one of|the same command)": "use, pass",
    r"(if|when|are|is) (not )?given": "is passed",
    r"(at|from) the (front|top)": "leading, the beginning",
    r"what is (over|left|wrong|sent|new|known)": "the rest, the remaining …",
    r"nobody|somebody|anybody": "no user, a user",
    r"half-way": "if the import is interrupted",
    r"do everything|keep nothing": "run the import, then roll everything back",
    r"a record a contact": "one record per contact",
    r"over DATABASE_URL|the embedded one": "default: DATABASE_URL, else the embedded server",
    r"of csv:": "CSV delimiter",
    r"over http: each": "every request is its own transaction",
    r"a defect": "a bug",
    r"set(ting)? up of|no setting up": "setup",
}


def help_texts(group: Any = None, name: str = "identity") -> Iterator[tuple[str, str]]:
    """Yield the help of every command and option with its name."""
    group = typer.main.get_command(app) if group is None else group
    yield name, group.help or ""
    for parameter in group.params:
        if getattr(parameter, "help", None):
            yield f"{name} {parameter.opts[0]}", parameter.help
    for command_name, command in getattr(group, "commands", {}).items():
        yield from help_texts(command, f"{name} {command_name}")


HELP = dict(help_texts())


def dialect(text: str) -> list[str]:
    """Return the replacements that the text needs."""
    found = []
    flat = " ".join(text.split())
    for pattern, better in REPLACEMENTS.items():
        for match in re.finditer(rf"\b(?:{pattern})", flat, flags=re.IGNORECASE):
            around = flat[max(0, match.start() - 30) : match.end() + 30]
            found.append(f"…{around}…: {match[0]} -> {better}")
    return found


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)
def test_page_has_no_word_of_the_dialect(page: Any) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    assert dialect(re.sub(r"`[^`\n]*`", "", text)) == []


@pytest.mark.parametrize("name", HELP)
def test_help_has_no_word_of_the_dialect(name: str) -> None:
    assert dialect(HELP[name]) == []


@pytest.mark.parametrize(
    "name", [name for name in HELP if " -" in name and "completion" not in name]
)
def test_help_of_an_option_is_one_sentence_of_at_most_70_characters(name: str) -> None:
    text = HELP[name]
    assert len(text) <= 70
    assert text[0].isupper()
    assert text.endswith(".")


@pytest.mark.parametrize(
    "text",
    ["the rows before it stand", "The run broke off.", "give --map", "a server that is away"],
)
def test_dialect_is_found(text: str) -> None:
    assert dialect(text)
