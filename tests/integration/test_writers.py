"""Two writers at the same moment cannot give one identifier two identities."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

REQUEST = "SELECT reconcile('b@x.org', '2')"
# Contact 2 anchors b@x.org in the identity of 1; 3 is another identity.
CHANGES = {
    "anchor deleted": "DELETE FROM contact WHERE id = 2",
    "anchor moved": "UPDATE contact SET linked_id = 3, phone_number = NULL WHERE id = 2",
    "anchor without its value": "UPDATE contact SET email = NULL WHERE id = 2",
    "identity merged": "UPDATE contact SET linked_id = 3, link_precedence = 'secondary'"
    " WHERE id = 1 OR linked_id = 1",
}


@pytest.mark.parametrize("request_first", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_change_of_an_anchor_beside_a_request_keeps_the_graph_valid(
    database_url: str, connection: Connection, change: str, request_first: bool
) -> None:
    for email, phone in (("a@x.org", "1"), ("b@x.org", "1"), ("c@x.org", "9")):
        connection.execute("SELECT reconcile(%s, %s)", (email, phone))
    statements = [REQUEST, CHANGES[change]] if request_first else [CHANGES[change], REQUEST]
    with (
        psycopg.connect(database_url) as first,
        psycopg.connect(database_url, autocommit=True) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        first.execute(statements[0])
        other = pool.submit(second.execute, statements[1])
        wait_until_done_or_blocked(connection, second, other)
        first.commit()
        refusal = other.exception(timeout=30)
    assert refusal is None or isinstance(refusal, psycopg.IntegrityError), refusal
    carriers = connection.execute(
        "SELECT count(*), count(DISTINCT coalesce(linked_id, id)),"
        " count(*) FILTER (WHERE anchors_email) FROM contact WHERE email = 'b@x.org'"
    ).fetchone()
    assert carriers is not None
    contacts, identities, anchors = carriers
    assert identities == anchors == min(contacts, 1)


def wait_until_done_or_blocked(eye: Connection, worker: Connection, work: Any) -> None:
    blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
    for _ in range(1_000):
        if work.done() or eye.execute(blocked, (worker.info.backend_pid,)).fetchone() == (True,):
            return
        time.sleep(0.01)
    raise AssertionError("the second writer neither ended nor waited")


# Without the schema in the search path


def test_guards_work_with_an_empty_search_path(connection: Connection) -> None:
    """As in a restore of data alone, and from another schema."""
    for email, phone in (("a@x.org", "1"), ("b@x.org", "1"), ("b@x.org", "2")):
        connection.execute("SELECT reconcile(%s, %s)", (email, phone))
    connection.execute("SELECT set_config('search_path', '', false)")
    connection.execute("UPDATE public.contact SET updated_at = now()")
    connection.execute(
        "INSERT INTO public.contact (email, phone_number, linked_id, link_precedence,"
        " anchors_email) VALUES ('b@x.org', '3', 1, 'secondary', false)"
    )
    with pytest.raises(psycopg.IntegrityError):
        connection.execute("DELETE FROM public.contact WHERE id = 2")
    connection.execute("DELETE FROM public.contact WHERE id = 3")


def test_guards_do_not_use_a_table_of_the_same_name_in_another_schema(
    connection: Connection,
) -> None:
    for email, phone in (("a@x.org", "1"), ("b@x.org", "1"), ("b@x.org", "2")):
        connection.execute("SELECT reconcile(%s, %s)", (email, phone))
    connection.execute("CREATE TEMP TABLE contact (LIKE public.contact)")
    with pytest.raises(psycopg.IntegrityError):
        connection.execute("DELETE FROM public.contact WHERE id = 2")
