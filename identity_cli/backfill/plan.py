"""What a backfill computes, as statements that every engine runs, each of which makes a table.

A request of several values is a sequence of pairs, as in `reconcile_request.sql`. What happens is
dated by its turn, an integer that rises in the order in which the pairs are reconciled:

    turn = 1024 * line + 4 * step + part

`line` counts through all inputs from 1, `step` numbers the pairs of the request from 0, and `part`
is 0 or 1 for a contact that the pair stores (two of a kind may store two), 2 for the evidence of
two of a kind. Ten emails and ten phone numbers are 190 pairs, so a request has room for its turns.

A contact is known by the turn at which it was stored, and a value by its kind and the turn of the
contact that anchors it: no contact holds two values of a kind. Contacts that the target holds have
the turns from 0 down, by their age. The turn of a value is the earliest at which it occurs, so what
is stored follows from comparing turns. Only the primaries depend on the history: `replay.py` finds
them, for nodes, which number the contacts by age from 1.

The engine provides what the plan starts from, as tables or views:

    lone (line, email, phone)            requests of at most one value of each kind
    listing (line, kind, place, value, emails, phones)
                                         each value of the other requests, its place in them from 1,
                                         and how many emails and phone numbers its request has
    held (node, root, id, email, phone, anchors_email, anchors_phone)
                                         contacts of the target; root is the node of their primary
    held_evidence (value, other_value)   evidence of the target
    target (held, first_contact_id, first_evidence_id)
                                         one row: how many contacts it holds, and the next ids

and, once `events` is there, what the replay makes of it:

    played (turn, new_node, primary_node, merged_node)
                                         of a new contact, the primary that it was linked to; of
                                         evidence, the primary and the one that gave way, or 0
    settled (node, turn)                 for each primary that gave way, when its contacts were
                                         last moved: its lead is the primary of that turn
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


# What is reported while it is computed, by its share of the time.
PHASES = {"requests": 30, "values": 25, "events": 15, "replay": 10, "rows": 20}


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file of requests: `line`, `emails`, `phones`, in which forgotten values are null.

    `first_line` is the number of lines of all inputs before: what a `line` of this file has to be
    increased by so that it counts through all inputs.
    """

    path: Path
    first_line: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A query, the table that is made of its rows, and the tables that nothing reads after it."""

    table: str
    query: str
    last_use_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements from the requests to the rows to load, in the order of the phases.

    `outcomes` is the query that counts the requests that do something by their outcomes, `blocked`
    the one that counts those of which no value may link.
    """

    pairs: tuple[Statement, ...]
    values: tuple[Statement, ...]
    events: tuple[Statement, ...]
    places: tuple[Statement, ...]
    results: tuple[Statement, ...]
    outcomes: str
    blocked: str

    @property
    def statements(self) -> tuple[Statement, ...]:
        """All statements."""
        return self.pairs + self.values + self.events + self.places + self.results


def numbered(table: str, blocks: str, first: str) -> str:
    """Return the query that numbers the rows of a table by their turns, without sorting all."""
    return f"""
    SELECT r.turn, CAST({first} + b.rows_before + row_number() OVER (
               PARTITION BY b.block ORDER BY r.turn) - 1 AS BIGINT) AS number
    FROM {table} AS r JOIN {blocks} AS b ON floor(r.turn / 1073741824) = b.block
        CROSS JOIN target
    """  # noqa: S608 - the names are of this module


def blocks(table: str) -> str:
    """Return the query that counts the rows before each block of about a million lines."""
    return f"""
    SELECT block, sum(block_rows) OVER (ORDER BY block) - block_rows AS rows_before
    FROM (SELECT floor(turn / 1073741824) AS block, count(*) AS block_rows FROM {table}
          GROUP BY floor(turn / 1073741824)) AS counted
    """  # noqa: S608 - the names are of this module


# The pairs of each request.
PAIRS = (
    Statement("listed", "SELECT line, kind, place, value, emails, phones FROM listing"),
    # An email and a phone number, of which one may be missing.
    Statement(
        "pair",
        """
        SELECT CAST(1024 * line AS BIGINT) AS turn, email, phone FROM lone
        UNION ALL
        SELECT CAST(1024 * e.line + 4 * ((e.place - 1) * e.phones + p.place - 1) AS BIGINT),
               e.value, p.value
        FROM listed AS e JOIN listed AS p ON e.line = p.line
        WHERE e.kind = 'email' AND p.kind = 'phone'
        """,
    ),
    # Two emails, or two phone numbers, after all pairs of an email with a phone number.
    Statement(
        "alike",
        """
        SELECT CAST(1024 * line + 4 * (pairs_before + (left_place - 1) * alike_values
                   - (left_place - 1) * left_place / 2 + right_place - left_place - 1)
                   AS BIGINT) AS turn,
               kind, left_value, right_value
        FROM (SELECT l.line AS line, l.kind AS kind, l.value AS left_value, r.value AS right_value,
                     l.place AS left_place, r.place AS right_place,
                     CASE WHEN l.kind = 'email' THEN l.emails ELSE l.phones END AS alike_values,
                     l.emails * l.phones + CASE WHEN l.kind = 'email' THEN 0
                         ELSE l.emails * (l.emails - 1) / 2 END AS pairs_before
              FROM listed AS l JOIN listed AS r ON l.line = r.line AND l.kind = r.kind
              WHERE l.place < r.place) AS two
        """,
        last_use_of=("listed",),
    ),
)

# Which values are known at each pair.
VALUES = (
    # When each value occurs first. Of two alike, the left one is stored before the right one.
    Statement(
        "first_email",
        """
        SELECT value, min(turn) AS turn FROM (
            SELECT email AS value, turn FROM pair WHERE email IS NOT NULL
            UNION ALL SELECT left_value, turn FROM alike WHERE kind = 'email'
            UNION ALL SELECT right_value, turn + 1 FROM alike WHERE kind = 'email'
            UNION ALL SELECT h.email, h.node - t.held FROM held AS h CROSS JOIN target AS t
            WHERE h.anchors_email AND h.email IS NOT NULL
        ) AS occurrence GROUP BY value
        """,
    ),
    Statement(
        "first_phone",
        """
        SELECT value, min(turn) AS turn FROM (
            SELECT phone AS value, turn FROM pair WHERE phone IS NOT NULL
            UNION ALL SELECT left_value, turn FROM alike WHERE kind = 'phone'
            UNION ALL SELECT right_value, turn + 1 FROM alike WHERE kind = 'phone'
            UNION ALL SELECT h.phone, h.node - t.held FROM held AS h CROSS JOIN target AS t
            WHERE h.anchors_phone AND h.phone IS NOT NULL
        ) AS occurrence GROUP BY value
        """,
    ),
    # The pairs with the turns of their values, which are never later than the pair's own.
    Statement(
        "seen",
        """
        SELECT r.turn, e.turn AS email_turn, p.turn AS phone_turn
        FROM pair AS r LEFT JOIN first_email AS e ON r.email = e.value
            LEFT JOIN first_phone AS p ON r.phone = p.value
        """,
    ),
    Statement(
        "seen_alike",
        """
        SELECT a.turn, a.kind, l.turn AS left_turn, r.turn AS right_turn
        FROM alike AS a JOIN first_email AS l ON a.left_value = l.value
            JOIN first_email AS r ON a.right_value = r.value WHERE a.kind = 'email'
        UNION ALL
        SELECT a.turn, a.kind, l.turn, r.turn
        FROM alike AS a JOIN first_phone AS l ON a.left_value = l.value
            JOIN first_phone AS r ON a.right_value = r.value WHERE a.kind = 'phone'
        """,
    ),
)

# What is stored, and what of it has to be replayed.
EVENTS = (
    # The contacts that are stored, and the contact through which they are linked: that of the
    # value that was known. The anchors are those that reconcile() sets, also for absent values.
    Statement(
        "stored",
        """
        SELECT turn,
               CASE WHEN email_turn < turn THEN email_turn
                    WHEN phone_turn < turn THEN phone_turn END AS through,
               coalesce(email_turn = turn, false) AS anchors_email,
               coalesce(phone_turn = turn, false) AS anchors_phone
        FROM seen WHERE email_turn = turn OR phone_turn = turn
        UNION ALL
        SELECT turn, CASE WHEN right_turn < turn THEN right_turn END,
               true, kind = 'phone' OR right_turn > turn
        FROM seen_alike WHERE left_turn = turn
        UNION ALL
        SELECT right_turn, left_turn, kind = 'email', true
        FROM seen_alike WHERE right_turn = turn + 1
        """,
    ),
    # The pairs that become evidence, at the turn when they are seen first: two known values that
    # no contact shows. No contact shows two alike. The held pairs have been seen before: those
    # that the contact that anchors one of the values shows, as in reconcile(), and evidence.
    Statement(
        "crossing",
        """
        SELECT left_turn, right_turn, min(turn) AS turn FROM (
            SELECT email_turn AS left_turn, phone_turn AS right_turn, turn FROM seen
            WHERE email_turn IS NOT NULL AND phone_turn IS NOT NULL
            UNION ALL
            SELECT e.turn, p.turn, CAST(-1 AS BIGINT)
            FROM (SELECT email, phone FROM held WHERE anchors_email OR anchors_phone
                  UNION ALL SELECT value, other_value FROM held_evidence) AS h
                JOIN first_email AS e ON h.email = e.value
                JOIN first_phone AS p ON h.phone = p.value
        ) AS sighting GROUP BY left_turn, right_turn
        HAVING min(turn) > 0 AND min(turn) > left_turn AND min(turn) > right_turn
        UNION ALL
        SELECT left_turn, right_turn, min(turn) + 2 FROM (
            SELECT kind, least(left_turn, right_turn) AS left_turn,
                   greatest(left_turn, right_turn) AS right_turn, turn FROM seen_alike
            UNION ALL
            SELECT 'email', least(l.turn, r.turn), greatest(l.turn, r.turn), CAST(-1 AS BIGINT)
            FROM held_evidence AS h JOIN first_email AS l ON h.value = l.value
                JOIN first_email AS r ON h.other_value = r.value
            UNION ALL
            SELECT 'phone', least(l.turn, r.turn), greatest(l.turn, r.turn), CAST(-1 AS BIGINT)
            FROM held_evidence AS h JOIN first_phone AS l ON h.value = l.value
                JOIN first_phone AS r ON h.other_value = r.value
        ) AS sighting GROUP BY kind, left_turn, right_turn HAVING min(turn) > 0
        """,
        last_use_of=("seen", "seen_alike", "first_email", "first_phone"),
    ),
    Statement("contact_block", blocks("stored")),
    Statement("numbered", numbered("stored", "contact_block", "held + 1")),
    # Where a value leads to: its contact or, if the target holds it, the primary of that.
    Statement(
        "node_of",
        """
        SELECT turn, number AS node FROM numbered
        UNION ALL SELECT h.node - t.held, h.root FROM held AS h CROSS JOIN target AS t
        """,
    ),
    # What the replay needs to know, in any order: a new contact and the one that it is linked
    # through, or the two that evidence joins.
    Statement(
        "event",
        """
        SELECT s.turn, t.node AS left_node, CAST(0 AS BIGINT) AS right_node, n.node AS new_node
        FROM stored AS s JOIN node_of AS t ON s.through = t.turn
            JOIN node_of AS n ON s.turn = n.turn
        UNION ALL
        SELECT c.turn, l.node, r.node, CAST(0 AS BIGINT)
        FROM crossing AS c JOIN node_of AS l ON c.left_turn = l.turn
            JOIN node_of AS r ON c.right_turn = r.turn
        """,
        last_use_of=("node_of",),
    ),
    Statement("evidence_block", blocks("crossing")),
    Statement(
        "evidence_numbered",
        numbered("crossing", "evidence_block", "first_evidence_id"),
        last_use_of=("crossing",),
    ),
)

# For readers of `event`: the order in which it happens.
REPLAYED = "SELECT turn, left_node, right_node, new_node FROM event ORDER BY turn"
MERGES_BACKWARDS = """
    SELECT turn, primary_node, merged_node FROM played WHERE merged_node > 0 ORDER BY turn DESC
"""
NODES = "SELECT held + (SELECT count(*) FROM numbered) FROM target"

PLACES = (
    Statement(
        "gone",
        """
        SELECT s.node, p.primary_node AS lead, s.turn FROM settled AS s
            JOIN played AS p ON s.turn = p.turn
        """,
        last_use_of=("event", "settled"),
    ),
    # Each contact: the primary that it was linked to when it was stored, the one that it is linked
    # to in the end, and when that was last changed.
    Statement(
        "placed",
        """
        SELECT l.turn, l.node, l.initial_node, coalesce(g.lead, l.initial_node) AS link_node,
               coalesce(g.turn, l.turn) AS updated_turn
        FROM (SELECT n.turn, n.number AS node, p.primary_node AS initial_node,
                     coalesce(p.primary_node, n.number) AS led_by
              FROM numbered AS n LEFT JOIN (
                  SELECT new_node, primary_node FROM played WHERE new_node > 0
              ) AS p ON n.number = p.new_node) AS l
            LEFT JOIN gone AS g ON l.led_by = g.node
        """,
        last_use_of=("numbered",),
    ),
)


def _id(node: str, held: str) -> str:
    """Return the expression for the id of a node; `held` is its row if the target holds it."""
    new_id = f"{node} - t.held - 1 + t.first_contact_id"
    return f"CASE WHEN {node} > t.held THEN {new_id} ELSE {held}.id END"


def line_of(turn: str) -> str:
    """Return the expression for the line of a turn."""
    return f"CAST(floor({turn} / 1024) AS BIGINT)"


# The rows to load. A new contact is dated by its own line: the loader dates the first line after
# all that the target holds, so that no contact it is linked through is younger.
CONTACTS = Statement(
    "contact",
    f"""
    SELECT p.node - t.held - 1 + t.first_contact_id AS id, shown.email, shown.phone AS phone_number,
           {_id("p.link_node", "l")} AS linked_id,
           {_id("p.initial_node", "i")} AS initial_linked_id,
           s.anchors_email, s.anchors_phone, {line_of("p.turn")} AS line,
           {line_of("p.turn")} AS created_line, {line_of("p.updated_turn")} AS updated_line
    FROM placed AS p JOIN stored AS s ON p.turn = s.turn
        JOIN (SELECT turn, email, phone FROM pair
              UNION ALL SELECT turn, CASE WHEN kind = 'email' THEN left_value END,
                               CASE WHEN kind = 'phone' THEN left_value END FROM alike
              UNION ALL SELECT turn + 1, CASE WHEN kind = 'email' THEN right_value END,
                               CASE WHEN kind = 'phone' THEN right_value END FROM alike
        ) AS shown ON p.turn = shown.turn
        CROSS JOIN target AS t
        LEFT JOIN held AS l ON p.link_node = l.node LEFT JOIN held AS i ON p.initial_node = i.node
    ORDER BY id
    """,  # noqa: S608 - the expressions are of this module
)
EVIDENCE_ROWS = f"""
    SELECT n.number AS id, shown.value, shown.other_value,
           {_id("p.primary_node", "k")} AS primary_id,
           {_id("nullif(p.merged_node, 0)", "m")} AS merged_id, {line_of("p.turn")} AS line,
           false AS is_held
    FROM played AS p JOIN evidence_numbered AS n ON p.turn = n.turn
        JOIN (SELECT turn, email AS value, phone AS other_value FROM pair
              UNION ALL SELECT turn + 2, least(left_value, right_value),
                               greatest(left_value, right_value) FROM alike
        ) AS shown ON p.turn = shown.turn
        CROSS JOIN target AS t
        LEFT JOIN held AS k ON p.primary_node = k.node LEFT JOIN held AS m ON p.merged_node = m.node
"""  # noqa: S608 - the expressions are of this module
EVIDENCE = Statement("link_evidence", f"{EVIDENCE_ROWS} ORDER BY id")
# The contacts that the target holds and that a merge has moved.
MOVED = Statement(
    "moved",
    f"""
    SELECT h.id, {_id("g.lead", "l")} AS linked_id, {line_of("g.turn")} AS updated_line
    FROM held AS h JOIN gone AS g ON h.root = g.node CROSS JOIN target AS t
        LEFT JOIN held AS l ON g.lead = l.node
    ORDER BY id
    """,  # noqa: S608 - the expressions are of this module
)
RESULTS = (CONTACTS, EVIDENCE, MOVED)

# Of the requests that do something, how many by the strongest outcome of their pairs.
OUTCOMES = f"""
    SELECT count(CASE WHEN strength = 1 THEN 1 END) AS created,
           count(CASE WHEN strength = 2 THEN 1 END) AS merged,
           count(CASE WHEN strength = 3 THEN 1 END) AS linked
    FROM (SELECT line, min(strength) AS strength FROM (
              SELECT {line_of("turn")} AS line,
                     CASE WHEN through IS NULL THEN 1 ELSE 3 END AS strength
              FROM stored
              UNION ALL SELECT {line_of("turn")}, 2 FROM played WHERE merged_node > 0
          ) AS happened GROUP BY line) AS request
"""  # noqa: S608 - the expressions are of this module

PLAIN = Plan(
    pairs=PAIRS,
    values=VALUES,
    events=EVENTS,
    places=PLACES,
    results=RESULTS,
    outcomes=OUTCOMES,
    blocked="SELECT 0",
)
