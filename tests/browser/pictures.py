"""The pictures of the report and of the page to look people up, in `docs/pictures/`.

`python tests/browser/pictures.py` makes them; `SOURCES` says from what, and a test compares the
digest that is stored beside the pictures with these files.
"""

from __future__ import annotations

import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from browser.chromium import running_chromium
from browser.lookups import fill_database, looking_up
from browser.nights import write_report

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
DIGEST = PICTURES / "made-from.txt"
_TEMPLATES = ROOT / "identity_cli/output/templates"
SOURCES = (
    *sorted(_TEMPLATES.iterdir()),
    ROOT / "identity_cli/output/report.py",
    *sorted((ROOT / "identity_cli/http/page").iterdir()),
    Path(__file__).parent / "lookups.py",
    Path(__file__).parent / "nights.py",
    Path(__file__),
)

# Name, width in pixels, theme.
_REPORT_VIEWS = (
    ("report-light.png", 1400, "light"),
    ("report-dark.png", 1400, "dark"),
    ("report-phone-light.png", 390, "light"),
    ("report-phone-dark.png", 390, "dark"),
)
_PAGE_VIEWS = (
    ("page-light.png", 1400, "light"),
    ("page-dark.png", 1400, "dark"),
    ("page-phone-light.png", 390, "light"),
    ("page-phone-dark.png", 390, "dark"),
)
_LOOKED_UP = "marty@hillvalley.example"


def digest_of_sources() -> str:
    """Return a digest of all that decides what the pictures show."""
    digest = sha256()
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def main() -> None:
    from docs.servers import fresh_database, running_server

    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="identity-pictures-") as folder,
        running_server() as home,
        running_chromium() as browser,
    ):
        environment = {"IDENTITY_HOME": str(home)}
        report = write_report(Path(folder), environment, odd_name="customers of the web shop.csv")
        for name, width, scheme in _REPORT_VIEWS:
            page = _opened(browser, report.as_uri(), width, scheme)
            page.screenshot(path=PICTURES / name, full_page=True)
            page.close()
        fresh_database(home)
        fill_database(Path(folder), environment)
        with looking_up(Path(folder), environment) as served:
            for name, width, scheme in _PAGE_VIEWS:
                page = _opened(browser, served.url, width, scheme)
                _follow_a_hop(page)
                page.screenshot(path=PICTURES / name, full_page=True)
                page.close()
    DIGEST.write_text(f"{digest_of_sources()}\n")


def _opened(browser: Any, address: str, width: int, scheme: str) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(address)
    return page


def _follow_a_hop(page: Any) -> None:
    page.locator("#value").fill(_LOOKED_UP)
    page.keyboard.press("Enter")
    page.locator("#picture .row").first.wait_for()
    page.locator("#picture text", has_text="evidence 2").click()
    page.locator("#history-body table").wait_for()


if __name__ == "__main__":
    main()
