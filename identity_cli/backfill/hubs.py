"""The plan for a target with hub limits: values that stop linking in the middle of the history.

Which values become hubs, and at which pair, follows from counting: what a value is stated with
counts whether it links or not. From the next pair on, a hub is a blocked value to the others.

What a hub leaves behind is worked out again at that moment, which no statement can do. So the plan
is computed as if nothing had to be, which gives the identities without their splits: all that is
reconciled together, until hubs stop, is in one of these. Those in which there is a hub are split:
`splits/` replays their pairs one by one, and what the plan has computed for them is left out.

Besides what `rules.py` starts from, the engine provides

    policy (email_limit, phone_limit)    one row
    exempt (value), hub (value)          values without a limit, and those that are hubs
    partners (value, partners)           what the target has counted
"""

from __future__ import annotations

from dataclasses import replace

from identity_cli.backfill import plan, rules
from identity_cli.backfill.plan import Plan, Statement

_ADDED = """
    SELECT left_value AS value, turn FROM new_pair
    UNION ALL SELECT right_value, turn FROM new_pair
"""
_COUNTING = (
    # Each pair when it is stated first: not if the target knows it.
    Statement(
        "new_pair",
        f"""
        SELECT left_value, right_value, min(turn) AS turn FROM (
            SELECT left_value, right_value, turn FROM ({rules.STATED_IN_ORDER}) AS met
            WHERE left_value IS NOT NULL AND right_value IS NOT NULL
            UNION ALL SELECT value, other_value, CAST(-1 AS BIGINT) FROM held_evidence
            UNION ALL SELECT email, phone, CAST(-1 AS BIGINT) FROM held
            WHERE (anchors_email OR anchors_phone) AND email IS NOT NULL AND phone IS NOT NULL
            UNION ALL SELECT email, phone_number, CAST(-1 AS BIGINT) FROM aside
            WHERE email IS NOT NULL AND phone_number IS NOT NULL
        ) AS sighting GROUP BY left_value, right_value HAVING min(turn) > 0
        """,  # noqa: S608 - the query is of this module
    ),
    Statement(
        "counted",
        """
        SELECT value, max(partners) AS partners FROM (
            SELECT value, CAST(partners AS BIGINT) AS partners FROM partners
            UNION ALL SELECT email, 1 FROM held WHERE anchors_email AND phone IS NOT NULL
            UNION ALL SELECT phone, 1 FROM held WHERE anchors_phone AND email IS NOT NULL
        ) AS known WHERE value IS NOT NULL GROUP BY value
        """,
    ),
    Statement(
        "added",
        f"SELECT value, count(*) AS partners FROM ({_ADDED}) AS stated GROUP BY value",  # noqa: S608 - the query is of this module
    ),
    # The values that become hubs, and the turn of the pair that is too many.
    Statement(
        "hub_at",
        f"""
        SELECT value, turn FROM (
            SELECT s.value, s.turn, f.most,
                   f.partners + row_number() OVER (PARTITION BY s.value ORDER BY s.turn) AS partners
            FROM ({_ADDED}) AS s JOIN (
                SELECT a.value, coalesce(c.partners, 0) AS partners,
                       greatest(CASE WHEN a.value LIKE '%@%' THEN email_limit ELSE phone_limit END,
                                coalesce(c.partners, 0)) AS most
                FROM added AS a LEFT JOIN counted AS c ON a.value = c.value
                    LEFT JOIN exempt AS e ON a.value = e.value
                    LEFT JOIN hub AS h ON a.value = h.value
                    CROSS JOIN policy
                WHERE e.value IS NULL AND h.value IS NULL
                    AND a.partners + coalesce(c.partners, 0)
                        > CASE WHEN a.value LIKE '%@%' THEN email_limit ELSE phone_limit END
            ) AS f ON s.value = f.value
        ) AS numbered_partner WHERE partners = most + 1
        """,  # noqa: S608 - the query is of this module
    ),
)


def _pairs() -> tuple[Statement, ...]:
    """Return the statements of the rules, in which a hub is blocked after its turn."""
    statements: list[Statement] = []
    for statement in rules.RULED.pairs:
        match statement.table:
            case "pair" | "alike":
                # The statements are looked at again.
                statements.append(replace(statement, last_use_of=()))
            case "parted":
                statements += _COUNTING
                statements.append(_PARTED)
            case _:
                statements.append(statement)
    return tuple(statements)


_PARTED = Statement(
    "parted",
    f"""
    SELECT turn, left_value, right_value, is_mixed, left_blocked, right_blocked, is_unlinked
    FROM (SELECT s.turn, s.left_value, s.right_value, s.is_mixed,
                 l.value IS NOT NULL OR coalesce(lh.turn < s.turn, false) AS left_blocked,
                 r.value IS NOT NULL OR coalesce(rh.turn < s.turn, false) AS right_blocked,
                 u.value IS NOT NULL AS is_unlinked
          FROM ({rules.STATED_IN_ORDER}) AS s
              LEFT JOIN ruled AS l ON s.left_value = l.value
              LEFT JOIN ruled AS r ON s.right_value = r.value
              LEFT JOIN hub_at AS lh ON s.left_value = lh.value
              LEFT JOIN hub_at AS rh ON s.right_value = rh.value
              LEFT JOIN unlinked AS u ON s.left_value = u.value AND s.right_value = u.other_value
    ) AS met
    WHERE left_blocked OR right_blocked OR is_unlinked
    """,  # noqa: S608 - the query is of this module
)

_VALUES = (
    *plan.VALUES,
    # The values that the contact which anchors them shows beside another one from the beginning.
    Statement(
        "beside",
        """
        SELECT p.email AS value FROM pair AS p
            JOIN first_email AS f ON p.email = f.value AND p.turn = f.turn
        WHERE p.phone IS NOT NULL
        UNION
        SELECT p.phone FROM pair AS p
            JOIN first_phone AS f ON p.phone = f.value AND p.turn = f.turn
        WHERE p.email IS NOT NULL
        """,
    ),
)


def _events() -> tuple[Statement, ...]:
    """Return the statements of the rules, with hubs among the blocked values."""
    statements: list[Statement] = []
    for statement in rules.RULED.events:
        match statement.table:
            case "crossing":
                # When values occur first is asked for once more.
                gone = tuple(t for t in statement.last_use_of if not t.startswith("first_"))
                statements.append(replace(statement, last_use_of=gone))
            case "first_blocked":
                statements.append(replace(statement, query=_FIRST_BLOCKED))
            case "met":
                first = "(SELECT min(turn) AS turn FROM parted GROUP BY left_value, right_value)"
                query = statement.query.replace(first, _FIRST_MET)
                statements.append(replace(statement, query=query))
            case _:
                statements.append(statement)
    return tuple(statements)


# A hub was stated before it is blocked.
_FIRST_BLOCKED = next(one.query for one in rules.RULED.events if one.table == "first_blocked")
_FIRST_BLOCKED = _FIRST_BLOCKED.replace(
    "UNION ALL SELECT email, CAST(-1 AS BIGINT) FROM aside",
    """UNION ALL SELECT h.value, CAST(-1 AS BIGINT) FROM hub_at AS h
            LEFT JOIN ruled AS b ON h.value = b.value WHERE b.value IS NULL
            UNION ALL SELECT email, CAST(-1 AS BIGINT) FROM aside""",
)
# A pair may have been stated before one of its values became a hub.
_FIRST_MET = """(
        SELECT min(turn) AS turn FROM parted WHERE left_value IS NULL OR right_value IS NULL
        GROUP BY left_value, right_value
        UNION ALL SELECT turn FROM new_pair
    )"""


def _results() -> tuple[Statement, ...]:
    """Return the rows of the rules with other ids, without those that are replayed."""
    ruled = {statement.table: statement.query for statement in rules.RULED.results}
    contacts = f"""
    SELECT n.id, c.email, c.phone_number, coalesce(l.id, c.linked_id) AS linked_id,
           coalesce(i.id, c.initial_linked_id) AS initial_linked_id, c.anchors_email,
           c.anchors_phone, c.line, c.created_line, c.updated_line
    FROM ({ruled["contact"]}) AS c JOIN renumbered AS n ON c.id = n.old_id
        LEFT JOIN renumbered AS l ON c.linked_id = l.old_id
        LEFT JOIN renumbered AS i ON c.initial_linked_id = i.old_id
    ORDER BY n.id
    """  # noqa: S608 - the queries are of the plan
    evidence = f"""
    SELECT n.id, e.value, e.other_value, coalesce(p.id, e.primary_id) AS primary_id,
           coalesce(m.id, e.merged_id) AS merged_id, e.line, e.is_held
    FROM ({ruled["link_evidence"]}) AS e JOIN evidence_renumbered AS n ON e.id = n.old_id
        LEFT JOIN renumbered AS p ON e.primary_id = p.old_id
        LEFT JOIN renumbered AS m ON e.merged_id = m.old_id
    UNION ALL
    SELECT id, value, other_value, primary_id, merged_id, line, is_held FROM split_evidence
    ORDER BY id
    """  # noqa: S608 - the queries are of the plan
    moved = f"""
    SELECT m.id, coalesce(l.id, m.linked_id) AS linked_id, m.updated_line
    FROM ({ruled["moved"]}) AS m JOIN held AS h ON m.id = h.id
        LEFT JOIN gone AS g ON h.root = g.node
        LEFT JOIN split_root AS s ON coalesce(g.lead, h.root) = s.root
        LEFT JOIN renumbered AS l ON m.linked_id = l.old_id
    WHERE s.root IS NULL
    ORDER BY m.id
    """  # noqa: S608 - the queries are of the plan
    aside = f"""
    SELECT n.id, a.email, a.phone_number, a.anchors_email, a.anchors_phone, a.line
    FROM ({ruled["set_aside_contact"]}) AS a JOIN renumbered AS n ON a.id = n.old_id
    ORDER BY n.id
    """  # noqa: S608 - the queries are of the plan
    queries = ruled | {
        "contact": contacts,
        "link_evidence": evidence,
        "moved": moved,
        "set_aside_contact": aside,
        "taken_ids": "SELECT CAST(1 AS BIGINT) AS id, CAST(coalesce(sum(weight), 0) AS BIGINT)"
        " AS contacts FROM contact_id",
        # A value without a row occurs with the one that its anchor shows beside it.
        "partner_count": """
        SELECT a.value, a.partners + coalesce(c.partners, 0) AS partners
        FROM added AS a LEFT JOIN counted AS c ON a.value = c.value
            LEFT JOIN beside AS b ON a.value = b.value
            LEFT JOIN split_count AS s ON a.value = s.value
        WHERE a.partners > 1 OR b.value IS NULL OR s.value IS NOT NULL
        UNION ALL
        SELECT s.value, c.partners FROM split_count AS s
            JOIN counted AS c ON s.value = c.value
            LEFT JOIN added AS a ON s.value = a.value
        WHERE a.value IS NULL
        ORDER BY value
        """,
    }
    return tuple(Statement(table, query) for table, query in queries.items())


# The turns of what is replayed.
_IS_SPLIT = "SELECT turn FROM split_turn"
_LINE = plan.line_of("turn")
_MET_LINES = f"SELECT {_LINE} AS line FROM parted UNION SELECT {_LINE} FROM hub_at"  # noqa: S608 - the expression is of the plan
# Requests at whose end all of their values are blocked.
_BLOCKED_LINES = f"""
    SELECT m.line FROM ({_MET_LINES}) AS m LEFT JOIN (
        SELECT DISTINCT s.line FROM (
            SELECT {_LINE} AS line, email AS value FROM pair
            UNION ALL SELECT {_LINE}, phone FROM pair
            UNION ALL SELECT {_LINE}, left_value FROM alike
            UNION ALL SELECT {_LINE}, right_value FROM alike
        ) AS s LEFT JOIN hub_at AS h ON s.value = h.value AND h.turn < 1024 * (s.line + 1)
        WHERE s.value IS NOT NULL AND h.value IS NULL AND s.line IN ({_MET_LINES})
    ) AS linking ON m.line = linking.line
    WHERE linking.line IS NULL
"""  # noqa: S608 - the expressions are of this module
_OUTCOMES = f"""
    SELECT count(CASE WHEN strength = 1 THEN 1 END) AS created,
           count(CASE WHEN strength = 2 THEN 1 END) AS merged,
           count(CASE WHEN strength = 3 THEN 1 END) AS linked
    FROM (SELECT h.line, min(strength) AS strength FROM (
              SELECT {_LINE} AS line, CASE WHEN through IS NULL THEN 1 ELSE 3 END AS strength
              FROM stored WHERE turn - turn % 4 NOT IN ({_IS_SPLIT})
              UNION ALL SELECT {_LINE}, 2 FROM played
              WHERE merged_node > 0 AND turn - turn % 4 NOT IN ({_IS_SPLIT})
              UNION ALL SELECT line, strength FROM split_outcome
          ) AS h LEFT JOIN ({_BLOCKED_LINES}) AS b ON h.line = b.line
          WHERE b.line IS NULL GROUP BY h.line) AS request
"""  # noqa: S608 - the expressions are of this module

# What the identities are without their splits, and which of them have to be replayed.
_ROOTS = (
    Statement(
        "root_of",
        """
        SELECT node, coalesce(link_node, node) AS root FROM placed
        UNION ALL SELECT h.node, coalesce(g.lead, h.root) FROM held AS h
            LEFT JOIN gone AS g ON h.root = g.node
        """,
    ),
    Statement(
        "value_root",
        """
        SELECT v.value, r.root
        FROM (SELECT value, turn FROM first_email UNION ALL SELECT value, turn FROM first_phone)
                AS v
            CROSS JOIN target AS t
            LEFT JOIN placed AS p ON v.turn = p.turn
            JOIN root_of AS r ON coalesce(p.node, v.turn + t.held) = r.node
        """,
        last_use_of=("first_email", "first_phone"),
    ),
    # When a pattern blocks a value, the identities of what it is unlinked from are worked out
    # again. That changes none of their contacts, but gives values rows in partner_count.
    Statement(
        "beside_blocked",
        """
        SELECT f.turn, u.other_value AS value FROM unlinked AS u
            JOIN first_blocked AS f ON u.value = f.value
        WHERE u.value IN (SELECT value FROM matched)
        UNION ALL
        SELECT f.turn, u.value FROM unlinked AS u JOIN first_blocked AS f ON u.other_value = f.value
        WHERE u.other_value IN (SELECT value FROM matched)
        """,
    ),
    # Those that have a hub, or that are worked out again together with one.
    Statement(
        "split_seed",
        """
        SELECT DISTINCT v.root FROM value_root AS v JOIN (
            SELECT value FROM hub_at
            UNION ALL SELECT n.left_value FROM new_pair AS n JOIN hub_at AS h ON n.turn = h.turn
            UNION ALL SELECT n.right_value FROM new_pair AS n JOIN hub_at AS h ON n.turn = h.turn
            UNION ALL SELECT u.other_value FROM unlinked AS u JOIN hub_at AS h ON u.value = h.value
            UNION ALL SELECT u.value FROM unlinked AS u JOIN hub_at AS h ON u.other_value = h.value
            UNION ALL SELECT value FROM beside_blocked
        ) AS touched ON v.value = touched.value
        """,
    ),
    # Those whose values are stated together, but do not link.
    Statement(
        "split_edge",
        """
        SELECT DISTINCT l.root AS left_root, r.root AS right_root
        FROM parted AS p JOIN value_root AS l ON p.left_value = l.value
            JOIN value_root AS r ON p.right_value = r.value
        WHERE is_unlinked AND NOT left_blocked AND NOT right_blocked AND l.root <> r.root
        """,
    ),
)

LIMITED = Plan(
    pairs=_pairs(),
    values=_VALUES,
    events=_events(),
    places=(*plan.PLACES, *_ROOTS),
    results=_results(),
    blocked=f"SELECT count(*) FROM ({_BLOCKED_LINES}) AS blocked",  # noqa: S608 - the query is of this module
    outcomes=_OUTCOMES,
)
