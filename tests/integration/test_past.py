"""The graph as it was: snapshots taken while scripts play equal what is worked out later."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from steering import VALUES, Player, empty, random_script

from identity_cli.errors import ContactNotFoundError
from identity_cli.graph.evidence import IdentityEvidence, read_evidence
from identity_cli.graph.explanation import Separation, explain_chain, explain_identity
from identity_cli.graph.moments import Moment, find_moment, new_token
from identity_cli.graph.past import past_contacts
from identity_cli.graph.past_identity import find_past, find_past_roots, read_past_evidence
from identity_cli.graph.references import value_reference
from identity_cli.graph.service import ConsolidatedContact
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
    assert not player.truth.forgotten & {
        value
        for row in connection.execute(
            "SELECT email, phone_number FROM former_contact"
            " UNION ALL SELECT value, other_value FROM former_evidence"
        )
        for value in row
    }


@pytest.mark.parametrize("seed", range(20))
def test_identities_and_their_evidence_are_found_later(
    seed: int, connection: psycopg.Connection[Any]
) -> None:
    empty(connection)
    player = ClockedPlayer(connection)
    seen: list[tuple[str, datetime, dict[int, IdentityEvidence], dict[str, int]]] = []
    for name, arguments, named in random_script(random.Random(seed)):
        getattr(player, name)(*arguments, **named)
        with snapshot(connection) as graph:
            shown = contacts(graph)
            primaries = [row[0] for row in shown if row[3] is None]
            roots = {value: row[3] or row[0] for row in shown for value in row[1:3] if value}
            explained = {primary: read_evidence(graph, primary) for primary in primaries}
            seen.append((new_token(graph), now(connection), explained, roots))
    gone = player.truth.forgotten
    for token, time, explained, roots in random.Random(seed).sample(seen, min(5, len(seen))):
        for name in (token, time.isoformat()):
            with snapshot(connection) as graph:
                moment = find_moment(graph, name)
                named_values = [value_reference(value, None) for value in VALUES]
                found = find_past_roots(graph, moment, named_values)
                assert {str(one.value): root for one, root in found.items()} == {
                    value: root for value, root in roots.items() if value not in gone
                }
                for primary, evidence in explained.items():
                    if gone & {row.value for row in evidence.rows()} | gone & {
                        str(row.other_value) for row in evidence.rows()
                    }:
                        continue
                    past = read_past_evidence(graph, moment, primary)
                    assert (past.contacts, past.pairs) == (evidence.contacts, evidence.pairs)


def test_an_identity_as_it_was_before_a_value_was_forgotten(
    connection: psycopg.Connection[Any],
) -> None:
    player = ClockedPlayer(connection)
    player.request(["a@x.org"], [])
    player.request(["a@x.org"], ["1"])
    player.request(["b@x.org"], ["1"])
    with snapshot(connection) as graph:
        token = new_token(graph)
    player.forget(["a@x.org"])
    references = [value_reference("b@x.org", None)]
    with snapshot(connection) as graph:
        moment = find_moment(graph, token)
        past, _ = find_past(graph, moment, references, all_of_them=False)
        assert past == ConsolidatedContact(1, ["b@x.org"], ["1"], [2, 3])
        gone = [value_reference("a@x.org", None)]
        with pytest.raises(ContactNotFoundError, match="at that time"):
            find_past(graph, moment, gone, all_of_them=False)
        tree = explain_identity(graph, references, moment)
        assert tree.values == ["1", "b@x.org"]
    player.forget(["1"])
    with snapshot(connection) as graph:
        moment = find_moment(graph, token)
        [contact] = [row for row in contacts_at(graph, moment) if row[0] == 1]
        # The contact was there, and is still known by its id.
        assert contact[1:5] == (None, None, None, "primary")


def test_what_a_forgotten_value_joined_cannot_be_explained(
    connection: psycopg.Connection[Any],
) -> None:
    player = ClockedPlayer(connection)
    player.request(["a@x.org"], ["1"])
    player.request(["b@x.org"], ["1"])
    with snapshot(connection) as graph:
        token = new_token(graph)
    player.forget(["1"])
    with snapshot(connection) as graph:
        moment = find_moment(graph, token)
        references = ([value_reference(value, None)] for value in ("a@x.org", "b@x.org"))
        apart = explain_chain(graph, *references, moment)
    assert isinstance(apart, Separation)
    assert "forgotten since" in str(apart.error)


def now(connection: psycopg.Connection[Any]) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    time: datetime = row[0]
    return time
