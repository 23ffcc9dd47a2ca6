"""Print the oldest version that pyproject.toml allows of every dependency, as pip constraints.

`python .ci/lower_bounds.py EXTRA…`: the extras' dependencies too.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
wanted = list(project["dependencies"])
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
for requirement in wanted:
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+).*", requirement)
    if found is not None:
        print(f"{found[1]}=={found[2]}")
    elif not requirement.startswith(project["name"]):
        sys.exit(f"{requirement} has no lower bound")
