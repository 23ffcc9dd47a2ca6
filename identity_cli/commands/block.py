"""`identity block` and `identity unblock`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Json, Region, ShowProgress
from identity_cli.commands.steering import (
    ListRules,
    Reason,
    WithValues,
    Yes,
    check_text,
    steer,
    values_of_file,
)
from identity_cli.errors import UsageError

_Values = Annotated[
    list[str] | None, typer.Argument(metavar="VALUE…", help="Emails and phone numbers.")
]
_File = Annotated[
    str | None,
    typer.Option(
        "--file", metavar="F", help="Read values, or value,reason, from F.", show_default=False
    ),
]
_Patterns = Annotated[
    list[str] | None,
    typer.Option(
        "--matching",
        metavar="REGEX",
        help="Also all values that match as a whole; can be repeated.",
        show_default=False,
    ),
]


def block(
    values: _Values = None,
    file: _File = None,
    matching: _Patterns = None,
    list_rules: ListRules = False,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Keep values from linking anything.

    A blocked value belongs to no identity. What it was seen with is kept,
    so that identity unblock restores it.

    \b
    Example:
      identity block info@acme.example 202-555-0100 --reason reception
      identity block --matching 'no-?reply@.*' --yes
      identity block --list
    """
    if list_rules:
        _refuse_arguments_of_list(values, file, matching)
    else:
        _expect_arguments(values, file, matching)
    from identity_cli.graph.rule_lists import list_blocked
    from identity_cli.graph.rules import Block
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.values import named_values

    with Steering.open(database_url, region=region) as steering:
        if list_rules:
            found, patterns = list_blocked(steering.connection)
            if json:
                output.document(
                    {
                        "schema_version": 1,
                        "values": [one.as_json() for one in found],
                        "patterns": [one.as_json() for one in patterns],
                    }
                )
            else:
                output.blocked(found, patterns)
            return
        named = named_values(values or (), steering.region)
        if file is not None:
            named += values_of_file(file, steering.region)
        command = Block(tuple(named), tuple(matching or ()), reason)
        steer(steering, command, yes=yes, with_values=with_values, json=json, progress=progress)


def unblock(
    values: _Values = None,
    file: _File = None,
    matching: _Patterns = None,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Let blocked values link again.

    Exits with code 4 if none of them is blocked. --matching removes a
    pattern that was blocked before.

    \b
    Example:
      identity unblock info@acme.example
      identity unblock --matching 'no-?reply@.*' --yes
    """
    _expect_arguments(values, file, matching)
    from identity_cli.graph.rules import Unblock
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.values import named_values

    with Steering.open(database_url, region=region) as steering:
        named = named_values(values or (), steering.region)
        if file is not None:
            named += values_of_file(file, steering.region)
        command = Unblock(tuple(named), tuple(matching or ()), reason)
        steer(steering, command, yes=yes, with_values=with_values, json=json, progress=progress)


def _expect_arguments(
    values: list[str] | None, file: str | None, matching: list[str] | None
) -> None:
    if not values and file is None and not matching:
        raise UsageError("no value is named", hint="name values, or use --file or --matching")
    for pattern in matching or ():
        check_text("--matching", pattern)
        if not pattern:
            raise UsageError(
                "--matching is empty", hint="write a regular expression such as 'info@.*'"
            )


def _refuse_arguments_of_list(
    values: list[str] | None, file: str | None, matching: list[str] | None
) -> None:
    if values or file is not None or matching:
        raise UsageError("--list takes no values", hint="leave out --list, or the values")
