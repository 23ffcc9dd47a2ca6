"""What the commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

from identity_cli.output.contact import print_contact
from identity_cli.output.progress import (
    annotation_report,
    import_progress,
    import_report,
    reading_progress,
    step_progress,
)
from identity_cli.output.statistics import statistics
from identity_cli.output.streams import (
    document,
    error,
    install,
    line,
    note,
    printable,
    remark,
)
from identity_cli.output.tables import fields, run, runs, table

__all__ = [
    "annotation_report",
    "document",
    "error",
    "fields",
    "import_progress",
    "import_report",
    "install",
    "line",
    "note",
    "print_contact",
    "printable",
    "reading_progress",
    "remark",
    "run",
    "runs",
    "statistics",
    "step_progress",
    "table",
]
