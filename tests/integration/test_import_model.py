"""Imports through the library against the model: rows, ids, links, outcomes, transactions."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model import Answer, Evidence, Model, Row, problems

from identity_cli import ContactRequest, errors
from identity_cli.graph.service import IdentityService
from identity_cli.graph.verify import verify
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer, Progress
from identity_cli.importer.stop import StopSwitch
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from model import Pair

    Clone = Callable[[], AbstractContextManager[str]]


def run_import(url: str, *paths: Path, **options: Any) -> Importer:
    importer = Importer(ImportPlan(tuple(map(str, paths)), **options))

    def check(progress: Progress) -> None:
        assert progress.offset <= (progress.total or 0)

    importer.run(Database(connection_parameters(url), embedded=False), check)
    assert importer.status == "finished"
    return importer


def write_csv(path: Path, requests: Iterable[Pair]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("email", "phone"), *requests])
    return path


def contact_rows(url: str) -> list[Row]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT id, email, phone_number, linked_id, link_precedence::text FROM contact"
            " ORDER BY id"
        ).fetchall()
    return [Row(*row) for row in found]


def evidence_rows(url: str) -> list[Evidence]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT value, other_value, primary_id, merged_id FROM link_evidence ORDER BY id"
        ).fetchall()
    return [Evidence(*row) for row in found]


def digest(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        verification = verify(connection)
    assert verification.ok, verification.violations
    return verification.digest


def written_outcomes(path: Path) -> list[tuple[int, Answer]]:
    return [
        (one["line"], Answer(one["outcome"], one["primaryContactId"], one["contactId"]))
        for one in map(json.loads, path.read_text().splitlines())
    ]


def some_requests(count: int, values: int, seed: int) -> list[Pair]:
    draw = random.Random(seed)
    found: list[Pair] = []
    while len(found) < count:
        email = f"person{draw.randrange(values)}@x.org" if draw.random() < 0.85 else None
        phone = str(2_095_550_000 + draw.randrange(values)) if draw.random() < 0.85 else None
        if email or phone:
            found.append((email, phone))
    return found


@pytest.mark.slow
def test_twenty_thousand_requests(
    database_url: str, cloned_database: Clone, tmp_path: Path
) -> None:
    requests = some_requests(20_000, values=14_000, seed=20)
    model = Model()
    answers = [model.reconcile(*pair) for pair in requests]
    assert min(sum(a.name == name for a in answers) for name in ("created", "merged")) > 500
    path = write_csv(tmp_path / "a.csv", requests)
    outcomes = tmp_path / "outcomes"
    importer = run_import(database_url, path, jobs=1, outcomes=str(outcomes))
    assert contact_rows(database_url) == model.rows()
    assert evidence_rows(database_url) == model.evidence
    assert written_outcomes(outcomes) == list(enumerate(answers, 2))
    counts = importer.counts
    assert {
        name: getattr(counts, name) for name in ("created", "linked", "merged", "unchanged")
    } == {
        name: sum(answer.name == name for answer in answers)
        for name in ("created", "linked", "merged", "unchanged")
    }
    assert (counts.read, counts.rejected) == (20_000, 0)

    # The same file again changes nothing.
    again = run_import(database_url, path, outcomes=str(outcomes))
    assert again.run_id != importer.run_id
    assert (again.counts.read, again.counts.unchanged) == (20_000, 20_000)
    assert contact_rows(database_url) == model.rows()
    assert evidence_rows(database_url) == model.evidence
    primary = model.primaries()
    assert written_outcomes(outcomes) == [
        (line, Answer("unchanged", primary[answer.primary_id], None))
        for line, answer in enumerate(answers, 2)
    ]

    # With several connections: other ids, the same people.
    with cloned_database() as other:
        run_import(other, path, jobs=4)
        assert digest(other) == digest(database_url)
        assert primaries(other) == primaries(database_url)


def test_the_same_ids_every_time(cloned_database: Clone, tmp_path: Path) -> None:
    requests = some_requests(3000, values=1500, seed=5)
    path = write_csv(tmp_path / "a.csv", requests)
    found = []
    for jobs in (1, None):
        with cloned_database() as url:
            run_import(url, path, jobs=jobs)
            found.append(contact_rows(url))
    assert found[0] == found[1]


Values = tuple["str | None", "str | None"]


def primaries(url: str) -> dict[Values, Values]:
    """The values of the primary by the values of each contact."""
    rows = contact_rows(url)
    by_id = {row.id: (row.email, row.phone) for row in rows}
    return {(row.email, row.phone): by_id[row.linked_id or row.id] for row in rows}


emails = st.sampled_from([None, *(f"{c}@x.org" for c in "abcdefgh")])
phones = st.sampled_from([None, *"12345678"])
streams = st.lists(st.tuples(emails, phones).filter(any), max_size=40)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams, st.sampled_from([1, 2, 4, 8]), st.randoms(use_true_random=False))
def test_with_any_number_of_jobs_who_is_who_is_the_same(
    database_url: str,
    connection: psycopg.Connection[Any],
    tmp_path: Path,
    stream: list[Pair],
    jobs: int,
    draw: random.Random,
) -> None:
    connection.execute("TRUNCATE contact, link_evidence, import_run RESTART IDENTITY")
    # The streams that Hypothesis draws are short; strangers in between make them fill windows.
    requests: list[Pair] = []
    for pair in stream:
        requests += [pair]
        requests += [(f"s{len(requests)}.{i}@x.org", None) for i in range(draw.choice([0, 0, 40]))]
    model = Model()
    answers = [model.reconcile(*pair) for pair in requests]
    path = write_csv(tmp_path / "a.csv", requests)
    outcomes = tmp_path / "outcomes"
    run_import(database_url, path, jobs=jobs, outcomes=str(outcomes), restart=True)
    found = contact_rows(database_url)
    assert {frozenset(group) for group in grouped(found)} == model.partition()
    by_id = {row.id: (row.email, row.phone) for row in model.rows()}
    assert primaries(database_url) == {
        by_id[one]: by_id[primary] for one, primary in model.primaries().items()
    }
    assert [answer.name for _, answer in written_outcomes(outcomes)] == [a.name for a in answers]
    assert problems(found, evidence_rows(database_url)) == []
    if jobs == 1:
        assert found == model.rows()
    assert digest(database_url)


def grouped(rows: list[Row]) -> list[set[str]]:
    groups: dict[int, set[str]] = {}
    for row in rows:
        group = groups.setdefault(row.linked_id or row.id, set())
        group |= {f"email:{row.email}"} if row.email else set()
        group |= {f"phone:{row.phone}"} if row.phone else set()
    return list(groups.values())


@pytest.mark.parametrize("jobs", [1, 4])
def test_each_request_is_a_transaction_of_its_own(
    database_url: str, connection: psycopg.Connection[Any], tmp_path: Path, jobs: int
) -> None:
    requests = some_requests(3000, values=2500, seed=3)
    path = write_csv(tmp_path / "a.csv", requests)

    def commits() -> int:
        row = connection.execute(
            "SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot(), xact_commit"
            " FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        return int(row[2])

    before = commits()
    importer = run_import(database_url, path, jobs=jobs)
    for _ in range(100):  # a backend counts up when it has nothing else to do
        counted = commits() - before
        if counted >= 3000:
            break
        time.sleep(0.05)
    assert 3000 <= counted < 3000 + 300
    # An update by a merge is the transaction of another request: these rows are left out.
    rows = connection.execute(
        "SELECT xmin::text FROM contact WHERE updated_at = created_at"
        " UNION ALL SELECT xmin::text FROM link_evidence"
    ).fetchall()
    assert len(rows) > 1500
    assert len(set(rows)) == len(rows)
    merges = connection.execute(
        "SELECT count(DISTINCT xmin::text) FROM link_evidence WHERE merged_id IS NOT NULL"
    ).fetchone()
    assert merges == (importer.counts.merged,)


def test_a_resumed_run_shows_that_it_compares(database_url: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [(f"p{i}@x.org", None) for i in range(20_000)])
    database = Database(connection_parameters(database_url), embedded=False)
    switch = StopSwitch()

    def stop(progress: Progress) -> None:
        if progress.counts.read > 11_000:
            switch.request()

    importer = Importer(ImportPlan((str(path),), jobs=1), switch)
    importer.run(database, stop)
    assert importer.status == "stopped"
    shown: list[Progress] = []
    importer = Importer(ImportPlan((str(path),), jobs=1))
    importer.run(database, shown.append)
    assert importer.status == "finished"
    assert importer.counts.read == 20_000
    phases = list(dict.fromkeys(progress.phase for progress in shown))
    assert phases == ["comparing", "rows", "shared values"]
    assert (shown[0].counts.read, shown[0].total) == (10_000, path.stat().st_size)
    assert 0 < shown[0].offset < path.stat().st_size


def test_a_dry_run_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    requests: list[Pair] = [*some_requests(1500, values=500, seed=4), ("bad", None)]
    path = write_csv(tmp_path / "a.csv", requests)
    outcomes = [tmp_path / "dry", tmp_path / "wet"]
    dry = run_import(database_url, path, region="US", dry_run=True, outcomes=str(outcomes[0]))
    assert dry.run_id is None
    with psycopg.connect(database_url) as connection:
        for table in ("contact", "link_evidence", "import_run", "normalization_profile"):
            assert connection.execute(f"SELECT FROM {table}").rowcount == 0
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "dry"]
    # No profile was left either: another region is as good.
    wet = run_import(database_url, path, region="GB", outcomes=str(outcomes[1]), dry_run=True)
    assert wet.counts.read == dry.counts.read
    wet = run_import(database_url, path, region="US", outcomes=str(outcomes[1]))
    assert wet.counts == dry.counts
    assert dry.counts.merged > 0
    names = [[answer.name for _, answer in written_outcomes(path)] for path in outcomes]
    assert names[0] == names[1]


def test_several_inputs_are_one_run(
    database_url: str, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    requests = some_requests(1600, values=900, seed=6)
    model = Model()
    answers = [model.reconcile(*pair) for pair in requests]
    first = write_csv(tmp_path / "a.csv", requests[:700])
    first.write_text(first.read_text().replace("\n", "\n\n", 1) + "\n\n")
    second = tmp_path / "b.jsonl"
    second.write_text(
        "".join(json.dumps({"email": e, "phone": p}) + "\n\n" for e, p in requests[700:])
    )
    outcomes = tmp_path / "o"
    importer = run_import(database_url, first, second, jobs=1, outcomes=str(outcomes))
    assert importer.counts.read == 1600
    assert contact_rows(database_url) == model.rows()
    found = [json.loads(line) for line in outcomes.read_text().splitlines()]
    assert [one["input"] for one in found] == [str(first)] * 700 + [str(second)] * 900
    assert [one["line"] for one in found[:700]] == list(range(3, 703))
    assert [one["line"] for one in found[700:]] == list(range(1, 1801, 2))
    assert [one["outcome"] for one in found] == [answer.name for answer in answers]
    # 704 lines are before those of the second input.
    lines = [*range(3, 703), *range(705, 705 + 1800, 2)]
    stored = [line for line, answer in zip(lines, answers, strict=True) if answer.contact_id]
    rows = connection.execute("SELECT run_id, line FROM contact ORDER BY id").fetchall()
    assert rows == [(importer.run_id, line) for line in stored]
    times = connection.execute("SELECT created_at FROM contact ORDER BY line").fetchall()
    assert times == sorted(set(times))


def test_regions(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("phone\n(209) 555-0101\n+1 209-555-0101\n12\n+44 20 7946 0000\n")
    importer = run_import(database_url, path, region="US")
    assert (importer.counts.created, importer.counts.unchanged) == (2, 1)
    assert importer.counts.rejected == 1
    assert [row.phone for row in contact_rows(database_url)] == ["+12095550101", "+442079460000"]
    other = Importer(ImportPlan((str(path),), region="GB"))
    with pytest.raises(errors.ProfileMismatchError) as caught:
        other.run(Database(connection_parameters(database_url), embedded=False))
    assert caught.value.hint
    assert other.counts.read == 0
    assert run_import(database_url, path).counts.unchanged == 3
    # What was imported with a region is found with it.
    assert ContactRequest(phone="2095550101", region="US").phone == "+12095550101"


def test_region_that_another_writer_has_stored_meanwhile_starts_over(
    database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    rows = [f"call 202-555-{i:04d}\n" for i in range(3000)]
    path.write_text("phone\n" + "".join(rows))
    # Without a region, words around a number are a reject, so that nothing stores a profile.
    switch = StopSwitch()
    first = Importer(ImportPlan((str(path),), jobs=1), switch)
    database = Database(connection_parameters(database_url), embedded=False)
    first.run(database, lambda _progress: switch.request())
    assert first.status == "stopped"
    assert first.counts.rejected > 0
    with IdentityService.open(database_url, region="US") as service:
        service.reconcile(ContactRequest("a@x.org", region="US"))
    second = run_import(database_url, path)
    assert second.counts.read == 3000
    assert second.counts.rejected == 0
    assert second.report(0).options["region"] == "US"


def test_a_copy_of_a_file_is_the_same_input(database_url: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", some_requests(50, values=30, seed=7))
    copy = tmp_path / "b.csv"
    shutil.copy(path, copy)
    run_import(database_url, path)
    assert run_import(database_url, copy, options=InputOptions("csv")).counts.unchanged == 50
