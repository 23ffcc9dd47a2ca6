"""`identity serve` under test: started as a process, reached over a real socket."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    StartIdentity = Callable[..., subprocess.Popen[str]]


class Served:
    """A running service: `url`, its `process`, and what it has written to standard error."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = self._wait_for_url()

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines so far; every one has to be JSON."""
        lines = [json.loads(line) for line in list(self.lines)]
        return [line for line in lines if event in {None, line["event"]}]

    def identify(
        self, email: object = None, phone: object = None, **options: Any
    ) -> httpx.Response:
        body = {"email": email, "phoneNumber": phone}
        return httpx.post(f"{self.url}/identify", json=body, timeout=30, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=30, **options)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log("listening"):
                url: str = line["url"]
                httpx.get(f"{url}/health/live", timeout=60)  # waits until the workers accept
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
