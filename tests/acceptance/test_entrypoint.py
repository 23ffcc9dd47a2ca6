"""The container's entry point, without a container: the script itself, on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from serving import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENTRYPOINT = Path(__file__).parents[2] / "docker" / "entrypoint.sh"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start(*options: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [ENTRYPOINT, *options],
            env={
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(tmp_path),
                **environment,
            },
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_it_migrates_and_serves(
    start: Callable[..., subprocess.Popen[str]], empty_database_url: str, scheme: str
) -> None:
    url = empty_database_url.replace("postgresql", scheme, 1)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        # Not empty: only `identity db upgrade` may touch it.
        connection.execute("CREATE TABLE other_app (id int)")
    served = Served(start(DATABASE_URL=url, PORT="0"))

    assert served.identify("lorraine@hillvalley.edu", "123456").status_code == 200
    assert urlsplit(served.log("listening")[0]["url"]).hostname == "0.0.0.0"
    # It is `identity serve` itself that gets the signals.
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    served.end()


def test_the_port_is_that_of_the_environment(
    start: Callable[..., subprocess.Popen[str]], database_url: str, unused_port: int
) -> None:
    served = Served(
        start("--pool", "2", DATABASE_URL=database_url, PORT=str(unused_port), WEB_CONCURRENCY="2")
    )
    ready = httpx.get(f"http://127.0.0.1:{unused_port}/health/ready", timeout=30)
    assert ready.status_code == 200
    assert served.log("listening")[0]["workers"] == 2
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    served.end()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_it_does_not_serve_what_it_cannot_migrate(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    without = start()
    assert without.wait(30) != 0
    assert without.stderr is not None
    assert "set DATABASE_URL" in without.stderr.read()
    away = start(DATABASE_URL="postgres://u:secret@127.0.0.1:1/x")
    assert away.wait(60) == 5
    assert away.stderr is not None
    said = away.stderr.read()
    assert "unreachable" in said
    assert "secret" not in said
