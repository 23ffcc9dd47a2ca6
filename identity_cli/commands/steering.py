"""How every command that changes what links is asked for, previewed, confirmed and reported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import output
from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from identity_cli.graph.steering import Change, Command, Steering
    from identity_cli.graph.values import NamedValue

# Lines of --file that name no value; the wrong file has a million of them.
_SHOWN_PROBLEMS = 5

Yes = Annotated[bool, typer.Option("--yes", help="Apply the command without asking.")]
Reason = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Record why, for identity history.", show_default=False
    ),
]
WithValues = Annotated[
    bool, typer.Option("--values", help="Show values in the preview without masks.")
]
ListRules = Annotated[bool, typer.Option("--list", help="List the rules and change nothing.")]


def steer(
    steering: Steering,
    command: Command,
    *,
    yes: bool,
    with_values: bool,
    json: bool,
    progress: output.ProgressMode,
) -> None:
    """Preview the command and ask, unless `yes`; then apply it and print what has changed.

    Raises `UsageError` without a terminal to ask on.
    """
    check_text("--reason", command.reason)
    if not yes:
        is_terminal = sys.stdin.isatty()
        with output.progress(command.name, progress, completes=False) as meter:
            preview = steering.preview(command, with_values=with_values, meter=meter)
        if is_terminal:
            output.change(preview, to_stderr=True)
            if not output.is_confirmed("Apply it?"):
                raise typer.Abort
        else:
            _print(preview, json=json)
            raise UsageError(
                "nothing was changed: this is a preview", hint="pass --yes to apply it"
            )
    with output.progress(command.name, progress, completes=False) as meter:
        change = steering.apply(command, meter)
    _print(change, json=json)


def check_text(option: str, text: str | None) -> None:
    """Raise `UsageError` if the text of an option has bytes that are not UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{option} is not UTF-8", hint="check the encoding of the terminal or the script"
        ) from None


def _print(change: Change, *, json: bool) -> None:
    if json:
        output.document(change.as_json())
    else:
        output.change(change)


def values_of_file(path: str, region: str | None) -> list[NamedValue]:
    """Return the values of --file.

    Raises `InputNotFoundError`, and `UsageError` after the lines that name no value were reported.
    """
    from identity_cli.graph.values import read_values
    from identity_cli.importer.source import read_input

    values, problems = read_values(read_input(path).splitlines(), path, region)
    for problem in problems[:_SHOWN_PROBLEMS]:
        output.note(f"{problem.place}: error: {problem.message}")
    if len(problems) > _SHOWN_PROBLEMS:
        output.note(f"… and {len(problems) - _SHOWN_PROBLEMS:,} more")
    if problems:
        lines = "1 line names" if len(problems) == 1 else f"{len(problems):,} lines name"
        raise UsageError(
            f"{lines} no value: nothing was changed",
            hint="write one email or phone number on each line, or value,reason",
        )
    return values
