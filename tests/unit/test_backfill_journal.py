"""The journal of a computation on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from identity_cli.backfill.journal import Journal
from identity_cli.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_journal_of_the_same_input_is_resumed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "spark.json", "stamp")
    assert not journal.is_resumed
    journal.begin()
    assert Journal(tmp_path / "spark.json", "stamp").is_resumed
    journal.note_made("pair", "turn BIGINT")
    journal.note_made("alike", "turn BIGINT, kind STRING")
    journal.note_dropped("pair")
    journal = Journal(tmp_path / "spark.json", "stamp")
    assert journal.is_resumed
    assert journal.columns == {"pair": "turn BIGINT", "alike": "turn BIGINT, kind STRING"}
    assert journal.dropped == ["pair"]


def test_a_journal_has_a_name_that_no_other_has_and_keeps_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "spark.json", "stamp")
    journal.begin()
    name = journal.name
    assert Journal(tmp_path / "spark.json", "stamp").name == name
    assert Journal(tmp_path / "spark.json", "other").name == name
    assert Journal(tmp_path / "another.json", "stamp").name != name


def test_a_journal_of_another_input_is_begun_again(tmp_path: Path) -> None:
    Journal(tmp_path / "spark.json", "stamp").note_made("pair", "turn BIGINT")
    journal = Journal(tmp_path / "spark.json", "other")
    assert not journal.is_resumed
    assert (journal.columns, journal.dropped) == ({}, [])
    journal.note_made("alike", "turn BIGINT")
    assert not Journal(tmp_path / "spark.json", "stamp").is_resumed


def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Is a directory"):
        Journal(tmp_path, "stamp")
