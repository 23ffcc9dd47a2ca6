"""The graph as it was: snapshots taken while scripts play equal what is worked out later."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from steering import Player, empty, random_script

from identity_cli.graph.moments import Moment, find_moment, new_token
from identity_cli.graph.past import past_contacts
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from identity_cli.postgres.snapshot import Snapshot

_NOW = """
    SELECT id, email, phone_number, linked_id, link_precedence::text, created_at, updated_at,
           deleted_at, anchors_email, anchors_phone, run_id, line
    FROM contact WHERE id > 0 ORDER BY id
"""
_THEN = """
    SELECT id, email, phone_number, linked_id, link_precedence, created_at, updated_at,
           deleted_at, anchors_email, anchors_phone, run_id, line
    FROM past_contact ORDER BY id
"""

Rows = list[tuple[Any, ...]]


def contacts(graph: Snapshot) -> Rows:
    return list(graph.rows(_NOW))


def contacts_at(graph: Snapshot, moment: Moment) -> Rows:
    return list(graph.rows(past_contacts(moment) + _THEN, moment.parameters))


def without(forgotten: set[str], rows: Rows) -> Rows:
    """Erase the values that were forgotten since."""
    return [
        (row[0], *(None if value in forgotten else value for value in row[1:3]), *row[3:])
        for row in rows
    ]


class ClockedPlayer(Player):
    """A player whose requests have the time at which they are sent, as those of the program."""

    def time(self) -> datetime:
        return now(self.connection)


@pytest.mark.parametrize("seed", range(40))
def test_every_step_of_a_script_is_found_later(
    seed: int, connection: psycopg.Connection[Any]
) -> None:
    empty(connection)
    player = ClockedPlayer(connection)
    seen: list[tuple[str, datetime, Rows]] = []
    for name, arguments, named in random_script(random.Random(seed)):
        getattr(player, name)(*arguments, **named)
        with snapshot(connection) as graph:
            seen.append((new_token(graph), now(connection), contacts(graph)))
    with snapshot(connection) as graph:
        for token, time, rows in seen:
            rows = without(player.truth.forgotten, rows)
            assert contacts_at(graph, find_moment(graph, token)) == rows
            assert contacts_at(graph, find_moment(graph, time.isoformat())) == rows


def now(connection: psycopg.Connection[Any]) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    time: datetime = row[0]
    return time
