"""The contacts as they were at a moment, worked out from what is stored today.

A contact that has not changed since is as it is. For the others:

- `later` has the row that a command was the first to change after the moment. Until then, the
  values of the contact were those of that row, or of its row today if there is none.
- Its primary is that of the last command before the moment, or the one that it was stored with,
  and from there the merges before the moment are followed. Merges are found by the ids of their
  evidence: of two that concern the same primary, the later one has the higher id.

Both hold because whoever moves contacts has locked their primaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import LiteralString

    from identity_cli.graph.moments import Moment

# Whether a row was stored by then: its stamp names the transaction. A row of which PostgreSQL's own
# mark is older than every transaction at work then needs no stamp; one from a dump has that of
# another server.
_IN_SNAPSHOT = (
    "(age({row}.xmin) > %(age)s OR {stamp} IS NULL"
    " OR pg_visible_in_snapshot({stamp}, %(snapshot)s::pg_snapshot))"
)
_IN_TIME = "({time} <= %(time)s::timestamptz)"

# The first merge of a primary after a position, if it came before the moment. A command may have
# changed its evidence since. OFFSET 0 keeps PostgreSQL from searching in the order of all evidence.
_NEXT_MERGE = """
    SELECT evidence_id, primary_id AS root, created_at AS moved_at
    FROM (
        (SELECT evidence_id, f.id AS version, primary_id, created_at,
                {former_is_before} AS is_before
         FROM former_evidence AS f WHERE merged_id = {root} AND evidence_id > {position} OFFSET 0)
        UNION ALL
        (SELECT e.id, 9223372036854775807, primary_id, created_at, {evidence_is_before}
         FROM link_evidence AS e WHERE merged_id = {root} AND e.id > {position} OFFSET 0)
        ORDER BY evidence_id, version LIMIT 1
    ) AS first_merge WHERE is_before
"""
_THEN = """
    later AS MATERIALIZED (
        SELECT DISTINCT ON (contact_id) * FROM former_contact AS f WHERE NOT {replaced_before}
        ORDER BY contact_id, id
    ),
    touched AS MATERIALIZED (
        SELECT id, coalesce(linked_id, id) AS last_root, initial_linked_id, run_id, line,
               created_at, updated_at, deleted_at, email, phone_number, anchors_email,
               anchors_phone, {contact_is_before} AS is_stored_before
        FROM contact AS c WHERE id > 0 AND NOT {is_unchanged}
            AND NOT EXISTS (SELECT FROM later WHERE contact_id = c.id)
        UNION ALL
        SELECT contact_id, primary_id, initial_linked_id, run_id, line,
               created_at, updated_at, NULL, email, phone_number, anchors_email,
               anchors_phone, {later_is_before}
        FROM later WHERE primary_id IS NOT NULL
    ),
    begun AS MATERIALIZED (
        SELECT t.*, coalesce(f.next_primary_id, t.initial_linked_id, t.id) AS first_root,
               coalesce(f.evidence_mark, split.evidence_mark, 0) AS position,
               coalesce(f.replaced_at, t.created_at) AS begun_at
        FROM touched AS t
        LEFT JOIN LATERAL (
            SELECT f.id, next_primary_id, evidence_mark, replaced_at FROM former_contact AS f
            WHERE contact_id = t.id AND {replaced_before}
            ORDER BY f.id DESC LIMIT 1
        ) AS f ON true
        -- The contact was stored with a primary that a command had split off before.
        LEFT JOIN LATERAL (
            SELECT evidence_mark FROM former_contact
            WHERE f.id IS NULL AND contact_id = coalesce(t.initial_linked_id, t.id)
                AND next_primary_id = contact_id AND primary_id IS DISTINCT FROM contact_id
                AND contact_mark < t.id
            ORDER BY former_contact.id DESC LIMIT 1
        ) AS split ON true
        WHERE CASE WHEN f.id IS NULL THEN is_stored_before ELSE f.next_primary_id IS NOT NULL END
    ),
    beginning AS MATERIALIZED (
        SELECT start.first_root, start.position, first.evidence_id, first.root, first.moved_at
        FROM (SELECT DISTINCT first_root, position FROM begun) AS start
        LEFT JOIN LATERAL ({first_merge}) AS first ON true
    ),
    -- Each merge once, however many contacts it has moved.
    reached AS (
        SELECT evidence_id, root, moved_at FROM beginning WHERE evidence_id IS NOT NULL
        UNION
        SELECT further.* FROM reached, LATERAL ({further_merge}) AS further
    ),
    step AS MATERIALIZED (
        SELECT reached.*, further.evidence_id AS next_id,
               row_number() OVER (ORDER BY reached.evidence_id)::integer AS place
        FROM reached LEFT JOIN LATERAL ({further_merge}) AS further ON true
    ),
    last_step AS (
        SELECT unnest(last_of_chains(array_agg(further.place ORDER BY step.place))) AS place,
               generate_series(1, count(*)) AS from_place
        FROM step LEFT JOIN step AS further ON further.evidence_id = step.next_id
    ),
    ended AS (
        SELECT step.evidence_id, final.root, final.moved_at
        FROM last_step
        JOIN step ON step.place = from_place
        JOIN step AS final ON final.place = last_step.place
    ),
    changed_contact AS MATERIALIZED (
        SELECT id, email, phone_number, nullif(final.root, id) AS linked_id, created_at,
               CASE WHEN final.root = last_root THEN updated_at
                    ELSE coalesce(final.moved_at, begun_at) END AS updated_at,
               deleted_at, run_id, line, anchors_email, anchors_phone
        FROM begun
        JOIN (
            SELECT first_root, position, coalesce(ended.root, first_root) AS root, ended.moved_at
            FROM beginning LEFT JOIN ended USING (evidence_id)
        ) AS final USING (first_root, position)
    )
"""
_CONTACT = """,
    past_contact AS (
        SELECT id, email, phone_number, linked_id, link_precedence::text, created_at, updated_at,
               deleted_at, run_id, line, anchors_email, anchors_phone
        FROM contact AS c WHERE id > 0 AND {is_unchanged}
            AND NOT EXISTS (SELECT FROM later WHERE contact_id = c.id)
        UNION ALL
        SELECT id, email, phone_number, linked_id,
               CASE WHEN linked_id IS NULL THEN 'primary' ELSE 'secondary' END, created_at,
               updated_at, deleted_at, run_id, line, anchors_email, anchors_phone
        FROM changed_contact
    )
"""


def past_contacts(moment: Moment) -> LiteralString:
    """Return a WITH clause that defines `past_contact`, the contacts as they were at the moment.

    Its parameters are those of the moment. A value that was forgotten since is null; a contact may
    have no value left.
    """
    return changed_contacts(moment) + _CONTACT.format(is_unchanged=is_unchanged(moment, "c"))


def changed_contacts(moment: Moment) -> LiteralString:
    """Return a WITH clause that defines `changed_contact`.

    It has those of the contacts of that moment that have changed since, and may have some that have
    not.
    """

    def next_merge(root: LiteralString, position: LiteralString) -> LiteralString:
        return _NEXT_MERGE.format(
            root=root,
            position=position,
            former_is_before=is_before(moment, "f", "stored_in", "created_at"),
            evidence_is_before=is_before(moment, "e", "stored_in", "created_at"),
        )

    return "WITH RECURSIVE" + _THEN.format(
        replaced_before=is_before(moment, "f", "replaced_in", "replaced_at"),
        contact_is_before=is_before(moment, "c", "stored_in", "created_at"),
        # Its own mark is that of the command, which came later.
        later_is_before=is_before(moment, None, "stored_in", "created_at"),
        is_unchanged=is_unchanged(moment, "c"),
        first_merge=next_merge("start.first_root", "start.position"),
        further_merge=next_merge("reached.root", "reached.evidence_id"),
    )


def is_before(
    moment: Moment, row: LiteralString | None, stamp: LiteralString, time: LiteralString
) -> LiteralString:
    """Return the condition that a row was stored by then; without `row`, by its stamp alone."""
    if moment.snapshot is None:
        return _IN_TIME.format(time=time)
    if row is None:
        return f"({stamp} IS NULL OR pg_visible_in_snapshot({stamp}, %(snapshot)s::pg_snapshot))"
    return _IN_SNAPSHOT.format(row=row, stamp=stamp)


def is_unchanged(moment: Moment, row: LiteralString) -> LiteralString:
    """Return the condition that a contact is sure not to have changed since then."""
    if moment.snapshot is None:
        return _IN_TIME.format(time=f"greatest({row}.created_at, {row}.updated_at)")
    return f"(age({row}.xmin) > %(age)s)"
