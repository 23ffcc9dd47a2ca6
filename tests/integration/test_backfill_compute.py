"""What a backfill computes is what the service stores of the same requests, row for row."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from backfilled import computed, counts, run_compute, write_held, write_part
from graph import in_batches

from identity_cli import ContactRequest
from identity_cli.graph.batches import RunRequest
from identity_cli.graph.core import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import psycopg

    from identity_cli import IdentityService

    Connection = psycopg.Connection[Any]

# The requests of a backfill are younger than all that the target holds.
START = datetime(2024, 1, 1, tzinfo=UTC)
HELD_SECONDS = 1000
SCRIPTS_TOGETHER = 25

_CONTACTS = """
    SELECT id, email, phone_number, linked_id, initial_linked_id, anchors_email, anchors_phone,
           line, created_at, updated_at, link_precedence::text
    FROM contact ORDER BY id
"""
_EVIDENCE = """
    SELECT id, value, other_value, primary_id, merged_id, line, is_held
    FROM link_evidence ORDER BY id
"""
Request = tuple[list[str], list[str]]


def some_requests(draw: random.Random, script: int, count: int) -> list[Request]:
    """Return requests of one to five values, of so few people that they keep meeting."""
    emails = [f"{name}{script}@x.org" for name in "abcdefgh"[: draw.choice((3, 5, 8))]]
    phones = [f"{script:04}{number}" for number in range(draw.choice((3, 5, 8)))]
    most = draw.choice((1, 2, 3, 5))
    requests: list[Request] = []
    for _ in range(count):
        if requests and draw.random() < 0.1:
            again = draw.choice(requests)
            requests.append(tuple(draw.sample(values, len(values)) for values in again))  # type: ignore[arg-type]
            continue
        size = draw.randint(1, most)
        kind = draw.choice(("emails", "phones", "both", "both"))
        chosen = [
            value
            for value in draw.sample([*emails, *phones], len(emails) + len(phones))
            if kind == "both" or ("@" in value) == (kind == "emails")
        ][:size]
        requests.append(([v for v in chosen if "@" in v], [v for v in chosen if "@" not in v]))
    return requests


def a_chain(draw: random.Random, script: int, count: int) -> list[Request]:
    """Return requests that link each value to the next, in an order of their own."""
    names = [f"{script:04}{i}" if i % 2 else f"c{i}.{script}@x.org" for i in range(count + 1)]
    requests = [
        ([v for v in two if "@" in v], [v for v in two if "@" not in v]) for two in pairwise(names)
    ]
    return draw.sample(requests, count)


def interleaved(draw: random.Random, scripts: Sequence[list[Request]]) -> list[Request]:
    """Return the requests of all scripts, each script in its order."""
    turns = [index for index, script in enumerate(scripts) for _ in script]
    draw.shuffle(turns)
    remaining = [iter(script) for script in scripts]
    return [next(remaining[index]) for index in turns]


def draw_scripts(seed: int) -> tuple[random.Random, list[Request]]:
    draw = random.Random(seed)
    scripts = [
        a_chain(draw, script, 12)
        if draw.random() < 0.1
        else some_requests(draw, script, draw.randint(1, 25))
        for script in range(SCRIPTS_TOGETHER)
    ]
    return draw, interleaved(draw, scripts)


def request_of(request: Request) -> ContactRequest:
    made = ContactRequest(emails=request[0], phones=request[1])
    assert (list(made.emails), list(made.phones)) == request
    return made


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def hold(
    service: IdentityService, connection: Connection, draw: random.Random, requests: list[Request]
) -> None:
    """Store requests in the target: ids with gaps, and ages in another order than the ids."""
    for request in requests:
        if draw.random() < 0.2:
            for sequence in ("contact_id_seq", "link_evidence_id_seq"):
                connection.execute("SELECT nextval(%s::regclass)", [sequence])
        at = START - timedelta(seconds=draw.randrange(1, HELD_SECONDS))
        service.reconcile_batch([RunRequest(request_of(request), None, microseconds(at))], None)


def next_id(connection: Connection, sequence: str) -> int:
    row = connection.execute(f"SELECT last_value + is_called::integer FROM {sequence}").fetchone()
    assert row is not None
    return int(row[0])


def moment(line: int) -> datetime:
    return START + timedelta(microseconds=line)


def expected_rows(held: dict[int, tuple[Any, ...]], work: Path) -> list[tuple[Any, ...]]:
    """Return what the target would hold after the load of what was computed."""
    moved = {row["id"]: row for row in computed(work, "moved")}
    rows = []
    for id_, row in held.items():
        changed = list(row)
        if id_ in moved:
            changed[3] = moved[id_]["linked_id"]
            changed[9] = moment(moved[id_]["updated_line"])
            changed[10] = "secondary"
        rows.append(tuple(changed))
    rows += [
        (
            *tuple(new.values())[:8],
            moment(new["created_line"]),
            moment(new["updated_line"]),
            "primary" if new["linked_id"] is None else "secondary",
        )
        for new in computed(work, "contact")
    ]
    return rows


def compare(
    service: IdentityService, connection: Connection, work: Path, seed: int
) -> Counter[str]:
    """Compute and reconcile the same requests; return what happened."""
    connection.execute("TRUNCATE contact, link_evidence RESTART IDENTITY")
    draw, requests = draw_scripts(seed)
    held: dict[int, tuple[Any, ...]] = {}
    evidence: list[tuple[Any, ...]] = []
    if seed % 2:
        place = draw.randrange(len(requests) // 4, len(requests) // 2)
        hold(service, connection, draw, requests[:place])
        requests = requests[place:]
        held = {row[0]: row for row in connection.execute(_CONTACTS)}
        evidence = connection.execute(_EVIDENCE).fetchall()
        write_held(work, connection)
    # Lines with gaps, where an input has rows without a request, in three parts. Contacts are
    # numbered by blocks of a million lines.
    last_line = draw.choice((3, 50_000)) * len(requests)
    lines = sorted(draw.sample(range(2, last_line + 2), len(requests)))
    ends = [0, *sorted(draw.sample(range(len(requests) + 1), 2)), len(requests)]
    parts = []
    for start, end in pairwise(ends):
        first_line = lines[start] - 2 if start < end else 0
        parts.append(
            write_part(
                work,
                first_line,
                [
                    (lines[index] - first_line, *requests[index])
                    for index in draw.sample(range(start, end), end - start)
                ],
            )
        )
    run_compute(
        work,
        parts,
        first_contact_id=next_id(connection, "contact_id_seq"),
        first_evidence_id=next_id(connection, "link_evidence_id_seq"),
    )
    sent = [
        RunRequest(request_of(request), line, microseconds(moment(line)))
        for line, request in zip(lines, requests, strict=True)
    ]
    outcomes = in_batches(service, sent, draw.choice((1, 40, 500)), commit_each=True)
    stored = connection.execute(_CONTACTS).fetchall()
    assert expected_rows(held, work) == stored
    new = [tuple(row.values()) for row in computed(work, "link_evidence")]
    assert [*evidence, *new] == connection.execute(_EVIDENCE).fetchall()
    names: Counter[str] = Counter(
        outcome.name for outcome in outcomes if isinstance(outcome, Outcome)
    )
    assert counts(work) == {name: names[name] for name in counts(work)}
    assert names.total() == len(requests)
    names["held contacts moved"] = len(computed(work, "moved"))
    names["evidence without merge"] = sum(row[4] is None for row in new)
    return names


@pytest.mark.parametrize("seed", range(4))
def test_computed_is_what_the_service_stores(
    service: IdentityService, connection: Connection, tmp_path: Path, seed: int
) -> None:
    happened = compare(service, connection, tmp_path, seed)
    expected = ["created", "linked", "merged", "unchanged", "evidence without merge"]
    expected += ["held contacts moved"] if seed % 2 else []
    assert min(happened[name] for name in expected) > 5, happened


@pytest.mark.slow
def test_a_thousand_scripts_are_computed_as_the_service_stores_them(
    service: IdentityService, connection: Connection, tmp_path: Path
) -> None:
    for seed in range(100, 100 + 1000 // SCRIPTS_TOGETHER):
        compare(service, connection, tmp_path / str(seed), seed)
