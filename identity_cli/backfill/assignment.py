"""What a backfill is asked to do, and with how much."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from identity_cli.backfill.objects import find_objects
from identity_cli.errors import UsageError
from identity_cli.importer.source import check_input, is_file, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from identity_cli.backfill.objects import StoredObject
    from identity_cli.importer.plan import ImportPlan

Engine = Literal["duckdb", "spark"]

_is_size = re.compile(r"[1-9][0-9]*(\.[0-9]+)? ?([KMGT]i?B|%)", re.IGNORECASE).fullmatch


@dataclass(frozen=True, slots=True)
class SparkCluster:
    """Where Apache Spark computes: a `master`, or a server of Spark Connect by a `remote` URL.

    With neither of them it is what Spark's configuration names. `storage` is the URL of a directory
    for tables that all machines of the cluster can write to; None: the work directory.
    """

    master: str | None = None
    remote: str | None = None
    storage: str | None = None


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What to backfill, and with how much: `reading` names the inputs, their options and results.

    Without `work` a temporary directory is used. `memory` is DuckDB's limit, such as "4GB".
    `threads` is the number of processes that read, and of threads that compute; None: the cores.
    Without a `cluster`, DuckDB computes. `objects` are the inputs in object storage, by the names
    that `reading` has for them.
    """

    reading: ImportPlan
    work: str | None = None
    memory: str = "4GB"
    threads: int | None = None
    cluster: SparkCluster | None = None
    objects: Mapping[str, StoredObject] = field(default_factory=dict)

    def check(self) -> None:
        """Raise what `ImportPlan.check` raises, and `UsageError` for an input that is no file."""
        files = [path for path in self.reading.paths if path not in self.objects]
        for path in files:
            check_input(path)
        self.reading.check_results()
        if not _is_size(self.memory):
            raise UsageError(
                f"--memory takes a size, not {self.memory!r}", hint="for example --memory 4GB"
            )
        if self.reading.restart and self.work is None:
            raise UsageError(
                "--restart is for a --work directory", hint="leave it out, or use --work DIR"
            )
        for path in files:
            if not is_file(path):
                raise UsageError(
                    f"{path} is not a file: a backfill reads files",
                    hint="write it to a file first, or use identity import",
                )


def spark_cluster(
    engine: Engine, master: str | None, remote: str | None, storage: str | None
) -> SparkCluster | None:
    """Return the cluster of an engine, None for DuckDB.

    Raises `UsageError` for options of another engine, or that exclude each other.
    """
    options = {"--master": master, "--remote": remote, "--storage": storage}
    used = [name for name, value in options.items() if value is not None]
    if engine == "duckdb":
        if used:
            raise UsageError(f"{used[0]} is for Spark", hint="use --engine spark")
        return None
    if master is not None and remote is not None:
        raise UsageError(
            "--master and --remote exclude each other",
            hint="use --remote for a server of Spark Connect, and --master for anything else",
        )
    return SparkCluster(master, remote, storage)


def require_extra(what: str = "this backfill", *, extra: str = "backfill") -> None:
    """Raise `UsageError` if the extra is not installed, which this needs."""
    modules = {"backfill": ("duckdb", "pyarrow"), "spark": ("pyspark", "pyarrow")}[extra]
    if not all(find_spec(name) for name in modules):
        raise UsageError(
            f"{what} needs the extra '{extra}', which is not installed",
            hint=f"pip install 'identity-cli[{extra}]'",
        )


def expand_patterns(files: Iterable[str]) -> tuple[str, ...]:
    """Return the files, with patterns that no shell has expanded replaced by what they match.

    URLs are kept as they are.
    """
    paths: list[str] = []
    for file in files:
        is_name = is_object(file) or os.path.exists(file)
        matches = [] if is_name else sorted(glob.glob(file))
        paths += matches or [file]
    return tuple(paths)


def expand_urls(paths: Iterable[str]) -> tuple[tuple[str, ...], dict[str, StoredObject]]:
    """Return the names of all inputs, with what URLs match, and the objects among them.

    Raises `UsageError` and `InputNotFoundError`.
    """
    names: list[str] = []
    objects: dict[str, StoredObject] = {}
    for path in paths:
        if not is_object(path):
            names.append(path)
            continue
        require_extra("object storage")
        found = find_objects(path)
        names += [one.name for one in found]
        objects |= {one.name: one for one in found}
    return tuple(names), objects
