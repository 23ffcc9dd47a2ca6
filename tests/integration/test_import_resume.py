"""A state machine of interrupted imports: kill, change the input or an option, try again.

Whatever happens in between, a run that ends has imported the last input as it is.
"""

from __future__ import annotations

import csv
import gzip
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from model import Model, Row

from identity_cli.graph.verify import verify
from identity_cli.importer import pipeline
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hypothesis.strategies import DataObject
    from model import Pair

KILLED = 9
# Rows that share values with each other in many ways: the second phone column is another graph.
emails = st.sampled_from([None, *(f"{c}@x.org" for c in "abcdefghijkl")])
phones = st.sampled_from([None, *map(str, range(100, 112))])
rows = st.tuples(emails, phones, phones).filter(lambda row: row[0] is not None or all(row[1:]))


class ImportMachine(RuleBasedStateMachine):
    """One database and one input, which are seen by one try after the other."""

    clone: Callable[[], AbstractContextManager[str]]
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.url = self.stack.enter_context(self.clone())
        self.phone_column = "home"
        self.has_changed = False
        self.has_begun = False
        self.requests: list[tuple[Any, ...]] = []
        self.packed = False

    def teardown(self) -> None:
        self.stack.close()

    @initialize(first=st.lists(rows, min_size=30, max_size=120), packed=st.booleans())
    def begin(self, first: list[tuple[Any, ...]], packed: bool) -> None:
        self.requests = first
        self.packed = packed

    @rule(data=st.data())
    def change_a_row(self, data: DataObject) -> None:
        place = data.draw(st.integers(0, len(self.requests) - 1))
        self.requests[place] = data.draw(rows)
        self.has_changed = self.has_begun

    @rule(data=st.data())
    def swap_two_rows(self, data: DataObject) -> None:
        places = st.integers(0, len(self.requests) - 1)
        one, other = data.draw(places), data.draw(places)
        requests = self.requests
        requests[one], requests[other] = requests[other], requests[one]
        self.has_changed = self.has_begun

    @rule(more=st.lists(rows, min_size=1, max_size=30))
    def append_rows(self, more: list[tuple[Any, ...]]) -> None:
        self.requests = [*self.requests, *more]
        self.has_changed = self.has_begun

    @rule()
    def read_another_column(self) -> None:
        self.phone_column = "work" if self.phone_column == "home" else "home"
        self.has_changed = self.has_begun

    @rule(windows=st.integers(1, 8), jobs=st.sampled_from([1, 3]))
    def start_and_be_killed(self, windows: int, jobs: int) -> None:
        self.has_begun = True
        self.try_once(jobs, windows)

    @rule(jobs=st.sampled_from([1, 3]))
    def run_to_the_end(self, jobs: int) -> None:
        assert self.try_once(jobs, None) == 0
        self.check(self.pairs())
        # The next input starts from nothing.
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("TRUNCATE contact, link_evidence, import_run RESTART IDENTITY")
        self.has_begun = self.has_changed = False

    @invariant()
    def graph_is_correct(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            assert verify(connection).violations == ()

    def pairs(self) -> list[Pair]:
        column = 1 if self.phone_column == "home" else 2
        return [(row[0], row[column]) for row in self.requests if row[0] or row[column]]

    def try_once(self, jobs: int, kill_after: int | None) -> int:
        """Import in a child, which ends without any clean-up after so many windows."""
        path = self.folder / ("rows.csv.gz" if self.packed else "rows.csv")
        with (gzip.open if self.packed else open)(path, "wt") as file:
            csv.writer(file).writerows([("email", "home", "work"), *self.requests])
        child = os.fork()
        if child == 0:
            code = KILLED
            try:
                code = self.import_in_child(path, jobs, kill_after)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in {0, KILLED}
        return code

    def import_in_child(self, path: Path, jobs: int, kill_after: int | None) -> int:
        pipeline.BATCH = 7
        pipeline.CHECKPOINT_SECONDS = 0.0
        seen = 0

        def show(_progress: object) -> None:
            nonlocal seen
            seen += 1
            if seen == kill_after:
                os._exit(KILLED)

        options = InputOptions("csv", mapping=[("phone", self.phone_column)])
        plan = ImportPlan((str(path),), options=options, jobs=jobs)
        importer = Importer(plan)
        importer.run(Database(connection_parameters(self.url), embedded=False), show)
        rejected = len(self.requests) - len(self.pairs())
        assert (importer.counts.read, importer.counts.rejected) == (len(self.requests), rejected)
        return 0

    def check(self, pairs: list[Pair]) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = [
                Row(*row)
                for row in connection.execute(
                    "SELECT id, email, phone_number, linked_id, link_precedence::text FROM contact"
                    " ORDER BY id"
                ).fetchall()
            ]
            identity: dict[str, int] = {}
            for row in found:
                for value in (row.email, row.phone):
                    if value is not None:
                        identity[value] = row.linked_id or row.id
            for pair in pairs:
                assert len({identity[value] for value in pair if value is not None}) == 1
            if self.has_changed:
                return
            # Nothing but kills: the graph of a run that nobody disturbed, ages included.
            model = Model()
            for email, phone in pairs:
                model.reconcile(email, phone)
            by_id = {row.id: (row.email, row.phone) for row in model.rows()}
            expected = {by_id[one]: by_id[primary] for one, primary in model.primaries().items()}
            stored = {row.id: (row.email, row.phone) for row in found}
            assert {stored[r.id]: stored[r.linked_id or r.id] for r in found} == expected
            ages = connection.execute(
                "SELECT email, phone_number FROM contact ORDER BY created_at, line"
            ).fetchall()
            assert ages == [by_id[number] for number in sorted(by_id)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("examples", [7, pytest.param(15, marks=pytest.mark.slow)])
def test_interrupted_imports_end_as_the_last_input_says(
    cloned_database: Callable[[], AbstractContextManager[str]], tmp_path: Path, examples: int
) -> None:
    machine = type(
        "Machine", (ImportMachine,), {"clone": staticmethod(cloned_database), "folder": tmp_path}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
