"""Checkpoints as documents, of this release and of others."""

from __future__ import annotations

import json

import pytest

from identity_cli.importer.checkpoints import Checkpoint, Counts

CHECKPOINT = Checkpoint(
    milestones=[(3, "abc")],
    segments=[(0, 5)],
    counts=Counts(read=3, created=1, rejected=2),
    codes={"bad_email": 2},
    input_codes={0: {"bad_email": 1}, 11: {"bad_email": 1}},
    rejects={0: ("a.csv.1.rejects", 7), 11: ("b.csv.1.rejects", 9)},
    outcomes=4,
)


def test_checkpoint_is_the_same_after_a_round_trip() -> None:
    document = json.loads(json.dumps(CHECKPOINT.as_json()))
    assert Checkpoint.from_json(document) == CHECKPOINT


def test_copy_does_not_change_with_the_original() -> None:
    copy = CHECKPOINT.copy()
    copy.input_codes[0]["bad_email"] += 1
    assert CHECKPOINT.input_codes[0] == {"bad_email": 1}


def test_checkpoint_without_codes_by_input_is_read() -> None:
    document = CHECKPOINT.as_json() | {"version": 2}
    del document["input_codes"]
    found = Checkpoint.from_json(document)
    assert found is not None
    assert (found.codes, found.input_codes) == ({"bad_email": 2}, {})


@pytest.mark.parametrize("version", [None, 1, 4])
def test_checkpoint_of_another_kind_is_not_read(version: int | None) -> None:
    assert Checkpoint.from_json(CHECKPOINT.as_json() | {"version": version}) is None
