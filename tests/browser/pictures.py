"""The pictures of the report in `docs/pictures/`.

`python tests/browser/pictures.py` makes them; `SOURCES` says from what, and a test compares the
digest that is stored beside the pictures with these files.
"""

from __future__ import annotations

import sys
import tempfile
from hashlib import sha256
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from browser.chromium import running_chromium
from browser.nights import write_report

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
DIGEST = PICTURES / "made-from.txt"
_TEMPLATES = ROOT / "identity_cli/output/templates"
SOURCES = (
    *sorted(_TEMPLATES.iterdir()),
    ROOT / "identity_cli/output/report.py",
    Path(__file__).parent / "nights.py",
    Path(__file__),
)

# Name, width in pixels, theme.
_VIEWS = (
    ("report-light.png", 1400, "light"),
    ("report-dark.png", 1400, "dark"),
    ("report-phone-light.png", 390, "light"),
    ("report-phone-dark.png", 390, "dark"),
)


def digest_of_sources() -> str:
    """Return a digest of all that decides what the pictures show."""
    digest = sha256()
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def main() -> None:
    from docs.servers import running_server

    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="identity-pictures-") as folder,
        running_server() as home,
        running_chromium() as browser,
    ):
        report = write_report(
            Path(folder), {"IDENTITY_HOME": str(home)}, odd_name="customers of the web shop.csv"
        )
        for name, width, scheme in _VIEWS:
            page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
            page.goto(report.as_uri())
            page.screenshot(path=PICTURES / name, full_page=True)
            page.close()
    DIGEST.write_text(f"{digest_of_sources()}\n")


if __name__ == "__main__":
    main()
