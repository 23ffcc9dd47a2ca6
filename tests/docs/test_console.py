"""The console blocks show what the program does."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import pytest
from docs.pages import PAGES
from docs.servers import fresh_database, running_server

from docs import console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITH_CONSOLE = [page for page in PAGES if any(console.commands(page))]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder for IDENTITY_HOME with a running server."""
    with running_server() as folder:
        yield folder


def test_readme_and_reference_pages_have_console_blocks() -> None:
    names = {page.name for page in WITH_CONSOLE}
    assert names >= {"README.md", "imports.md", "commands.md", "http.md", "operation.md"}


@pytest.mark.parametrize("page", WITH_CONSOLE, ids=lambda page: page.name)
def test_console_blocks_on_a_fresh_database_print_what_the_page_shows(
    page: Path, home: Path
) -> None:
    fresh_database(home)
    differences: list[str] = []
    for command, output in console.run(page, home=home):
        if not console.is_as_shown(command, output):
            differences += [f"{page.name}:{command.line}: $ {command.text}"]
            shown = [console.normal(line) for line in command.shown]
            printed = [console.normal(line) for line in output]
            differences += list(difflib.unified_diff(shown, printed, "page", "program", n=1))
    assert not differences, "\n".join(map(str.rstrip, differences))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("finished in 1.3 s, 88 rows/s", "finished in 12.0 s, 1,288 rows/s", True),
        ("read 13", "read 14", False),
        ("server runs in …", "server runs in /var/lib/identity", True),
        ("sha256:…", "sha512:00", False),
    ],
)
def test_output_with_other_times_is_as_shown(shown: str, printed: str, same: bool) -> None:
    command = console.Command(PAGES[0], 1, "true", (shown,))
    assert console.is_as_shown(command, (printed,)) is same


def test_three_dots_match_any_number_of_lines() -> None:
    command = console.Command(PAGES[0], 1, "true", ("{", "    ...", "}"))
    assert console.is_as_shown(command, ("{", "    1,", "    2", "}"))
    assert not console.is_as_shown(command, ("{", "    1"))


def test_output_with_one_line_more_is_not_as_shown() -> None:
    command = console.Command(PAGES[0], 1, "true", ("read 13",))
    assert not console.is_as_shown(command, ("read 13", "read 13"))
