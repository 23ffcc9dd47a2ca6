"""The roles that `identity db grant` makes can do their work, and no more."""

from __future__ import annotations

import io
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors
from steering import Player

from identity_cli.errors import DatabaseError, PermissionDeniedError, ValueBlockedError
from identity_cli.exporter.export import export
from identity_cli.graph.effects import EffectCounter
from identity_cli.graph.explanation import explain_identity
from identity_cli.graph.moments import find_moment
from identity_cli.graph.normalize import ContactRequest
from identity_cli.graph.references import Reference
from identity_cli.graph.report import compile_report
from identity_cli.graph.service import IdentityService
from identity_cli.graph.verify import verify
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres import roles, schema
from identity_cli.postgres.database import Database
from identity_cli.postgres.snapshot import snapshot
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def as_role(
    connection: psycopg.Connection[Any], database_url: str
) -> Iterator[Callable[..., Database]]:
    """The database as a fresh login role without any right of its own sees it."""
    made: list[str] = []

    def grant(*, read_only: bool) -> Database:
        role = f"identity_test_{uuid.uuid4().hex[:12]}"
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        made.append(role)
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        roles.grant(connection, role, read_only=read_only)
        parameters = connection_parameters(database_url)
        return Database(parameters | {"user": role, "password": "x"}, embedded=False)

    yield grant
    for role in made:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_reconciling_role_imports_and_identifies(
    as_role: Callable[..., Database], tmp_path: Path
) -> None:
    database = as_role(read_only=False)
    rows = tmp_path / "rows.csv"
    rows.write_text("email,phone\na@x,1\nb@x,1\nc@x,2\nc@x,1\n")
    importer = Importer(ImportPlan((str(rows),), jobs=2))
    importer.run(database)
    assert importer.status == "finished"
    assert (importer.counts.created, importer.counts.linked, importer.counts.merged) == (2, 1, 1)
    plain, profile = schema.connect(database)
    with plain:
        service = IdentityService(plain, profile=profile)
        assert service.identify(ContactRequest("a@x", "9")).phone_numbers == ["1", "2", "9"]
        assert verify(plain).ok
        for statement in ("DELETE FROM contact", "TRUNCATE contact", "DROP TABLE contact"):
            with pytest.raises(errors.InsufficientPrivilege):
                plain.execute(statement)


def test_reading_role_reads_the_past(
    as_role: Callable[..., Database], connection: psycopg.Connection[Any]
) -> None:
    player = Player(connection)
    player.request(["a@x.org"], ["1"])
    player.request(["b@x.org"], ["2"])
    plain, _ = schema.connect(as_role(read_only=True))
    with plain:
        stream = io.BytesIO()
        token = export(plain, stream, what="changes", with_token=True)
        player.request(["a@x.org"], ["2"])
        player.block(["b@x.org"])
        for what in ("changes", "redirects"):
            export(plain, stream := io.BytesIO(), what=what, since=token)
            assert len(stream.getvalue().splitlines()) > 1
        export(plain, stream := io.BytesIO(), what="identities", as_of=token)
        assert len(stream.getvalue().splitlines()) == 2
        assert token is not None
        with snapshot(plain) as graph:
            explained = explain_identity(graph, [Reference("id", 2)], find_moment(graph, token))
        assert explained.values == ["b@x.org", "2"]


def test_reconciling_role_gets_the_preview_of_a_dry_run(
    as_role: Callable[..., Database], connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    owner = Player(connection)
    owner.limit(None, 2)
    owner.block(["1111111"])
    rows = tmp_path / "rows.csv"
    callers = "".join(f"{name}@x.org,2222222\n" for name in "abc")
    rows.write_text(f"email,phone\n{callers}a@x.org,1111111\nd@x.org,3\na@x.org,4\nd@x.org,4\n")
    importer = Importer(ImportPlan((str(rows),), dry_run=True))
    importer.run(as_role(read_only=False))
    preview = importer.report(0).preview
    assert preview is not None
    assert (preview.new_hubs, preview.merging_rows) == (1, 1)


def test_reconciling_role_meets_every_rule(
    as_role: Callable[..., Database], connection: psycopg.Connection[Any]
) -> None:
    owner = Player(connection)
    owner.request(["a@x.org"], ["1111111"])
    owner.request(["b@x.org"], ["2222222"])
    owner.block(["1111111", "new@x.org"])
    owner.unlink("a@x.org", "b@x.org")
    owner.unlink("b@x.org", "2222222")
    owner.unlink("later@x.org", "5555555")
    owner.add_pattern("spam.*")
    owner.forget(["gone@x.org"])
    owner.limit(None, 2)
    with as_role(read_only=False).connect() as plain:
        player = Player(plain)
        player.truth = owner.truth
        for emails, phones in (
            (["a@x.org"], ["1111111"]),
            (["c@x.org"], ["1111111"]),
            (["new@x.org"], ["1111111"]),
            (["new@x.org"], []),
            (["a@x.org", "b@x.org"], []),
            (["b@x.org"], ["2222222"]),
            (["later@x.org"], ["5555555"]),
            (["spam1@x.org"], ["4444444"]),
            (["spam2@x.org", "d@x.org"], []),
            (["gone@x.org"], ["6666666"]),
            (["gone@x.org"], []),
            (["e@x.org"], ["7777777"]),
            (["f@x.org"], ["7777777"]),
            (["g@x.org"], ["7777777"]),  # one too many: the phone number is a hub
            (["h@x.org"], ["7777777"]),
        ):
            player.request(emails, phones)
        player.check()
        found = verify(plain)
        assert found.violations == ()
        assert found.digest == player.truth.digest()
        for statement in (
            "DELETE FROM contact",
            "DELETE FROM set_aside_contact",
            "DELETE FROM blocked_value",
            "INSERT INTO blocked_value (value, command_id) VALUES ('z@x.org', 1)",
            "UPDATE link_evidence SET is_held = true",
            "SELECT FROM forget_key",
            "SELECT block_values('{c@x.org}', 1, true)",
            "SELECT unblock_values('{1111111}', 1, true)",
            "SELECT forget_values('{c@x.org}', 1)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                plain.execute(statement)  # type: ignore[arg-type]


def test_reading_role_reads_a_graph_with_rules(
    as_role: Callable[..., Database], connection: psycopg.Connection[Any]
) -> None:
    owner = Player(connection)
    owner.request(["a@x.org"], ["1111111"])
    owner.block(["1111111"])
    owner.forget(["gone@x.org"])
    plain, profile = schema.connect(as_role(read_only=True))
    with plain:
        reader = IdentityService(plain, profile=profile)
        assert reader.find(email="a@x.org").phone_numbers == []
        with pytest.raises(ValueBlockedError):
            reader.find(phone="1111111")
        assert verify(plain).ok
        exported = io.BytesIO()
        export(plain, exported)
        assert len(exported.getvalue().splitlines()) == 2
        with pytest.raises(errors.InsufficientPrivilege):
            plain.execute("SELECT FROM forget_key")


def test_reading_role_cannot_try_out_what_was_forgotten(
    as_role: Callable[..., Database],
) -> None:
    with as_role(read_only=True).connect() as plain:
        counter = EffectCounter(plain)
        with pytest.raises(PermissionDeniedError, match="which values were forgotten") as refused:
            counter.add([ContactRequest("a@x.org", "1")])
    assert "identity db grant" in str(refused.value.hint)


def test_reading_role_reads_only(
    as_role: Callable[..., Database], service: IdentityService
) -> None:
    service.reconcile(ContactRequest("a@x", "1"))
    plain, profile = schema.connect(as_role(read_only=True))
    with plain:
        reader = IdentityService(plain, profile=profile)
        assert reader.find(email="a@x").phone_numbers == ["1"]
        assert verify(plain).ok
        with snapshot(plain) as graph:
            assert explain_identity(graph, (Reference("id", 1),)).values == ["a@x", "1"]
            assert compile_report(graph).statistics.contacts == 1
        with pytest.raises(PermissionDeniedError):
            reader.reconcile(ContactRequest("b@x", "1"))
        with pytest.raises(errors.InsufficientPrivilege):
            plain.execute("UPDATE contact SET updated_at = now()")


def test_unknown_role_is_an_error(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(DatabaseError, match="42704"):
        roles.grant(connection, "nobody_of_this_name", read_only=True)


def test_objects_of_others_are_not_granted(
    connection: psycopg.Connection[Any], as_role: Callable[..., Database]
) -> None:
    stranger = f"stranger_of_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {stranger}")
    try:
        connection.execute("CREATE TABLE payroll (id int GENERATED ALWAYS AS IDENTITY)")
        connection.execute(
            "CREATE FUNCTION raise_salary() RETURNS int LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT 1'; REVOKE ALL ON FUNCTION raise_salary() FROM PUBLIC"
        )
        connection.execute(f"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO {stranger}")
        with as_role(read_only=False).connect() as plain:
            for statement in ("SELECT FROM payroll", "SELECT raise_salary()", "SELECT FROM theirs"):
                with pytest.raises(errors.InsufficientPrivilege):
                    plain.execute(statement)
            plain.execute("SELECT claim_profile(1, 'US')")
            plain.execute("SELECT claim_profile(1, 'GB')")
    finally:
        connection.execute(f"DROP OWNED BY {stranger}; DROP ROLE {stranger}")
