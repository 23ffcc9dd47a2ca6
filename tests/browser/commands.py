"""Commands that fill the databases of the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def run_identity(folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Run a command of identity in a folder, which is its home, too, without its output."""
    subprocess.run(
        [sys.executable, "-m", "identity_cli", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
