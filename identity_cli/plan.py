"""What an import is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from identity_cli.errors import UsageError
from identity_cli.readers import InputOptions, format_of
from identity_cli.source import STDIN, same_file


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What to import and how.

    `jobs` None: as many connections as pay. `timeout`: how many seconds to wait for a server that
    is away; None: a run that has begun waits a minute, one that has not fails at once.
    """

    paths: tuple[str, ...]
    options: InputOptions = field(default_factory=InputOptions)
    region: str | None = None
    rejects: str | None = None
    outcomes: str | None = None
    jobs: int | None = None
    dry_run: bool = False
    restart: bool = False
    durable: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        for path in self.paths:
            format_of(path, self.options)
        if self.rejects is not None and len(self.paths) > 1:
            raise UsageError(
                "--rejects takes one input",
                hint="without it every input gets a rejects file of its own",
            )
        if self.paths.count(STDIN) > 1:
            raise UsageError("standard input can be read once only", hint="give - one time")
        written = [path for path in (self.rejects, self.outcomes) if path is not None]
        if len(written) == 2 and same_file(*written):
            raise UsageError("rejects and outcomes go to one file", hint="give two paths")
        for path in written:
            if any(one != STDIN and same_file(one, path) for one in self.paths):
                raise UsageError(f"{path} is an input", hint="write the results elsewhere")

    def rejects_path(self, index: int) -> str:
        path = self.paths[index]
        stem = "stdin" if path == STDIN else path
        return self.rejects or f"{stem}.rejects.{format_of(path, self.options)}"
