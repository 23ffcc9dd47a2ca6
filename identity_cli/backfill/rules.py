"""The plan for a target with rules: values that are blocked, and pairs that do not link.

Such rules do not change while a backfill is computed: a value that a pattern blocks is blocked when
it comes first. So a pair is kept apart, or it is not, whatever the history. Of one that is, each
value that may link is a request of its own, first the right one, then the left one in the order of
`link_evidence`; the plan does the rest with these. What the pair says is set aside, or held as
evidence, as `hold_pair()` in `reconcile_steered.sql` does.

A pair that is kept apart dates by the parts of its turn: 1 is the contact of the right value, 2 the
contact of the left one, or what is set aside for it, 3 what is set aside for the right one, and
evidence. A value that is set aside by itself before its pair is has the part of its contact.

A forgotten value is null in the requests: it keeps its place there, which gives the turns of the
other values, and is nowhere else.

Besides what `plan.py` starts from, the engine provides

    blocked (value)                      blocked values of the target
    matched (value, pattern_id)          values of requests that are new to the target, and that one
                                         of its patterns blocks, some repeatedly
    unlinked (value, other_value)        pairs that do not link, in the order of link_evidence
    placeholder (id, value)              placeholders of values that are not blocked
    aside (email, phone_number)          what the target has set aside
"""

from __future__ import annotations

from dataclasses import replace

from identity_cli.backfill import plan
from identity_cli.backfill.plan import Plan, Statement


def _email(value: str) -> str:
    return f"CASE WHEN {value} LIKE '%@%' THEN {value} END"


def _phone(value: str) -> str:
    return f"CASE WHEN {value} NOT LIKE '%@%' THEN {value} END"


_LISTED, _PAIR, _ALIKE = plan.PAIRS
# What is stated, in the order of link_evidence: pairs, and values alone with null for the other.
STATED_IN_ORDER = """
    SELECT turn, email AS left_value, phone AS right_value, true AS is_mixed FROM stated_pair
    UNION ALL SELECT turn, least(left_value, right_value), greatest(left_value, right_value), false
    FROM stated_alike
"""
# The pairs that link, and the values of the others, one by one.
_PAIRS = (
    _LISTED,
    Statement("listed_alike", _ALIKE.query),
    # Beside a forgotten value, the other one of the pair is stated alone.
    Statement(
        "stated_pair",
        f"""
        SELECT turn, email, phone FROM ({_PAIR.query}) AS listed_pair
        WHERE email IS NOT NULL OR phone IS NOT NULL
        UNION ALL
        SELECT turn, CASE WHEN kind = 'email' THEN coalesce(left_value, right_value) END,
               CASE WHEN kind = 'phone' THEN coalesce(left_value, right_value) END
        FROM listed_alike
        WHERE (left_value IS NULL OR right_value IS NULL)
            AND (left_value IS NOT NULL OR right_value IS NOT NULL)
        """,  # noqa: S608 - the query is of the plan
        last_use_of=_ALIKE.last_use_of,
    ),
    Statement(
        "stated_alike",
        """
        SELECT turn, kind, left_value, right_value FROM listed_alike
        WHERE left_value IS NOT NULL AND right_value IS NOT NULL
        """,
        last_use_of=("listed_alike",),
    ),
    Statement(
        "ruled",
        "SELECT value FROM blocked UNION ALL SELECT DISTINCT value FROM matched",
    ),
    # The pairs that are kept apart, and blocked values alone: then the other value is null.
    Statement(
        "parted",
        f"""
        SELECT s.turn, s.left_value, s.right_value, s.is_mixed,
               l.value IS NOT NULL AS left_blocked, r.value IS NOT NULL AS right_blocked,
               u.value IS NOT NULL AS is_unlinked
        FROM ({STATED_IN_ORDER}) AS s
            LEFT JOIN ruled AS l ON s.left_value = l.value
            LEFT JOIN ruled AS r ON s.right_value = r.value
            LEFT JOIN unlinked AS u ON s.left_value = u.value AND s.right_value = u.other_value
        WHERE l.value IS NOT NULL OR r.value IS NOT NULL OR u.value IS NOT NULL
        """,  # noqa: S608 - the query is of this module
        last_use_of=("ruled",),
    ),
    Statement(
        "pair",
        f"""
        SELECT s.turn, s.email, s.phone FROM stated_pair AS s
            LEFT JOIN parted AS p ON s.turn = p.turn
        WHERE p.turn IS NULL
        UNION ALL
        SELECT turn + 1, {_email("right_value")}, {_phone("right_value")} FROM parted
        WHERE right_value IS NOT NULL AND NOT right_blocked
        UNION ALL
        SELECT turn + 2, {_email("left_value")}, {_phone("left_value")} FROM parted
        WHERE left_value IS NOT NULL AND NOT left_blocked
        """,  # noqa: S608 - the expressions are of this module
        last_use_of=("stated_pair",),
    ),
    Statement(
        "alike",
        """
        SELECT s.turn, s.kind, s.left_value, s.right_value FROM stated_alike AS s
            LEFT JOIN parted AS p ON s.turn = p.turn
        WHERE p.turn IS NULL
        """,
        last_use_of=("stated_alike",),
    ),
)


def _is_alone(value: str, other: str) -> str:
    """Return the expression for whether a value of a pair is set aside by itself, before the pair.

    That is the case if a pattern is looked for when the value is reconciled alone: it was named by
    a rule before it was stated, and the pair is kept apart even without the pattern.
    """
    return (
        f"({value}_is_first AND {value}_is_named AND (is_unlinked"
        f" OR {other}_blocked AND NOT ({other}_is_first AND {other}_is_named)))"
    )


_APART = (
    # Values that were named by a rule before they were stated, and that a pattern blocks then.
    Statement(
        "named",
        """
        SELECT DISTINCT h.value FROM placeholder AS h JOIN matched AS m ON h.value = m.value
        """,
    ),
    # When each blocked value is stated first: not if the target has set it aside.
    Statement(
        "first_blocked",
        """
        SELECT value, min(turn) AS turn FROM (
            SELECT left_value AS value, turn FROM parted WHERE left_blocked
            UNION ALL SELECT right_value, turn FROM parted WHERE right_blocked
            UNION ALL SELECT email, CAST(-1 AS BIGINT) FROM aside WHERE email IS NOT NULL
            UNION ALL SELECT phone_number, CAST(-1 AS BIGINT) FROM aside
            WHERE phone_number IS NOT NULL
        ) AS occurrence GROUP BY value
        """,
    ),
    # Each pair when it is kept apart first, with which of its values is stated first there.
    Statement(
        "met",
        """
        SELECT p.turn, p.left_value, p.right_value, p.is_mixed, p.is_unlinked,
               p.left_blocked, p.right_blocked,
               p.left_blocked AND coalesce(lf.turn = p.turn, false) AS left_is_first,
               p.right_blocked AND coalesce(rf.turn = p.turn, false) AS right_is_first,
               ln.value IS NOT NULL AS left_is_named, rn.value IS NOT NULL AS right_is_named,
               ls.turn IS NOT NULL AS left_is_stored, rs.turn IS NOT NULL AS right_is_stored
        FROM (SELECT min(turn) AS turn FROM parted GROUP BY left_value, right_value) AS f
            JOIN parted AS p ON f.turn = p.turn
            LEFT JOIN first_blocked AS lf ON p.left_value = lf.value
            LEFT JOIN first_blocked AS rf ON p.right_value = rf.value
            LEFT JOIN named AS ln ON p.left_value = ln.value
            LEFT JOIN named AS rn ON p.right_value = rn.value
            LEFT JOIN stored AS ls ON p.turn + 2 = ls.turn
            LEFT JOIN stored AS rs ON p.turn + 1 = rs.turn
            LEFT JOIN held_evidence AS e ON p.left_value = e.value AND p.right_value = e.other_value
            LEFT JOIN aside AS a ON p.left_value = a.email AND p.right_value = a.phone_number
        WHERE e.value IS NULL AND a.email IS NULL
        """,
    ),
    # These with what is new of their values: blocked ones that were never set aside, by themselves
    # or with the pair, and others that get a contact.
    Statement(
        "kept",
        f"""
        SELECT turn, left_value, right_value, is_mixed, left_is_stored, right_is_stored,
               {_is_alone("left", "right")} AS left_is_alone,
               {_is_alone("right", "left")} AS right_is_alone,
               left_is_first AND NOT {_is_alone("left", "right")} AS left_is_new,
               right_is_first AND NOT {_is_alone("right", "left")} AS right_is_new
        FROM met
        """,  # noqa: S608 - the expressions are of this module
        last_use_of=("met",),
    ),
    # What is set aside. A contact that is stored for one of the two is stored with the pair.
    Statement(
        "set_aside",
        f"""
        SELECT CASE WHEN left_is_stored THEN turn + 2 ELSE turn + 1 END AS turn,
               left_value AS email, right_value AS phone_number,
               left_is_stored OR left_is_new AS anchors_email,
               NOT left_is_stored OR right_is_new AS anchors_phone, false AS is_new
        FROM kept WHERE is_mixed AND (left_is_stored OR right_is_stored)
            AND left_value IS NOT NULL AND right_value IS NOT NULL
        UNION ALL
        SELECT turn + 2, left_value, right_value, true, true, true
        FROM kept WHERE is_mixed AND left_is_new AND right_is_new
        UNION ALL
        SELECT turn + 2, {_email("left_value")}, {_phone("left_value")},
               left_value LIKE '%@%', left_value NOT LIKE '%@%', true
        FROM kept WHERE left_is_new
            AND NOT (is_mixed AND (right_is_new OR right_is_stored))
        UNION ALL
        SELECT turn + 3, {_email("right_value")}, {_phone("right_value")},
               right_value LIKE '%@%', right_value NOT LIKE '%@%', true
        FROM kept WHERE right_is_new
            AND NOT (is_mixed AND (left_is_new OR left_is_stored))
        UNION ALL
        SELECT turn + 1, {_email("right_value")}, {_phone("right_value")},
               right_value LIKE '%@%', right_value NOT LIKE '%@%', true
        FROM kept WHERE right_is_alone
        UNION ALL
        SELECT turn + 2, {_email("left_value")}, {_phone("left_value")},
               left_value LIKE '%@%', left_value NOT LIKE '%@%', true
        FROM kept WHERE left_is_alone
        """,  # noqa: S608 - the expressions are of this module
    ),
    # Ids that are given out.
    Statement(
        "taken",
        "SELECT turn FROM stored UNION ALL SELECT turn FROM set_aside WHERE is_new",
    ),
    # The evidence of pairs, those that are kept apart too.
    Statement(
        "attested",
        """
        SELECT turn FROM crossing
        UNION ALL
        SELECT turn + 3 FROM kept
        WHERE left_value IS NOT NULL AND right_value IS NOT NULL
            AND NOT (is_mixed AND (left_is_stored OR right_is_stored
                                   OR left_is_new AND right_is_new))
        """,
    ),
)


def _events() -> tuple[Statement, ...]:
    """Return the statements of the plan, which number all that takes an id."""
    numbered = {
        "contact_block": plan.blocks("taken"),
        "numbered": plan.numbered("taken", "contact_block", "held + 1"),
        "evidence_block": plan.blocks("attested"),
        "evidence_numbered": plan.numbered("attested", "evidence_block", "first_evidence_id"),
    }
    statements: list[Statement] = []
    for statement in plan.EVENTS:
        if statement.table == "contact_block":
            statements += _APART
        query = numbered.get(statement.table, statement.query)
        statements.append(replace(statement, query=query))
    return tuple(statements)


_EVIDENCE = Statement(
    "link_evidence",
    f"""
    {plan.EVIDENCE_ROWS}
    UNION ALL
    SELECT n.number AS id, k.left_value, k.right_value, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT),
           {plan.line_of("k.turn")} AS line, true
    FROM evidence_numbered AS n JOIN kept AS k ON n.turn = k.turn + 3
    ORDER BY id
    """,  # noqa: S608 - the expressions are of this module
)
_RESULTS = (
    *(_EVIDENCE if result.table == "link_evidence" else result for result in plan.RESULTS),
    Statement(
        "set_aside_contact",
        f"""
        SELECT p.node - t.held - 1 + t.first_contact_id AS id, s.email, s.phone_number,
               s.anchors_email, s.anchors_phone, {plan.line_of("s.turn")} AS line
        FROM set_aside AS s JOIN placed AS p ON s.turn = p.turn CROSS JOIN target AS t
        ORDER BY id
        """,  # noqa: S608 - the expressions are of this module
    ),
    # The values that a pattern blocks, in the order in which they come.
    Statement(
        "blocked_value",
        f"""
        SELECT CAST(row_number() OVER (ORDER BY f.turn, m.value) AS BIGINT) AS id,
               m.value, m.pattern_id, {plan.line_of("f.turn")} AS line
        FROM (SELECT DISTINCT value, pattern_id FROM matched) AS m
            JOIN first_blocked AS f ON m.value = f.value
        ORDER BY id
        """,  # noqa: S608 - the expressions are of this module
    ),
    # The placeholders of values that are stated; if a pattern blocks them, they get others.
    Statement(
        "released",
        """
        SELECT h.id FROM placeholder AS h JOIN (
            SELECT email AS value FROM pair UNION SELECT phone FROM pair
            UNION SELECT left_value FROM alike UNION SELECT right_value FROM alike
            UNION SELECT value FROM named
        ) AS stated ON h.value = stated.value
        ORDER BY id
        """,
    ),
    # How many ids of contacts are given out.
    Statement("taken_ids", "SELECT CAST(1 AS BIGINT) AS id, count(*) AS contacts FROM placed"),
)
# Requests all of whose values are blocked.
_BLOCKED = f"""
    SELECT count(*) FROM (SELECT DISTINCT {plan.line_of("turn")} AS line FROM parted) AS p
        LEFT JOIN (SELECT {plan.line_of("turn")} AS line FROM pair
                   UNION SELECT {plan.line_of("turn")} FROM alike) AS linked ON p.line = linked.line
    WHERE linked.line IS NULL
"""  # noqa: S608 - the expressions are of this module

RULED = Plan(
    pairs=_PAIRS,
    values=plan.VALUES,
    events=_events(),
    places=plan.PLACES,
    results=_RESULTS,
    outcomes=plan.OUTCOMES,
    blocked=_BLOCKED,
)
