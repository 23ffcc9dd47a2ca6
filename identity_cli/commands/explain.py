"""`identity explain`."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from identity_cli import output
from identity_cli.commands.options import AsOf, DatabaseUrl, Debug, Emails, Json, Phones
from identity_cli.commands.signals import orderly_end
from identity_cli.errors import UsageError
from identity_cli.output.explanation import PictureFormat, check_svg
from identity_cli.settings import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.graph.references import Reference


def explain(
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A [B]",
            help="Values or ids; a bare number is an id, else a phone number.",
            show_default=False,
        ),
    ] = None,
    email: Emails = None,
    phone: Phones = None,
    contact_id: Annotated[
        list[int] | None,
        typer.Option(
            "--id", metavar="N", help="Id of a contact; can be repeated.", show_default=False
        ),
    ] = None,
    picture_format: Annotated[
        PictureFormat | None,
        typer.Option(
            "--format",
            help="Print a picture of values and evidence (svg: extra plot).",
            show_default=False,
        ),
    ] = None,
    as_of: AsOf = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Explain why two values or contacts are one identity, or show how one identity came about.

    With A and B, prints the shortest chain of evidence between them, each row with its file and
    line. With A alone, prints the whole identity as a tree from its primary. An argument with an @
    is an email; a bare number is the id of a contact or, if no contact has that id, a phone
    number; anything else is a phone number.

    Exits with code 4 if there is no such contact, or if A and B are not one identity.

    \b
    Example:
      identity explain mcfly@hillvalley.edu 123456
      identity explain 1 --format svg > identity.svg
    """
    from identity_cli.graph.moments import check_moment, find_moment

    if json and picture_format:
        raise UsageError("--json and --format do not go together", hint="use one of them")
    if sum(map(len, (values or (), email or (), phone or (), contact_id or ()))) not in (1, 2):
        raise UsageError(
            "explain takes one or two values or contacts",
            hint="pass one or two of: an email, a phone number, the id of a contact",
        )
    if picture_format == "svg":
        check_svg()
    if as_of is not None:
        check_moment(as_of)
    from identity_cli.graph.explanation import Separation, explain_chain, explain_identity
    from identity_cli.graph.profile import effective_region
    from identity_cli.postgres import schema
    from identity_cli.postgres.snapshot import snapshot

    with orderly_end(), _without_collector():
        with open_database(database_url) as database:
            connection, profile = schema.connect(database)
            with connection:
                region = effective_region(None, profile)
                named = _references(values, email, phone, contact_id, region)
                with snapshot(connection) as graph:
                    moment = None if as_of is None else find_moment(graph, as_of)
                    explained = (
                        explain_identity(graph, named[0], moment)
                        if len(named) == 1
                        else explain_chain(graph, named[0], named[1], moment)
                    )
        if isinstance(explained, Separation):
            if json:
                output.document(explained.as_json())
            raise explained.error
        output.explanation(explained, as_json=json, picture_format=picture_format)


@contextmanager
def _without_collector() -> Iterator[None]:
    # A large identity is a million small objects without a cycle: looking for cycles among them
    # would take as long as everything else.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _references(
    values: list[str] | None,
    emails: list[str] | None,
    phones: list[str] | None,
    contact_ids: list[int] | None,
    region: str | None,
) -> list[tuple[Reference, ...]]:
    from identity_cli.graph import references

    named = [references.read_reference(value, region) for value in values or ()]
    named += [(references.email_reference(email),) for email in emails or ()]
    named += [(references.phone_reference(phone, region),) for phone in phones or ()]
    named += [(references.Reference("id", contact_id),) for contact_id in contact_ids or ()]
    return named
