"""Checkpoints: how far a run has come, as it is kept in the run's row."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

# A run that is killed reads at most this much time again.
CHECKPOINT_SECONDS = 1.0

# Goes up if an older release could not resume from it, or this one from an older one's.
_VERSION = 3
# Of these, what was added later is empty.
_READABLE_VERSIONS = (2, _VERSION)


@dataclass(slots=True)
class Counts:
    """Rows by outcome: read = created + linked + merged + unchanged + blocked + rejected.

    A `partial` row has its outcome, and a value that was left out.
    """

    read: int = 0
    created: int = 0
    linked: int = 0
    merged: int = 0
    unchanged: int = 0
    blocked: int = 0
    rejected: int = 0
    partial: int = 0

    @property
    def in_rejects_file(self) -> int:
        """The rows that the rejects file holds."""
        return self.rejected + self.partial


@dataclass(slots=True)
class Checkpoint:
    """How far a run has come. Everything before it is on disk: rows, rejects and outcomes.

    `milestones` are numbers of rows and the digests of the inputs up to them, as they were read;
    the last one is that of the checkpoint. `segments` are the `RunClock`'s. `marks` are the ids of
    contacts and of evidence that were the last ones before the first request beyond the
    checkpoint, `first_marks` those before the run. `local_phones` is the `Ledger`'s. `codes` counts
    the rows of the rejects files, `input_codes` those of each input's, by the input's index.
    `rejects` has the path and the size in bytes of each input's rejects file that has been
    written; `outcomes` is the size of that file.
    """

    milestones: list[tuple[int, str]] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    codes: dict[str, int] = field(default_factory=dict)
    input_codes: dict[int, dict[str, int]] = field(default_factory=dict)
    local_phones: int = 0
    retries: int = 0
    seconds: float = 0.0
    marks: tuple[int, int] = (0, 0)
    first_marks: tuple[int, int] = (0, 0)
    rejects: dict[int, tuple[str, int]] = field(default_factory=dict)
    outcomes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the document that `from_json` reads, with nothing but JSON's own types in it."""
        return asdict(self) | {
            "version": _VERSION,
            "milestones": [list(milestone) for milestone in self.milestones],
            "segments": [list(segment) for segment in self.segments],
            "marks": list(self.marks),
            "first_marks": list(self.first_marks),
            "input_codes": {str(index): codes for index, codes in self.input_codes.items()},
            "rejects": {str(index): list(file) for index, file in self.rejects.items()},
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Checkpoint | None:
        """Return the checkpoint, or None if another release wrote one of another kind."""
        values = dict(document)
        if values.pop("version", None) not in _READABLE_VERSIONS:
            return None
        return cls(
            milestones=[(rows, digest) for rows, digest in values.pop("milestones")],
            segments=[(line, base) for line, base in values.pop("segments")],
            counts=Counts(**values.pop("counts")),
            marks=tuple(values.pop("marks")),
            first_marks=tuple(values.pop("first_marks", (0, 0))),
            input_codes={int(i): codes for i, codes in values.pop("input_codes", {}).items()},
            rejects={int(i): (path, size) for i, (path, size) in values.pop("rejects").items()},
            **values,
        )

    def copy(self) -> Checkpoint:
        """Return a checkpoint that does not change with this one."""
        return replace(
            self,
            milestones=list(self.milestones),
            segments=list(self.segments),
            counts=replace(self.counts),
            codes=dict(self.codes),
            input_codes={index: dict(codes) for index, codes in self.input_codes.items()},
            rejects=dict(self.rejects),
        )
