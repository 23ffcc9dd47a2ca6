"""`identity identify`."""

from __future__ import annotations

from identity_cli.commands.options import DatabaseUrl, Debug, Emails, Json, Phones, Region


def identify(
    email: Emails = None,
    phone: Phones = None,
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
    # A bad request is reported before the embedded server is started for it.
    ContactRequest(emails=email or (), phones=phone or (), region=region)
    from identity_cli.graph.service import IdentityService
    from identity_cli.output.contact import print_contact

    with IdentityService.open(database_url, region=region) as service:
        request = ContactRequest(emails=email or (), phones=phone or (), region=service.region)
        with service.identify_stream(request) as contact:
            print_contact(contact, as_json=json)
