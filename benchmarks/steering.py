"""What rules cost: requests beside 1,000 blocked values or hub limits, and a block of a hub.

The same requests go to a database without rules and to one with each kind of rule, side by side:
each takes a slice of them in turn, so that what slows the machine down slows all of them. The CPU
time is that of each one's server process. Imports of the same file, with both kinds of rules and
without any, take turns. A hub is blocked and unblocked once, and held against its own import.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import (
    CPU_NANOSECONDS,
    fresh_server,
    import_files,
    reconcile_all,
    scratch,
    service,
)
from identity_cli.graph.rules import Block, SetHubLimits, Unblock
from identity_cli.graph.steering import Steering
from identity_cli.graph.values import NamedValue
from identity_cli.postgres.session import STEER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.requests import Request
    from benchmarks.server import Server
    from identity_cli.graph.service import IdentityService
    from identity_cli.graph.steering import Command
    from identity_cli.postgres.database import Database

_BLOCKED = 1_000
_SHARE = 0.06
_SLICE = 500
_JOBS = 2
_HUB = "+12025550100"
_LIMITS = SetHubLimits((("hub-limit-email", 20), ("hub-limit-phone", 20)))
# Ten seconds where the import takes eight.
_BLOCK_GOAL = 1.25


def run(quick: bool = False) -> None:
    count = 15_000 if quick else 30_000
    rounds = 2 if quick else 5
    shared = 10_000 if quick else 100_000
    imported = 20_000 if quick else 200_000
    mixed = list(requests.mixed(count))
    blocked, share = _values_to_block(mixed)
    rules: dict[str, tuple[Command, float]] = {
        f"request, {_BLOCKED:,} blocked values": (_block(blocked), 1.10),
        "request, hub limits of 20": (_LIMITS, 1.15),
    }
    with fresh_server() as server:
        commands: list[Command | None] = [None, *(command for command, _ in rules.values())]
        taken = []
        for number in range(rounds):
            taken.append(_round(server, mixed, commands, first=number % len(commands)))
            note(" ".join(f"{microseconds:.1f}" for microseconds in taken[-1]) + " µs a request")
        rates = _rates_of_imports(server, imported, rounds)
        importing, blocking, unblocking = _seconds_of_hub(server, shared)
    note(f"{share:.1%} of the requests meet a blocked value")
    figures = [
        Figure(name, [(round_[i], round_[0]) for round_ in taken], goal, "µs", at_most=True)
        for i, (name, (_, goal)) in enumerate(rules.items(), 1)
    ]
    for figure in figures:
        ratios = sorted(measured / reference for measured, reference in figure.pairs)
        note(f"{figure.name}: ratios from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    show(
        *figures,
        Figure(f"import --jobs {_JOBS}, both kinds of rules", rates, 0.9, "requests/s"),
        Figure(f"block of {shared:,}", [(blocking, importing)], _BLOCK_GOAL, "s", at_most=True),
        Figure(f"unblock of {shared:,}", [(unblocking, importing)], _BLOCK_GOAL, "s", at_most=True),
    )


def _block(values: Sequence[str]) -> Block:
    return Block(tuple(map(NamedValue, values)))


def _values_to_block(mixed: Sequence[Request]) -> tuple[list[str], float]:
    """Return as many values, and the share of the requests that meet one of them.

    A value of a request drawn at random is more often one that comes again. When enough requests
    meet one, the other values are such that never come.
    """
    places: dict[str, list[int]] = {}
    for place, request in enumerate(mixed):
        for value in request:
            if value is not None:
                places.setdefault(value, []).append(place)
    draw = random.Random(1)
    chosen: dict[str, None] = {}
    meeting: set[int] = set()
    while len(chosen) < _BLOCKED and len(meeting) < _SHARE * len(mixed):
        value = draw.choice([value for value in draw.choice(mixed) if value is not None])
        chosen[value] = None
        meeting.update(places[value])
    absent = (f"nobody.{n}@example.com" for n in range(_BLOCKED - len(chosen)))
    return [*chosen, *absent], len(meeting) / len(mixed)


def _round(
    server: Server, mixed: Sequence[Request], commands: Sequence[Command | None], *, first: int
) -> list[float]:
    """Return the microseconds of a request beside the rules of each command."""
    with ExitStack() as stack:
        targets = []
        for command in commands:
            database = stack.enter_context(server.database())
            if command is not None:
                _steer(database, command)
            target = service(database)
            stack.enter_context(target.connection)
            targets.append(target)
        # The statements are planned before anything is measured.
        for target in targets:
            reconcile_all(target, mixed[:_SLICE])
        server.settle()
        before = [_nanoseconds(target) for target in targets]
        order = [*range(first, len(targets)), *range(first)]
        for start in range(_SLICE, len(mixed), _SLICE):
            for index in order:
                reconcile_all(targets[index], mixed[start : start + _SLICE])
            order.append(order.pop(0))
        after = [_nanoseconds(target) for target in targets]
    measured = len(mixed) - _SLICE
    return [(b - a) / 1e3 / measured for a, b in zip(before, after, strict=True)]


def _rates_of_imports(server: Server, count: int, rounds: int) -> list[tuple[float, float]]:
    """Return the requests per second of an import beside both kinds of rules, and of one without.

    A pair for each round.
    """
    mixed = list(requests.mixed(count))
    blocked, share = _values_to_block(mixed)
    note(f"{share:.1%} of the imported requests meet a blocked value")
    pairs = []
    with scratch() as folder:
        path = requests.write_csv(folder / "requests.csv", mixed)
        for number in range(rounds):
            rates = {}
            for is_ruled in (number % 2 == 0, number % 2 == 1):
                with server.database() as database:
                    if is_ruled:
                        _steer(database, _block(blocked))
                        _steer(database, _LIMITS)
                    server.settle()
                    rates[is_ruled] = count / import_files(database, path, jobs=_JOBS).seconds
            pairs.append((rates[True], rates[False]))
    return pairs


def _seconds_of_hub(server: Server, count: int) -> tuple[float, float, float]:
    """Return the seconds of importing contacts on one phone number, of its block and unblock."""
    hub = (NamedValue(_HUB),)
    with server.database() as database, scratch() as folder:
        path = requests.write_csv(folder / "hub.csv", requests.on_one_phone(count, _HUB))
        server.settle()
        importing = import_files(database, path).seconds
        server.settle()
        blocking = _steer(database, Block(hub))
        server.settle()
        unblocking = _steer(database, Unblock(hub))
        with database.connect() as connection:
            row = connection.execute(
                "SELECT count(*), count(linked_id) FROM contact WHERE id > 0"
            ).fetchone()
    assert row == (count, count - 1), row
    return importing, blocking, unblocking


def _steer(database: Database, command: Command) -> float:
    with database.connect(session=STEER) as connection:
        start = time.perf_counter()
        Steering(connection).apply(command)
        return time.perf_counter() - start


def _nanoseconds(target: IdentityService) -> int:
    row = target.connection.execute(CPU_NANOSECONDS).fetchone()
    assert row is not None
    return int(row[0])
