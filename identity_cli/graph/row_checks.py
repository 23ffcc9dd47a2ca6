"""What has to hold for each row, as conditions that the database tests.

The schema's constraints forbid most of it, but a superuser or a damaged disk can cause it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import LiteralString

    from identity_cli.graph.violations import Violations
    from identity_cli.postgres.snapshot import Snapshot

# What can be seen from a contact `c` and the contact `p` that its link names: code, condition and
# message. Nothing can be linked to a placeholder, which has a negative id and is no contact.
_CONTACT_CHECKS: tuple[tuple[LiteralString, LiteralString, str], ...] = (
    (
        "dangling_link",
        "c.linked_id IS NOT NULL AND p.id IS NULL",
        "it is linked to a contact that does not exist",
    ),
    ("self_link", "c.linked_id = c.id", "it is linked to itself"),
    (
        "link_to_secondary",
        "p.id <> c.id AND p.link_precedence = 'secondary'",
        "it is linked to a secondary",
    ),
    (
        "primary_with_link",
        "c.link_precedence = 'primary' AND c.linked_id IS NOT NULL",
        "it is a primary and has a link",
    ),
    (
        "secondary_without_link",
        "c.link_precedence = 'secondary' AND c.linked_id IS NULL",
        "it is a secondary and has no link",
    ),
    (
        "wrong_linked_precedence",
        "c.linked_precedence IS DISTINCT FROM"
        " CASE WHEN c.linked_id IS NOT NULL THEN 'primary'::link_precedence END",
        "its linked_precedence does not go with its link",
    ),
    (
        "primary_not_oldest",
        "(c.created_at, c.id) < (p.created_at, p.id)",
        "it is older than the primary that it is linked to",
    ),
    (
        "no_identifier",
        "c.email IS NULL AND c.phone_number IS NULL",
        "it has neither an email nor a phone number",
    ),
    (
        "empty_identifier",
        "c.email = '' OR c.phone_number = ''",
        "its email or its phone number is empty",
    ),
    (
        "placeholder_like_a_contact",
        "c.id < 0 AND (c.linked_id IS NOT NULL OR num_nulls(c.email, c.phone_number) = 0)",
        "it is a placeholder, but has a link or two values",
    ),
)
# What can be seen from a contact `c`, and what it was stored with, `s`.
_SET_ASIDE_CHECKS: tuple[tuple[LiteralString, LiteralString, str], ...] = (
    (
        "value_not_stored",
        "c.email IS NOT NULL AND c.email IS DISTINCT FROM s.email"
        " OR c.phone_number IS NOT NULL AND c.phone_number IS DISTINCT FROM s.phone_number",
        "it shows a value that it was not stored with",
    ),
    (
        "set_aside_without_rule",
        "(c.email, c.phone_number) IS NOT DISTINCT FROM (s.email, s.phone_number)",
        "it is set aside, but shows everything that it was stored with",
    ),
)


def _failing(checks: tuple[tuple[LiteralString, LiteralString, str], ...]) -> LiteralString:
    cases = ", ".join(f"CASE WHEN {condition} THEN '{code}' END" for code, condition, _ in checks)
    return f"array_remove(ARRAY[{cases}], NULL)"


_QUERIES: tuple[LiteralString, ...] = (
    f"""
    SELECT id, codes FROM (
        SELECT c.id, {_failing(_CONTACT_CHECKS)} AS codes
        FROM contact c LEFT JOIN contact p ON p.id = c.linked_id AND p.id >= 0
    ) AS checked
    WHERE codes <> '{{}}' ORDER BY id
    """,  # noqa: S608 - made of constants
    f"""
    SELECT id, codes FROM (
        SELECT c.id, {_failing(_SET_ASIDE_CHECKS)} AS codes
        FROM contact c JOIN set_aside_contact s ON s.id = c.id
    ) AS checked
    WHERE codes <> '{{}}' ORDER BY id
    """,  # noqa: S608 - made of constants
    """
    SELECT id, ARRAY['rule_not_applied']
    FROM contact JOIN unlinked_pair ON email = value AND phone_number = other_value
    WHERE id >= 0 ORDER BY id
    """,
)
_MESSAGES = {code: message for code, _, message in (*_CONTACT_CHECKS, *_SET_ASIDE_CHECKS)} | {
    "rule_not_applied": "it shows two values that are kept apart"
}


def check_rows(graph: Snapshot, violations: Violations) -> None:
    """Check every contact by itself, with its primary, and with what it was stored with."""
    for query in _QUERIES:
        for contact_id, codes in graph.rows(query):
            for code in codes:
                violations.add(code, contact_id, _MESSAGES[code])
