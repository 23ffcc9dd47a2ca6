"""Requests of a batch that meet a lock which nobody releases: they fail alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from graph import contact_rows, problems_of
from model import Answer

from identity_cli import ContactRequest, IdentityService
from identity_cli.graph.service import Refusal, RunRequest
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import IMPORT
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = psycopg.Connection[Any]

# The second of them has to lock the primaries of two identities.
BATCH = [
    RunRequest(ContactRequest(email, phone), line, line)
    for line, (email, phone) in enumerate(
        [("c@x.org", "3"), ("a@x.org", "2"), ("d@x.org", "4"), ("a@x.org", "5")], 1
    )
]


@pytest.fixture
def locked(service: IdentityService, database_url: str) -> Iterator[Connection]:
    """Two identities, and a transaction that holds the primary of the second one."""
    service.reconcile(ContactRequest("a@x.org", "1"))
    service.reconcile(ContactRequest("b@x.org", "2"))
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM contact WHERE id = 2 FOR UPDATE")
        yield other


def answered(names: list[Any]) -> list[Any]:
    """The outcomes without their ids; a refusal as it is."""
    return [one if isinstance(one, Refusal) else one.name for one in names]


EXPECTED = ["created", Refusal("55P03"), "created", "linked"]


def test_request_that_never_gets_its_lock_is_refused_alone(
    service: IdentityService, locked: Connection, connection: Connection
) -> None:
    service.connection.execute("SET lock_timeout = '5ms'")
    assert answered(service.reconcile_batch(BATCH, None)) == EXPECTED
    assert service.retries == 300
    emails = [row.email for row in contact_rows(connection)]
    assert emails == ["a@x.org", "b@x.org", "c@x.org", "d@x.org", "a@x.org"]
    assert problems_of(connection) == []
    locked.rollback()
    assert service.reconcile(BATCH[1].request) == Answer("merged", 1, None)


def test_request_is_refused_when_its_time_is_over(
    service: IdentityService, locked: Connection, connection: Connection
) -> None:
    row = connection.execute(
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'reconcile_batch'"
    ).fetchone()
    assert row is not None
    assert row[0].count("'5 minutes'") == 1
    connection.execute(row[0].replace("'5 minutes'", "'10 milliseconds'"))
    service.connection.execute("SET lock_timeout = '100ms'")
    assert answered(service.reconcile_batch(BATCH, None)) == EXPECTED
    # The time counts from the first failure, and the second one comes after it.
    assert service.retries == 2
    # The limit is a request's: the next batch has all of it again.
    assert answered(service.reconcile_batch(BATCH[1:2], None)) == [Refusal("55P03")]
    assert service.retries == 4


def test_import_rejects_the_row_that_never_gets_its_lock(
    database_url: str, locked: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(IMPORT, lock_timeout="5ms")
    monkeypatch.setattr("identity_cli.importer.session.IMPORT", settings)
    path = tmp_path / "rows.csv"
    path.write_text("email,phone\nc@x.org,3\na@x.org,2\nd@x.org,4\na@x.org,5\n")
    importer = Importer(ImportPlan((str(path),)))
    importer.run(Database(connection_parameters(database_url), embedded=False))
    report = importer.report(3)
    assert (report.status, report.rejected_by_code) == ("finished", {"refused": 1})
    assert (importer.counts.created, importer.counts.linked) == (2, 1)
    [rejects] = report.rejects
    reason = "the database refused the request (SQLSTATE 55P03)"
    assert Path(rejects).read_text() == (
        f"email,phone,_line,_code,_reason\na@x.org,2,3,refused,{reason}\n"
    )

    locked.rollback()
    again = Importer(ImportPlan((rejects,)))
    again.run(Database(connection_parameters(database_url), embedded=False))
    assert (again.counts.read, again.counts.merged) == (1, 1)
