"""What an import is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from identity_cli.errors import OutputError, UsageError
from identity_cli.importer.formats import InputOptions, format_of
from identity_cli.importer.source import STDIN, check_input, same_file


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What to import and how.

    Raises `UsageError`, `InputNotFoundError`, `OutputError` for what can be seen beforehand.
    `jobs` None: as many connections as pay. `timeout`: how many seconds to wait for a server that
    is away; None: a run that has begun waits a minute, one that has not fails at once.
    """

    paths: tuple[str, ...]
    options: InputOptions = field(default_factory=InputOptions)
    region: str | None = None
    rejects: str | None = None
    outcomes: str | None = None
    summary: str | None = None
    jobs: int | None = None
    dry_run: bool = False
    restart: bool = False
    durable: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        for path in self.paths:
            format_of(path, self.options)
            check_input(path)
        if self.rejects is not None and len(self.paths) > 1:
            raise UsageError(
                "--rejects takes one input",
                hint="without it every input gets a rejects file of its own",
            )
        self._refuse_one_file_twice()
        for path in filter(None, (self.rejects, self.outcomes, self.summary)):
            if not Path(path).absolute().parent.is_dir():
                raise OutputError(
                    f"cannot write {path}: there is no such folder", hint="make the folder first"
                )

    def _refuse_one_file_twice(self) -> None:
        """What is read or written here is one thing each, by whatever name."""
        named = [(path, "an input") for path in self.paths]
        named += [(self.rejects_path(i), "for rejects") for i in range(len(self.paths))]
        named += [(path, "for outcomes") for path in (self.outcomes,) if path is not None]
        named += [(path, "for the summary") for path in (self.summary,) if path is not None]
        for i, (path, use) in enumerate(named):
            for other, other_use in named[:i]:
                if path == other == STDIN or (
                    STDIN not in (path, other) and same_file(path, other)
                ):
                    both = "twice an input" if use == other_use else f"{other_use} and {use}"
                    raise UsageError(f"{path} is {both}", hint="name every file once")

    def rejects_path(self, index: int) -> str:
        path = self.paths[index]
        stem = "stdin" if path == STDIN else path
        return self.rejects or f"{stem}.rejects.{format_of(path, self.options)}"
