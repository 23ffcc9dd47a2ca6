"""Requests of three emails and three phone numbers against the same values as single requests.

The single requests are each email with each phone number, nine for one: that links the same values.
The others are fifteen pairs each, because every two emails and every two phone numbers are a pair
too; the goal is that a pair costs no more than a request. Both go through the service's batches.
"""

from __future__ import annotations

import time
from itertools import product
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, show
from benchmarks.server import fresh_server, service
from identity_cli.graph.normalize import ContactRequest

if TYPE_CHECKING:
    from benchmarks.server import Server


def run(quick: bool = False) -> None:
    count = 2_000 if quick else 100_000
    rounds = 2 if quick else 1
    several = [
        ContactRequest(emails=emails, phones=phones)
        for emails, phones in requests.three_of_each(count)
    ]
    single = [
        ContactRequest(email, phone)
        for one in several
        for email, phone in product(one.emails, one.phones)
    ]
    with fresh_server() as server:
        pairs = [
            (count / _seconds(server, several), count / _seconds(server, single))
            for _ in range(rounds)
        ]
    show(Figure("requests of three and three", pairs, 9 / 15, "requests/s"))


def _seconds(server: Server, sent: list[ContactRequest]) -> float:
    with server.database() as database:
        server.settle()
        target = service(database)
        with target.connection:
            start = time.perf_counter()
            for _ in target.reconcile_stream(sent):
                pass
            return time.perf_counter() - start
