"""Moments by the end of a run, a time or a token; what an export of another database is told."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from dumps import restore
from steering import Player

from identity_cli import ContactRequest, IdentityService
from identity_cli.errors import MomentUnknownError, RunNotFoundError, UsageError
from identity_cli.exporter.changes import changes_since
from identity_cli.graph import moments
from identity_cli.graph.moments import (
    BEGINNING,
    check_moment,
    find_beginning,
    find_moment,
    new_token,
    read_origin,
)
from identity_cli.graph.past import past_contacts
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.postgres.snapshot import snapshot
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path


@pytest.fixture
def run_of(database_url: str, tmp_path: Path) -> Callable[[str], None]:
    """Import rows as the next run."""

    def run(rows: str) -> None:
        path = tmp_path / "rows.csv"
        path.write_text("email,phone\n" + rows)
        importer = Importer(ImportPlan((str(path),)))
        importer.run(Database(connection_parameters(database_url), embedded=False))
        assert importer.status == "finished"

    return run


def links(connection: psycopg.Connection[Any], moment: str) -> dict[int, int | None]:
    with snapshot(connection) as graph:
        found = find_moment(graph, moment)
        query = past_contacts(found) + "SELECT id, linked_id FROM past_contact"
        return dict(graph.rows(query, found.parameters))


def changes(connection: psycopg.Connection[Any], since: str) -> dict[int, str]:
    with snapshot(connection) as graph:
        moment = find_beginning(graph, since)
        rows = graph.rows(changes_since(moment), moment.parameters)
        return {row[1]: row[0] for row in rows}


def token_of(connection: psycopg.Connection[Any]) -> str:
    with snapshot(connection) as graph:
        return new_token(graph)


def test_a_run_stands_for_its_end(
    connection: psycopg.Connection[Any], service: IdentityService, run_of: Callable[[str], None]
) -> None:
    run_of("a@x.org,1\nb@x.org,2\n")
    run_of("c@x.org,1\n")
    service.reconcile(ContactRequest("a@x.org", "2"))
    assert links(connection, "1") == {1: None, 2: None}
    assert links(connection, "2") == {1: None, 2: None, 3: 1}
    assert changes(connection, "1") == {2: "moved", 3: "new"}
    assert changes(connection, "2") == {2: "moved"}


def test_a_run_that_was_undone_is_still_a_moment(
    connection: psycopg.Connection[Any], run_of: Callable[[str], None]
) -> None:
    run_of("a@x.org,1\n")
    run_of("a@x.org,2\nc@x.org,3\nc@x.org,1\n")
    player = Player(connection)
    player.runs = [1, 2]
    # The server may take a moment to notice that the import has gone.
    key = "SELECT pg_advisory_lock(lock_key), pg_advisory_unlock(lock_key) FROM import_run"
    connection.execute(key)
    player.undo()
    assert links(connection, "2") == {1: None, 2: 1, 3: 1}
    assert changes(connection, "2") == {2: "gone", 3: "gone"}
    assert changes(connection, "1") == {}


def test_changes_since_a_time_begin_with_the_last_run_before_it(
    connection: psycopg.Connection[Any], service: IdentityService, run_of: Callable[[str], None]
) -> None:
    service.reconcile(ContactRequest("z@x.org", "9"))
    run_of("a@x.org,1\n")
    service.reconcile(ContactRequest("b@x.org", "2"))
    row = connection.execute("SELECT started_at, finished_at, now() FROM import_run").fetchone()
    assert row is not None
    start, end, after = row
    # It may have been committed after that time, for all that is known.
    assert changes(connection, after.isoformat()) == {3: "new"}
    assert changes(connection, end.isoformat()) == {3: "new"}
    assert changes(connection, start.isoformat()) == {2: "new", 3: "new"}
    before = (start - timedelta(hours=1)).isoformat()
    with snapshot(connection) as graph:
        assert find_beginning(graph, before) == BEGINNING
    assert changes(connection, before) == {1: "new", 2: "new", 3: "new"}


def test_a_run_that_has_not_ended_has_no_end(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at)"
        " VALUES ('running', '[]', '', -1, '{}', now())"
    )
    for find in (find_moment, find_beginning):
        with snapshot(connection) as graph, pytest.raises(MomentUnknownError) as caught:
            find(graph, "1")
        assert "has not ended" in str(caught.value)
        with snapshot(connection) as graph, pytest.raises(RunNotFoundError):
            find(graph, "2")
        with snapshot(connection) as graph, pytest.raises(RunNotFoundError):
            find(graph, "9" * 30)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-11-29", "2026-11-29T18:00", "-1", "1.5", "since:", "since:0:1:1:1:"],
)
def test_what_is_no_moment(text: str, connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(UsageError) as caught:
        check_moment(text)
    assert caught.value.hint
    with snapshot(connection) as graph, pytest.raises(UsageError):
        find_moment(graph, text)


def test_a_time_needs_a_time_zone_and_must_have_passed(
    connection: psycopg.Connection[Any],
) -> None:
    for text in ("2020-01-01T00:00Z", "2020-01-01 00:00:00+01:00", "20200101T000000-0500"):
        check_moment(text)
        assert links(connection, text) == {}
    with snapshot(connection) as graph, pytest.raises(UsageError, match="future"):
        find_moment(graph, "2999-01-01T00:00Z")


def test_a_token_that_was_cut_off_is_refused(connection: psycopg.Connection[Any]) -> None:
    token = token_of(connection)
    check_moment(token)
    for broken in (token[:-1], token + "1", token.replace(":", "", 1)):
        with pytest.raises(UsageError):
            check_moment(broken)


def test_a_token_of_another_database_is_refused(
    connection: psycopg.Connection[Any],
    cloned_database: Callable[[], AbstractContextManager[str]],
) -> None:
    with cloned_database() as url, psycopg.connect(url, autocommit=True) as other:
        token = token_of(other)
    with snapshot(connection) as graph, pytest.raises(MomentUnknownError) as caught:
        find_beginning(graph, token)
    assert "another database" in str(caught.value)
    assert caught.value.hint == "export everything, and use the token of that export from now on"


def test_a_token_of_what_the_server_has_lost_is_refused(
    connection: psycopg.Connection[Any],
) -> None:
    origin = read_origin(connection)
    assert origin is not None
    token = moments._signed(origin, f"{10**12}:{10**12}:")
    with snapshot(connection) as graph, pytest.raises(MomentUnknownError, match="lost"):
        find_beginning(graph, token)


def test_a_very_old_token_looks_at_every_contact(
    connection: psycopg.Connection[Any],
    service: IdentityService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    service.reconcile(ContactRequest("b@x.org", "2"))
    token = token_of(connection)
    service.reconcile(ContactRequest("a@x.org", "2"))
    monkeypatch.setattr(moments, "_WRAPPED", 1)
    assert changes(connection, token) == {2: "moved"}
    assert links(connection, token) == {1: None, 2: None}


def test_rows_that_were_changed_by_hand_are_changes(
    connection: psycopg.Connection[Any], service: IdentityService
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    token = token_of(connection)
    connection.execute("UPDATE contact SET deleted_at = now()")
    assert changes(connection, token) == {1: "changed"}
    assert changes(connection, token_of(connection)) == {}


def test_a_restored_dump_begins_a_history_of_its_own(
    connection: psycopg.Connection[Any],
    service: IdentityService,
    run_of: Callable[[str], None],
    database_url: str,
    empty_database_url: str,
) -> None:
    run_of("a@x.org,1\nb@x.org,2\n")
    # The stamps of this database are higher than the transactions of another server.
    connection.execute("UPDATE contact SET stored_in = '999999999'")
    connection.execute("UPDATE link_evidence SET stored_in = '999999999'")
    service.reconcile(ContactRequest("c@x.org", "1"))
    token = token_of(connection)
    restore(database_url, empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as restored:
        with snapshot(restored) as graph, pytest.raises(MomentUnknownError):
            find_beginning(graph, token)
        with snapshot(restored) as graph, pytest.raises(MomentUnknownError, match="another server"):
            find_beginning(graph, "1")
        # The end of the run is known by its time.
        assert links(restored, "1") == {1: None, 2: None}
        wait_for_older_transactions(restored)
        new = token_of(restored)
        assert changes(restored, new) == {}
        IdentityService(restored).reconcile(ContactRequest("a@x.org", "2"))
        IdentityService(restored).reconcile(ContactRequest("d@x.org", "2"))
        found = changes(restored, new)
        assert found.pop(max(found)) == "new"
        assert found == {2: "moved"}
        assert links(restored, new) == {1: None, 2: None, 3: 1}


def wait_for_older_transactions(connection: psycopg.Connection[Any]) -> None:
    """Wait until those are over, of any database, that were at work when contacts were stored."""
    deadline = time.monotonic() + 120
    older = "age(xmin) <= age(pg_snapshot_xmin(pg_current_snapshot())::xid)"
    while connection.execute(f"SELECT FROM contact WHERE {older} LIMIT 1").fetchall():  # type: ignore[arg-type]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_without_a_recorded_snapshot_is_known_by_its_time(
    connection: psycopg.Connection[Any], service: IdentityService
) -> None:
    # The server may not say who it is; older releases have recorded nothing.
    connection.execute(
        "CREATE FUNCTION public.pg_control_system() RETURNS TABLE (system_identifier bigint)"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE insufficient_privilege; END $$"
    )
    connection.execute("SET search_path = public, pg_catalog")
    assert read_origin(connection) is None
    connection.execute("RESET search_path")
    service.reconcile(ContactRequest("a@x.org", "1"))
    connection.execute(
        "INSERT INTO import_run (status, inputs, fingerprint, lock_key, rows, started_at,"
        " finished_at) VALUES ('finished', '[]', '', -1, '{}', now(), clock_timestamp())"
    )
    service.reconcile(ContactRequest("b@x.org", "2"))
    assert links(connection, "1") == {1: None}
    with snapshot(connection) as graph, pytest.raises(MomentUnknownError, match="older release"):
        find_beginning(graph, "1")


def test_stamp_from_another_server_is_not_newer_than_its_row(
    connection: psycopg.Connection[Any],
) -> None:
    IdentityService(connection).reconcile(ContactRequest("a@x.org", None))
    [(stamp, row_xmin)] = connection.execute("SELECT stored_in, xmin FROM contact").fetchall()
    assert int(stamp) == int(row_xmin) + (int(stamp) >> 32 << 32)
    for _ in range(3):  # transactions between the row and now
        connection.execute("SELECT pg_current_xact_id()")
    for other in (3, -1, 0, 1, 2, 1_000, 1 << 31, 1 << 33):
        restored = 3 if other == 3 else int(stamp) + other
        [(written_in,)] = connection.execute(
            "SELECT written_in(%s, xmin) FROM contact", (str(restored),)
        ).fetchall()
        assert int(written_in) == min(restored, int(stamp))
    [(unknown,)] = connection.execute("SELECT written_in(NULL, xmin) FROM contact").fetchall()
    assert unknown == stamp
