"""The work directory: what is done already, so that a backfill that was interrupted resumes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from identity_cli.backfill.files import (
    HELD_CONTACTS,
    HELD_EVIDENCE,
    HELD_LIMITS,
    HELD_RULES,
    counts_path,
    result_path,
)
from identity_cli.backfill.plan import Part
from identity_cli.errors import InputBusyError, UsageError
from identity_cli.files import replaced_file, writing
from identity_cli.importer.formats import ColumnReport
from identity_cli.importer.report import RejectedRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.importer.runs import InputIdentity

_VERSION = 1
_MANIFEST = "manifest.json"
_LOCK = "lock"
# What the program has made in a work directory, and removes from it to start over.
_FOLDERS = ("parts", "rejects", "held", "result", "spill", "spark")
_FILES = ("compute.duckdb*", "spark.json", "spark.log")
# What a process that was killed leaves; the second are those of `replaced_file`.
_UNFINISHED = (
    *("parts/*.tmp", "rejects/*.tmp"),
    *(f"{folder}.identity-*.partial" for folder in ("", "held/")),
)
_RESTART = "use --restart to start over, or another --work directory"


@dataclass(frozen=True, slots=True)
class InputReport:
    """What was read of one input.

    `content` is the SHA-256 of the whole file, or of the version of an object, and `digest` that
    of its rows as an import computes it. `lines` is the last line. `codes` counts the rows in the
    rejects file. `local_phones` is how many rows had a number without a country code and no region.
    `forgotten` is the digest of the forgotten values that were left out, None if there were none.
    """

    content: str
    digest: str
    lines: int
    rows: int
    rejected: int
    partial: int
    local_phones: int
    codes: dict[str, int]
    first_rejects: tuple[RejectedRow, ...]
    column_report: ColumnReport
    notes: tuple[str, ...]
    missing_keys: tuple[str, ...]
    forgotten: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the document that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> InputReport:
        """Return the report of a document."""
        columns = document["column_report"]
        lists = {
            "first_rejects": tuple(RejectedRow(**one) for one in document["first_rejects"]),
            "column_report": ColumnReport(
                tuple(map(tuple, columns["used"])), tuple(map(tuple, columns["unused"]))
            ),
            "notes": tuple(document["notes"]),
            "missing_keys": tuple(document["missing_keys"]),
        }
        return cls(**{**document, **lists})


@dataclass(frozen=True, slots=True)
class HeldState:
    """What a target holds: its rows, and a digest of them."""

    contacts: int
    evidence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a work directory was begun for, and how far it is.

    `options` are those that decide how the inputs are read. `reports` has None for an input that
    was not read to its end. `held` is the target whose rows are in `held/`, None for an empty one.
    `first_ids` are those of the first new contact and of the first new evidence.
    """

    options: dict[str, Any]
    inputs: tuple[dict[str, Any], ...]
    reports: tuple[InputReport | None, ...]
    held: HeldState | None = None
    first_ids: tuple[int, int] = (1, 1)
    is_computed: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(one["path"] for one in self.inputs)

    @property
    def finished_reports(self) -> list[InputReport]:
        """The reports of all inputs, which were read to their ends."""
        return [report for report in self.reports if report is not None]

    @property
    def first_lines(self) -> list[int]:
        """The number of lines before each input whose predecessors were all read."""
        lines = [0]
        for report in self.reports[:-1]:
            if report is None:
                break
            lines.append(lines[-1] + report.lines)
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the document that `from_json` reads."""
        return {
            "version": _VERSION,
            "options": self.options,
            "inputs": list(self.inputs),
            "reports": [None if one is None else one.as_json() for one in self.reports],
            "held": None if self.held is None else asdict(self.held),
            "first_ids": list(self.first_ids),
            "is_computed": self.is_computed,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Manifest:
        """Return the manifest of a document. Raises `KeyError` if it is of another release."""
        if document["version"] != _VERSION:
            raise KeyError
        first_contact, first_evidence = document["first_ids"]
        return cls(
            options=document["options"],
            inputs=tuple(document["inputs"]),
            reports=tuple(
                None if one is None else InputReport.from_json(one) for one in document["reports"]
            ),
            held=None if document["held"] is None else HeldState(**document["held"]),
            first_ids=(first_contact, first_evidence),
            is_computed=document["is_computed"],
        )


class WorkDirectory:
    """A work directory that this process alone uses; `manifest` is None until `begin`.

    Raises `OutputError` if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest | None = self._read_manifest()

    def require_manifest(self) -> Manifest:
        """Return the manifest. Raises `UsageError` if nothing was computed here."""
        if self.manifest is None:
            raise UsageError(
                f"{self.path} is not the work directory of a backfill",
                hint="run identity backfill compute first",
            )
        return self.manifest

    def begin(
        self, options: dict[str, Any], inputs: list[InputIdentity], *, restart: bool
    ) -> Manifest:
        """Start, or continue what was begun with the same inputs and options.

        Raises `UsageError` if they are others.
        """
        # As they come back from JSON.
        options = json.loads(json.dumps(options))
        documents = tuple(asdict(one) for one in inputs)
        if restart and self.manifest is not None:
            self.clear()
        found = self.manifest
        if found is None:
            found = Manifest(options, documents, (None,) * len(inputs))
        elif found.options != options:
            changed = sorted(key for key in options if options[key] != found.options.get(key))
            raise UsageError(
                f"{self.path} was begun with other options for reading: {', '.join(changed)}",
                hint=_RESTART,
            )
        elif found.inputs != documents:
            before = {one["path"]: one for one in found.inputs}
            changed = [one["path"] for one in documents if before.get(one["path"]) != one]
            what = f"{changed[0]} has changed since" if changed else "the inputs are not those of"
            when = "the backfill" if changed else "the backfill that"
            raise UsageError(f"{what} {when} in {self.path} was begun", hint=_RESTART)
        self.save(found)
        for folder in ("parts", "rejects", "held", "result"):
            with writing(str(self.path)):
                (self.path / folder).mkdir(exist_ok=True)
        self._remove_unfinished()
        return found

    def save(self, manifest: Manifest) -> None:
        """Store the manifest; it is on disk when this returns."""
        data = json.dumps(manifest.as_json(), indent=1).encode()
        with replaced_file(self.path / _MANIFEST, force=True) as file:
            file.write(data)
        self.manifest = manifest

    def note_report(self, index: int, report: InputReport) -> None:
        """Store that an input was read to its end."""
        manifest = self.require_manifest()
        reports = list(manifest.reports)
        reports[index] = report
        self.save(replace(manifest, reports=tuple(reports), is_computed=False))

    def keep_reports(self, forgotten: str | None) -> Manifest:
        """Let inputs be read again from which other forgotten values were left out."""
        manifest = self.require_manifest()
        reports = tuple(
            None if one is None or one.forgotten != forgotten else one for one in manifest.reports
        )
        if reports != manifest.reports:
            self.save(replace(manifest, reports=reports, is_computed=False))
        return self.require_manifest()

    def part(self, index: int) -> Path:
        """Return the path of the requests of an input."""
        return self.path / "parts" / f"{index:05}.parquet"

    def rejects(self, index: int) -> Path:
        """Return the path of the rejected rows of an input; no file if there are none."""
        return self.path / "rejects" / f"{index:05}.rejects"

    def held(self, table: str) -> Path:
        """Return the path of the rows that the target holds in one of its tables."""
        return self.path / "held" / f"{table}.parquet"

    def result(self, table: str) -> Path:
        """Return the path of computed rows."""
        return result_path(self.path, table)

    def counts(self) -> dict[str, int]:
        """Return the number of requests by their outcomes. Only a complete result has them."""
        counts: dict[str, int] = json.loads(counts_path(self.path).read_bytes())
        return counts

    def parts(self) -> list[Part]:
        """Return the requests of all inputs, which were read to their ends."""
        first_lines = self.require_manifest().first_lines
        return [Part(self.part(index), first) for index, first in enumerate(first_lines)]

    def forget_held(self) -> None:
        """Remove the rows of an earlier target."""
        for path in (
            HELD_CONTACTS,
            HELD_EVIDENCE,
            *HELD_RULES.values(),
            *HELD_LIMITS.values(),
        ):
            (self.path / path).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all that the program has made here, the manifest last."""
        with writing(str(self.path)):
            for name in _FOLDERS:
                shutil.rmtree(self.path / name, ignore_errors=True)
            files = [file for pattern in _FILES for file in self.path.glob(pattern)]
            for file in (*files, self.path / _MANIFEST):
                file.unlink(missing_ok=True)
        self.manifest = None

    def _remove_unfinished(self) -> None:
        for pattern in _UNFINISHED:
            for file in self.path.glob(pattern):
                file.unlink()

    def _read_manifest(self) -> Manifest | None:
        try:
            return Manifest.from_json(json.loads((self.path / _MANIFEST).read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.path} holds the work of another release of identity",
                hint="use another --work directory, or empty this one",
            ) from error


@contextmanager
def open_work(path: str | None, *, is_begun: bool = False) -> Iterator[WorkDirectory]:
    """Open a work directory, or a temporary one that is removed at the end.

    What is written in it can be read by its owner only. Raises `UsageError` if something else is in
    it, or if it must have been begun and was not; `InputBusyError` if another process uses it; and
    `OutputError`.
    """
    with ExitStack() as stack:
        stack.callback(os.umask, os.umask(0o077))
        if path is None:
            with writing(tempfile.gettempdir()):
                folder = tempfile.mkdtemp(prefix="identity-backfill-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        else:
            folder = path
            _check_content(path, is_begun=is_begun)
            with writing(path):
                os.makedirs(path, exist_ok=True)
        with writing(folder):
            lock = stack.enter_context(open(os.path.join(folder, _LOCK), "wb"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputBusyError(
                f"another backfill is at work in {folder}",
                hint="wait until it ends, or use another --work directory",
            ) from error
        yield WorkDirectory(Path(folder))


def _check_content(path: str, *, is_begun: bool) -> None:
    """Raise `UsageError` if the directory is none of a backfill."""
    try:
        found = set(os.listdir(path))
    except FileNotFoundError:
        found = set()
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", hint="use the path of a directory for --work"
        ) from error
    if is_begun and _MANIFEST not in found:
        raise UsageError(
            f"{path} is not the work directory of a backfill",
            hint="run identity backfill compute first",
        )
    if found and not found & {_MANIFEST, _LOCK}:
        raise UsageError(
            f"{path} is not empty, and not the work directory of a backfill",
            hint="use another --work directory",
        )
