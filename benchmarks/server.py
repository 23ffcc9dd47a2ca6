"""A server as the product runs it, in a folder of its own; databases at head; pgbench and psql."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from identity_cli.graph.normalize import ContactRequest
from identity_cli.graph.service import IdentityService
from identity_cli.postgres import schema
from identity_cli.postgres.binaries import binaries
from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer
from identity_cli.postgres.session import IMPORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.requests import Request

# A round trip for so many statements, as for the batches of the import.
_PIPELINE = 500

# Time on a processor, of the server process that runs the statement.
CPU_NANOSECONDS = "SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint"

# As the service sets its sessions, and as the import commits.
SESSION_OPTIONS = (
    "-c synchronous_commit=off -c enable_seqscan=off -c jit=off"
    " -c default_transaction_isolation=read\\ committed"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """An import that ran to its end: its summary, and the peak of its memory in bytes.

    The memory is that of all its processes together, without PostgreSQL.
    """

    summary: dict[str, Any]
    seconds: float
    peak_memory: int


class Server:
    """The server that runs in `home`, and the databases made on it."""

    def __init__(self, home: Path, parameters: dict[str, str]) -> None:
        self.home = home
        self.parameters = parameters
        self._numbers = count(1)
        self._template = "template_at_head"
        self._create(self._template, "template0")
        schema.upgrade(self._database(self._template))

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[Database]:
        """A database at head with nothing in it, or a copy of the one named."""
        name = f"benchmark_{next(self._numbers)}"
        self._create(name, template or self._template)
        try:
            yield self._database(name)
        finally:
            with self._admin() as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def settle(self) -> None:
        """Write out what earlier work left behind, so that nobody pays for another's pages."""
        with self._admin() as admin:
            admin.execute("CHECKPOINT")

    def _database(self, name: str) -> Database:
        return Database(self.parameters | {"dbname": name}, embedded=False)

    def _create(self, name: str, template: str) -> None:
        with self._admin() as admin:
            admin.execute(
                f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' STRATEGY file_copy"
            )

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self.parameters | {"dbname": "postgres"}, autocommit=True)  # type: ignore[arg-type]


@contextmanager
def fresh_server() -> Iterator[Server]:
    """A new embedded server with the product's own settings; gone with the block."""
    folder = "/var/lib" if os.name == "posix" and os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="identity-benchmark-", dir=folder))
    home.chmod(0o711 if folder else 0o700)  # the server runs as a user of its own
    try:
        with EmbeddedServer(home) as server:
            yield Server(home, server.connection_parameters())
    finally:
        shutil.rmtree(home)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for inputs and scripts."""
    with tempfile.TemporaryDirectory(prefix="identity-benchmark-") as folder:
        yield Path(folder)


def service(database: Database) -> IdentityService:
    """A service that commits as the import does."""
    connection = database.connect(session=IMPORT)
    connection.execute("SET synchronous_commit = off")
    return IdentityService(connection)


def reconcile_all(target: IdentityService, requests: Iterable[Request]) -> int:
    """The requests through the service's batches; how many."""
    done = target.reconcile_stream(ContactRequest(*request) for request in requests)
    return sum(1 for _ in done)


def import_files(database: Database, *paths: Path, jobs: int | None = 1) -> Imported:
    """The command in a process of its own, from its start to its end."""
    return _run("import", database, *([] if jobs is None else ["--jobs", jobs]), *paths)


def backfill_files(database: Database, *paths: Path, memory: str) -> Imported:
    """The same of a backfill."""
    return _run("backfill", database, "--memory", memory, *paths)


def compute_files(work: Path, *paths: Path, memory: str) -> Imported:
    """The computation of a backfill of an empty database, in a work directory."""
    return _run("backfill", None, "compute", "--work", work, "--memory", memory, *paths)


def verify_graph(database: Database) -> Imported:
    """`identity verify` set-wise, as after a backfill."""
    return _run("verify", database, "--engine", "duckdb", "--progress", "none", quiet=())


def _run(
    name: str, database: Database | None, *arguments: object, quiet: tuple[str, ...] = ("-q",)
) -> Imported:
    command = [sys.executable, "-m", "identity_cli", name]
    start = time.perf_counter()
    with (
        subprocess.Popen(
            [*command, *map(str, arguments), "--json", *quiet],
            stdout=subprocess.PIPE,
            env=environment(database),
        ) as process,
        ThreadPoolExecutor(1) as other_thread,
    ):
        assert process.stdout is not None
        watched = other_thread.submit(_watch_memory, process.pid)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise RuntimeError(f"the {name} ended with code {process.returncode}")
    kibibytes = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return Imported(json.loads(output), seconds, max(kibibytes * 1024, watched.result()))


def _watch_memory(pid: int) -> int:
    """The most memory that a process and its children have had together, until it ended.

    0 where there is no /proc.
    """
    peak = 0
    while memory := _memory(pid):
        peak = max(peak, memory)
        time.sleep(0.05)
    return peak


def _memory(pid: int) -> int:
    folder = Path("/proc", str(pid))
    try:
        pages = int((folder / "statm").read_text().split()[1])
        tasks = list((folder / "task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return 0
    own = pages * os.sysconf("SC_PAGE_SIZE")
    return own + sum(_memory(int(child)) for child in children) if own else 0


def environment(database: Database | None) -> dict[str, str]:
    """What a command sees; nothing of the caller's that would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name != "DATABASE_URL"
    }
    return kept if database is None else kept | {"DATABASE_URL": database.url}


def pgbench(
    database: Database, scripts: Sequence[Path], *, mode: str = "extended"
) -> tuple[float, str]:
    """Run every script once, each over a connection of its own; (seconds, output).

    The seconds are pgbench's: without its start, its parsing of the scripts and the connecting.
    """
    merged = scripts[0]
    if len(scripts) > 1:
        # pgbench draws a script for each transaction; a condition gives each client its own.
        merged = scripts[0].with_name(f"{len(scripts)}_clients.sql")
        with open(merged, "w", encoding="utf-8") as file:
            for number, script in enumerate(scripts):
                file.write(f"\\if :client_id = {number}\n{script.read_text()}\\endif\n")
    return _pgbench(database, merged, len(scripts), 1, mode)


def pgbench_prepared(database: Database, script: Path, clients: int, times: int) -> float:
    """Run a script so many times over each connection, its statements prepared; the seconds."""
    seconds, _ = _pgbench(database, script, clients, times, "prepared")
    return seconds


def _pgbench(
    database: Database, script: Path, clients: int, times: int, mode: str
) -> tuple[float, str]:
    output = subprocess.run(
        [
            *(binaries() / "pgbench", "-n", "-M", mode, "-f", script, "-t", str(times)),
            *("-c", str(clients), "-j", str(clients), "-D", "i=0", database.url),
        ],
        env=environment(database) | {"PGOPTIONS": SESSION_OPTIONS},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    failed = re.search(r"number of failed transactions: (\d+)", output)
    found = re.search(r"tps = ([\d.]+)", output)
    if found is None or failed is None or failed[1] != "0":
        raise RuntimeError(f"pgbench did not finish:\n{output}")
    return clients * times / float(found[1]), output


def psql(database: Database, *arguments: str) -> list[str]:
    return [str(binaries() / "psql"), "-X", "-q", *arguments, database.url]


def write_script(path: Path, statements: Iterable[str]) -> Path:
    """The statements for pgbench, pipelined, each a transaction of its own by the sync after it."""
    with open(path, "w", encoding="utf-8") as file:
        open_in_pipeline = 0
        for statement in statements:
            if open_in_pipeline == 0:
                file.write("\\startpipeline\n")
            file.write(f"{statement};\n\\syncpipeline\n")
            open_in_pipeline += 1
            if open_in_pipeline == _PIPELINE:
                file.write("\\endpipeline\n")
                open_in_pipeline = 0
        if open_in_pipeline:
            file.write("\\endpipeline\n")
    return path


def literal(value: object) -> str:
    """A value in a script; only what the benchmarks make up themselves gets here."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"'{value}'"
