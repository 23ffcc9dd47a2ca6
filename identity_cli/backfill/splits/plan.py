"""The statements that find what hubs split, and that number all others around it.

`computation.py` makes these tables between them:

    split_root (root)                    the primaries of these identities
    split_turn (turn)                    the turns of the pairs that are replayed
    split_contact_id, split_evidence_id (turn, part, weight)
                                         what takes an id there (part 2k, weight 1), and the moments
                                         at which the last id is asked for (part 2k + 1, weight 0)
    split_outcome (line, strength)       outcomes of their requests, as in `plan.OUTCOMES`
    split_evidence                       their evidence, as rows of the result
    split_count (value)                  values that get a row in partner_count when identities are
                                         worked out again
"""

from __future__ import annotations

from identity_cli.backfill.plan import Statement


def _rest_of(table: str) -> str:
    """Return the query for the turns of a table that are not replayed."""
    return f"""
    SELECT r.turn, CAST(0 AS BIGINT) AS part, 1 AS weight FROM {table} AS r
        LEFT JOIN split_turn AS s ON r.turn - r.turn % 4 = s.turn
    WHERE s.turn IS NULL
    """  # noqa: S608 - the names are of this module


def _ids(taken: str, first: str) -> str:
    """Return the query for the ids of what takes one, in the order of turns."""
    return f"""
    SELECT r.turn, r.part, r.weight, CAST({first} - 1 + b.rows_before + sum(r.weight) OVER (
               PARTITION BY b.block ORDER BY r.turn, r.part) AS BIGINT) AS id
    FROM {taken} AS r
        JOIN (SELECT block, sum(weight) OVER (ORDER BY block) - weight AS rows_before
              FROM (SELECT floor(turn / 1073741824) AS block, sum(weight) AS weight FROM {taken}
                    GROUP BY floor(turn / 1073741824)) AS weighed) AS b
            ON floor(r.turn / 1073741824) = b.block
        CROSS JOIN target
    """  # noqa: S608 - the names are of this module


# What is replayed: pairs when they are stated first, and values when they are stated alone first.
STATED = (
    Statement(
        "split_value",
        "SELECT v.value FROM value_root AS v JOIN split_root AS s ON v.root = s.root",
        last_use_of=("value_root",),
    ),
    Statement(
        "split_statement",
        """
        SELECT s.turn, s.left_value, s.right_value
        FROM (SELECT p.turn, p.email AS left_value, p.phone AS right_value
              FROM new_pair AS n JOIN stated_pair AS p ON n.turn = p.turn
              UNION ALL
              SELECT a.turn, a.left_value, a.right_value
              FROM new_pair AS n JOIN stated_alike AS a ON n.turn = a.turn
              UNION ALL
              SELECT min(turn), email, CAST(NULL AS VARCHAR) FROM stated_pair
              WHERE phone IS NULL GROUP BY email
              UNION ALL
              SELECT min(turn), CAST(NULL AS VARCHAR), phone FROM stated_pair
              WHERE email IS NULL GROUP BY phone) AS s
            LEFT JOIN parted AS p ON s.turn = p.turn
            LEFT JOIN split_value AS l ON s.left_value = l.value
            LEFT JOIN split_value AS r ON s.right_value = r.value
            LEFT JOIN (SELECT DISTINCT turn FROM hub_at) AS h ON s.turn = h.turn
        WHERE h.turn IS NOT NULL
            OR l.value IS NOT NULL
                AND NOT (p.turn IS NOT NULL AND CASE WHEN p.left_value = s.left_value
                             THEN p.left_blocked ELSE p.right_blocked END)
            OR r.value IS NOT NULL
                AND NOT (p.turn IS NOT NULL AND CASE WHEN p.right_value = s.right_value
                             THEN p.right_blocked ELSE p.left_blocked END)
        """,
    ),
    Statement("split_turn", "SELECT DISTINCT turn FROM split_statement"),
    Statement("rest_taken", _rest_of("taken")),
    Statement("rest_attested", _rest_of("attested")),
)
# For readers of the tables: the order in which it happens, and what the rules are for it.
STATEMENTS = "SELECT turn, left_value, right_value FROM split_statement ORDER BY turn"
BESIDE_BLOCKED = "SELECT turn, value FROM beside_blocked ORDER BY turn DESC"
HUBS = "SELECT value, turn FROM hub_at"
BLOCKED = """
    SELECT r.value, coalesce(f.turn, CAST(9223372036854775807 AS BIGINT))
    FROM ruled AS r LEFT JOIN first_blocked AS f ON r.value = f.value
    WHERE r.value IN (SELECT left_value FROM split_statement
                      UNION ALL SELECT right_value FROM split_statement)
"""
NAMED = "SELECT value FROM named"
UNLINKED = "SELECT value, other_value FROM unlinked"
# The rows of the target that have a part in it.
HELD_CONTACTS = """
    SELECT c.* FROM {contacts} AS c JOIN held AS h ON c.id = h.id
        LEFT JOIN gone AS g ON h.root = g.node
        JOIN split_root AS s ON coalesce(g.lead, h.root) = s.root
"""
HELD_EVIDENCE = """
    SELECT e.* FROM {evidence} AS e
    WHERE value IN (SELECT value FROM split_value)
        OR other_value IN (SELECT value FROM split_value)
"""
HELD_ASIDE = """
    SELECT a.*, a.id IN (SELECT id FROM held) AS is_shown FROM {aside} AS a
    WHERE email IN (SELECT value FROM split_value)
        OR phone_number IN (SELECT value FROM split_value)
"""
IDS = (
    Statement(
        "contact_id",
        _ids(
            "(SELECT * FROM rest_taken UNION ALL SELECT * FROM split_contact_id)",
            "first_contact_id",
        ),
    ),
    Statement(
        "evidence_id",
        _ids(
            "(SELECT * FROM rest_attested UNION ALL SELECT * FROM split_evidence_id)",
            "first_evidence_id",
        ),
    ),
)
# What the ids of all others are in the end.
RENUMBERED = (
    Statement(
        "renumbered",
        """
        SELECT p.node - t.held - 1 + t.first_contact_id AS old_id, i.id
        FROM contact_id AS i JOIN placed AS p ON i.turn = p.turn CROSS JOIN target AS t
        WHERE i.part = 0
        """,
    ),
    Statement(
        "evidence_renumbered",
        """
        SELECT n.number AS old_id, i.id FROM evidence_id AS i
            JOIN evidence_numbered AS n ON i.turn = n.turn
        WHERE i.part = 0
        """,
    ),
)
