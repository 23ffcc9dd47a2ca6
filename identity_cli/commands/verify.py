"""`identity verify`."""

from __future__ import annotations

from identity_cli import output
from identity_cli.commands.options import DatabaseUrl, Debug, Json
from identity_cli.commands.signals import orderly_end
from identity_cli.settings import open_database


def verify(json: Json = False, database_url: DatabaseUrl = None, _debug: Debug = False) -> int:
    """Verify the stored graph and list violations. Exits with 3 if there are any.

    \b
    Example:
      identity verify --json
    """
    from identity_cli.graph.verify import LISTED
    from identity_cli.graph.verify import verify as recompute
    from identity_cli.postgres import schema

    with orderly_end():
        with open_database(database_url) as database, schema.connect(database)[0] as connection:
            found = recompute(connection)
        if json:
            output.document(found.as_json())
        else:
            output.line(f"contacts: {found.contacts}")
            output.line(f"identities: {found.identities}")
            output.line(f"digest: {found.digest}")
            for violation in found.violations:
                about = "" if violation.contact_id is None else f" contact {violation.contact_id}:"
                output.line(f"{violation.code}:{about} {violation.message}")
        if found.ok:
            output.note("the graph is correct")
            return 0
        kinds = ", ".join(f"{count} {code}" for code, count in found.counts.items())
        output.note(f"violations: {kinds}")
        if found.is_cut:
            output.note(f"only the first {LISTED} of each kind are listed")
    return 3
