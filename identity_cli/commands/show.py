"""`identity show`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Email, Json, Phone


def show(
    email: Email = None,
    phone: Phone = None,
    contact_id: Annotated[
        int | None,
        typer.Option("--id", metavar="N", help="Id of any of its contacts.", show_default=False),
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Print a consolidated contact; writes nothing. Exit code 4 when there is none.

    \b
    Example:
      identity show --email mcfly@hillvalley.edu
    """
    from identity_cli.graph.service import IdentityService

    with IdentityService.open(database_url) as service:
        contact = service.find(email=email, phone=phone, contact_id=contact_id)
    output.consolidated(contact, as_json=json)
