"""What the commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

from identity_cli.output.contact import print_contact
from identity_cli.output.explanation import explanation
from identity_cli.output.import_report import annotation_report, import_report
from identity_cli.output.likeness import matches
from identity_cli.output.progress import ProgressMode, progress
from identity_cli.output.statistics import statistics
from identity_cli.output.steering import blocked, change, cut, history, policy, unlinked
from identity_cli.output.streams import (
    document,
    error,
    install,
    is_confirmed,
    line,
    note,
    printable,
    remark,
)
from identity_cli.output.tables import fields, run, runs, table

__all__ = [
    "ProgressMode",
    "annotation_report",
    "blocked",
    "change",
    "cut",
    "document",
    "error",
    "explanation",
    "fields",
    "history",
    "import_report",
    "install",
    "is_confirmed",
    "line",
    "matches",
    "note",
    "policy",
    "print_contact",
    "printable",
    "progress",
    "remark",
    "run",
    "runs",
    "statistics",
    "table",
    "unlinked",
]
