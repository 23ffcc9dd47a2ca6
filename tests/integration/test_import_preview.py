"""The preview of a dry run, compared with the model and with the import itself."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from model import Model

from identity_cli.graph import preview as preview_module
from identity_cli.graph.masking import masked
from identity_cli.graph.rules import Block, SetHubLimits
from identity_cli.graph.steering import Steering
from identity_cli.graph.values import named_values
from identity_cli.importer.plan import ImportPlan
from identity_cli.importer.run import Importer, Progress
from identity_cli.importer.stop import StopSwitch
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model import Pair

    from identity_cli.graph.preview import Preview


def write_csv(path: Path, requests: Sequence[Pair]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("email", "phone"), *requests])
    return path


def run_import(url: str, *paths: Path, **options: Any) -> Importer:
    importer = Importer(ImportPlan(tuple(map(str, paths)), **options))
    importer.run(Database(connection_parameters(url), embedded=False))
    assert importer.status == "finished"
    return importer


def preview_of(url: str, *paths: Path, with_values: bool = True) -> Preview:
    importer = run_import(url, *paths, dry_run=True, with_values=with_values)
    found = importer.report(0).preview
    assert found is not None
    return found


def sizes_of(model: Model) -> Counter[int]:
    return Counter(model.primaries().values())


def expected_bridges(model: Model, requests: Sequence[Pair]) -> list[tuple[int, tuple[int, ...]]]:
    """Reconcile the requests; return line and sizes of each that merges."""
    found = []
    for line, (email, phone) in enumerate(requests, 2):
        primaries, sizes = model.primaries(), sizes_of(model)
        matching = {
            primaries[row.id]
            for row in model.rows()
            if (email and row.email == email) or (phone and row.phone == phone)
        }
        if model.reconcile(email, phone).name == "merged":
            found.append((line, tuple(sorted((sizes[one] for one in matching), reverse=True))))
    return found


def some_requests(count: int, values: int, seed: int) -> list[Pair]:
    draw = random.Random(seed)
    return [
        (f"p{draw.randrange(values)}@x.org", str(2_095_550_000 + draw.randrange(values)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_preview_is_what_the_model_says(database_url: str, tmp_path: Path, seed: int) -> None:
    before, requests = some_requests(60, 130, seed), some_requests(160, 130, seed + 100)
    model = Model()
    for pair in before:
        model.reconcile(*pair)
    run_import(database_url, write_csv(tmp_path / "a.csv", before), jobs=1)
    sizes_before, primaries_before = sizes_of(model), model.primaries()
    path = write_csv(tmp_path / "b.csv", requests)
    found = preview_of(database_url, path)
    bridges = expected_bridges(model, requests)
    assert len(bridges) > 20
    assert found.merging_rows == len(bridges)
    bridges.sort(key=lambda bridge: (-sum(bridge[1][1:]), -bridge[1][0], bridge[0]))
    assert [(line, sizes) for _, line, sizes in found.bridges] == bridges[:10]
    assert {bridge.path for bridge in found.bridges} == {str(path)}
    by_bits = Counter(sum(sizes).bit_length() for _, sizes in bridges)
    assert [(size.least.bit_length(), size.rows) for size in found.merge_sizes] == sorted(
        by_bits.items()
    )

    largest = found.largest_identity
    assert largest is not None
    primaries = model.primaries()
    size = max(sizes_of(model).values())
    assert largest.contacts == size
    primary = next(one for one, count in sorted(sizes_of(model).items()) if count == size)
    assert largest.primary_id == (primary if primary in primaries_before else None)
    parts = {primaries_before[one] for one in primaries_before if primaries[one] == primary}
    assert largest.contacts_before == max((sizes_before[part] for part in parts), default=0)

    partners = partners_of([*before, *requests])
    partners_before = partners_of(before)
    gains = {value: len(partners[value]) - len(partners_before[value]) for value in partners}
    expected = sorted(gains, key=lambda value: (-gains[value], value.encode()))[:10]
    assert [
        (one.value, one.partners, one.partners_before, one.stops_linking) for one in found.values
    ] == [(v, len(partners[v]), len(partners_before[v]), False) for v in expected]

    # The import itself has as many merges.
    assert run_import(database_url, path, jobs=1).counts.merged == len(bridges)


def partners_of(requests: Sequence[Pair]) -> defaultdict[str, set[str]]:
    partners: defaultdict[str, set[str]] = defaultdict(set)
    for email, phone in requests:
        if email and phone:
            partners[email].add(phone)
            partners[phone].add(email)
    return partners


def test_row_of_several_values_joins_several_identities(database_url: str, tmp_path: Path) -> None:
    run_import(database_url, write_csv(tmp_path / "a.csv", [("a@x.org", "1"), ("b@x.org", "1")]))
    path = tmp_path / "b.csv"
    # The second row brings a contact of its own in, which it then joins with the others.
    path.write_text(
        "email,phone\nc@x.org,2222222\nnew@x.org; a@x.org,3333333; 2222222\nonly@x.org,4\n"
    )
    found = preview_of(database_url, path)
    assert [(line, sizes) for _, line, sizes in found.bridges] == [(3, (2, 1))]
    assert found.largest_identity is not None
    assert found.largest_identity[:3] == (1, 4, 2)


def test_lines_of_several_inputs_are_those_of_their_files(
    database_url: str, tmp_path: Path
) -> None:
    first = write_csv(tmp_path / "a.csv", [("a@x.org", "1"), ("b@x.org", "2")])
    second = write_csv(tmp_path / "b.csv", [("c@x.org", "3"), ("b@x.org", "1")])
    found = preview_of(database_url, first, second)
    assert [tuple(bridge) for bridge in found.bridges] == [(str(second), 3, (1, 1))]


def test_preview_of_nothing_is_empty(database_url: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [])
    found = preview_of(database_url, path)
    assert found.as_json() == {
        "merges": {"rows": 0, "sizes": []},
        "bridges": [],
        "largest_identity": None,
        "hubs": {"limit_email": None, "limit_phone": None, "count": 0},
        "values": [],
    }
    # What is known already changes nothing either.
    known = write_csv(tmp_path / "b.csv", some_requests(50, 20, 1))
    run_import(database_url, known)
    assert preview_of(database_url, known) == found


def test_values_over_the_limit_stop_linking(database_url: str, tmp_path: Path) -> None:
    def callers(phone: str, count: int) -> list[Pair]:
        return [(f"{phone}-{i}@x.org", phone) for i in range(count)]

    old = [*callers("100", 5), *callers("200", 2), *callers("300", 9)]
    run_import(database_url, write_csv(tmp_path / "a.csv", old))
    with Steering.open(database_url) as steering:
        steering.apply(SetHubLimits((("hub-limit-phone", 4),)))
        steering.apply(block("300"))
    # 100 is over the limit already, 200 and 400 will be, 300 is blocked by a command.
    new = [("200-new@x.org", "200"), ("200-more@x.org", "200"), ("200-last@x.org", "200")]
    path = write_csv(tmp_path / "b.csv", [*new, *callers("400", 7), ("x@x.org", "100")])
    found = preview_of(database_url, path)
    assert (found.hub_limit_email, found.hub_limit_phone, found.new_hubs) == (None, 4, 2)
    assert [tuple(value) for value in found.values] == [
        ("400", 7, 0, True),
        ("200", 5, 2, True),
    ]
    run_import(database_url, path)
    with psycopg.connect(database_url) as connection:
        hubs = connection.execute("SELECT value FROM blocked_value WHERE is_hub ORDER BY value")
        assert hubs.fetchall() == [("100",), ("200",), ("300",), ("400",)]


@pytest.mark.parametrize("seed", range(4))
def test_preview_with_rules_is_what_the_import_then_does(
    database_url: str, connection: psycopg.Connection[Any], tmp_path: Path, seed: int
) -> None:
    """Rules split identities while the rows are read."""
    before, requests = some_requests(80, 60, seed), some_requests(200, 60, seed + 100)
    run_import(database_url, write_csv(tmp_path / "a.csv", before), jobs=1)
    with Steering.open(database_url) as steering:
        steering.apply(SetHubLimits((("hub-limit-phone", 3), ("hub-limit-email", 5))))
        steering.apply(block(requests[0][0] or "", requests[1][1] or ""))

    def hubs() -> set[str]:
        found = connection.execute("SELECT value FROM blocked_value WHERE is_hub").fetchall()
        return {value for (value,) in found}

    hubs_before = hubs()
    path = write_csv(tmp_path / "b.csv", requests)
    found = preview_of(database_url, path)
    assert hubs() == hubs_before
    importer = run_import(database_url, path, jobs=1)
    new_hubs = hubs() - hubs_before - {requests[0][0], requests[1][1]}
    assert found.new_hubs == len(new_hubs) > 3
    named = [value for value in found.values if value.stops_linking]
    assert {value.value for value in named} <= new_hubs
    assert len(named) == min(len(new_hubs), 10)
    for value in named:
        counted = connection.execute(
            "SELECT partners FROM partner_count WHERE value = %s", (value.value,)
        ).fetchone()
        assert counted == (value.partners,)
    merges = connection.execute(
        "SELECT count(DISTINCT line) FROM link_evidence"
        " WHERE run_id = %s AND merged_id IS NOT NULL AND NOT is_held",
        (importer.run_id,),
    ).fetchone()
    assert merges is not None
    assert 0 < found.merging_rows <= merges[0]
    largest = connection.execute(
        "SELECT 1 + count(*) FROM contact WHERE linked_id IN ("
        " SELECT coalesce(linked_id, id) FROM contact WHERE run_id = %(run)s UNION"
        " SELECT coalesce(c.linked_id, c.id) FROM link_evidence e JOIN contact c"
        " ON c.id = e.merged_id WHERE e.run_id = %(run)s AND NOT is_held"
        ") GROUP BY linked_id ORDER BY 1 DESC LIMIT 1",
        {"run": importer.run_id},
    ).fetchone()
    assert largest is not None
    assert found.largest_identity is not None
    assert found.largest_identity.contacts == largest[0]


def test_partners_of_a_blocked_value_are_counted(database_url: str, tmp_path: Path) -> None:
    run_import(
        database_url,
        write_csv(tmp_path / "a.csv", [("a@x.org", "1"), ("b@x.org", "1"), ("b@x.org", "2")]),
    )
    with Steering.open(database_url) as steering:
        steering.apply(block("1"))
    path = write_csv(
        tmp_path / "b.csv", [("c@x.org", "1"), ("b@x.org", "3"), (None, "1"), ("d@x.org", "1")]
    )
    found = preview_of(database_url, path)
    assert [tuple(value) for value in found.values] == [("1", 4, 2, False)]
    assert found.merging_rows == 0


def test_values_are_masked_unless_asked(database_url: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", some_requests(40, 10, 2))
    shown = preview_of(database_url, path)
    hidden = preview_of(database_url, path, with_values=False)
    assert shown.largest_identity is not None
    assert hidden.largest_identity is not None
    assert hidden.largest_identity.members == tuple(map(masked, shown.largest_identity.members))
    assert [one.value for one in hidden.values] == [masked(one.value) for one in shown.values]
    assert "x.org" not in str(hidden.as_json())


def test_rows_of_other_writers_are_no_part_of_it(
    database_url: str, connection: psycopg.Connection[Any], tmp_path: Path, monkeypatch: Any
) -> None:
    path = write_csv(tmp_path / "a.csv", [("a@x.org", "1"), ("b@x.org", "2")])

    take_preview = preview_module.take_preview

    def with_another_writer(*arguments: Any, **options: Any) -> Preview:
        # Its ids are above the marks of the dry run.
        for i in range(30):
            connection.execute("SELECT reconcile(%s, '555')", (f"{i}@y.org",))
        return take_preview(*arguments, **options)

    monkeypatch.setattr("identity_cli.importer.run.take_preview", with_another_writer)
    run_import(database_url, write_csv(tmp_path / "c.csv", [("known@x.org", "9")]))
    found = preview_of(database_url, path)
    assert found.largest_identity is None
    assert found.values == ()


def test_stop_during_the_preview_ends_it(database_url: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", some_requests(50, 20, 1))
    switch = StopSwitch()
    importer = Importer(ImportPlan((str(path),), dry_run=True), switch)

    def stop(progress: Progress) -> None:
        if progress.phase == "preview":
            switch.request()

    importer.run(Database(connection_parameters(database_url), embedded=False), stop)
    assert importer.status == "stopped"
    assert importer.report(130).preview is None
    assert importer.counts.read == 50


def test_only_a_dry_run_has_a_preview(database_url: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("a@x.org", "1")])
    importer = run_import(database_url, path)
    assert importer.report(0).preview is None
    assert importer.report(0).as_json()["preview"] is None


def block(*values: str) -> Block:
    return Block(tuple(named_values(values, None)))
