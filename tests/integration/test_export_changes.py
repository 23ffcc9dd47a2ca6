"""Changes and redirects: applied to an older export, they give the export of today."""

from __future__ import annotations

import csv
import io
import os
import random
import runpy
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow.parquet as pq
import pytest
from memory import peak_of
from steering import Player, empty, random_script

from identity_cli import ContactRequest
from identity_cli.errors import RequestForgottenError, RequestRefusedError
from identity_cli.exporter.changes import changes_since, redirects_since
from identity_cli.exporter.columns import CHANGE_COLUMNS
from identity_cli.exporter.export import export
from identity_cli.graph.moments import find_beginning, new_token
from identity_cli.graph.service import IdentityService
from identity_cli.postgres.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_cli.exporter.export import FileFormat, What
    from identity_cli.postgres.snapshot import Snapshot

replay = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "replay.py"))["replay"]

_NOW = """
    SELECT id, email, phone_number, linked_id, link_precedence::text, created_at, updated_at,
           deleted_at
    FROM contact WHERE id > 0 ORDER BY id
"""
# Of errors that a writer sends again after, as the program does.
_RETRIED = {"40P01", "40001", "23503", "23505", "23G01", "55P03"}

Row = tuple[Any, ...]


def exported(connection: psycopg.Connection[Any], **options: Any) -> tuple[str, str | None]:
    stream = io.BytesIO()
    token = export(connection, stream, with_token=True, **options)
    return stream.getvalue().decode(), token


def replayed(contacts: str, changes: str) -> str:
    output = io.StringIO(newline="")
    replay(io.StringIO(contacts, newline=""), io.StringIO(changes, newline=""), output)
    return output.getvalue()


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def check_changes(changes: str, before: str, after: str, forgotten: set[str]) -> None:
    """Check each line against the two exports; forgotten values are empty."""
    old = {row["id"]: row for row in records(before)}
    new = {row["id"]: row for row in records(after)}
    found = {row["id"]: row for row in records(changes)}
    assert {id_ for id_ in old.keys() | new.keys() if old.get(id_) != new.get(id_)} == found.keys()
    for id_, change in found.items():
        was, now = old.get(id_), new.get(id_)
        old_primary = (was["linked_id"] or id_) if was else ""
        primary = (now["linked_id"] or id_) if now else ""
        assert (change["primary_id"], change["old_primary_id"]) == (primary, old_primary)
        for name in ("email", "phone_number"):
            assert change[name] == (now[name] if now else "")
            old_value = was[name] if was else ""
            assert change[f"old_{name}"] == ("" if old_value in forgotten else old_value)
        if not was or not now:
            assert change["change"] == ("gone" if was else "new")
        else:
            assert change["change"] == ("changed" if primary == old_primary else "moved")


def check_redirects(redirects: str, before: str, after: str) -> None:
    old = {row["id"] for row in records(before) if not row["linked_id"]}
    new = {row["id"]: row["linked_id"] for row in records(after)}
    found = {row["id"]: row["primary_id"] for row in records(redirects)}
    assert found == {id_: new.get(id_, "") for id_ in old if new.get(id_, "gone")}


@pytest.mark.parametrize("seed", range(25))
def test_changes_of_any_script_lead_to_the_export_of_today(
    seed: int, connection: psycopg.Connection[Any]
) -> None:
    empty(connection)
    player = Player(connection)
    draw = random.Random(seed)
    seen = [exported(connection)]
    for name, arguments, named in random_script(draw):
        getattr(player, name)(*arguments, **named)
        if draw.random() < 0.5:
            seen.append(exported(connection))
    today, _ = exported(connection)
    for before, token in seen:
        changes, _ = exported(connection, what="changes", since=token)
        assert replayed(before, changes) == today
        check_changes(changes, before, today, player.truth.forgotten)
        redirects, _ = exported(connection, what="redirects", since=token)
        check_redirects(redirects, before, today)


class Consumer:
    """Keeps a copy of the contacts and follows the graph from token to token."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        with snapshot(connection) as graph:
            self.copy = contacts(graph)
            self.token = new_token(graph)

    def follow(self) -> int:
        """Apply the changes since the last token; compare with what the same snapshot sees."""
        with snapshot(self.connection) as graph:
            moment = find_beginning(graph, self.token)
            changes = list(graph.rows(changes_since(moment), moment.parameters))
            led = {row[0]: row[1] for row in graph.rows(redirects_since(moment), moment.parameters)}
            now = contacts(graph)
            self.token = new_token(graph)
        primaries = {id_ for id_, row in self.copy.items() if row[3] is None}
        for change in changes:
            found = dict(zip(CHANGE_COLUMNS, change, strict=True))
            old = self.copy.get(found["id"])
            was = (None, None, None) if old is None else (old[1], old[2], old[3] or old[0])
            assert found["old_primary_id"] == was[2]
            # What was forgotten since is null.
            assert found["old_email"] == was[0] or self.is_forgotten(was[0])
            assert found["old_phone_number"] == was[1] or self.is_forgotten(was[1])
            if found["change"] == "gone":
                del self.copy[found["id"]]
            else:
                assert (found["change"] == "new") == (old is None)
                self.copy[found["id"]] = change[1:9]
        assert self.copy == now
        assert led == {
            id_: now[id_][3] if id_ in now else None
            for id_ in primaries
            if id_ not in now or now[id_][3] is not None
        }
        return len(changes)

    def is_forgotten(self, value: str) -> bool:
        row = self.connection.execute(
            "SELECT EXISTS (SELECT FROM forgotten_value WHERE hash = forget_hash(%s))", (value,)
        ).fetchone()
        return row == (True,)


def contacts(graph: Snapshot) -> dict[int, Row]:
    return {row[0]: row for row in graph.rows(_NOW)}


def import_batches(url: str, seed: int, stop: threading.Event) -> None:
    """Send batches as an import does: each request in a subtransaction of its own."""
    draw = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        service = IdentityService(connection)
        while not stop.is_set():
            # Some of their values are forgotten meanwhile.
            with suppress(RequestForgottenError, RequestRefusedError):
                for _ in service.reconcile_stream([random_request(draw) for _ in range(5)]):
                    pass


def hold_requests_open(url: str, seed: int, stop: threading.Event) -> None:
    """Commit each request late, after a subtransaction that has stored it has ended."""
    draw = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            request = random_request(draw)
            try:
                with connection.transaction():
                    connection.execute("SELECT pg_current_xact_id()")
                    with connection.transaction():
                        connection.execute(
                            "SELECT reconcile_request(%s, %s)",
                            (list(request.emails), list(request.phones)),
                        )
                    time.sleep(draw.uniform(0, 0.03))
            except psycopg.Error as error:
                if error.sqlstate not in _RETRIED:
                    raise


def steer(url: str, seed: int, stop: threading.Event) -> None:
    draw = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        player = Player(connection)
        while not stop.is_set():
            email, phone = random_values(draw)
            steps: list[Callable[[], None]] = [
                lambda: player.block([email]),  # noqa: B023 - called at once
                lambda: player.unblock(player.truth.blocked),
                lambda: player.unlink(email, phone),  # noqa: B023
                lambda: player.limit(draw.choice([None, 2, 3]), None),
                lambda: player.forget([phone]),  # noqa: B023
            ]
            try:
                draw.choice(steps)()
            except psycopg.Error as error:
                if error.sqlstate not in _RETRIED:
                    raise
            time.sleep(draw.uniform(0, 0.02))


def random_values(draw: random.Random) -> tuple[str, str]:
    """Return an email and a phone number that others send at about the same time."""
    first = int(time.monotonic() * 40)
    return f"e{first + draw.randrange(20)}@x.org", str(10_000 + first + draw.randrange(20))


def random_request(draw: random.Random) -> ContactRequest:
    email, phone = random_values(draw)
    return ContactRequest(email, phone if draw.random() < 0.9 else None)


@pytest.mark.parametrize("with_commands", [False, True])
def test_a_chain_of_tokens_misses_nothing_while_others_write(
    database_url: str, connection: psycopg.Connection[Any], with_commands: bool
) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def guarded(write: Callable[[str, int, threading.Event], None], seed: int) -> None:
        try:
            write(database_url, seed, stop)
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            failures.append(error)

    writers = [import_batches, import_batches, hold_requests_open, hold_requests_open]
    threads = [
        threading.Thread(target=guarded, args=(write, seed))
        for seed, write in enumerate([*writers, *([steer] if with_commands else [])])
    ]
    consumer = Consumer(connection)
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 60
        followed: list[int] = []
        while sum(map(bool, followed)) < 40 and time.monotonic() < deadline:
            followed.append(consumer.follow())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    consumer.follow()
    assert consumer.follow() == 0
    assert sum(map(bool, followed)) >= 40


def test_a_token_is_handed_out_when_all_it_knows_is_on_disk(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as writer:
        writer.execute("SET synchronous_commit = off")
        for number in range(10):
            writer.execute("SELECT reconcile(%s, NULL)", (f"{number}@x.org",))
            written = writer.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            exported(connection, what="changes")
            assert writer.execute(
                "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", written
            ).fetchone() == (True,)


@pytest.mark.parametrize("what", ["changes", "redirects"])
@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_changes_of_an_empty_graph(
    connection: psycopg.Connection[Any], what: What, file_format: FileFormat
) -> None:
    stream = io.BytesIO()
    token = export(connection, stream, what=what, file_format=file_format, with_token=True)
    again = io.BytesIO()
    assert export(connection, again, what=what, file_format=file_format, since=token) is None
    assert again.getvalue() == stream.getvalue()
    if file_format == "parquet":
        assert pq.read_table(io.BytesIO(stream.getvalue())).num_rows == 0
    else:
        assert stream.getvalue().count(b"\n") == (file_format == "csv")


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_changes(
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    file_format: FileFormat,
) -> None:
    _, token = exported(connection)

    def peak(contacts: int) -> int:
        connection.execute(
            "TRUNCATE contact; INSERT INTO contact (email, phone_number, link_precedence)"
            f" SELECT g || '@x.org', g, 'primary' FROM generate_series(1, {contacts}) g"
        )

        def work() -> None:
            with open(os.devnull, "wb") as stream:
                export(connection, stream, file_format=file_format, what="changes", since=token)
                export(connection, stream, file_format=file_format, as_of=token)

        return peak_of(work)

    monkeypatch.setattr("identity_cli.exporter.parquet.ROW_GROUP", 1000)
    peak(100)  # modules and caches
    assert peak(15_000) < 1.3 * peak(3_000) + 100_000


def test_the_changes_of_a_large_command_need_no_statistics(
    connection: psycopg.Connection[Any],
) -> None:
    for table in ("contact", "former_contact", "set_aside_contact"):
        connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    connection.execute(
        "INSERT INTO contact (id, email, phone_number, linked_id, initial_linked_id,"
        " link_precedence, anchors_phone) SELECT g, g || '@x.org', '1', nullif(1, g),"
        " nullif(1, g), (CASE g WHEN 1 THEN 'primary' ELSE 'secondary' END)::link_precedence,"
        " g = 1 FROM generate_series(1, 20000) g"
    )
    before, token = exported(connection)
    Player(connection).block(["1"])
    # Each contact compared with each would take minutes.
    connection.execute("SET statement_timeout = '20s'")
    changes, _ = exported(connection, what="changes", since=token)
    assert changes.count("\n") == 20_001
    assert replayed(before, changes) == exported(connection)[0]
    assert exported(connection, as_of=token)[0] == before
