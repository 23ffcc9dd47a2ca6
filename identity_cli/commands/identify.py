"""`identity identify`."""

from __future__ import annotations

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Email, Json, Phone, Region


def identify(
    email: Email = None,
    phone: Phone = None,
    region: Region = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Reconcile one request and print the consolidated contact.

    \b
    Example:
      identity identify --email mcfly@hillvalley.edu --phone 123456
    """
    from identity_cli.graph.normalize import ContactRequest, check_region

    region = check_region(region)
    request = ContactRequest(email, phone, region=region)  # before a server is started for it
    from identity_cli.graph.service import IdentityService

    with IdentityService.open(database_url, region=region) as service:
        contact = service.identify(request)
    output.consolidated(contact, as_json=json)
