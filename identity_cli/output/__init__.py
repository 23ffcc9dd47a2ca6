"""What the commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

from identity_cli.output.progress import import_progress, import_report
from identity_cli.output.streams import (
    document,
    error,
    install,
    line,
    note,
    printable,
    remark,
)
from identity_cli.output.tables import consolidated, fields, run, runs, table

__all__ = [
    "consolidated",
    "document",
    "error",
    "fields",
    "import_progress",
    "import_report",
    "install",
    "line",
    "note",
    "printable",
    "remark",
    "run",
    "runs",
    "table",
]
