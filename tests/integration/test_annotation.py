"""Annotation: the identity of every row, as `show` finds it."""

from __future__ import annotations

import csv
import io
import resource
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from steering import Player

from identity_cli import ContactRequest, IdentityService
from identity_cli.errors import ContactNotFoundError, InputUnreadableError, UsageError
from identity_cli.importer import annotation
from identity_cli.importer.annotation import AnnotationPlan, annotate
from identity_cli.importer.formats import InputOptions
from identity_cli.postgres.database import Database
from identity_cli.postgres.session import LOOK_UP
from identity_cli.postgres.snapshot import snapshot
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Annotate = Callable[..., list[list[str]]]


@pytest.fixture
def annotated(database_url: str) -> Iterator[Annotate]:
    """Annotates files in one snapshot; the rows that come out, the header among them."""
    with annotating(database_url) as run:
        yield run


@contextmanager
def annotating(database_url: str) -> Iterator[Annotate]:
    database = Database(connection_parameters(database_url), embedded=False)
    with database.connect(session=LOOK_UP) as connection:

        def run(*paths: Path, stream: Any = None, **options: Any) -> list[list[str]]:
            stream = stream or io.BytesIO()
            plan = AnnotationPlan(tuple(map(str, paths)), InputOptions(**options))
            with snapshot(connection) as graph:
                annotate(graph, stream, plan)
            return list(csv.reader(stream.getvalue().decode().splitlines()))

        yield run


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in ("email,phone", *rows)))
    return path


def test_merged_identity_is_the_one_of_its_primary(
    service: IdentityService, annotated: Annotate, tmp_path: Path
) -> None:
    for email, phone in (("a@x.org", "1"), ("b@x.org", "2"), ("c@x.org", "3"), ("b@x.org", "1")):
        service.reconcile(ContactRequest(email, phone))
    path = write(tmp_path / "a.csv", "B@x.org,", ",3", "a@x.org,2", "d@x.org,1", "d@x.org,9")
    assert [row[2:] for row in annotated(path)[1:]] == [
        ["1", "known"],
        ["3", "known"],
        ["1", "known"],
        ["1", "known"],
        ["", "unknown"],
    ]


def test_row_whose_values_lead_to_two_identities_is_split(
    service: IdentityService, annotated: Annotate, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("a@x.org", "1"))
    service.reconcile(ContactRequest("b@x.org", "2"))
    assert annotated(write(tmp_path / "a.csv", "a@x.org,2"))[1][2:] == ["", "split"]


def test_row_with_a_bad_value_is_looked_up_by_the_others_unless_strict(
    service: IdentityService, annotated: Annotate, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("a@x.org", None))
    path = write(tmp_path / "a.csv", "a@x.org,none of these", "bad,", ",", "a@x.org,1,2")
    statuses = [row[3] for row in annotated(path)[1:]]
    assert statuses == ["known", "rejected", "rejected", "rejected"]
    assert annotated(path, strict=True)[1][3] == "rejected"


def test_several_files_become_one(
    service: IdentityService, annotated: Annotate, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("a@x.org", None))
    first, second = write(tmp_path / "a.csv", "a@x.org,"), write(tmp_path / "b.csv", "b@x.org,")
    assert [row[3] for row in annotated(first, second)] == ["identity_status", "known", "unknown"]


def test_files_that_do_not_fit_together_are_refused(annotated: Annotate, tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", "a@x.org,")
    other = tmp_path / "b.csv"
    other.write_text("mail\na@x.org\n")
    lines = tmp_path / "c.jsonl"
    lines.write_text('{"email": "a@x.org"}\n')
    with pytest.raises(UsageError, match="other columns"):
        annotated(first, other)
    with pytest.raises(UsageError, match="another format"):
        annotated(first, lines)


def test_rows_before_broken_quoting_are_written(
    service: IdentityService, annotated: Annotate, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("a@x.org", None))
    stream = io.BytesIO()
    with pytest.raises(InputUnreadableError):
        annotated(write(tmp_path / "a.csv", "a@x.org,", "b@x.org,", '"'), stream=stream)
    assert stream.getvalue().decode().splitlines()[1:] == ["a@x.org,,1,known", "b@x.org,,,unknown"]


EMAILS = st.sampled_from(["", *(f"{name}@x.org" for name in "abcdef")])
PHONES = st.sampled_from(["", *map(str, range(1, 7))])
ROWS = st.lists(st.tuples(EMAILS, PHONES), max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=ROWS, asked=ROWS, batch=st.integers(1, 5))
def test_every_row_has_the_identity_that_show_finds(
    cloned_database: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: list[tuple[str, str]],
    asked: list[tuple[str, str]],
    batch: int,
) -> None:
    monkeypatch.setattr(annotation, "_BATCH_ROWS", batch)
    path = write(tmp_path / "asked.csv", *map(",".join, asked))
    with cloned_database() as url, IdentityService.open(url) as service:
        for email, phone in stored:
            if email or phone:
                service.reconcile(ContactRequest(email, phone))
        with annotating(url) as run:
            rows = run(path)[1:]

        def shown(**value: str) -> set[int]:
            try:
                return {service.find(**value).primary_id}  # type: ignore[arg-type]
            except ContactNotFoundError:
                return set()

        for (email, phone), row in zip(asked, rows, strict=True):
            found = (shown(email=email) if email else set()) | (
                shown(phone=phone) if phone else set()
            )
            status = {0: "unknown", 1: "known"}.get(len(found), "split")
            if not email and not phone:
                status = "rejected"
            primary_id = str(found.pop()) if len(found) == 1 else ""
            assert row == [email, phone, primary_id, status]


def _peak_memory(database_url: str, path: Path) -> int:
    """Return the peak memory in KiB of a process that annotates the file."""
    subprocess.run(
        [sys.executable, "-m", "identity_cli", "annotate", str(path)],
        env={"DATABASE_URL": database_url, "PATH": "/usr/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@pytest.mark.slow
def test_a_million_rows_take_no_more_memory_than_twenty_thousand(
    database_url: str, service: IdentityService, tmp_path: Path
) -> None:
    service.reconcile(ContactRequest("1@x.org", None))
    few = write(tmp_path / "few.csv", *(f"{n}@x.org,{n}" for n in range(20_000)))
    many = write(tmp_path / "many.csv", *(f"{n}@x.org,{n}" for n in range(1_000_000)))
    before = _peak_memory(database_url, few)
    assert _peak_memory(database_url, many) < before * 1.1


def test_blocked_values_are_ignored_beside_others(
    service: IdentityService, annotated: Annotate, tmp_path: Path, connection: Any
) -> None:
    player = Player(connection)
    player.block(["info@x.org", "0"])
    player.add_pattern("spam.*")
    player.unlink("later@x.org", "77")
    service.reconcile(ContactRequest("a@x.org", "1"))
    service.reconcile(ContactRequest("info@x.org", "2"))
    path = write(
        tmp_path / "a.csv",
        "info@x.org,1",
        "info@x.org,2",
        "info@x.org,00",
        "info@x.org,",
        "spam1@x.org,",
        "spam1@x.org,1",
        "spam1@x.org,9",
        "later@x.org,77",
        "new@x.org,9",
        "a@x.org,1",
    )
    assert [row[2:] for row in annotated(path)[1:]] == [
        ["1", "known"],
        ["2", "known"],
        ["", "unknown"],
        ["", "blocked"],
        ["", "blocked"],
        ["1", "known"],
        ["", "unknown"],
        ["", "unknown"],
        ["", "unknown"],
        ["1", "known"],
    ]
