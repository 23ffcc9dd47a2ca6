"""A database of each released revision comes to head with the graph that it had.

`released/REVISION.sql` is what `pg_dump --inserts` made of `samples/contacts.csv` on that revision.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from identity_cli.graph.normalize import ContactRequest
from identity_cli.graph.service import IdentityService
from identity_cli.graph.verify import verify
from identity_cli.postgres import schema
from identity_cli.postgres.database import Database
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


def test_head_has_a_dump() -> None:
    assert [dump.stem for dump in RELEASED][-1] == schema.HEAD
