"""The report in a real browser: on a desk and on a phone, light and dark, and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser.nights import write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.slow

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
DESK, PHONE = 1400, 390
# What reaches beyond the right edge, apart from what scrolls by itself.
OUTSIDE = """
    [...document.querySelectorAll('body *')].filter(one => {
        const scroll = one.parentElement.closest('.scroll');
        return !one.closest('.hidden') && !(scroll && getComputedStyle(scroll).overflowX === 'auto')
            && one.getBoundingClientRect().right > innerWidth + 0.5;
    }).map(one => one.outerHTML)
"""
# What may be wider than a phone, and then scrolls by itself.
WIDE_TABLES = {"newest-runs", "rejects"}


@pytest.fixture(scope="module")
def report(
    cloned_database: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A report with something in every part: warnings, rejects of several files, hubs, sizes."""
    odd_name = "<b>an export & its very long name from the customer database.csv"
    with cloned_database() as url:
        folder = tmp_path_factory.mktemp("report")
        yield write_report(folder, {"DATABASE_URL": url}, odd_name=odd_name)


def opened(browser: Any, report: Path, width: int, scheme: str = "light") -> Any:
    """A page with the report, which has loaded nothing else."""
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(report.as_uri())
    assert requests == [report.as_uri()]
    assert complaints == []
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_page_fits_and_can_be_read(
    browser: Any, report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page = opened(browser, report, width, scheme)
    texts, too_faint = page.evaluate(CONTRAST)
    assert texts > 100
    assert too_faint == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    scrolling = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
        ".map(one => one.getAttribute('aria-labelledby'))"
    )
    assert set(scrolling) <= (WIDE_TABLES if width == PHONE else set())
    assert page.evaluate(OUTSIDE) == []
    is_dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 26)"
    assert is_dark == (scheme == "dark")
    picture = page.screenshot(path=tmp_path / f"report-{width}-{scheme}.png", full_page=True)
    assert len(picture) > 20_000
    page.close()


def test_faint_text_is_found(browser: Any, report: Path) -> None:
    page = opened(browser, report, DESK)
    page.evaluate("document.querySelector('caption').style.color = '#999'")
    assert len(page.evaluate(CONTRAST)[1]) == 1
    page.close()


def test_bars_can_be_seen(browser: Any, report: Path) -> None:
    page = opened(browser, report, PHONE, "dark")
    widths = page.evaluate(
        "[...document.querySelectorAll('tbody tr:has(.bar)')].map(row =>"
        " [row.cells[1].textContent !== '0', row.querySelector('.bar').clientWidth])"
    )
    assert len(widths) > 3
    for has_identities, width in widths:
        assert (width > 0) == has_identities
    page.close()


def test_screen_reader_finds_tables_by_name_and_cells_by_headers(
    browser: Any, report: Path
) -> None:
    page = opened(browser, report, DESK)
    for heading in ("Warnings", "The graph", "What changed", "Runs", "Identities"):
        assert page.get_by_role("region", name=heading, exact=True).count() == 1
        assert page.get_by_role("heading", name=heading, exact=True).count() == 1
    runs = page.get_by_role("table", name="The newest runs, times in UTC")
    assert runs.get_by_role("columnheader", name="Rejected").count() == 1
    assert runs.get_by_role("rowheader", name="2", exact=True).count() == 1
    sizes = page.get_by_role("table", name="Identities by their number of contacts")
    assert sizes.get_by_role("columnheader", name="Share of the identities").count() == 1
    page.close()


def test_keyboard_reaches_links_and_tables_that_scroll(browser: Any, report: Path) -> None:
    page = opened(browser, report, PHONE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Details"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#doubled"
    runs = page.get_by_role("region", name="The newest runs")
    runs.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(100):  # it scrolls smoothly
        if page.evaluate("document.activeElement.scrollLeft") > 0:
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("the arrow key does not scroll the table")
    page.close()


def test_paper_is_light_and_wide_enough(browser: Any, report: Path) -> None:
    """A4 without its margins is 688 pixels wide."""
    page = opened(browser, report, 688, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    texts, too_faint = page.evaluate(CONTRAST)
    assert texts > 100
    assert too_faint == []
    assert page.evaluate(OUTSIDE) == []
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
