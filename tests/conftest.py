"""A real PostgreSQL for the tests: the server of DATABASE_URL, or the embedded one.

Every test gets a database of its own, cloned from a template that was migrated once.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import hypothesis
import psycopg
import pytest

from identity_cli.errors import IdentityError
from identity_cli.graph.service import IdentityService
from identity_cli.postgres import schema
from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer
from identity_cli.postgres.session import RECONCILE
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# What a developer's shell may hold must not reach the program under test.
_SERVER_URL = os.environ.pop("DATABASE_URL", None) or None
for _name in list(os.environ):
    if _name.startswith(("IDENTITY_", "PG", "ALEMBIC")) or _name in {
        "COLUMNS",
        "FORCE_COLOR",
        "NO_COLOR",
        "PYTHONWARNINGS",
    }:
        del os.environ[_name]

# A job in the background of a shell ignores INT, and so would everything that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("identity", deadline=None)
hypothesis.settings.load_profile("identity")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what the scrubbed environment said."""
    node.workerinput["server_url"] = _SERVER_URL


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """libpq's parameters of a server on which databases can be made."""
    worker = getattr(request.config, "workerinput", None)
    url = worker["server_url"] if worker is not None else _SERVER_URL
    if url is not None:
        with _failing_with_the_mend():
            parameters = connection_parameters(url)
            Database(parameters, embedded=False).connect().close()
        yield parameters
        return
    with _temporary_home() as home, _failing_with_the_mend(), EmbeddedServer(home) as embedded:
        yield embedded.connection_parameters() | {"dbname": "postgres"}


@contextmanager
def _temporary_home() -> Iterator[Path]:
    """A folder for an embedded server, which other users can reach when we are root."""
    home = Path(tempfile.mkdtemp(prefix="identity-", dir="/var/lib" if os.geteuid() == 0 else None))
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def _failing_with_the_mend() -> Iterator[None]:
    try:
        yield
    except IdentityError as error:
        pytest.fail(
            f"the tests need PostgreSQL: {error}\nhint: {error.hint or 'see above'}; set "
            "DATABASE_URL to a server whose role may CREATE DATABASE, or unset it for the "
            "embedded one",
            pytrace=False,
        )


@contextmanager
def _database(server: dict[str, str], *, template: str | None = None) -> Iterator[dict[str, str]]:
    name = f"identity_test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(**server, autocommit=True) as admin:
        source = f"TEMPLATE {template}" if template else "TEMPLATE template0 ENCODING 'UTF8'"
        admin.execute(f"CREATE DATABASE {name} {source}")
    try:
        yield server | {"dbname": name}
    finally:
        with psycopg.connect(**server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _url(parameters: dict[str, str]) -> str:
    rest = {key: value for key, value in parameters.items() if key != "dbname"}
    return f"postgresql:///{parameters['dbname']}?{urlencode(rest, quote_via=quote)}"


@pytest.fixture(scope="session")
def template_database(server: dict[str, str]) -> Iterator[str]:
    """The name of a database at head that tests clone."""
    with _database(server) as parameters:
        schema.upgrade(Database(parameters, embedded=False))
        yield parameters["dbname"]


@pytest.fixture(scope="session")
def cloned_database(
    server: dict[str, str], template_database: str
) -> Callable[[], AbstractContextManager[str]]:
    """Makes databases at head with nothing in them; their URLs."""

    @contextmanager
    def clone() -> Iterator[str]:
        with _database(server, template=template_database) as parameters:
            yield _url(parameters)

    return clone


@pytest.fixture
def database_url(cloned_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database at head with nothing in it."""
    with cloned_database() as url:
        yield url


@pytest.fixture
def empty_database_url(server: dict[str, str]) -> Iterator[str]:
    """A database without any table."""
    with _database(server) as parameters:
        yield _url(parameters)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection to `database_url`."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        # As in the program's sessions: to compile a statement takes longer than to run it.
        connection.execute("SET jit = off")
        yield connection


@pytest.fixture
def service(database_url: str) -> Iterator[IdentityService]:
    """A service without region, on a connection of its own to `database_url`."""
    database = Database(connection_parameters(database_url), embedded=False)
    with database.connect(session=RECONCILE) as connection:
        yield IdentityService(connection)


@pytest.fixture
def identity_home() -> Iterator[Path]:
    """A folder for IDENTITY_HOME; a server that was left running in it is stopped."""
    with _temporary_home() as home:
        try:
            yield home
        finally:
            EmbeddedServer(home).stop()


@pytest.fixture(scope="session")
def prepared_home() -> Iterator[Path]:
    """A folder for IDENTITY_HOME with a database at head; tests leave its server stopped."""
    with _temporary_home() as home:
        with EmbeddedServer(home) as embedded:
            schema.upgrade(Database(embedded.connection_parameters(), embedded=True))
        try:
            yield home
        finally:
            EmbeddedServer(home).stop()


def _environment(
    request: pytest.FixtureRequest, tmp_path: Path, changes: dict[str, str | None] | None
) -> dict[str, str]:
    """What the program under test sees; a change to None takes a variable away."""
    changes = changes or {}
    if "DATABASE_URL" not in changes:
        changes = {**changes, "DATABASE_URL": request.getfixturevalue("database_url")}
    wanted = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "PYTHONWARNINGS": "error::ResourceWarning",
        "IDENTITY_HOME": str(tmp_path / "identity-home"),
        **changes,
    }
    return {name: value for name, value in wanted.items() if value is not None}


@pytest.fixture
def run_identity(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `identity …` to its end in `tmp_path`, on `database_url` unless `env` says otherwise."""

    def run(
        *arguments: object,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        env: dict[str, str | None] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "identity_cli", *map(str, arguments)],
            input=input if input is not None else "",
            env=_environment(request, tmp_path, env),
            cwd=tmp_path,
            timeout=timeout,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


@pytest.fixture
def start_identity(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `identity …` as `run_identity` does, and go on; it is killed when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: object, env: dict[str, str | None] | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "identity_cli", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(request, tmp_path, env),
            cwd=tmp_path,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        process.wait()
