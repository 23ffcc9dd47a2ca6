"""POST /identify against pgbench of the same function and a bare FastAPI endpoint with SELECT 1.

Everything runs on this machine: one server process, PostgreSQL, and one client process that keeps
as many connections busy as there are clients. A round is repeated, the middle one counts; the ratio
is that of the two endpoints in one round. The service writes its log, a line for each request; the
bare endpoint writes none.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from urllib.request import urlopen

import psycopg
import uvloop
from fastapi import FastAPI, Request
from psycopg_pool import AsyncConnectionPool

from identity_cli.postgres import schema
from identity_cli.postgres.binaries import binaries
from identity_cli.postgres.database import Database
from identity_cli.settings import open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

_content_length = re.compile(rb"content-length: (\d+)").search

CLIENTS = (1, 16, 64)
SECONDS = 3.0
ROUNDS = 5
PEOPLE = 20_000
BODIES = 40_000
POOL = 16

# Requests a second, and the median and the 99th percentile in milliseconds.
Figures = tuple[float, float, float]

# The same mixture for both: half the requests of a person name email and phone, a quarter the
# email alone, a quarter another email with the phone.
PGBENCH = f"""
\\set person random(1, {PEOPLE})
\\set kind random(0, 3)
SELECT outcome FROM reconcile(
    CASE WHEN :kind = 3 THEN 'other' ELSE 'person' END || :person || '@example.com',
    CASE WHEN :kind <> 2 THEN (5550000 + :person)::text END);
"""


def identify_body() -> bytes:
    person, kind = random.randint(1, PEOPLE), random.randint(0, 3)
    return json.dumps(
        {
            "email": f"{'other' if kind == 3 else 'person'}{person}@example.com",
            "phoneNumber": str(5550000 + person) if kind != 2 else None,
        }
    ).encode()


def run() -> None:
    """Print the table of the README."""
    # Made before anything is measured: both endpoints are sent the same, at the same cost.
    bodies = [identify_body() for _ in range(BODIES)]
    print(f"{'':28}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    with _scratch_database() as url, _service(url) as service, _bare(url) as bare_port:
        for clients in CLIENTS:
            ways: dict[str, Callable[[], Figures]] = {
                "POST /identify": partial(_http, service, "/identify", bodies, clients),
                "bare FastAPI, SELECT 1": partial(_http, bare_port, "/", bodies, clients),
                "pgbench, reconcile()": partial(_pgbench, url, clients),
            }
            rounds: dict[str, list[Figures]] = {name: [] for name in ways}
            for _ in range(ROUNDS):  # in turn, so that a busy moment of the machine meets all
                for name, way in ways.items():
                    _empty(url)
                    rounds[name].append(way())
            middle = {name: sorted(found)[ROUNDS // 2] for name, found in rounds.items()}
            for name, (rate, p50, p99) in middle.items():
                print(f"{name:28}{clients:>8}{rate:>12,.0f}{p50:>9.2f}{p99:>9.2f}", flush=True)
            services, bares = list(rounds.values())[:2]
            ratios = [ours[0] / bare[0] for ours, bare in zip(services, bares, strict=True)]
            print(
                f"{'ratio of the first two':28}{clients:>8}{statistics.median(ratios):>12.2f}"
                f"  ({min(ratios):.2f} to {max(ratios):.2f})"
            )


def _http(port: int, path: str, bodies: Sequence[bytes], clients: int) -> Figures:
    return uvloop.run(_load(port, path, bodies, clients))


async def _load(port: int, path: str, bodies: Sequence[bytes], clients: int) -> Figures:
    times: list[float] = []
    next_body = cycle(bodies).__next__
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    connections = [
        await loop.create_connection(lambda: _Client(path, next_body, times), "127.0.0.1", port)
        for _ in range(clients)
    ]
    for _, client in connections:
        await client.done
    rate = len(times) / (time.perf_counter() - start)
    percentiles = statistics.quantiles(times, n=100)
    return rate, percentiles[49] * 1000, percentiles[98] * 1000


class _Client(asyncio.Protocol):
    """One connection that always has one request under way. As thin as can be: it runs on the same
    cores as what it measures."""

    def __init__(self, path: str, next_body: Callable[[], bytes], times: list[float]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._path = path
        self._next_body = next_body
        self._times = times
        self._until = time.perf_counter() + SECONDS
        self._answer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._send()

    def _send(self) -> None:
        body = self._next_body()
        self._start = time.perf_counter()
        self._transport.write(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (self._path.encode(), len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, content = self._answer.partition(b"\r\n\r\n")
        length = _content_length(head)
        if not found or length is None or len(content) < int(length[1]):
            return
        now = time.perf_counter()
        self._times.append(now - self._start)
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(head.decode()))
        self._answer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _pgbench(url: str, clients: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "reconcile.sql"
        script.write_text(PGBENCH)
        output = subprocess.run(
            [
                *(binaries() / "pgbench", "-n", "-M", "prepared", "-f", script),
                *("-c", str(clients), "-j", "2", "-T", str(int(SECONDS)), "-l"),
                *("--max-tries=100", url),
            ],
            cwd=folder,
            env={**os.environ, "PGOPTIONS": "-c enable_seqscan=off -c jit=off"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        # A line of the log: client, number, microseconds, …
        times = [
            int(line.split()[2]) / 1000
            for log in Path(folder).glob("pgbench_log.*")
            for line in log.read_text().splitlines()
        ]
    rate = re.search(r"tps = ([\d.]+)", output)
    assert rate is not None
    percentiles = statistics.quantiles(times, n=100)
    return float(rate[1]), percentiles[49], percentiles[98]


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE contact, link_evidence RESTART IDENTITY")
        connection.execute("CHECKPOINT")


@contextmanager
def _scratch_database() -> Iterator[str]:
    """A database at head on the server of DATABASE_URL, or on the embedded one."""
    name = f"identity_benchmark_{uuid.uuid4().hex[:8]}"
    with open_database() as database, database.connect() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        scratch = Database(database.parameters | {"dbname": name}, embedded=False)
        try:
            schema.upgrade(scratch)
            rest = urlencode(database.parameters | {"dbname": name}, quote_via=quote)
            yield f"postgresql:///?{rest}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _service(url: str) -> Iterator[int]:
    """The service as a user starts it, its log going nowhere; the port."""
    command = [sys.executable, "-m", "identity_cli", "serve", "--pool", str(POOL)]
    with _started([*command, "--port", str(port := _free_port())], url, port):
        yield port


@contextmanager
def _bare(url: str) -> Iterator[int]:
    """`bare` on the same ASGI server with the same settings; the port."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.http:bare", "--no-access-log"]
    with _started([*command, "--port", str(port := _free_port())], url, port):
        yield port


@contextmanager
def _started(command: list[str], url: str, port: int) -> Iterator[None]:
    process = subprocess.Popen(
        command, env={**os.environ, "DATABASE_URL": url}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start: {' '.join(command)}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
    async with AsyncConnectionPool(
        os.environ["DATABASE_URL"], kwargs={"autocommit": True}, min_size=POOL, open=False
    ) as pool:
        yield {"pool": pool}


bare = FastAPI(lifespan=_lifespan)


@bare.post("/")
async def select_1(request: Request) -> dict[str, int]:
    """What such an endpoint costs at least: FastAPI, the pool, one round trip."""
    async with request.state.pool.connection() as connection:
        row = await (await connection.execute("SELECT 1")).fetchone()
    return {"one": row[0]}
