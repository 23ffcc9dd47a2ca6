"""How changes, rules and events are written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from identity_cli import output
from identity_cli.graph.history import Event
from identity_cli.graph.paths import Pair
from identity_cli.graph.rule_lists import Author, BlockedValue, BlockPattern, Policy
from identity_cli.graph.steering import Change, Regrouping, SizedIdentity

if TYPE_CHECKING:
    import pytest

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
AUTHOR = Author(7, "spam", "app", NOON)
SPLIT = Change(
    command="block",
    command_ids=(7,),
    is_applied=True,
    reason="spam",
    moved=2,
    before=(SizedIdentity(1, 8),),
    after=tuple(SizedIdentity(i, 1) for i in range(1, 9)),
    split=(Regrouping(1, tuple(range(1, 9))),),
    details={"values": ["info@x.org"], "patterns": [], "stop_linking": 1},
)


def test_change_names_the_first_identities_and_counts_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.change(SPLIT)
    assert capsys.readouterr().out.splitlines() == [
        "block",
        "values that stop linking: 1",
        "contacts: 2 moved, 0 removed, 0 added",
        "identities before: 1",
        "  1: 8 contacts",
        "identities after: 8",
        *(f"  {i}: 1 contact" for i in range(1, 6)),
        "  … and 3 more",
        "split: 1 into 1, 2, 3, 4, 5 and 3 more",
        "recorded as: 7",
    ]


def test_preview_shows_members_and_has_no_id(capsys: pytest.CaptureFixture[str]) -> None:
    members = SizedIdentity(1, 8, ("a***@x***.org", "***"))
    output.change(replace(SPLIT, is_applied=False, before=(members,)))
    shown = capsys.readouterr().out
    assert shown.startswith("block (preview)\n")
    assert "  1: 8 contacts: a***@x***.org, ***, …\n" in shown
    assert "recorded" not in shown


def test_change_of_nothing_is_one_line_and_notes_go_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.change(Change("unlink", (9,), True, notes=("not stated so far",)))
    assert capsys.readouterr() == (
        "unlink\nno contact moves to another identity\nrecorded as: 9\n",
        "note: not stated so far\n",
    )


def test_many_regroupings_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    output.change(replace(SPLIT, split=tuple(Regrouping(i, (i, i + 1)) for i in range(9))))
    assert "split: … and 4 more\n" in capsys.readouterr().out


def test_document_of_a_change_has_all_ids() -> None:
    assert json.loads(json.dumps(SPLIT.as_json())) == {
        "schema_version": 1,
        "command": "block",
        "applied": True,
        "command_ids": [7],
        "reason": "spam",
        "contacts": {"moved": 2, "removed": 0, "added": 0},
        "identities": {
            "before": [{"primaryContactId": 1, "contacts": 8}],
            "after": [{"primaryContactId": i, "contacts": 1} for i in range(1, 9)],
        },
        "split": [{"primaryContactId": 1, "into": [1, 2, 3, 4, 5, 6, 7, 8]}],
        "merged": [],
        "values": ["info@x.org"],
        "patterns": [],
        "stop_linking": 1,
        "notes": [],
    }
    assert replace(SPLIT, is_applied=False).as_json()["command_ids"] == []


def test_path_and_cut_name_the_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    contact, evidence = Pair("a@x", "1", 4, 2, 17), Pair("b@x", "1")
    output.change(Change("unlink", (1,), True, path=(contact, evidence)))
    output.cut([contact])
    output.cut([])
    shown = capsys.readouterr().out
    assert "still joined by\n  a@x 1 (contact 4, run 2 line 17)\n  b@x 1 (evidence)\n" in shown
    assert shown.endswith(
        "pairs to unlink: 1\n  a@x 1 (contact 4, run 2 line 17)\n"
        "the two are in different identities\n"
    )


def test_blocked_values_name_every_cause(capsys: pytest.CaptureFixture[str]) -> None:
    value = BlockedValue("info@x.org", "info@.*", True, 9, True, AUTHOR)
    output.blocked([value], [BlockPattern("info@.*", 1, AUTHOR)])
    assert capsys.readouterr().out.splitlines() == [
        "blocked by\tvalue\tcommand\twhen\twho\treason",
        "pattern\tinfo@.*\t7\t2026-01-02 12:00:00+00:00\tapp\tspam",
        "value pattern hub\tinfo@x.org\t7\t2026-01-02 12:00:00+00:00\tapp\tspam",
    ]


def test_policy_without_limits_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    output.policy(Policy(None, 4, 0, 2, ()))
    assert capsys.readouterr().out == (
        "hub-limit-email: off\nhub-limit-phone: 4 (2 blocked as hubs)\nallowed: 0\n"
    )


def test_history_is_one_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    output.history(
        [
            Event(NOON, "run", run_id=3, status="finished"),
            Event(NOON, "merge", run_id=3, line=9, from_primary_id=4, to_primary_id=2),
            Event(NOON, "command", "undo", run_id=3, contacts=1, role="app", command_id=8),
            Event(NOON, "moved", "block", contact_id=4, from_primary_id=2, command_id=7),
            Event(NOON, "stored", contact_id=4, run_id=3, line=2),
        ]
    )
    when = "2026-01-02 12:00:00+00:00"
    assert capsys.readouterr().out.splitlines() == [
        "when\tevent\twhat\twho\treason",
        f"{when}\trun\trun 3 finished\t\t",
        f"{when}\tmerge\t4 into 2, run 3 line 9\t\t",
        f"{when}\tcommand\t8: undo run 3, 1 contact\tapp\t",
        f"{when}\tmoved\tcontact 4 from 2 to no identity by block 7\t\t",
        f"{when}\tstored\tcontact 4, run 3 line 2\t\t",
    ]
