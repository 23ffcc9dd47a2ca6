"""What has changed since a moment: contacts before and after, and where former primaries lead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.graph.moments import BEGINNING, Moment
from identity_cli.graph.past import changed_contacts, is_unchanged

if TYPE_CHECKING:
    from typing import LiteralString

_CHANGES = """
    SELECT CASE WHEN now.id IS NULL THEN 'gone' WHEN past.id IS NULL THEN 'new'
                WHEN now.primary_id <> past.primary_id THEN 'moved' ELSE 'changed' END AS change,
           id, now.email, now.phone_number, now.linked_id, now.link_precedence::text,
           now.created_at, now.updated_at, now.deleted_at, now.primary_id,
           past.email AS old_email, past.phone_number AS old_phone_number,
           past.primary_id AS old_primary_id
    FROM (
        SELECT *, coalesce(linked_id, id) AS primary_id, {is_rewritten} AS is_rewritten
        FROM contact AS c WHERE id > 0 AND NOT {is_unchanged}
    ) AS now
    FULL JOIN (
        SELECT *, coalesce(linked_id, id) AS primary_id FROM changed_contact
    ) AS past USING (id)
    WHERE now.id IS NULL OR past.id IS NULL OR is_rewritten
        OR (now.email, now.phone_number, now.linked_id, now.created_at, now.updated_at,
            now.deleted_at)
           IS DISTINCT FROM (past.email, past.phone_number, past.linked_id, past.created_at,
                             past.updated_at, past.deleted_at)
    ORDER BY id
"""
_LEADS_NOW = """
    SELECT once.id, c.linked_id AS primary_id,
           CASE WHEN c.id IS NOT NULL THEN 'moved'
                WHEN EXISTS (SELECT FROM set_aside_contact AS s WHERE s.id = once.id) THEN 'blocked'
                ELSE 'gone' END AS status
    FROM once LEFT JOIN contact AS c USING (id)
    WHERE c.id IS NULL OR c.linked_id IS NOT NULL
    ORDER BY id
"""
_PRIMARIES_THEN = """,
    once AS (SELECT id FROM changed_contact WHERE linked_id IS NULL)
"""
# Stored as a primary by a request, or made one by a command.
_EVER_PRIMARIES = """
    WITH first_former AS MATERIALIZED (
        SELECT DISTINCT ON (contact_id) contact_id, primary_id, initial_linked_id
        FROM former_contact ORDER BY contact_id, id
    ),
    once AS (
        SELECT id FROM contact
        WHERE id > 0 AND linked_id IS NOT NULL AND initial_linked_id IS NULL
            AND NOT EXISTS (SELECT FROM first_former WHERE contact_id = contact.id)
        UNION
        SELECT contact_id FROM first_former
        WHERE primary_id IS NOT NULL AND initial_linked_id IS NULL
        UNION
        SELECT contact_id FROM former_contact WHERE contact_id IN (primary_id, next_primary_id)
    )
"""


def changes_since(moment: Moment) -> LiteralString:
    """Return the query of the contacts that are not as they were, in the order of their ids.

    Its columns are `CHANGE_COLUMNS`, its parameters those of the moment.
    """
    return changed_contacts(moment) + _CHANGES.format(
        is_unchanged=is_unchanged(moment, "c"),
        # Also by hand, which leaves no trace of what it was before.
        is_rewritten="false" if moment.snapshot is None else "age(c.xmin) <= %(next_age)s",
    )


def redirects_since(moment: Moment) -> LiteralString:
    """Return the query of the primaries of that moment that are none now, in the order of ids.

    Since the beginning, all contacts that were ever primaries count. Its columns are
    `REDIRECT_COLUMNS`, its parameters those of the moment.
    """
    if moment == BEGINNING:
        return _EVER_PRIMARIES + _LEADS_NOW
    return changed_contacts(moment) + _PRIMARIES_THEN + _LEADS_NOW
