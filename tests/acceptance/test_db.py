"""`identity db`: the schema and the embedded server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from identity_cli.postgres import schema
from identity_cli.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

PASSWORD = "hunter2secret"  # planted


def test_upgrade_and_current(run_identity: Run, empty_database_url: str) -> None:
    env = {"DATABASE_URL": empty_database_url}
    done = run_identity("db", "current", env=env)
    assert (done.returncode, done.stdout) == (0, "none\n")
    assert "run identity db upgrade" in done.stderr
    for _ in range(2):
        done = run_identity("db", "upgrade", env=env)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"the schema is at {schema.HEAD}\n"
    done = run_identity("db", "current", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{schema.HEAD}\n", "")


def test_current_and_check_migrate_nothing(run_identity: Run, empty_database_url: str) -> None:
    env = {"DATABASE_URL": empty_database_url}
    run_identity("db", "current", env=env)
    assert run_identity("db", "check", env=env).returncode == 5
    with psycopg.connect(empty_database_url) as connection:
        assert schema.current(connection) is None


def test_check(run_identity: Run, connection: psycopg.Connection[Any]) -> None:
    done = run_identity("db", "check")
    assert done.returncode == 0
    assert done.stderr == f"the schema is at {schema.HEAD} and unchanged\n"
    connection.execute("ALTER TABLE contact DROP CONSTRAINT contact_links_to_a_primary")
    done = run_identity("db", "check")
    assert done.returncode == 5
    assert "contact_links_to_a_primary" in done.stdout
    assert done.stderr == (
        "error: the schema was changed by hand\n\nhint: undo the changes that are listed above\n"
    )


def test_check_before_the_upgrade(run_identity: Run, empty_database_url: str) -> None:
    done = run_identity("db", "check", env={"DATABASE_URL": empty_database_url})
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        f"error: the schema is at none, this program needs {schema.HEAD}\n\n"
        "hint: run identity db upgrade\n"
    )


def test_a_newer_schema(run_identity: Run, connection: psycopg.Connection[Any]) -> None:
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (["db", "upgrade"], ["show", "--id", "1"], ["identify", "--phone", "1"]):
        done = run_identity(*command)
        assert (done.returncode, done.stdout) == (5, "")
        assert "hint: upgrade identity" in done.stderr


def test_url_shows_no_password(run_identity: Run) -> None:
    done = run_identity(
        "db", "url", env={"DATABASE_URL": f"postgres://app:{PASSWORD}@db.example.com/people"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "postgresql://app@db.example.com/people\n"


def test_empty_database_url_option_is_wrong_usage(run_identity: Run, tmp_path: Path) -> None:
    for command in (["db", "upgrade"], ["identify", "--email", "a@x.org"], ["verify"]):
        done = run_identity(*command, "--database-url", "")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: --database-url is empty\n\nhint: ")
    assert not (tmp_path / "identity-home").exists()


def test_empty_database_url_variable_is_noted(
    run_identity: Run, embedded: dict[str, str | None]
) -> None:
    done = run_identity("db", "current", env={**embedded, "DATABASE_URL": ""})
    assert (done.returncode, done.stdout) == (0, f"{schema.HEAD}\n")
    assert done.stderr == "DATABASE_URL is empty; using the embedded server\n"


def test_unreachable_server_is_exit_5(run_identity: Run) -> None:
    url = f"postgresql://app:{PASSWORD}@127.0.0.1:1/people"
    for command in ("upgrade", "current", "check"):
        done = run_identity("db", command, "--database-url", url)
        assert (done.returncode, done.stdout) == (5, "")
        assert "127.0.0.1:1/people is unreachable" in done.stderr
        assert PASSWORD not in done.stderr


# The embedded server


@pytest.fixture
def embedded(prepared_home: Path) -> Iterator[dict[str, str | None]]:
    """The environment of a command that uses the embedded server, which does not run."""
    server = EmbeddedServer(prepared_home)
    server.stop()
    yield {"DATABASE_URL": None, "IDENTITY_HOME": str(prepared_home)}
    server.stop()


def test_start_url_and_stop(
    run_identity: Run, embedded: dict[str, str | None], prepared_home: Path
) -> None:
    done = run_identity("db", "start", env=embedded)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"the embedded server runs in {prepared_home}\n"
    done = run_identity("db", "url", env=embedded)
    assert done.returncode == 0
    with psycopg.connect(done.stdout.strip()) as connection:
        assert connection.execute("SELECT count(*) >= 0 FROM contact").fetchone() == (True,)
    done = run_identity("db", "stop", env=embedded)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "the embedded server is stopped\n"
    done = run_identity("db", "stop", env=embedded)
    assert (done.returncode, done.stderr) == (0, "the embedded server was not running\n")


def test_a_command_stops_what_it_started(
    run_identity: Run, embedded: dict[str, str | None], prepared_home: Path
) -> None:
    done = run_identity("db", "current", env=embedded)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{schema.HEAD}\n", "")
    assert not EmbeddedServer(prepared_home).is_running()


def test_a_new_home_is_ready_at_once(run_identity: Run, identity_home: Path) -> None:
    env = {"DATABASE_URL": None, "IDENTITY_HOME": str(identity_home)}
    done = run_identity("identify", "--email", "a@x.org", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert not EmbeddedServer(identity_home).is_running()


def test_url_starts_nothing_and_makes_no_folder(run_identity: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run_identity("db", "url", env={"DATABASE_URL": None, "IDENTITY_HOME": str(home)})
    assert done.returncode == 0
    assert done.stdout.startswith("postgresql://postgres@/identity?host=")
    assert done.stderr == "the embedded server does not run: start it with identity db start\n"
    assert not home.exists()


def test_reset_deletes_the_embedded_database(run_identity: Run, identity_home: Path) -> None:
    env: dict[str, str | None] = {"DATABASE_URL": None, "IDENTITY_HOME": str(identity_home)}
    assert run_identity("db", "reset", "--yes", env=env).stderr.startswith("there is no embedded")
    run_identity("db", "start", env=env)
    done = run_identity("db", "reset", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"this deletes the embedded database in {identity_home}" in done.stderr
    assert done.stderr.endswith("hint: pass --yes\n")
    with psycopg.connect(**EmbeddedServer(identity_home).connection_parameters()) as connection:  # type: ignore[arg-type]
        connection.execute("CREATE TABLE kept ()")
    done = run_identity("db", "reset", "--yes", env=env)
    assert (done.returncode, done.stdout) == (0, "")
    assert not EmbeddedServer(identity_home).is_running()
    assert not (identity_home / "postgresql").exists()
    assert not list(identity_home.glob("initdb-*"))
    with (
        EmbeddedServer(identity_home) as server,
        psycopg.connect(**server.connection_parameters()) as connection,  # type: ignore[arg-type]
    ):
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)


def test_reset_of_another_database_is_wrong_usage(run_identity: Run) -> None:
    done = run_identity("db", "reset", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "DROP DATABASE" in done.stderr
