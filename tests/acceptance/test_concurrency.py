"""Eight processes on the same people: the graph is right, and the one that a serial run makes."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from model import Model
from serving import Served

from identity_cli.graph.verify import verify

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

Pair = tuple[str, str]


def overlapping_requests(seed: int, count: int) -> list[Pair]:
    """New people, one hot phone number, rings that merge, and repeats of everything."""
    rnd = random.Random(seed)
    people = [(f"person{i}@example.com", f"555{i:04d}") for i in range(40)]
    requests: list[Pair] = []
    for i in range(count):
        kind = rnd.random()
        if kind < 0.4:
            requests.append(rnd.choice(people))
        elif kind < 0.6:  # a ring: each bridges two neighbours
            at = rnd.randrange(len(people))
            requests.append((people[at][0], people[(at + rnd.choice([1, -1])) % len(people)][1]))
        elif kind < 0.8:
            requests.append((f"caller{rnd.randrange(count)}@example.com", "5550000"))
        else:
            requests.append((f"new{seed}.{i}@example.com", f"777{seed}{i:04d}"))
    return requests


@pytest.mark.parametrize("seed", [1])
def test_eight_processes_on_the_same_people(
    seed: int,
    start_identity: Callable[..., subprocess.Popen[str]],
    database_url: str,
    tmp_path: Path,
) -> None:
    shares = [overlapping_requests(100 * seed + n, 150) for n in range(6)]
    served = Served(start_identity("serve", "--port", "0"))
    failures: list[str] = []

    def importing(number: int, *options: str) -> None:
        rows = "".join(f"{email},{phone}\n" for email, phone in shares[number])
        (tmp_path / f"{number}.csv").write_text(f"email,phone\n{rows}")
        process = start_identity(
            "import", f"{number}.csv", "--summary", f"{number}.json", "-q", *options
        )
        _, said = process.communicate(timeout=120)
        if process.returncode != 0:
            failures.append(said)

    def identifying(number: int) -> None:
        # One process a command, as cron and scripts do: a few of them are enough.
        for email, phone in shares[number][:4]:
            process = start_identity("identify", "--email", email, "--phone", phone, "--json")
            printed, said = process.communicate(timeout=120)
            if process.returncode != 0 or email not in json.loads(printed)["contact"]["emails"]:
                failures.append(said)

    def posting(number: int) -> None:
        for email, phone in shares[number]:
            answer = served.identify(email, phone)
            if answer.status_code != 200 or email not in answer.json()["contact"]["emails"]:
                failures.append(answer.text)

    try:
        works = [
            threading.Thread(target=importing, args=(0, "--jobs", "1")),
            threading.Thread(target=importing, args=(1, "--jobs", "4")),
            threading.Thread(target=importing, args=(2, "--jobs", "1")),
            threading.Thread(target=importing, args=(3, "--jobs", "4")),
            threading.Thread(target=identifying, args=(4,)),
            threading.Thread(target=identifying, args=(5,)),
            threading.Thread(target=posting, args=(4,)),
            threading.Thread(target=posting, args=(5,)),
        ]
        for work in works:
            work.start()
        for work in works:
            work.join()
    finally:
        served.end()

    assert failures == []
    with psycopg.connect(database_url) as connection:
        found = verify(connection)
    assert found.ok, found.violations
    assert found.digest == serial_digest(shares, tmp_path)
    for number in range(4):
        summary = json.loads((tmp_path / f"{number}.json").read_text())
        assert summary["rows"]["read"] == len(shares[number])
        assert summary["retries"] >= 0


def serial_digest(shares: list[list[Pair]], folder: Path) -> str:
    """The digest of the same requests through the model, one after the other."""
    model = Model()
    for share in shares:
        for email, phone in share:
            model.reconcile(email, phone)
    identities: dict[int, set[str]] = {}
    for row in model.rows():
        values = identities.setdefault(row.linked_id or row.id, set())
        values |= {f"email:{row.email}"} if row.email else set()
        values |= {f"phone:{row.phone}"} if row.phone else set()
    digests = sorted(
        hashlib.sha256("\n".join(sorted(values)).encode()).hexdigest()
        for values in identities.values()
    )
    return f"sha256:{hashlib.sha256(chr(10).join(digests).encode()).hexdigest()}"
