"""Requests into an identity of 100,000 contacts against requests of strangers."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, show
from benchmarks.server import fresh_server, reconcile_all, service

if TYPE_CHECKING:
    from benchmarks.requests import Request
    from identity_cli.graph.service import IdentityService

_PHONE = "5550100"


def run(quick: bool = False) -> None:
    size = 20_000 if quick else 100_000
    some = 5_000 if quick else 20_000
    rounds = 2 if quick else 9
    pairs = []
    with fresh_server() as server, server.database() as database:
        target = service(database)
        with target.connection:
            reconcile_all(target, requests.on_one_phone(size, _PHONE))
            server.settle()
            numbers = count(size, some)
            for _ in range(rounds):
                hot = list(requests.on_one_phone(some, _PHONE, first=next(numbers)))
                strange = list(requests.strangers(some, first=next(numbers)))
                pairs.append((_rate(target, hot), _rate(target, strange)))
    show(Figure(f"into an identity of {size:,}", pairs, 0.8, "requests/s"))


def _rate(target: IdentityService, incoming: list[Request]) -> float:
    start = time.perf_counter()
    return reconcile_all(target, incoming) / (time.perf_counter() - start)
