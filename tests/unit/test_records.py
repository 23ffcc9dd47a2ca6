"""What a resumed run makes of what its interrupted try has stored."""

from __future__ import annotations

from identity_cli.graph.core import Outcome
from identity_cli.graph.normalize import ContactRequest
from identity_cli.importer.checkpoints import Checkpoint, Counts
from identity_cli.importer.records import LineRecord, Records, StoredContact, StoredEvidence

PAIR = frozenset({"a@x.org", "1"})
REQUEST = ContactRequest("a@x.org", "1")


def answered(
    *stored: StoredContact | StoredEvidence,
    request: ContactRequest = REQUEST,
    unknown: tuple[str, ...] = (),
) -> Outcome | None:
    record = LineRecord(
        [one for one in stored if isinstance(one, StoredContact)],
        [one for one in stored if isinstance(one, StoredEvidence)],
    )
    return Records({2: record}).outcome(2, request, lambda values: {*values} <= {*unknown})


def test_contact_that_was_stored_alone_is_not_that_of_a_pair() -> None:
    alone = StoredContact(5, 5, frozenset({"a@x.org"}))
    assert answered(alone) is None
    assert answered(alone, unknown=("1",)) == Outcome("created", 5, 5)


def test_contact_beside_a_blocked_value_is_created() -> None:
    aside = StoredContact(5, 5, PAIR, is_held=True)
    assert answered(aside) == Outcome("created", None, 5)


def test_values_that_are_kept_apart_come_in_their_order() -> None:
    second = StoredContact(5, 5, frozenset({"1"}))
    first = StoredContact(6, 6, PAIR, is_held=True)
    assert answered(second, first) == Outcome("created", None, 6, (6, 5))


def test_contact_that_showed_nothing_was_not_in_the_answer() -> None:
    assert answered(StoredContact(5, 5, PAIR, is_held=True, was_shown=False)) is None


def test_contact_that_made_a_hub_is_created() -> None:
    assert answered(StoredContact(7, 3, PAIR, is_held=True, has_moved=True)) == Outcome(
        "linked", 3, 7
    )
    hub = StoredContact(7, 3, PAIR, is_held=True, has_moved=True, made_hub=True)
    assert answered(hub) == Outcome("created", 7, 7)


def test_pair_that_has_never_linked_tells_nothing() -> None:
    assert answered(StoredEvidence(None, False, PAIR, is_held=True)) is None
    assert answered(StoredEvidence(3, True, PAIR, is_held=True)) == Outcome("merged", 3, None)


def test_value_has_linked_until_it_became_a_hub() -> None:
    records = Records({9: LineRecord()}, {"1": 7, "a@x.org": -1})
    assert records.hubs_at(6, REQUEST) == ["a@x.org"]
    assert records.has_hub_since(6, REQUEST)
    assert records.hubs_at(7, REQUEST) == ["a@x.org", "1"]
    assert not records.has_hub_since(7, REQUEST)


def test_checkpoint_of_an_older_release_has_no_blocked_rows() -> None:
    document = Checkpoint(counts=Counts(read=3, created=3)).as_json()
    del document["counts"]["blocked"]
    checkpoint = Checkpoint.from_json(document)
    assert checkpoint is not None
    assert checkpoint.counts == Counts(read=3, created=3, blocked=0)
