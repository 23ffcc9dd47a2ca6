"""Help: everywhere, and with an example."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import typer

from identity_cli.cli import app, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and every group of the application."""
    group = typer.main.get_command(app) if group is None else group
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = list(commands())


def test_these_are_the_commands() -> None:
    assert {path[0] for path in ALL if path} >= {
        *("identify", "show", "import", "export", "verify", "db")
    }
    assert {path[1] for path in ALL if path[:1] == ("db",) and path[1:]} >= {
        *("upgrade", "current", "check", "start", "stop", "url")
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(("identity", *path)))
def test_help_everywhere_with_an_example(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, "--help"]) == 0
    shown, errors = capsys.readouterr()
    assert errors == ""
    assert run([*path, "-h"]) == 0
    assert capsys.readouterr() == (shown, "")
    assert f"Usage: {' '.join(('identity', *path))} " in shown
    example = shown.partition("Example:\n")[2].partition("\n\n")[0]
    for line in example.replace("\\\n", "").splitlines():
        assert re.search(r"^    ?\S.*", line), line
    assert f"identity {' '.join(path)}".rstrip() in example


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(("identity", *path)))
def test_every_command_takes_debug(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run([*path, "--help"])
    shown = capsys.readouterr().out
    assert "--debug" in shown or "Commands:" in shown


@pytest.mark.parametrize("path", [(), ("db",)])
def test_a_group_alone_shows_its_help(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(path)) == 2
    shown, errors = capsys.readouterr()
    assert shown == ""
    assert "Example:" in errors
