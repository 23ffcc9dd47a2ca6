"""The report as a page: complete without a network, safe with any value, readable by machines."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from identity_cli.graph.changes import Added, Changes, DoubledIdentity, MovedByRules
from identity_cli.graph.report import Report
from identity_cli.graph.run_list import Run
from identity_cli.graph.statistics import (
    Growth,
    LargeIdentity,
    SharedValue,
    SizeClass,
    Statistics,
    Stored,
)
from identity_cli.graph.verify import Verification
from identity_cli.output.report import notices, report_page

NIGHT = datetime(2026, 3, 1, 2, 15, tzinfo=UTC)
HOSTILE = '<script>alert("x")</script>&amp;.csv'


def a_run(**changes: Any) -> Run:
    run = Run(
        id=2,
        status="finished",
        inputs=[{"path": HOSTILE}],
        options=None,
        rows={
            "read": 1000,
            "created": 1,
            "linked": 30,
            "merged": 2,
            "unchanged": 960,
            "rejected": 7,
            "partial": 0,
        },
        seconds=2.0,
        started_at=NIGHT,
        finished_at=NIGHT,
        error=None,
        alive=False,
        codes={"bad_email": 7},
        input_codes={"0": {"bad_email": 7}},
        rejects_files={"0": (f"{HOSTILE}.2.rejects", 1)},
    )
    return replace(run, **changes)


def a_report(**changes: Any) -> Report:
    """A report with something in every part; `changes` are of its statistics."""
    shared = SharedValue("+12025550101", 31, 2, 5)
    found = Statistics(
        taken_at=NIGHT,
        contacts=1234567,
        identities=700000,
        emails=900000,
        phone_numbers=800000,
        pairs=3,
        held_pairs=0,
        merges=3,
        sizes=(SizeClass(1, 1, 699999, 699999), SizeClass(2, 3, 0, 0), SizeClass(4, 7, 1, 5)),
        largest=(LargeIdentity(5, 40, 39, 1),),
        hubs=1,
        most_shared=(shared, SharedValue("doc@hillvalley.edu", 3, 3, 5)),
        new_hubs=1,
        most_shared_new_hubs=(shared,),
        rows={"read": 2000000, "rejected": 0},
        runs=(Growth(a_run(), Stored(31, 1, 2), Stored(1234567, 700002, 2)),),
    )
    return Report(
        10,
        replace(found, **changes),
        Changes(
            1,
            NIGHT,
            (Added(2, 1, 30, 2), Added(None, 0, 3, 1)),
            MovedByRules(0, 0),
            (DoubledIdentity(5, 40, 3),),
        ),
        Verification(1234567, 700000, "sha256:abc", (), {}),
    )


def page(found: Report | None = None, *, with_values: bool = False) -> str:
    return report_page(
        found or a_report(), place="Database db/identity", version="1.2.3", with_values=with_values
    )


class Structure(HTMLParser):
    """Every tag with its attributes, and the text of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_well_formed_and_needs_nothing_else() -> None:
    text = page()
    structure = Structure(text)
    assert structure.open == []
    names = {tag for tag, _ in structure.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    for _, attributes in structure.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "#").startswith("#")
        assert "src" not in attributes
    assert "url(" not in text
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text


def test_tables_have_captions_and_scopes() -> None:
    structure = Structure(page())
    tables = [tag for tag, _ in structure.tags].count("table")
    assert tables == 8
    assert [tag for tag, _ in structure.tags].count("caption") == tables
    for tag, attributes in structure.tags:
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}


def test_ids_are_unique_and_links_and_labels_lead_to_them() -> None:
    structure = Structure(page())
    ids = [attributes["id"] for _, attributes in structure.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in structure.tags:
        if "href" in attributes:
            assert str(attributes["href"]).removeprefix("#") in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_text_of_others_is_escaped() -> None:
    text = page(a_report(most_shared=(SharedValue('"<b>"@x.org', 3, 3, 5),)), with_values=True)
    assert "<script" not in text
    assert "<b>" not in text
    assert HOSTILE in Structure(text).text
    assert '"<b>"@x.org' in Structure(text).text


def test_values_are_masked_unless_wanted() -> None:
    assert "+12025550101" in page(with_values=True)
    masked = page()
    assert "+12025550101" not in masked
    assert "***01" in masked
    assert "doc@hillvalley.edu" not in masked
    assert "Emails and phone numbers are masked" in masked


def test_numbers_are_readable() -> None:
    text = " ".join(Structure(page()).text.split())
    assert "Contacts 1,234,567 +34" in text
    assert "Identities 700,000 \N{MINUS SIGN}2" in text
    assert "Deduplication rate 65.0% of 2,000,000 imported requests" in text
    assert "Run 2 1 30 2 0 Single requests 0 3 1 0 Together 1 33 3 0" in text
    assert "Since run 1 ended, 2026-03-01 02:15 UTC" in text
    assert "Written by identity 1.2.3." in text


def test_rules_have_a_row_and_no_difference_is_shown() -> None:
    """Contacts that rules take out and put back would have to be counted too."""
    found = a_report()
    found = replace(found, changes=replace(found.changes, moved_by_rules=MovedByRules(4, 5)))
    text = " ".join(Structure(page(found)).text.split())
    assert "Rules 0 0 4 5 Together 1 33 7 5" in text
    assert "Contacts 1,234,567 Identities 700,000 Emails" in text


def test_warnings_come_first_and_the_worst_before_the_others() -> None:
    failed = a_run(status="failed", error={"code": "output", "message": "the disk is full"})
    found = a_report(runs=(Growth(failed, Stored(), None),))
    found = replace(
        found, verification=Verification(4, 2, "sha256:abc", (), {"unmerged": 2, "self_link": 1})
    )
    assert [(one.level, one.target, one.text) for one in notices(found)] == [
        ("bad", "verification", "The stored graph is not correct: 2 unmerged, 1 self_link."),
        ("bad", "runs", "Run 2, the newest one, failed: the disk is full."),
        (
            "warn",
            "doubled",
            "1 identity has at least doubled."
            " The largest, of primary 5, has 40 contacts and had 3.",
        ),
        (
            "warn",
            "new-hubs",
            "1 value has become a hub: shared by more than 20 others, it may join strangers.",
        ),
    ]
    text = page(found)
    places = [text.index(f"{one.text}".partition(":")[0]) for one in notices(found)]
    assert places == sorted(places)
    assert places[-1] < text.index("The graph</h2>")


@pytest.mark.parametrize(("status", "alive"), [("stopped", False), ("running", True)])
def test_run_that_was_stopped_or_goes_on_is_no_error(status: str, alive: bool) -> None:
    run = a_run(status=status, alive=alive, finished_at=None)
    found = a_report(runs=(Growth(run, Stored(), None),))
    assert "runs" not in {one.target for one in notices(found)}
    assert f">{status}</span>" in page(found)


def test_page_without_warnings_says_so() -> None:
    found = a_report(new_hubs=0, most_shared_new_hubs=())
    found = replace(found, changes=replace(found.changes, doubled=()))
    assert notices(found) == []
    assert "No warnings." in page(found)
    assert "<li" not in page(found)


def test_lists_are_cut_and_say_so() -> None:
    found = a_report()
    doubled = tuple(DoubledIdentity(number, 40, 3) for number in range(30))
    found = replace(found, changes=replace(found.changes, doubled=doubled))
    text = page(found)
    assert "(the first 10 of 30)" in text
    assert len(re.findall(r'<td class="number">40</td>', text)) == 11  # and the largest identity


def test_page_of_an_empty_graph() -> None:
    found = Report(
        10,
        Statistics(NIGHT, 0, 0, 0, 0, 0, 0, 0, (), (), 0, (), 0, (), {}, ()),
        Changes(None, None, (), MovedByRules(0, 0), ()),
        Verification(0, 0, "sha256:abc", (), {}),
    )
    text = page(found)
    for sentence in ("Nothing has been imported.", "The graph is empty.", "No warnings."):
        assert sentence in text
    assert "<table" not in text


def test_rejects_of_an_older_release_name_the_input_only_if_it_is_the_only_one() -> None:
    counts = a_run(input_codes=None).reject_counts
    assert [(one.path, one.code, one.rows) for one in counts] == [(HOSTILE, "bad_email", 7)]
    several = a_run(inputs=[{"path": "a"}, {"path": "b"}], input_codes={"1": {"bad_email": 3}})
    assert [(one.path, one.rows) for one in several.reject_counts] == [("b", 3), (None, 4)]
    assert a_run(codes=None, input_codes=None, rejects_files=None).reject_counts == []
