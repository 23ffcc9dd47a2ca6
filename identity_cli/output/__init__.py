"""What the commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

from identity_cli.output.contact import print_contact
from identity_cli.output.explanation import explanation
from identity_cli.output.likeness import matches
from identity_cli.output.progress import (
    annotation_report,
    import_progress,
    import_report,
    reading_progress,
)
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
    "explanation",
    "fields",
    "import_progress",
    "import_report",
    "install",
    "line",
    "matches",
    "note",
    "print_contact",
    "printable",
    "reading_progress",
    "remark",
    "run",
    "runs",
    "table",
]
