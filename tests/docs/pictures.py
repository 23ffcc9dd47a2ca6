"""All pictures of the documentation: of the report, of the page, and of a terminal.

`python tests/docs/pictures.py` makes them; Chromium is needed for the first two.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import pictures

from docs import terminal

if __name__ == "__main__":
    terminal.main()
    pictures.main()
