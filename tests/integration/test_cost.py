"""What a request costs does not depend on how much is stored: index scans only, few buffers."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from identity_cli import ContactRequest, IdentityService
from identity_cli.graph.batches import RunRequest
from identity_cli.graph.core import MEMBERS, RECONCILE, ROOT_BY_EMAIL, ROOT_BY_ID, ROOT_BY_PHONE
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import RECONCILE as RECONCILE_SESSION
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def large(cloned_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Connection]:
    """100,000 contacts: an identity of 50,000 on the phone number 7, and 25,000 identities of 2.

    The session has the service's settings, and planned its statements while the tables were empty.
    """
    with (
        cloned_database() as url,
        Database(connection_parameters(url), embedded=False).connect(
            session=RECONCILE_SESSION
        ) as connection,
    ):
        with connection.transaction(force_rollback=True):
            for line in range(10):
                connection.execute(RECONCILE, ([f"{line}@x.org"], [str(line % 3)]))
                connection.execute(RECONCILE, ([f"{line}@x.org"], [str(line % 4)]))
        columns = "id, email, phone_number, linked_id, link_precedence, anchors_phone"
        connection.execute(
            f"""
            INSERT INTO contact ({columns}) OVERRIDING SYSTEM VALUE
            SELECT n, 'h' || n || '@x.org', '7', CASE WHEN n > 1 THEN 1 END,
                   CASE WHEN n > 1 THEN 'secondary' ELSE 'primary' END::link_precedence, n = 1
            FROM generate_series(1, 50000) AS n;
            INSERT INTO contact ({columns}) OVERRIDING SYSTEM VALUE
            SELECT 50000 + n, 'a' || n || '@x.org', '100' || n, NULL, 'primary', true
            FROM generate_series(1, 25000) AS n;
            INSERT INTO contact ({columns}) OVERRIDING SYSTEM VALUE
            SELECT 75000 + n, 'b' || n || '@x.org', '100' || n, 50000 + n, 'secondary', false
            FROM generate_series(1, 25000) AS n;
            INSERT INTO link_evidence (value, other_value, primary_id, created_at)
            SELECT 'e' || n || '@x.org', n, 1, now() FROM generate_series(1, 20000) AS n;
            SELECT setval(pg_get_serial_sequence('contact', 'id'), 100000);
            """
        )
        connection.execute("VACUUM ANALYZE contact, link_evidence")
        yield connection


REQUESTS = {
    "created": ("new@x.org", "999"),
    "created, email only": ("new@x.org",),
    "created, phone number only": ("999",),
    "created, two emails": ("new@x.org", "newer@x.org"),
    "linked by email": ("a5@x.org", "999"),
    "linked by phone number": ("new@x.org", "1005"),
    "linked into the large identity": ("new@x.org", "7"),
    "merged": ("a10@x.org", "10011"),
    "merged into the large identity": ("b20@x.org", "7"),
    "unchanged": ("a30@x.org", "10030"),
    "unchanged in the large identity": ("h40000@x.org", "7"),
    "unchanged, email only": ("a30@x.org",),
    "unchanged, phone number only": ("7",),
    "linked, two phone numbers": ("1005", "999"),
    "merged, two phone numbers": ("10010", "10011"),
    "unchanged, two emails": ("a30@x.org", "b30@x.org"),
    "linked, three of each": ("new@x.org", "a30@x.org", "b30@x.org", "10030", "998", "999"),
}


def lists(values: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The parameters of RECONCILE: emails, phone numbers."""
    return [v for v in values if "@" in v], [v for v in values if "@" not in v]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_scans_no_table(large: Connection, name: str) -> None:
    with large.transaction(force_rollback=True):
        before = _scans(large)
        row = large.execute(RECONCILE, lists(REQUESTS[name])).fetchone()
        assert row is not None
        assert name.startswith(row[0])
        sequential, by_index = (
            after - then for after, then in zip(_scans(large), before, strict=True)
        )
    assert sequential == 0
    assert by_index > 0


def test_a_batch_scans_no_table(large: Connection) -> None:
    """Whatever its requests need; a batch repeats its look-up for each of them."""
    requests = [
        RunRequest(ContactRequest(emails=emails, phones=phones), line, line)
        for line, (emails, phones) in enumerate(map(lists, REQUESTS.values()))
    ]
    with large.transaction(force_rollback=True):
        before = _scans(large)
        IdentityService(large).reconcile_batch(requests, 1, commit_each=False)
        sequential, by_index = (
            after - then for after, then in zip(_scans(large), before, strict=True)
        )
    assert sequential == 0
    assert by_index > len(requests)


def test_plans_made_on_small_tables_scan_none_either(service: IdentityService) -> None:
    for line in range(12):
        for pair in ((f"{line}@x.org", str(line % 3)), (f"{line}@x.org", str(line % 4))):
            service.reconcile(ContactRequest(*pair))
    # From here on the planner knows that a scan of these few rows would be cheapest.
    service.connection.execute("ANALYZE contact, link_evidence")
    with service.connection.transaction(force_rollback=True):
        before = _scans(service.connection)
        for request in REQUESTS.values():
            service.connection.execute(RECONCILE, lists(request))
        assert _scans(service.connection)[0] == before[0]


def test_new_evidence_scans_no_table(large: Connection) -> None:
    with large.transaction(force_rollback=True):
        for request in [("a50@x.org", "10051"), ("a51@x.org", "10050"), ("a51@x.org", "10050")]:
            before = _scans(large)
            large.execute(RECONCILE, lists(request))
            assert _scans(large)[0] == before[0]


def test_a_look_up_scans_no_table(large: Connection) -> None:
    service = IdentityService(large)
    with large.transaction(force_rollback=True):
        before = _scans(large)
        for found in (
            service.find(email="b7@x.org"),
            service.find(phone="1007"),
            service.find(contact_id=75007),
        ):
            assert (found.primary_id, found.secondary_ids) == (50007, [75007])
        assert _scans(large)[0] == before[0]


def _scans(connection: Connection) -> tuple[int, int]:
    row = connection.execute(
        "SELECT sum(seq_scan), sum(idx_scan) FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('contact', 'link_evidence')"
    ).fetchone()
    assert row is not None
    return int(row[0] or 0), int(row[1] or 0)


# The parameters of a statement in `reconcile`, by the names of its variables.
VARIABLES = {
    "left_value": ("text", "a5@x.org"),
    "right_value": ("text", "1005"),
    "left_id": ("bigint", 50005),
    "right_id": ("bigint", 50006),
    "result.primary_id": ("bigint", 50005),
    "left_root": ("bigint", 50005),
    "right_root": ("bigint", 50006),
    "kept": ("bigint", 50005),
    "merged": ("bigint", 50006),
    "merge_limit": ("text", "100"),
    "request_at": ("timestamptz", "2026-01-01"),
}
STATEMENTS = [
    "FROM contact WHERE email = left_value AND anchors_email",
    "FROM contact WHERE phone_number = left_value AND anchors_phone",
    "FROM contact WHERE email = right_value AND anchors_email",
    "FROM contact WHERE phone_number = right_value AND anchors_phone",
    "FROM link_evidence WHERE value = left_value AND other_value = right_value",
    "FROM contact WHERE id = kept AND linked_id IS NULL FOR UPDATE",
    "FROM contact WHERE id = merged AND linked_id IS NULL FOR UPDATE",
    "FROM contact WHERE id = left_root AND linked_id IS NULL FOR UPDATE",
    "FROM contact WHERE id = coalesce(left_root, right_root) AND linked_id IS NULL FOR UPDATE",
    "FROM contact WHERE linked_id = merged OFFSET merge_limit::bigint LIMIT 1",
    "FROM contact WHERE id = left_root AND linked_id IS NULL FOR KEY SHARE",
    "FROM contact WHERE id = coalesce(left_root, right_root) AND linked_id IS NULL FOR KEY SHARE",
    "FROM contact WHERE id = coalesce(left_id, right_id)"
    " AND coalesce(linked_id, id) = result.primary_id"
    " AND CASE WHEN left_id IS NULL THEN right_value ELSE left_value END IN (email, phone_number)",
    "FROM contact AS l, contact AS r"
    " WHERE l.id = left_id AND coalesce(l.linked_id, l.id) = left_root"
    " AND left_value IN (l.email, l.phone_number)"
    " AND r.id = right_id AND coalesce(r.linked_id, r.id) = right_root"
    " AND right_value IN (r.email, r.phone_number)",
    "UPDATE contact SET linked_id = kept, link_precedence = 'secondary',"
    " updated_at = request_at, stored_in = written_in(stored_in, xmin)"
    " WHERE id = merged OR linked_id = merged",
]


def test_these_are_the_statements_of_the_rule() -> None:
    lines = (files("identity_cli.postgres.sql") / "reconcile.sql").read_text().splitlines()
    rule = " ".join(" ".join(line.partition("--")[0] for line in lines).split())
    for statement in STATEMENTS:
        assert statement in rule
        rule = rule.replace(statement, "")
    for table in ("contact", "link_evidence"):
        assert f"FROM {table} " not in rule
        assert f"UPDATE {table} " not in rule


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_of_the_rule_is_planned_by_index(
    large: Connection, statement: str, plan: str
) -> None:
    used = [name for name in VARIABLES if name in statement]
    for number, name in enumerate(used, 1):
        statement = statement.replace(name, f"${number}")
    if statement.startswith("FROM"):
        statement = f"SELECT {'l.id' if 'contact AS l' in statement else 'id'} {statement}"
    types = ", ".join(VARIABLES[name][0] for name in used)
    values = ", ".join(f"'{VARIABLES[name][1]}'" for name in used)
    large.execute(f"SET plan_cache_mode = {plan}")
    large.execute(f"PREPARE planned ({types}) AS {statement}")
    try:
        check_plan(_explain(large, f"EXECUTE planned ({values})"))
    finally:
        large.execute("DEALLOCATE planned")
        large.execute("RESET plan_cache_mode")


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (ROOT_BY_ID, ["7"]),
        (ROOT_BY_EMAIL, ["a7@x.org"]),
        (ROOT_BY_PHONE, ["1007"]),
        (MEMBERS, (50007, None)),
    ],
)
def test_a_look_up_is_planned_by_index(large: Connection, query: str, parameters: Any) -> None:
    check_plan(_explain(large, query, parameters))


def _explain(connection: Connection, statement: str, parameters: Any = None) -> dict[str, Any]:
    row = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def check_plan(plan: dict[str, Any]) -> None:
    """Every table is reached through an index, and every index by a condition."""
    nodes = [plan]
    reached = 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        kind = node["Node Type"]
        assert kind != "Seq Scan", plan
        if kind in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}:
            assert "Index Cond" in node, plan
            reached += 1
    assert reached > 0, plan


@pytest.mark.parametrize(
    ("small", "into_the_large"),
    [
        (("new@x.org", "1005"), ("new@x.org", "7")),
        (("b5@x.org", "1005"), ("h40000@x.org", "7")),
        (("a10@x.org", "10011"), ("h40000@x.org", "10011")),
    ],
    ids=["linked", "unchanged", "merged"],
)
def test_an_identity_of_50000_costs_as_one_of_2(
    large: Connection, small: tuple[str, str], into_the_large: tuple[str, str]
) -> None:
    for request in (small, into_the_large):
        _buffers(large, request)  # fills the session's caches of the catalogue
    assert _buffers(large, into_the_large) <= 1.5 * _buffers(large, small)


def _buffers(connection: Connection, request: tuple[str, str]) -> int:
    with connection.transaction(force_rollback=True):
        row = connection.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT reconcile(%s::text, %s::text)", request
        ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    touched = int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    assert touched > 0
    return touched
