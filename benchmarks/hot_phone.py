"""Import against the ORM loop when 2,000 contacts have one phone number already.

Every request brings a new email with that phone number.
"""

from __future__ import annotations

from benchmarks import orm, requests
from benchmarks.figures import Figure, show
from benchmarks.server import fresh_server, import_files, reconcile_all, scratch, service

_ALREADY = 2_000
_PHONE = "5550100"


def run(quick: bool = False) -> None:
    count = 10_000 if quick else 100_000
    loop_count = 20 if quick else 200
    rounds = 1 if quick else 3
    pairs = []
    with fresh_server() as server, scratch() as folder:
        before = list(requests.on_one_phone(_ALREADY, _PHONE))
        path = requests.write_csv(
            folder / "requests.csv", requests.on_one_phone(count, _PHONE, first=_ALREADY)
        )
        loop = list(requests.on_one_phone(loop_count, _PHONE, first=_ALREADY))
        for _ in range(rounds):
            with server.database() as database:
                target = service(database)
                with target.connection:
                    reconcile_all(target, before)
                orm.fill(database, before)
                server.settle()
                imported = import_files(database, path)
                pairs.append((count / imported.seconds, orm.orm_rate(database, loop)))
    show(Figure("import --jobs 1", pairs, 300, "requests/s"))
