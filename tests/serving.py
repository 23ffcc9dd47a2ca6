"""`identity serve` under test: started as a process, reached over a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from contextlib import contextmanager
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    import psycopg

    StartIdentity = Callable[..., subprocess.Popen[str]]


Request = tuple[str, str | None]


class Served:
    """A running service: `url`, its `process`, and what it has written to standard error."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.client = httpx.Client(timeout=60)
        self.url = self._wait_for_url()

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines so far; from the service's first one on, every one has to be JSON."""
        own = dropwhile(lambda line: not line.startswith("{"), list(self.lines))
        lines = [json.loads(line) for line in own]
        return [line for line in lines if event in {None, line["event"]}]

    def identify(
        self, email: object = None, phone: object = None, **options: Any
    ) -> httpx.Response:
        body = {"email": email, "phoneNumber": phone}
        return self.post(json=body, **options)

    def post(self, **options: Any) -> httpx.Response:
        return self.client.post(f"{self.url}/identify", **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(f"{self.url}{path}", **options)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.client.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log("listening"):
                url: str = line["url"]
                self.client.get(f"{url}/health/live")  # waits until the workers accept
                return url
            time.sleep(0.02)
        self.end()
        raise AssertionError(f"identity serve did not start: {''.join(self.lines)}")


@contextmanager
def serving(start: StartIdentity, *options: object, **changes: Any) -> Iterator[Served]:
    """`identity serve` on a free port; killed at the end if it still runs."""
    served = Served(start("serve", "--port", "0", *options, **changes))
    try:
        yield served
    finally:
        served.end()


def metric(exposition: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    total = 0.0
    for line in exposition.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            total += float(found[2])
    return total


def load(
    served: Served, requests: list[Request], *, clients: int, tries: int = 1
) -> list[dict[str, Any] | None]:
    """The document that each request was answered with, None where no try had a 200."""
    answers: list[dict[str, Any] | None] = [None] * len(requests)

    async def answer_to(session: httpx.AsyncClient, request: Request) -> dict[str, Any] | None:
        body = {"email": request[0], "phoneNumber": request[1]}
        for _ in range(tries):
            try:
                answer = await session.post(f"{served.url}/identify", json=body)
            except httpx.TransportError:
                continue
            assert answer.status_code in {200, 503}, answer.text
            if answer.status_code == 200:
                contact: dict[str, Any] = answer.json()["contact"]
                return contact
            if tries > 1:
                await asyncio.sleep(float(answer.headers["Retry-After"]))
        return None

    async def client(first: int) -> None:
        # Without certificates, which take longer to load than the requests.
        async with httpx.AsyncClient(verify=False, timeout=60) as session:
            for number in range(first, len(requests), clients):
                answers[number] = await answer_to(session, requests[number])

    async def all_clients() -> None:
        await asyncio.gather(*map(client, range(clients)))

    asyncio.run(all_clients())
    return answers


def components(requests: list[Request]) -> set[frozenset[str]]:
    """Who is who by the requests alone."""
    of: dict[str, set[str]] = {}
    for request in requests:
        values = {value for value in request if value is not None}
        joined = values.union(*(of.get(value, set()) for value in values))
        of |= dict.fromkeys(joined, joined)
    return {frozenset(values) for values in of.values()}


def stored(connection: psycopg.Connection[Any]) -> set[frozenset[str]]:
    """Who is who in the database."""
    rows = connection.execute(
        "SELECT array_agg(email) || array_agg(phone_number) FROM contact"
        " GROUP BY coalesce(linked_id, id)"
    ).fetchall()
    return {frozenset(value for value in row[0] if value is not None) for row in rows}
