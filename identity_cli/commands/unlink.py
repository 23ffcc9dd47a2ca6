"""`identity unlink` and `identity relink`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Json, Region, ShowProgress
from identity_cli.commands.steering import ListRules, Reason, WithValues, Yes, steer
from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from identity_cli.graph.steering import Steering

_Value = Annotated[str, typer.Argument(metavar="A", help="An email or a phone number.")]
_OtherValue = Annotated[str, typer.Argument(metavar="B", help="Another one.")]


def unlink(
    value: Annotated[
        str | None,
        typer.Argument(metavar="A", help="An email or a phone number.", show_default=False),
    ] = None,
    other_value: Annotated[
        str | None, typer.Argument(metavar="B", help="Another one.", show_default=False)
    ] = None,
    list_rules: ListRules = False,
    cut: Annotated[
        bool, typer.Option("--cut", help="Propose the fewest pairs to unlink; change nothing.")
    ] = False,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Keep two values from linking with each other.

    The rule holds now and when the pair comes again. If another path
    joins the two, it is shown.

    \b
    Example:
      identity unlink lorraine@hillvalley.edu 123456
      identity unlink lorraine@hillvalley.edu mcfly@hillvalley.edu --cut
      identity unlink --list
    """
    if list_rules and (value is not None or cut):
        raise UsageError("--list takes no values", hint="leave out --list, or the values")
    if not list_rules and (value is None or other_value is None):
        raise UsageError("unlink needs two values", hint="identity unlink --help")
    from identity_cli.graph.rule_lists import list_unlinked
    from identity_cli.graph.rules import Unlink
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.values import named_values

    with Steering.open(database_url, region=region) as steering:
        if value is None or other_value is None:
            pairs = list_unlinked(steering.connection)
            if json:
                output.document({"schema_version": 1, "pairs": [one.as_json() for one in pairs]})
            else:
                output.unlinked(pairs)
            return
        named, other = named_values((value, other_value), steering.region)
        if cut:
            _propose_cut(steering, named.value, other.value, json=json)
            return
        steer(
            steering,
            Unlink(named, other, reason),
            yes=yes,
            with_values=with_values,
            json=json,
            progress=progress,
        )


def _propose_cut(steering: Steering, value: str, other_value: str, *, json: bool) -> None:
    from identity_cli.graph.paths import propose_cut

    pairs = propose_cut(steering.connection, value, other_value)
    if json:
        output.document(
            {
                "schema_version": 1,
                "values": [value, other_value],
                "pairs": [pair.as_json() for pair in pairs],
            }
        )
    else:
        output.cut(pairs)


def relink(
    value: _Value,
    other_value: _OtherValue,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Let two values link with each other again.

    Exits with code 4 if the pair is not unlinked.

    \b
    Example:
      identity relink lorraine@hillvalley.edu 123456
    """
    from identity_cli.graph.rules import Relink
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.values import named_values

    with Steering.open(database_url, region=region) as steering:
        named, other = named_values((value, other_value), steering.region)
        steer(
            steering,
            Relink(named, other, reason),
            yes=yes,
            with_values=with_values,
            json=json,
            progress=progress,
        )
