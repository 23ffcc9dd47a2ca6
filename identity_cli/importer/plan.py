"""What an import is asked to do."""

from __future__ import annotations

import os
import stat
from dataclasses import asdict, dataclass, field
from typing import Any

from identity_cli.errors import UsageError
from identity_cli.files import check_folder
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.source import STDIN, check_input, is_file


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What to import and how; `check` raises if it cannot be done.

    `region` is None if the database's is used. If `jobs` is None, as many connections are used as
    pay off. `timeout` is how many seconds to wait for an unreachable server; if it is None, a run
    that has begun waits a minute and one that has not fails at once. `with_values` names the values
    in the preview of a dry run instead of masking them.
    """

    paths: tuple[str, ...]
    options: InputOptions = field(default_factory=InputOptions)
    region: str | None = None
    rejects: str | None = None
    outcomes: str | None = None
    summary: str | None = None
    metrics: str | None = None
    jobs: int | None = None
    dry_run: bool = False
    restart: bool = False
    durable: bool = False
    timeout: float | None = None
    with_values: bool = False

    def check(self) -> None:
        """Look at the disk. Raises `UsageError`, `InputNotFoundError`, `OutputError`."""
        for path in self.paths:
            check_input(path)
        self.check_results()

    def check_results(self) -> None:
        """Look at where results go, and for one file twice. Raises what `check` raises."""
        if self.rejects is not None and len(self.paths) > 1:
            raise UsageError(
                "--rejects takes one input",
                hint="without it every input gets a rejects file of its own",
            )
        if self.with_values and not self.dry_run:
            raise UsageError(
                "--values is for the preview of a dry run", hint="use it with --dry-run"
            )
        self._refuse_one_file_twice()
        for path in filter(None, (self.rejects, self.outcomes, self.summary, self.metrics)):
            check_folder(path)

    def _refuse_one_file_twice(self) -> None:
        named = [(path, "an input") for path in self.paths]
        results = {
            "for rejects": self.rejects,
            "for outcomes": self.outcomes,
            "for the summary": self.summary,
            "for metrics": self.metrics,
        }
        # A dash is standard input among the inputs and standard output among the results.
        named += [(path, use) for use, path in results.items() if path is not None]
        uses: dict[object, str] = {}
        for path, use in named:
            key = (use == "an input", path) if path == STDIN else _file_key(path)
            if key in uses:
                both = "twice an input" if use == uses[key] else f"{uses[key]} and {use}"
                raise UsageError(f"{path} is {both}", hint="name every file once")
            uses[key] = use

    def reading_options(self) -> dict[str, Any]:
        """Return how the inputs are read, for a digest and for the run's row."""
        return asdict(self.options) | {
            "mapping": [list(pair) for pair in self.options.mapping],
            "region": self.region,
            "null_words": sorted(self.options.null_words),
        }

    def rejects_paths(self, index: int, run_id: int) -> list[str]:
        """Return where an input's rejects may go: the first of these that can be written."""
        if self.rejects is not None:
            return [self.rejects]
        path = self.paths[index]
        if path == STDIN:
            return [f"stdin.{run_id}.rejects"]
        here = f"{os.path.basename(path)}.{run_id}.rejects"
        return [f"{path}.{run_id}.rejects", here] if is_file(path) else [here]


def is_another_file(path: str, *others: str | None) -> bool:
    """Return whether no other of these paths leads to the file at `path`."""
    if path == STDIN:  # standard output here
        return True
    keys = {_file_key(other) for other in others if other not in {None, STDIN}}
    return _file_key(path) not in keys


def _file_key(path: str) -> object:
    """Return what two paths to one file have in common, whether it is there or not."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return os.path.abspath(path)
    if stat.S_ISREG(status.st_mode):
        return status.st_dev, status.st_ino
    return os.path.abspath(path)
