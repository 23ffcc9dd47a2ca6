"""`identity show`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli.commands.options import DatabaseUrl, Debug, Email, Json, Phone


def show(
    email: Email = None,
    phone: Phone = None,
    contact_id: Annotated[
        int | None,
        typer.Option(
            "--id", metavar="N", help="Id of any contact of the identity.", show_default=False
        ),
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Print a consolidated contact without writing anything.

    Exits with code 4 if there is no such contact.

    \b
    Example:
      identity show --email mcfly@hillvalley.edu
    """
    from identity_cli.graph.service import IdentityService
    from identity_cli.output.contact import print_contact

    with (
        IdentityService.open(database_url) as service,
        service.find_stream(email=email, phone=phone, contact_id=contact_id) as contact,
    ):
        print_contact(contact, as_json=json)
