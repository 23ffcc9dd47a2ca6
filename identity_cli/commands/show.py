"""`identity show`."""

from __future__ import annotations

from typing import Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import AsOf, DatabaseUrl, Debug, Email, Json, Phone
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
    as_of: AsOf = None,
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
        if as_of is not None:
            raise UsageError("--like does not go together with --as-of", hint="use a value")
        _show_like(like, database_url, as_json=json, with_values=with_values)
        return
    if with_values:
        raise UsageError("--values is for --like only", hint="omit it: values are not masked")
    if as_of is not None:
        _show_past(as_of, value, email, phone, contact_id, database_url, as_json=json)
        return
    from identity_cli.graph.service import IdentityService

    with (
        IdentityService.open(database_url) as service,
        service.find_stream(value, email=email, phone=phone, contact_id=contact_id) as contact,
    ):
        output.print_contact(contact, as_json=json)


def _show_past(
    as_of: str,
    value: str | None,
    email: str | None,
    phone: str | None,
    contact_id: int | None,
    database_url: str | None,
    *,
    as_json: bool,
) -> None:
    from identity_cli.graph.moments import check_moment, find_moment
    from identity_cli.graph.past_identity import find_past
    from identity_cli.graph.profile import effective_region
    from identity_cli.graph.references import read_lookup
    from identity_cli.graph.service import ContactStream
    from identity_cli.postgres import schema
    from identity_cli.postgres.snapshot import snapshot
    from identity_cli.settings import open_database

    check_moment(as_of)
    with open_database(database_url) as database:
        connection, profile = schema.connect(database)
        with connection:
            references, all_of_them = read_lookup(
                value,
                email=email,
                phone=phone,
                contact_id=contact_id,
                region=effective_region(None, profile),
            )
            with snapshot(connection) as graph:
                moment = find_moment(graph, as_of)
                found, is_ambiguous = find_past(graph, moment, references, all_of_them=all_of_them)
    output.print_contact(
        ContactStream(
            found.primary_id,
            iter(found.emails),
            iter(found.phone_numbers),
            iter(found.secondary_ids),
            is_ambiguous,
        ),
        as_json=as_json,
    )


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
