"""Compute on Spark in a process of its own: WORK [--master URL | --remote URL] [--storage URL]."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from sparking import SMALL

from identity_cli.backfill.plan import Part
from identity_cli.backfill.session import open_session
from identity_cli.backfill.spark import LOG, compute
from identity_cli.importer.stop import StopRequestedError, StopSwitch

parser = argparse.ArgumentParser()
parser.add_argument("work", type=Path)
parser.add_argument("--master")
parser.add_argument("--remote")
parser.add_argument("--storage")
parser.add_argument("--first-lines", type=int, nargs="*", required=True)
parser.add_argument("--first-ids", type=int, nargs=2, default=(1, 1))
options = parser.parse_args()

switch = StopSwitch()
signal.signal(signal.SIGTERM, lambda *_: switch.request())
paths = sorted((options.work / "parts").iterdir())
parts = [Part(path, first) for path, first in zip(paths, options.first_lines, strict=True)]
with open_session(options.master, options.remote, options.work / LOG) as spark:
    for name, value in SMALL.items():
        spark.conf.set(name, value)
    try:
        compute(
            spark,
            options.work,
            parts,
            first_contact_id=options.first_ids[0],
            first_evidence_id=options.first_ids[1],
            switch=switch,
            storage=options.storage,
        )
    except StopRequestedError:
        raise SystemExit(130) from None
