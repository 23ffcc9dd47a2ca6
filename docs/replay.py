"""Apply the changes of `identity export --what changes` to an older `identity export`, as CSV.

    python3 replay.py contacts.csv changes.csv > contacts-of-today.csv

Both files are in the order of ids, so neither is held in memory.
"""

from __future__ import annotations

import csv
import heapq
import sys
from itertools import groupby
from operator import itemgetter


def replay(contacts, changes, output):
    """Write the contacts with the changes applied; the arguments are open text files."""
    rows = csv.reader(contacts)
    header = next(rows)
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(header)
    by_id = heapq.merge(
        ((int(row[0]), 0, row) for row in rows),
        ((int(change["id"]), 1, change) for change in csv.DictReader(changes)),
        key=itemgetter(0, 1),
    )
    for _, versions in groupby(by_id, key=itemgetter(0)):
        *_, (_, is_change, record) = versions
        if not is_change:
            writer.writerow(record)
        elif record["change"] != "gone":
            writer.writerow([record[column] for column in header])


if __name__ == "__main__":
    with (
        open(sys.argv[1], encoding="utf-8", newline="") as contacts,
        open(sys.argv[2], encoding="utf-8", newline="") as changes,
        open(1, "w", encoding="utf-8", newline="", closefd=False) as output,
    ):
        replay(contacts, changes, output)
