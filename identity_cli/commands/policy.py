"""`identity policy`: limits for values that occur with many others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import HELP_NAMES, DatabaseUrl, Debug, Json, Region, ShowProgress
from identity_cli.commands.steering import Reason, WithValues, Yes, steer
from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from identity_cli.graph.rules import HubLimit

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP_NAMES,
    help="Limit with how many others a value may occur before it stops linking."
    "\n\n\b\nExample:\n  identity policy set hub-limit-phone 20\n  identity policy show",
)

_NAMES: dict[str, tuple[HubLimit, ...]] = {
    "hub-limit-email": ("hub-limit-email",),
    "hub-limit-phone": ("hub-limit-phone",),
    "off": ("hub-limit-email", "hub-limit-phone"),
}
_Values = Annotated[list[str], typer.Argument(metavar="VALUE…", help="Emails and phone numbers.")]


@app.command()
def show(json: Json = False, database_url: DatabaseUrl = None, _debug: Debug = False) -> None:
    """Print the limits and the values that they do not apply to.

    \b
    Example:
      identity policy show
    """
    from identity_cli.graph.rule_lists import read_policy
    from identity_cli.graph.steering import Steering

    with Steering.open(database_url) as steering:
        policy = read_policy(steering.connection)
    if json:
        output.document(policy.as_json())
    else:
        output.policy(policy)


@app.command("set")
def set_limit(
    name: Annotated[
        str, typer.Argument(metavar="LIMIT", help="hub-limit-email, hub-limit-phone, or off.")
    ],
    limit: Annotated[
        str | None, typer.Argument(metavar="N|off", help="The limit.", show_default=False)
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Stop values from linking that occur with more than N others.

    The limit applies at once and to everything that is stored. If it is
    raised or set to off, the values link again.

    \b
    Example:
      identity policy set hub-limit-phone 20
      identity policy set hub-limit-phone off
      identity policy set off
    """
    _set_limits(
        _parsed_limits(name, limit),
        reason,
        yes=yes,
        with_values=with_values,
        json=json,
        progress=progress,
        database_url=database_url,
    )


@app.command()
def off(
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Remove both limits.

    \b
    Example:
      identity policy off
    """
    _set_limits(
        _parsed_limits("off", None),
        reason,
        yes=yes,
        with_values=with_values,
        json=json,
        progress=progress,
        database_url=database_url,
    )


@app.command()
def allow(
    values: _Values,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Let values link whatever the limits are.

    \b
    Example:
      identity policy allow 202-555-0100
    """
    _exempt(
        values,
        reason,
        is_exempt=True,
        yes=yes,
        with_values=with_values,
        region=region,
        json=json,
        progress=progress,
        database_url=database_url,
    )


@app.command()
def disallow(
    values: _Values,
    reason: Reason = None,
    yes: Yes = False,
    with_values: WithValues = False,
    region: Region = None,
    json: Json = False,
    progress: ShowProgress = "auto",
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Let the limits apply to values again.

    Exits with code 4 if none of them was allowed.

    \b
    Example:
      identity policy disallow 202-555-0100
    """
    _exempt(
        values,
        reason,
        is_exempt=False,
        yes=yes,
        with_values=with_values,
        region=region,
        json=json,
        progress=progress,
        database_url=database_url,
    )


def _parsed_limits(name: str, limit: str | None) -> tuple[tuple[HubLimit, int | None], ...]:
    names = _NAMES.get(name)
    if names is None or (limit is None) != (name == "off"):
        raise UsageError(
            "policy set takes hub-limit-email N, hub-limit-phone N, or off",
            hint="for example: identity policy set hub-limit-phone 20",
        )
    number = None if limit is None or limit == "off" else _parsed_number(limit)
    return tuple((one, number) for one in names)


def _parsed_number(text: str) -> int:
    # The largest number that the database holds.
    if text.isascii() and text.isdigit() and 1 <= int(text) < 2**31:
        return int(text)
    raise UsageError(
        f"a limit is a whole number from 1, or off, not {text!r}",
        hint="for example: identity policy set hub-limit-phone 20",
    )


def _set_limits(
    limits: tuple[tuple[HubLimit, int | None], ...],
    reason: str | None,
    *,
    yes: bool,
    with_values: bool,
    json: bool,
    progress: output.ProgressMode,
    database_url: str | None,
) -> None:
    from identity_cli.graph.rules import SetHubLimits
    from identity_cli.graph.steering import Steering

    with Steering.open(database_url) as steering:
        command = SetHubLimits(limits, reason)
        steer(steering, command, yes=yes, with_values=with_values, json=json, progress=progress)


def _exempt(
    values: list[str],
    reason: str | None,
    *,
    is_exempt: bool,
    yes: bool,
    with_values: bool,
    region: str | None,
    json: bool,
    progress: output.ProgressMode,
    database_url: str | None,
) -> None:
    from identity_cli.graph.rules import Exempt
    from identity_cli.graph.steering import Steering
    from identity_cli.graph.values import named_values

    with Steering.open(database_url, region=region) as steering:
        named = tuple(named_values(values, steering.region))
        command = Exempt(named, is_exempt=is_exempt, reason=reason)
        steer(steering, command, yes=yes, with_values=with_values, json=json, progress=progress)
