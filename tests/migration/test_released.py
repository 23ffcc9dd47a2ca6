"""A database of each released revision comes to head with the graph that it had.

`released/REVISION.sql` is what `pg_dump --inserts` made of `samples/contacts.csv` on that revision.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from alembic import command
from dumps import restore
from sqlalchemy.exc import DBAPIError

from identity_cli.graph.normalize import ContactRequest
from identity_cli.graph.service import IdentityService
from identity_cli.graph.verify import verify
from identity_cli.postgres import schema
from identity_cli.postgres.database import Database, engine
from identity_cli.postgres.differences import differences
from identity_cli.settings import connection_parameters

RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))
DIGEST = "sha256:2017dffc25d22fef304fe4a6c383fe87dd0cb4f028dae5223f6323a5dd8a6742"


@pytest.mark.parametrize("dump", RELEASED, ids=lambda dump: dump.stem)
def test_released_database_comes_to_head(dump: Path, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(dump.read_text())
    database = Database(connection_parameters(empty_database_url), embedded=False)
    schema.upgrade(database)
    connection, profile = schema.connect(database)
    with connection:
        assert verify(connection).digest == DIGEST
        assert verify(connection).ok
        service = IdentityService(connection, profile=profile)
        assert service.reconcile(ContactRequest("mcfly@hillvalley.edu", "123456")).primary_id == 1
        assert service.reconcile(ContactRequest("new@hillvalley.edu")).contact_id == 96
    assert differences(database) == []


def test_evidence_of_revision_0002_is_kept_without_being_rewritten(empty_database_url: str) -> None:
    [dump] = [dump for dump in RELEASED if dump.stem == "0002"]
    where_it_is = "SELECT pg_relation_filenode('link_evidence'), pg_relation_filenode(oid)"
    where_it_is += " FROM pg_class WHERE relname = 'link_evidence_pair_key'"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(dump.read_text())
        connection.execute("SET search_path = public")
        before = connection.execute("SELECT * FROM link_evidence ORDER BY id").fetchall()
        files = connection.execute(where_it_is).fetchone()
        schema.upgrade(Database(connection_parameters(empty_database_url), embedded=False))
        assert len(before) > 5
        after = connection.execute("SELECT * FROM link_evidence ORDER BY id").fetchall()
        assert [row[: len(before[0])] for row in after] == before
        assert connection.execute(where_it_is).fetchone() == files


def test_pairs_of_a_kind_survive_a_dump(
    service: IdentityService, database_url: str, empty_database_url: str
) -> None:
    service.reconcile(ContactRequest(emails=["b@x.org", "a@x.org"], phones=["2", "10"]))
    restore(database_url, empty_database_url)
    database = Database(connection_parameters(empty_database_url), embedded=False)
    assert differences(database) == []
    connection, _ = schema.connect(database)
    with connection:
        assert verify(connection) == verify(service.connection)
        rows = "SELECT value, other_value FROM link_evidence ORDER BY id"
        assert connection.execute(rows).fetchall() == [
            ("a@x.org", "10"),
            ("a@x.org", "b@x.org"),
            ("10", "2"),
        ]


def test_downgrade_refuses_pairs_of_a_kind(service: IdentityService, database_url: str) -> None:
    service.reconcile(ContactRequest(emails=["a@x.org", "b@x.org"]))
    database = Database(connection_parameters(database_url), embedded=False)
    with engine(database).connect() as connection:
        config = schema.alembic_config()
        config.attributes["connection"] = connection
        with pytest.raises(DBAPIError, match="pairs of two emails"):
            command.downgrade(config, "0002")
    assert differences(database) == []
    service.connection.execute("DELETE FROM link_evidence")
    with engine(database).connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        connection.commit()
    assert schema.current(service.connection) == "0002"


def test_head_has_a_dump() -> None:
    assert [dump.stem for dump in RELEASED][-1] == schema.HEAD
