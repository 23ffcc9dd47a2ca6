"""`identity show`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Email, Json, Phone
from identity_cli.errors import UsageError


def show(
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="VALUE",
            help="Email, phone number or id; a bare number is first an id.",
            show_default=False,
        ),
    ] = None,
    email: Email = None,
    phone: Phone = None,
    contact_id: Annotated[
        int | None,
        typer.Option(
            "--id", metavar="N", help="Id of any contact of the identity.", show_default=False
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="PATTERN",
            help="List a few identities with a value like an SQL pattern.",
            show_default=False,
        ),
    ] = None,
    with_values: Annotated[
        bool, typer.Option("--values", help="With --like, print the values without masking.")
    ] = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Print a consolidated contact without writing anything.

    A VALUE with an @ is an email. A bare number is the id of a contact or, if no contact has that
    id, a phone number. Anything else is a phone number. With --email and --phone together, both
    must lead to the same identity.

    Exits with code 4 if there is no such contact.

    \b
    Example:
      identity show mcfly@hillvalley.edu
      identity show --like 'mcfly%'
    """
    if like is not None:
        if any(one is not None for one in (value, email, phone, contact_id)):
            raise UsageError("--like does not go together with a value", hint="use one of the two")
        _show_like(like, database_url, as_json=json, with_values=with_values)
        return
    if with_values:
        raise UsageError("--values is for --like only", hint="omit it: values are not masked")
    from identity_cli.graph.service import IdentityService

    with (
        IdentityService.open(database_url) as service,
        service.find_stream(value, email=email, phone=phone, contact_id=contact_id) as contact,
    ):
        output.print_contact(contact, as_json=json)


def _show_like(pattern: str, database_url: str | None, *, as_json: bool, with_values: bool) -> None:
    from identity_cli.graph.likeness import find_like
    from identity_cli.postgres import schema
    from identity_cli.postgres.snapshot import snapshot
    from identity_cli.settings import open_database

    with (
        open_database(database_url) as database,
        schema.connect(database)[0] as connection,
        snapshot(connection) as graph,
    ):
        found = find_like(graph, pattern)
    output.matches(found, as_json=as_json, with_values=with_values)
