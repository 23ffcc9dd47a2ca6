"""The engines of verify give the same answer, whatever the graph."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from graph import UNGUARDED
from steering import Player

from identity_cli import ContactRequest, IdentityService
from identity_cli.backfill import verification
from identity_cli.graph import verify as python
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

EMAILS = [f"{letter}@x.org" for letter in "abcdefghijklmnop"]
PHONES = [str(number) for number in range(100, 116)]

BEFORE_ANYTHING_IS_PLANTED = f"""
    {UNGUARDED}
    ALTER TABLE link_evidence DROP CONSTRAINT link_evidence_pair_order;
    CREATE TABLE right_contact AS SELECT * FROM contact;
    CREATE TABLE right_evidence AS SELECT * FROM link_evidence;
"""
RESTORE = """
    TRUNCATE contact, link_evidence;
    INSERT INTO contact OVERRIDING SYSTEM VALUE SELECT * FROM right_contact;
    INSERT INTO link_evidence OVERRIDING SYSTEM VALUE SELECT * FROM right_evidence;
"""
ONE_CONTACT = "WHERE id = (SELECT id FROM contact ORDER BY random() LIMIT 1)"
ONE_PAIR = "WHERE id = (SELECT id FROM link_evidence ORDER BY random() LIMIT 1)"
ANOTHER_CONTACT = "(SELECT id FROM contact ORDER BY random() LIMIT 1)"
ANOTHER_EMAIL = "(SELECT email FROM contact ORDER BY random() LIMIT 1)"
CORRUPTIONS = (
    f"DELETE FROM link_evidence {ONE_PAIR}",
    f"DELETE FROM contact {ONE_CONTACT}",
    f"UPDATE contact SET anchors_email = NOT anchors_email {ONE_CONTACT}",
    f"UPDATE contact SET anchors_phone = NOT anchors_phone {ONE_CONTACT}",
    f"UPDATE contact SET email = 'new@x.org' {ONE_CONTACT}",
    f"UPDATE contact SET phone_number = '999' {ONE_CONTACT}",
    f"UPDATE contact SET email = {ANOTHER_EMAIL} {ONE_CONTACT}",
    f"UPDATE contact SET linked_id = {ANOTHER_CONTACT} {ONE_CONTACT}",
    # A whole identity under another primary, with links that are right by themselves.
    """
    WITH moved AS (SELECT id FROM contact WHERE linked_id IS NULL ORDER BY random() LIMIT 1),
         kept AS (SELECT min(id) AS id FROM contact WHERE linked_id IS NULL)
    UPDATE contact SET linked_id = kept.id, link_precedence = 'secondary',
                       linked_precedence = 'primary'
    FROM moved, kept WHERE moved.id IN (contact.id, contact.linked_id) AND moved.id <> kept.id
    """,
    # A secondary as an identity of its own.
    """
    UPDATE contact SET linked_id = NULL, link_precedence = 'primary', linked_precedence = NULL
    WHERE id = (SELECT id FROM contact WHERE linked_id IS NOT NULL ORDER BY random() LIMIT 1)
    """,
    f"UPDATE link_evidence SET primary_id = {ANOTHER_CONTACT} {ONE_PAIR}",
    f"UPDATE link_evidence SET merged_id = {ANOTHER_CONTACT} {ONE_PAIR}",
    f"UPDATE link_evidence SET primary_id = NULL {ONE_PAIR}",
    f"UPDATE link_evidence SET primary_id = 999999 {ONE_PAIR}",
    f"UPDATE link_evidence SET value = 'nobody@x.org' {ONE_PAIR}",
    f"UPDATE link_evidence SET other_value = '998' {ONE_PAIR}",
    f"UPDATE link_evidence SET is_held = true {ONE_PAIR}",
    f"UPDATE contact SET created_at = created_at - interval '1 day' {ONE_CONTACT}",
)


def fill(service: IdentityService, rnd: random.Random, count: int) -> None:
    for _ in range(count):
        emails = rnd.sample([*EMAILS, f"new{rnd.random()}@x.org"], rnd.choice([0, 1, 1, 2]))
        phones = rnd.sample([*PHONES, str(rnd.randrange(10**6))], rnd.choice([0, 1, 1, 2]))
        if emails or phones:
            service.reconcile(ContactRequest(emails=emails, phones=phones))


def is_decided_set_wise(connection: Connection) -> bool:
    with snapshot(connection) as graph:
        return verification._found_correct(graph, python.SILENT) is not None


def test_empty_graph(connection: Connection) -> None:
    assert verification.verify(connection) == python.verify(connection)
    assert is_decided_set_wise(connection)


@pytest.mark.parametrize("seed", range(6))
def test_correct_graph_is_recognised_set_wise(service: IdentityService, seed: int) -> None:
    fill(service, random.Random(seed), 10 + 15 * seed)
    found = verification.verify(service.connection)
    assert found.ok
    assert found == python.verify(service.connection)
    assert is_decided_set_wise(service.connection)


def test_values_that_need_quotes_or_several_bytes(service: IdentityService) -> None:
    for email in ("o'brien@x.org", "jürgen@x.org", "日本@x.org", "Ω@x.org", "t@x.org"):
        service.reconcile(ContactRequest(email, "100"))
    # The rule knows no such values; older releases may have stored some.
    service.connection.execute("UPDATE contact SET email = '\"a,b\"@x.org' WHERE email = 't@x.org'")
    assert verification.verify(service.connection) == python.verify(service.connection)
    assert is_decided_set_wise(service.connection)


def test_blocks_of_a_few_rows(service: IdentityService, monkeypatch: pytest.MonkeyPatch) -> None:
    from identity_cli.backfill import copies

    monkeypatch.setattr(copies, "_BLOCK_BYTES", 40)
    monkeypatch.setattr(verification, "_BATCH_ROWS", 3)
    fill(service, random.Random(9), 40)
    assert verification.verify(service.connection) == python.verify(service.connection)
    assert is_decided_set_wise(service.connection)


@pytest.mark.parametrize(
    ("seed", "times"), [(1, 1), *(pytest.param(n, 6, marks=pytest.mark.slow) for n in (2, 3))]
)
def test_what_is_wrong_is_found_by_both(service: IdentityService, seed: int, times: int) -> None:
    connection = service.connection
    fill(service, random.Random(seed), 40)
    connection.execute(BEFORE_ANYTHING_IS_PLANTED)
    connection.execute("SELECT setseed(%s)", (seed / 10,))
    wrong = 0
    for corruption in CORRUPTIONS:
        for _ in range(times):
            connection.execute(corruption)
            found = python.verify(connection)
            assert verification.verify(connection) == found, corruption
            wrong += not found.ok
            connection.execute(RESTORE)
    assert wrong > times * len(CORRUPTIONS) / 2
    assert verification.verify(connection).ok


def test_graph_with_rules_is_left_to_the_other_engine(service: IdentityService) -> None:
    fill(service, random.Random(3), 30)
    player = Player(service.connection)
    player.block([EMAILS[0]])
    player.unlink(EMAILS[1], PHONES[1])
    assert verification.verify(service.connection) == python.verify(service.connection)
    assert not is_decided_set_wise(service.connection)
