"""The schema: there and back, by hand and by itself, and two at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from identity_cli import errors
from identity_cli.postgres import schema
from identity_cli.postgres.database import Database, engine
from identity_cli.postgres.differences import differences
from identity_cli.postgres.models import metadata
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def database(url: str, *, embedded: bool = False) -> Database:
    return Database(connection_parameters(url), embedded=embedded)


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


CATALOGUE = {
    "columns": """
        SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default,
               is_identity, identity_generation, is_generated, generation_expression, collation_name
        FROM information_schema.columns WHERE table_schema = 'public'
        AND table_name <> 'alembic_version' ORDER BY 1, ordinal_position
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype::text, convalidated, condeferrable,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2
    """,
    "indexes": """
        SELECT indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1
    """,
    "triggers": """
        SELECT tgname, tgenabled::text, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1
    """,
    "functions": """
        SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY 1
    """,
    "types": """
        SELECT typname, typtype::text, array(SELECT enumlabel FROM pg_enum
               WHERE enumtypid = pg_type.oid ORDER BY enumsortorder)::text
        FROM pg_type WHERE typnamespace = 'public'::regnamespace
        AND typname !~ 'alembic_version' ORDER BY 1
    """,
    "relations": """
        SELECT relname, relkind::text, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relname !~ '^alembic_version'
        AND relkind NOT IN ('t', 'i') ORDER BY 1
    """,
}


def catalogue(url: str) -> dict[str, Any]:
    with psycopg.connect(url) as connection:
        return {name: connection.execute(query).fetchall() for name, query in CATALOGUE.items()}


def revision(url: str) -> str | None:
    with psycopg.connect(url) as connection:
        return schema.current(connection)


def test_alembic_upgrade_head(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    assert revision(empty_database_url) == schema.HEAD
    assert differences(database(empty_database_url)) == []


def test_alembic_and_the_command_make_the_same(empty_database_url: str, database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    assert catalogue(empty_database_url) == catalogue(database_url)


def test_alembic_check_is_clean(database_url: str) -> None:
    assert "No new upgrade operations detected" in alembic(database_url, "check").stdout


def test_the_models_are_the_database(database_url: str) -> None:
    assert differences(database(database_url)) == []
    found = {row[0] for row in catalogue(database_url)["columns"]}
    assert found == set(metadata.tables)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE contact ADD COLUMN note text",
        "DROP INDEX contact_phone_anchor",
        "ALTER TABLE contact DROP CONSTRAINT contact_links_to_a_primary",
        "ALTER TABLE contact ALTER COLUMN created_at DROP NOT NULL",
        "ALTER TABLE contact ALTER COLUMN anchors_email DROP DEFAULT",
        "DROP TABLE link_evidence",
        "DROP TRIGGER contact_identifiers_inserted ON contact",
        "ALTER TABLE contact DISABLE TRIGGER contact_identifiers_updated",
        "ALTER TABLE contact DISABLE TRIGGER ALL",
        "ALTER TABLE contact ENABLE REPLICA TRIGGER contact_identifiers_deleted",
        "ALTER TABLE contact DROP CONSTRAINT contact_has_an_identifier",
        "ALTER TABLE import_run DROP CONSTRAINT import_run_status",
        "ALTER TABLE link_evidence DROP CONSTRAINT link_evidence_pair_order",
        "DROP FUNCTION claim_profile",
        "ALTER FUNCTION guard_identifiers_inserted() RESET search_path",
        "CREATE OR REPLACE FUNCTION members(of_primary bigint, at_most bigint) RETURNS TABLE"
        " (id bigint, email text, phone_number text, linked_id bigint) LANGUAGE sql STABLE AS"
        " $$ SELECT 1, 'x', 'y', 2 $$",
        "CREATE OR REPLACE FUNCTION rules_in_force() RETURNS integer LANGUAGE sql STABLE AS"
        " $$ SELECT 4 $$",
        "CREATE OR REPLACE FUNCTION rules_in_force() RETURNS integer LANGUAGE sql STABLE AS"
        " $$ SELECT 1 $$",
        "INSERT INTO block_pattern (pattern, command_id) VALUES ('x', 1)",
    ],
)
def test_what_was_changed_by_hand_is_seen(
    database_url: str, connection: psycopg.Connection[Any], change: str
) -> None:
    connection.execute(change)
    assert differences(database(database_url)) != []


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO block_pattern (pattern, command_id) VALUES ('x', 1)",
        "INSERT INTO forgotten_value (hash, command_id) VALUES ('x', 1)",
        "UPDATE link_policy SET phone_limit = 20",
        "INSERT INTO block_pattern (pattern, command_id) VALUES ('x', 1);"
        " UPDATE link_policy SET email_limit = 20",
    ],
)
def test_rules_in_force_are_no_difference(
    database_url: str, connection: psycopg.Connection[Any], change: str
) -> None:
    connection.execute(change)
    connection.execute("SELECT set_rules_in_force()")
    assert differences(database(database_url)) == []


def test_disabled_checks_of_the_database_are_a_difference(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    name = connection.info.dbname
    connection.execute(f"ALTER DATABASE {name} SET session_replication_role = replica")
    assert "session_replication_role is replica" in differences(database(database_url))[0]


def test_objects_of_others_are_no_differences(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("CREATE TABLE payroll (id int PRIMARY KEY, CHECK (id > 0))")
    connection.execute("CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    connection.execute("CREATE SCHEMA other CREATE TABLE contact (id int)")
    assert differences(database(database_url)) == []


@pytest.mark.parametrize("usage", [True, False])
def test_role_whose_search_path_lacks_the_schema_is_told_so(
    database_url: str, connection: psycopg.Connection[Any], usage: bool
) -> None:
    connection.execute("ALTER SCHEMA public RENAME TO graph")
    role = f"role_of_{connection.info.dbname}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    if usage:
        connection.execute(f"GRANT USAGE ON SCHEMA graph TO {role}")
    else:
        connection.execute("REVOKE ALL ON SCHEMA graph FROM PUBLIC")
    parameters = connection_parameters(database_url) | {"user": role, "password": "x"}
    try:
        with pytest.raises(errors.SchemaNotAtHeadError, match="schema graph") as caught:
            schema.connect(Database(parameters, embedded=False))
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")
    assert ("search_path" in (caught.value.hint or "")) == usage
    assert ("db grant" in (caught.value.hint or "")) != usage


def migrate(url: str, step: Callable[..., None], revision: str) -> None:
    """As `alembic` does it, without a process for it."""
    with engine(database(url)).connect() as connection:
        config = schema.alembic_config()
        config.attributes["connection"] = connection
        step(config, revision)
        connection.commit()


def test_there_and_back_and_there(empty_database_url: str) -> None:
    before = catalogue(empty_database_url)
    migrate(empty_database_url, command.upgrade, "head")
    there = catalogue(empty_database_url)
    assert all(there.values())
    alembic(empty_database_url, "downgrade", "base")
    assert catalogue(empty_database_url) == before
    assert revision(empty_database_url) is None
    migrate(empty_database_url, command.upgrade, "head")
    assert catalogue(empty_database_url) == there


def test_every_step_down_and_up(empty_database_url: str) -> None:
    migrate(empty_database_url, command.upgrade, "head")
    script = ScriptDirectory.from_config(schema.alembic_config())
    for step in script.walk_revisions():
        before = catalogue(empty_database_url)
        migrate(empty_database_url, command.downgrade, "-1")
        migrate(empty_database_url, command.upgrade, step.revision)
        assert catalogue(empty_database_url) == before
        migrate(empty_database_url, command.downgrade, "-1")


def test_an_upgrade_keeps_what_is_stored(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("SELECT reconcile('a@x.org', '1')")
    schema.upgrade(database(database_url))
    assert connection.execute("SELECT count(*) FROM contact").fetchone() == (1,)


def test_as_sql() -> None:
    sql = alembic("postgresql://nobody@localhost:1/none", "upgrade", "head", "--sql").stdout
    assert "CREATE TABLE contact" in sql
    assert "CREATE OR REPLACE FUNCTION reconcile(" in sql


def test_upgrades_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: schema.upgrade(database(empty_database_url)), range(4)))
    assert revision(empty_database_url) == schema.HEAD


def test_upgrades_of_processes_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: alembic(empty_database_url, "upgrade", "head"), range(2)))
    assert revision(empty_database_url) == schema.HEAD


def test_first_connections_at_once(empty_database_url: str) -> None:
    def connect(_: int) -> None:
        connection, profile = schema.connect(database(empty_database_url))
        with connection:
            assert profile is None
            connection.execute("SELECT reconcile('a@x.org', '1')")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(connect, range(4)))


def test_head_is_alembics_head() -> None:
    script = ScriptDirectory.from_config(schema.alembic_config())
    assert script.get_heads() == [schema.HEAD]
    assert all(step.revision.isdecimal() for step in script.walk_revisions())


# A normal command's check


def test_an_empty_database_is_migrated(empty_database_url: str) -> None:
    connection, profile = schema.connect(database(empty_database_url))
    with connection:
        assert schema.current(connection) == schema.HEAD
    assert profile is None


def test_a_database_at_head_is_left_alone(database_url: str) -> None:
    before = catalogue(database_url)
    connection, _ = schema.connect(database(database_url))
    connection.close()
    assert catalogue(database_url) == before


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE theirs (id int)",
        "CREATE VIEW theirs AS SELECT 1 AS id",
        "CREATE SCHEMA theirs CREATE TABLE theirs (id int)",
        "CREATE TABLE theirs (id int) PARTITION BY RANGE (id)",
        "CREATE MATERIALIZED VIEW theirs AS SELECT 1 AS id",
    ],
)
def test_somebody_elses_database_is_left_alone(empty_database_url: str, made: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(made)
    with pytest.raises(errors.SchemaNotAtHeadError) as caught:
        schema.connect(database(empty_database_url))
    assert caught.value.hint == "run identity db upgrade"
    assert revision(empty_database_url) is None
    schema.upgrade(database(empty_database_url))
    connection, _ = schema.connect(database(empty_database_url))
    connection.close()


def test_a_database_of_another_program_with_alembic(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('3512b954651e')")
    with pytest.raises(errors.SchemaNotAtHeadError):
        schema.connect(database(empty_database_url))
    with pytest.raises(errors.SchemaNotAtHeadError):
        schema.upgrade(database(empty_database_url))


@pytest.mark.parametrize("embedded", [False, True])
def test_a_newer_database_is_refused(
    database_url: str, connection: psycopg.Connection[Any], embedded: bool
) -> None:
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(errors.SchemaNotAtHeadError) as caught:
        schema.connect(database(database_url, embedded=embedded))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("upgrade identity")
    with pytest.raises(errors.SchemaNotAtHeadError):
        schema.upgrade(database(database_url))


def test_an_older_database_is_not_migrated_without_asking(empty_database_url: str) -> None:
    alembic(empty_database_url, "upgrade", "head")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(errors.SchemaNotAtHeadError) as caught:
        schema.connect(database(empty_database_url))
    assert caught.value.hint == "run identity db upgrade"


def test_a_role_that_may_not_migrate(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        row = connection.execute("SELECT current_database()").fetchone()
        assert row is not None
        connection.execute(f"ALTER DATABASE {row[0]} SET default_transaction_read_only = on")
    with pytest.raises(errors.DatabaseReadOnlyError):
        schema.connect(database(empty_database_url))


# What is shipped


def test_the_wheel_is_told_to_take_the_migrations() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    assert wheel["packages"] == ["identity_cli"]
    assert wheel["force-include"] == {"migrations": "identity_cli/migrations"}


def test_migrations_inside_the_package_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "identity_cli"
    shutil.copytree(ROOT / "migrations", package / "migrations")
    monkeypatch.setattr(schema, "__file__", str(package / "postgres" / "schema.py"))
    script = ScriptDirectory.from_config(schema.alembic_config())
    assert script.dir == str(package / "migrations")
    assert script.get_heads() == [schema.HEAD]


def test_each_function_at_head_is_the_newest_copy_in_the_migrations() -> None:
    functions = ROOT / "migrations" / "functions"
    newest = {file.name: file.read_text() for file in sorted(functions.glob("*/*.sql"))}
    at_head = files("identity_cli.postgres.sql")
    assert newest == {
        file.name: file.read_text() for file in at_head.iterdir() if file.name.endswith(".sql")
    }


def test_role_that_could_reconcile_before_rules_can_reconcile_among_them(
    empty_database_url: str,
) -> None:
    migrate(empty_database_url, command.upgrade, "0003")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        role = f"role of {connection.info.dbname}"
        connection.execute(f"""
            CREATE ROLE "{role}" LOGIN PASSWORD 'x';
            GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}";
            GRANT INSERT, UPDATE ON contact, import_run, normalization_profile TO "{role}";
            GRANT INSERT ON link_evidence TO "{role}";
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "{role}"
        """)
        try:
            migrate(empty_database_url, command.upgrade, "head")
            connection.execute("SELECT set_hub_limits(NULL, 1, 1)")
            connection.execute("SELECT block_values('{b@x.org}', 1, true)")
            connection.execute(f'SET ROLE "{role}"')
            outcomes = [
                connection.execute("SELECT (reconcile(%s, %s)).outcome", pair).fetchone()
                for pair in (("a@x.org", "1"), ("b@x.org", "1"), ("b@x.org", None))
            ]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM forget_key")
        finally:
            connection.execute("RESET ROLE")
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')
    assert outcomes == [("created",), ("blocked",), ("blocked",)]


def test_role_that_could_reconcile_before_batches_can_reconcile_where_functions_are_granted(
    empty_database_url: str,
) -> None:
    migrate(empty_database_url, command.upgrade, "0004")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        role = f"role of {connection.info.dbname}"
        connection.execute(f"""
            CREATE ROLE "{role}" LOGIN PASSWORD 'x';
            ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
            REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC;
            GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO "{role}";
            GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO "{role}";
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "{role}"
        """)
        try:
            migrate(empty_database_url, command.upgrade, "head")
            connection.execute("SELECT block_values('{b@x.org}', 1, true)")
            connection.execute(f'SET ROLE "{role}"')
            outcomes = [
                connection.execute("SELECT outcome FROM identify(%s, %s, NULL)", pair).fetchone()
                for pair in ((["a@x.org"], ["1"]), (["a@x.org"], ["1"]), (["b@x.org"], []))
            ]
            row = connection.execute("CALL identify_batch('c@x.org', '1', 10)").fetchone()
        finally:
            connection.execute("RESET ROLE")
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')
    assert outcomes == [("created",), ("unchanged",), ("blocked",)]
    assert row is not None
    assert row[0] == ["linked"]
