"""What a backfill computes, against the model, and after it was interrupted."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from backfilled import computed, counts, run_compute, write_part
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model import Evidence, Model, Row

from identity_cli.backfill import database, duck
from identity_cli.errors import OutputError, UsageError
from identity_cli.importer.stop import StopRequestedError, StopSwitch
from identity_cli.meter import Meter

if TYPE_CHECKING:
    from backfilled import Line


EMAILS = [f"{name}@x.org" for name in "abcde"]
PHONES = list("12345")

values = st.lists(st.sampled_from([*EMAILS, *PHONES]), min_size=1, max_size=5, unique=True)


def lines_of(requests: list[list[str]]) -> list[Line]:
    return [
        (line, [v for v in request if "@" in v], [v for v in request if "@" not in v])
        for line, request in enumerate(requests, 2)
    ]


def stored(work: Path) -> tuple[list[Row], list[Evidence]]:
    contacts = [
        Row(
            row["id"],
            row["email"],
            row["phone_number"],
            row["linked_id"],
            "secondary" if row["linked_id"] else "primary",
        )
        for row in computed(work, "contact")
    ]
    evidence = [
        Evidence(row["value"], row["other_value"], row["primary_id"], row["merged_id"])
        for row in computed(work, "link_evidence")
    ]
    return contacts, evidence


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(values, max_size=25), st.integers(0, 25))
def test_computed_is_what_the_model_stores(
    tmp_path_factory: pytest.TempPathFactory, requests: list[list[str]], first: int
) -> None:
    work = tmp_path_factory.mktemp("work")
    model = Model()
    lines = lines_of(requests)
    names = [model.reconcile_request(emails, phones).name for _, emails, phones in lines]
    # The second input begins with line 2 again.
    second = [(line - first, emails, phones) for line, emails, phones in lines[first:]]
    run_compute(work, [write_part(work, 0, lines[:first]), write_part(work, first, second)])
    assert stored(work) == (model.rows(), model.evidence)
    assert counts(work) == {name: names.count(name) for name in counts(work)}
    assert sum(counts(work).values()) == len(requests)


def test_ten_emails_and_ten_phone_numbers_have_their_turns(tmp_path: Path) -> None:
    emails = [f"e{number}@x.org" for number in range(10)]
    phones = [str(number) for number in range(10)]
    model = Model()
    lines: list[Line] = []
    for line in range(2, 5):
        lines.append((line, emails[line:] + emails[:line], phones))
        model.reconcile_request(*lines[-1][1:])
    run_compute(tmp_path, [write_part(tmp_path, 0, lines)])
    assert stored(tmp_path) == (model.rows(), model.evidence)
    assert (len(model.rows()), len(model.evidence)) == (19, 190 - 19)


def test_no_requests_are_an_empty_result(tmp_path: Path) -> None:
    tmp_path.joinpath("work").mkdir()
    run_compute(tmp_path / "work", [])
    assert stored(tmp_path / "work") == ([], [])
    assert computed(tmp_path / "work", "moved") == []
    assert counts(tmp_path / "work") == dict.fromkeys(
        ("created", "linked", "merged", "unchanged", "blocked"), 0
    )


# Enough for several batches of events; strangers, merges, two alike.
REQUESTS = lines_of(
    [
        request
        for number in range(400)
        for request in (
            [f"a{number}@x.org", f"{number}0"],
            [f"b{number}@x.org", f"{number}1"],
            [f"a{number}@x.org", f"{number}1"],
            [f"b{number}@x.org", f"a{max(number - 7, 0)}@x.org", f"{number}2"],
            [f"{number}2", f"{number // 2}3"],
        )
    ]
)

# Runs a computation that kills itself after the n-th call of a function.
KILLED = """
import os, signal, sys
from pathlib import Path
from identity_cli.backfill import duck
from identity_cli.backfill.plan import Part
from identity_cli.importer.stop import StopSwitch

work, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
duck._BATCH_EVENTS = 200
owner = os if name == "fsync" else duck
original = getattr(owner, name)
calls = 0

def killed(*arguments):
    global calls
    original(*arguments)
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
parts = [Part(path, 0) for path in sorted(work.glob("parts/*"))]
duck.compute(work, parts, first_contact_id=1, first_evidence_id=1, memory="256MB", threads=2,
             switch=StopSwitch())
"""


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, bytes]:
    work = tmp_path / "reference"
    run_compute(work, [write_part(work, 0, REQUESTS)])
    model = Model()
    for _, emails, phones in REQUESTS:
        model.reconcile_request(emails, phones)
    assert stored(work) == (model.rows(), model.evidence)
    return result_of(work)


def result_of(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (work / "result").iterdir()}


def run_killed(work: Path, name: str, count: int) -> bool:
    """Run a computation that kills itself somewhere; return whether it got there."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, work, name, str(count)],
        check=False,
        timeout=60,
        cwd=Path(duck.__file__).parents[2],
    )
    assert done.returncode in {0, -signal.SIGKILL}
    return done.returncode == -signal.SIGKILL


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each table that is made."""
    taken: list[str] = []
    make = duck.make_table

    def noting(statement: Any, writer: Any) -> None:
        taken.append(statement.table)
        make(statement, writer)

    monkeypatch.setattr(duck, "make_table", noting)
    return taken


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("make_table", 10, "seen"),  # the table is made, but not committed
        ("_append", 3, "gone"),  # within the replay
        ("fsync", 2, None),  # a result is written, but not in its place
    ],
)
def test_a_killed_computation_resumes_with_the_statement_at_work(
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    count: int,
    first: str | None,
) -> None:
    work = tmp_path / "work"
    part = write_part(work, 0, REQUESTS)
    assert run_killed(work, name, count)
    assert not (work / "result" / "counts.json").exists()
    taken = steps_taken(monkeypatch)
    run_compute(work, [part])
    assert result_of(work) == reference
    assert (taken[0] if taken else None) == first


@pytest.mark.slow
@pytest.mark.parametrize("name", ["make_table", "_append", "fsync"])
def test_a_computation_that_is_killed_everywhere_ends_the_same(
    tmp_path: Path, reference: dict[str, bytes], name: str
) -> None:
    for count in range(1, 200):
        work = tmp_path / f"{count}"
        part = write_part(work, 0, REQUESTS)
        if not run_killed(work, name, count):
            break
        # And once more, soon after it resumes.
        run_killed(work, name, 1)
        run_compute(work, [part])
        assert result_of(work) == reference
    else:
        pytest.fail("it was killed more often than it has places")
    assert count > 4


def test_a_stop_is_obeyed_within_the_replay(
    tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duck, "_BATCH_EVENTS", 100)
    work = tmp_path / "work"
    part = write_part(work, 0, REQUESTS)
    switch = StopSwitch()

    class Stopping(Meter):
        def _changed(self, *, is_new_phase: bool) -> None:
            if self.phase == "replay" and not is_new_phase:
                switch.request()

    with pytest.raises(StopRequestedError):
        run_compute(work, [part], switch=switch, meter=Stopping())
    taken = steps_taken(monkeypatch)
    run_compute(work, [part])
    assert taken == ["gone", "placed"]
    assert result_of(work) == reference


def test_a_signal_interrupts_a_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = StopSwitch()
    previous = signal.signal(signal.SIGTERM, lambda *_: switch.request())
    make = duck.make_table

    def slowly(statement: Any, writer: Any) -> None:
        if statement.table == "seen":
            killer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
            killer.start()
            writer.execute(
                "CREATE TABLE long AS SELECT count(*) FROM pair AS a, pair AS b, pair AS c"
                " WHERE hash(a.turn + b.turn * c.turn) % 7 = 0"
            )
            pytest.fail("the statement was not interrupted")
        make(statement, writer)

    monkeypatch.setattr(duck, "make_table", slowly)
    try:
        with pytest.raises(StopRequestedError):
            run_compute(tmp_path, [write_part(tmp_path, 0, REQUESTS)], switch=switch)
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("change", ["parts", "first line", "first ids", "held"])
def test_another_input_is_computed_from_the_start(tmp_path: Path, change: str) -> None:
    part = write_part(tmp_path, 0, lines_of([["a@x.org", "1"]]))
    run_compute(tmp_path, [part])
    parts, options = [part], {}
    match change:
        case "parts":
            parts = [part, write_part(tmp_path, 1, lines_of([["a@x.org", "2"]]))]
        case "first line":
            parts = [type(part)(part.path, 7)]
        case "first ids":
            options = {"first_contact_id": 10}
        case "held":
            (tmp_path / "held").mkdir()
            duckdb.execute(
                "COPY (SELECT 5 AS id, 'a@x.org' AS email, NULL::varchar AS phone_number,"
                " NULL::bigint AS linked_id, true AS anchors_email, true AS anchors_phone,"
                " now() AS created_at) TO ?",
                [str(tmp_path / "held" / "contact.parquet")],
            )
            options = {"first_contact_id": 10}
    run_compute(tmp_path, parts, **options)
    found = [(row["id"], row["linked_id"], row["line"]) for row in computed(tmp_path, "contact")]
    assert (
        found
        == {
            "parts": [(1, None, 2), (2, 1, 3)],
            "first line": [(1, None, 9)],
            "first ids": [(10, None, 2)],
            "held": [(10, 5, 2)],
        }[change]
    )


def test_a_part_that_would_be_read_twice_is_an_error(tmp_path: Path) -> None:
    part = write_part(tmp_path, 0, REQUESTS)
    with pytest.raises(duckdb.InvalidInputException, match="not read as they are"):
        run_compute(tmp_path, [part, part])


def test_a_complete_computation_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = write_part(tmp_path, 0, REQUESTS)
    run_compute(tmp_path, [part])
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "result").iterdir()}
    taken = steps_taken(monkeypatch)
    run_compute(tmp_path, [part])
    assert taken == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "result").iterdir()} == written


def test_too_little_memory_is_reported(tmp_path: Path) -> None:
    part = write_part(tmp_path, 0, REQUESTS)
    with pytest.raises(UsageError, match="does not fit in 1MB") as raised:
        run_compute(tmp_path, [part], memory="1MB")
    assert "--memory" in (raised.value.hint or "")


def test_memory_without_a_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'4' is not an amount of memory") as raised:
        run_compute(tmp_path, [], memory="4")
    assert "4GB" in (raised.value.hint or "")


def test_a_full_disk_is_reported_and_the_computation_resumes(
    tmp_path: Path, reference: dict[str, bytes]
) -> None:
    work = tmp_path / "work"
    part = write_part(work, 0, REQUESTS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Writing fails at this size of a file, as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot use .*work") as raised:
            run_compute(work, [part])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "resumes" in (raised.value.hint or "")
    run_compute(work, [part])
    assert result_of(work) == reference


def test_a_database_in_use_is_reported(tmp_path: Path) -> None:
    part = write_part(tmp_path, 0, REQUESTS)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()",
            tmp_path / database.DATABASE,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(OutputError, match="cannot use"):
        run_compute(tmp_path, [part])
    holder.communicate(b"\n")


@pytest.mark.parametrize("name", ["it's [a] *", "~home", "x/../y", "größe %20 #"])
def test_names_of_work_directories_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    work = Path(name)
    run_compute(work, [write_part(work, 0, lines_of([["a@x.org", "1"]]))])
    assert len(computed(tmp_path / name, "contact")) == 1


def test_a_question_mark_in_the_work_directory_is_refused(tmp_path: Path) -> None:
    work = tmp_path / "what?"
    with pytest.raises(UsageError, match=r"what\?: .* question mark"):
        run_compute(work, [write_part(work, 0, lines_of([["a@x.org", "1"]]))])


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    shown: list[tuple[str, int, int | None]] = []

    class Showing(Meter):
        def _changed(self, *, is_new_phase: bool) -> None:
            shown.append((self.phase, self.done, self.total))

    run_compute(tmp_path, [write_part(tmp_path, 0, REQUESTS)], meter=Showing())
    assert list(dict.fromkeys(phase for phase, _, _ in shown)) == [
        "requests",
        "values",
        "events",
        "replay",
        "rows",
    ]
    assert [done for _, done, _ in shown] == sorted(done for _, done, _ in shown)
    assert shown[-1] == ("rows", 100, 100)
