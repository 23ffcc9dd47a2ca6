"""Imports, HTTP clients and commands side by side: the graph is that computed from scratch."""

from __future__ import annotations

import csv
import json
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from serving import Served
from steered import Everything, Request, ordered

from identity_cli.errors import RuleNotFoundError
from identity_cli.graph.forgetting import Forget
from identity_cli.graph.rules import Block, Exempt, Relink, SetHubLimits, Unblock, Unlink
from identity_cli.graph.steering import Steering
from identity_cli.graph.undo import Undo
from identity_cli.graph.values import NamedValue
from identity_cli.graph.verify import verify

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import psycopg

    from identity_cli.graph.steering import Command

SEED = 1
IMPORTERS = 6
ROWS = 3_000
COMMANDS = 200
PEOPLE = 300
HOT_PHONES = tuple(f"800000{n}" for n in range(4))
PATTERNS = (r"p1\d@x\.org", r"555020\d", r"caller.*7@x\.org")


def email(person: int) -> str:
    return f"p{person}@x.org"


def phone(person: int) -> str:
    return str(5_550_000 + person)


class Sender(NamedTuple):
    """A source of requests about the same people, and about strangers of its own."""

    name: str
    draw: random.Random

    def request(self) -> Request:
        """Return a request of an email, a phone number, both, or two emails and a phone number."""
        draw = self.draw
        person = draw.randrange(PEOPLE)
        chance = draw.random()
        if chance < 0.35:
            return Request((email(person),), (phone(person),))
        if chance < 0.5:
            return Request((email(person),), (phone((person + 1) % PEOPLE),))
        if chance < 0.6:
            return Request((email(person), f"work{person}@x.org"), (phone(person),))
        if chance < 0.7:
            return Request((email(person),), ()) if chance < 0.65 else Request((), (phone(person),))
        if chance < 0.8:
            return Request((f"caller{draw.randrange(10**6)}@x.org",), (draw.choice(HOT_PHONES),))
        stranger = f"{self.name}{draw.randrange(10**6)}@x.org"
        return Request((stranger,), (phone(person),) if chance < 0.85 else ())


def write_file(path: Path, requests: list[Request]) -> Path:
    rows = (",".join((*(*r.emails, "", "")[:2], *(*r.phones, "")[:1])) for r in requests)
    path.write_text("\n".join(("email,work email,phone", *rows)) + "\n")
    return path


class Commander:
    """Runs random commands, and remembers what they mean."""

    def __init__(self, steering: Steering, truth: Everything, draw: random.Random) -> None:
        self.steering = steering
        self.truth = truth
        self.draw = draw

    def run_one(self) -> None:
        truth, draw = self.truth, self.draw
        of_people = [name(n) for n in range(PEOPLE) for name in (email, phone)]
        known = [one for one in (*of_people, *HOT_PHONES * 20) if one not in truth.forgotten]
        blocked = draw.choice(sorted(truth.blocked)) if truth.blocked else draw.choice(known)
        choices: list[tuple[int, Callable[[], None]]] = [
            (5, lambda: self._block(draw.sample(known, draw.choice([1, 1, 5])))),
            (4, lambda: self._unblock([blocked])),
            (4, self._unlink),
            (2, self._relink),
            (2, self._limit),
            (1, lambda: self._block_pattern(draw.choice(PATTERNS))),
            (1, lambda: self._unblock_pattern(draw.choice(PATTERNS))),
            (1, lambda: self._exempt(draw.choice(HOT_PHONES), is_exempt=draw.random() < 0.5)),
            (1, lambda: self._forget(draw.choice(of_people))),
        ]
        weights, steps = zip(*choices, strict=True)
        draw.choices(steps, weights)[0]()

    def _apply(self, command: Command) -> None:
        # A rule that is not there need not be taken back.
        with suppress(RuleNotFoundError):
            self.steering.apply(command)

    def _block(self, values: list[str]) -> None:
        self._apply(Block(tuple(map(NamedValue, values))))
        self.truth.blocked.update(values)

    def _unblock(self, values: list[str]) -> None:
        self._apply(Unblock(tuple(map(NamedValue, values))))
        self.truth.blocked.difference_update(values)

    def _block_pattern(self, pattern: str) -> None:
        self._apply(Block(patterns=(pattern,)))
        self.truth.patterns.add(pattern)

    def _unblock_pattern(self, pattern: str) -> None:
        self._apply(Unblock(patterns=(pattern,)))
        self.truth.patterns.discard(pattern)

    def _unlink(self) -> None:
        person = self.draw.randrange(PEOPLE)
        pair = email(person), phone((person + self.draw.choice([0, 1])) % PEOPLE)
        if not {*pair} & self.truth.forgotten:
            self._apply(Unlink(NamedValue(pair[0]), NamedValue(pair[1])))
            self.truth.unlinked.add(ordered(*pair))

    def _relink(self) -> None:
        if self.truth.unlinked:
            pair = self.draw.choice(sorted(self.truth.unlinked))
            self._apply(Relink(NamedValue(pair[0]), NamedValue(pair[1])))
            self.truth.unlinked.discard(pair)

    def _limit(self) -> None:
        emails, phones = self.draw.choice([None, 3, 6]), self.draw.choice([None, 8, 30])
        self._apply(SetHubLimits((("hub-limit-email", emails), ("hub-limit-phone", phones))))
        self.truth.email_limit, self.truth.phone_limit = emails, phones

    def _exempt(self, value: str, *, is_exempt: bool) -> None:
        self._apply(Exempt((NamedValue(value),), is_exempt))
        (self.truth.exempt.add if is_exempt else self.truth.exempt.discard)(value)

    def _forget(self, value: str) -> None:
        self._apply(Forget((NamedValue(value),)))
        self.truth.forgotten.add(value)
        self.truth.blocked.discard(value)
        self.truth.unlinked = {pair for pair in self.truth.unlinked if value not in pair}


def post_until(stop: threading.Event, served: Served, sender: Sender) -> list[Request]:
    """Post requests until the event; return them."""
    sent = []
    while not stop.is_set():
        request = sender.request()
        body = {"emails": request.emails, "phoneNumbers": request.phones}
        answer = served.post(json=body)
        while answer.status_code == 503:  # other sessions were in its way; nothing was stored
            time.sleep(0.1)
            answer = served.post(json=body)
        assert answer.status_code in {200, 422}, answer.text
        if answer.status_code == 422:
            assert answer.json()["detail"][0]["type"] in {"blocked", "forgotten"}, answer.text
        sent.append(request)
    return sent


def wait_for_runs(connection: psycopg.Connection[Any]) -> None:
    """Wait until every importer has begun."""
    deadline = time.monotonic() + 60
    while connection.execute("SELECT count(*) FROM import_run").fetchone() != (IMPORTERS,):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rejected_by(paths: Iterable[Path]) -> set[str]:
    """Return the codes in some rejects files."""
    codes = set()
    for path in paths:
        with path.open(newline="") as file:
            codes |= {row["_code"] for row in csv.DictReader(file)}
    return codes


def commands_beside_imports(connection: psycopg.Connection[Any]) -> int:
    """Return the number of commands that were run while an importer was at work."""
    row = connection.execute(
        "SELECT count(*) FROM steering_command WHERE EXISTS ("
        " SELECT FROM import_run WHERE ran_at BETWEEN started_at AND finished_at)"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.slow
def test_six_importers_two_http_clients_and_200_commands_side_by_side(
    start_identity: Callable[..., subprocess.Popen[str]],
    database_url: str,
    connection: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    truth = Everything()
    shares: list[list[Request]] = []
    for number in range(IMPORTERS):
        sender = Sender(f"file{number}.", random.Random(f"{SEED} {number}"))
        shares.append([sender.request() for _ in range(ROWS)])
        write_file(tmp_path / f"{number}.csv", shares[-1])
    stop = threading.Event()
    served = Served(start_identity("serve", "--port", "0"))
    try:
        with Steering.open(database_url) as steering, ThreadPoolExecutor(2) as pool:
            clients = [
                pool.submit(
                    post_until, stop, served, Sender(f"http{n}.", random.Random(f"{SEED} http {n}"))
                )
                for n in range(2)
            ]
            try:
                importers = [
                    start_identity(
                        *("import", f"{number}.csv", "-q", "--max-rejects", "100%"),
                        *("--summary", f"{number}.json", "--jobs", 1 + number % 2),
                    )
                    for number in range(IMPORTERS)
                ]
                wait_for_runs(connection)
                # However fast this machine is, some commands meet files that are half imported.
                for importer in importers[IMPORTERS // 2 :]:
                    importer.send_signal(signal.SIGSTOP)
                commander = Commander(steering, truth, random.Random(SEED))
                ran = 0
                while ran < COMMANDS or any(one.poll() is None for one in importers):
                    commander.run_one()
                    ran += 1
                    if ran == COMMANDS // 4:
                        for importer in importers:
                            importer.send_signal(signal.SIGCONT)
                for importer in importers:
                    _, said = importer.communicate(timeout=300)
                    assert importer.returncode == 0, said
            finally:
                stop.set()
            for client in clients:
                truth.requests += client.result(timeout=60)
    finally:
        served.end()

    summaries = [json.loads((tmp_path / f"{n}.json").read_text()) for n in range(IMPORTERS)]
    assert [one["rows"]["read"] for one in summaries] == [ROWS] * IMPORTERS
    for summary, share in zip(summaries, shares, strict=True):
        truth.requests += [request._replace(run=summary["run_id"]) for request in share]
    assert rejected_by(tmp_path.glob("*.rejects")) <= {"forgotten"}
    assert commands_beside_imports(connection) >= COMMANDS // 4
    found = verify(connection)
    assert found.violations == ()
    assert found.digest == truth.digest()
    assert found.identities == len(truth.identities())

    # The newest run is taken back: what the others have stated too is kept.
    newest = max(summary["run_id"] for summary in summaries)
    with Steering.open(database_url) as steering:
        steering.apply(Undo(newest))
    truth.requests = [request for request in truth.requests if request.run != newest]
    found = verify(connection)
    assert found.violations == ()
    assert found.digest == truth.digest()
