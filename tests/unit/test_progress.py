"""How far long work is: rates, the time left, bars and events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from identity_cli.meter import Meter
from identity_cli.output.pace import Pace, amount, duration, speed
from identity_cli.output.progress import _Bar, _Events, progress

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/progress.schema.json").read_text())


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Capture = pytest.CaptureFixture[str]


def written(capture: Capture) -> list[dict[str, Any]]:
    """Return the events that were written since the last time."""
    events = list(map(json.loads, capture.readouterr().err.splitlines()))
    for event in events:
        jsonschema_rs.validate(SCHEMA, event)
    return events


def test_nothing_is_known_before_anything_is_done() -> None:
    pace = Pace(0.0)
    assert pace.rate(5.0) is None
    assert pace.seconds_left(100, 5.0) is None


def test_rate_and_time_left_are_those_of_the_last_half_minute() -> None:
    pace = Pace(0.0)
    for second in range(1, 61):
        pace.note(second * 1000, float(second))
    assert pace.rate(60.0) == 1000
    for second in range(61, 101):
        pace.note(60_000 + (second - 60) * 100, float(second))
    assert pace.rate(100.0) == 100
    assert pace.seconds_left(65_000, 100.0) == 10


def test_steps_that_take_longer_than_the_window_have_the_rate_of_all() -> None:
    pace = Pace(0.0)
    pace.note(20, 100.0)
    assert pace.rate(180.0) == pytest.approx(20 / 180)
    assert pace.seconds_left(40, 200.0) == pytest.approx(200)


def test_nothing_is_left_when_all_is_done() -> None:
    pace = Pace(0.0)
    pace.note(10, 0.0)
    assert pace.seconds_left(10, 0.0) == 0
    assert pace.seconds_left(None, 0.0) is None


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [
        (512, None, "bytes", "512 bytes"),
        (12_345_678, None, "bytes", "12.3 MB"),
        (1_234_567, None, "rows", "1,234,567 rows"),
        (1_000, 3_000, "rows", "33%"),
        (30, 100, "percent", "30%"),
        (2, 5, "steps", "2/5 steps"),
        (0, 0, "rows", "0/0 rows"),
    ],
)
def test_amounts(done: int, total: int | None, unit: str, text: str) -> None:
    assert amount(done, total, unit) == text


def test_speeds_and_durations() -> None:
    assert speed(None, "rows") == "-"
    assert speed(12_345.6, "rows") == "12,346 rows/s"
    assert speed(0.25, "steps") == "0.2 steps/s"
    assert speed(2.5, "percent") == "2.5%/s"
    assert speed(2_500_000, "bytes") == "2.5 MB/s"
    assert duration(3_725.4) == "1:02:05"
    assert duration(None) == "-:--:--"


def test_steps_are_shares_of_a_hundred() -> None:
    meter = Meter()
    begin = meter.steps({"first": 50, "second": 100, "third": 50})
    found = []
    for step in ("first", "second", "third"):
        begin(step)
        found.append((meter.phase, meter.done, meter.total))
    assert found == [("first", 0, 100), ("second", 25, 100), ("third", 75, 100)]


def test_more_than_expected_is_no_more_than_all() -> None:
    meter = Meter()
    meter.expect(10, "rows")
    meter.advance(12)
    assert (meter.done, meter.total) == (12, 12)


def test_events_are_at_least_a_second_apart_but_for_phases_and_the_end(
    capsys: Capture,
) -> None:
    clock = Clock()
    events = _Events("verify", clock)
    with events.shown():
        events.expect(1000, "rows")
        events.begin("contacts")
        for _ in range(640):
            clock.now += 1 / 128
            events.advance(1)
        events.begin("values")
        events.advance(1)
    found = written(capsys)
    phases = [event["phase"] for event in found]
    assert phases == ["contacts"] * 6 + ["values"] * 2
    assert [event["done"] for event in found] == [0, 128, 256, 384, 512, 640, 640, 641]
    assert (found[1]["rate"], found[1]["eta"]) == (128, 6.8)


def test_events_of_files_have_their_rows(capsys: Capture) -> None:
    clock = Clock()
    events = _Events("import", clock)
    with events.shown():
        clock.now += 2
        events.phase = "rows"
        events.read(200, 1000, 20)
    [event] = written(capsys)
    assert (event["unit"], event["rate"], event["eta"]) == ("bytes", 100, 8)
    assert (event["rows"], event["rows_per_second"]) == (20, 10)


def test_what_completes_ends_with_all_of_it(capsys: Capture) -> None:
    with progress("stats", "json") as meter:
        meter.steps({"first": 1, "second": 1})("first")
    assert [event["done"] for event in written(capsys)] == [0, 100]


def test_what_fails_does_not_end_with_all_of_it(capsys: Capture) -> None:
    def fail() -> None:
        with progress("stats", "json") as meter:
            meter.steps({"first": 1, "second": 1})("first")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [event["done"] for event in written(capsys)] == [0]


def test_nothing_is_shown_into_a_pipe(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    for mode in ("auto", "none"):
        with progress("stats", mode) as meter:
            assert not meter.is_shown
            meter.steps({"first": 1})("first")
    assert written(capsys) == []


def test_events_are_for_who_asks_for_them_even_if_a_bar_is_hidden(capsys: Capture) -> None:
    with progress("import", "json", hidden=True) as meter:
        meter.begin("rows")
    assert len(written(capsys)) == 1


def test_bar_shows_rate_and_time_left() -> None:
    clock = Clock()
    bar = _Bar(clock)
    assert bar.figures(clock.now) == "0:00:00"
    bar._show = lambda *_args, **_options: None  # type: ignore[method-assign]
    clock.now += 10
    bar.read(1000, 4000, 50_000)
    assert bar.figures(clock.now) == "50,000 rows  5,000 rows/s  0:00:10  0:00:30 left"
    bar.read(1000, None, 50_000)
    assert bar.figures(clock.now) == "50,000 rows  5,000 rows/s  1.0 kB  0:00:10"
    bar.rows = None
    bar.expect(4000, "rows")
    assert bar.figures(clock.now) == "25%  100 rows/s  0:00:10  0:00:30 left"


def test_step_that_begins_again_takes_nothing_back() -> None:
    meter = Meter()
    begin = meter.steps({"reading": 3, "computing": 1})
    part = meter.part("computing")
    begin("reading")
    begin("computing")
    part.expect(4, "rows")
    part.reach(2)
    assert meter.done == 87
    begin("computing")
    assert meter.done == 87
    part.reach(1)
    assert meter.done == 87
    part.reach(4)
    assert meter.done == 100
