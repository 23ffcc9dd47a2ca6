"""Import over its best number of connections against bare INSERTs over their best number."""

from __future__ import annotations

from statistics import median

from benchmarks import inserts, requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import fresh_server, import_files, pgbench, scratch

JOBS = (1, 2, 3, 4)
CLIENTS = (1, 2, 4, 8)


def run(quick: bool = False) -> None:
    count = 10_000 if quick else 100_000
    rounds = 1 if quick else 3
    imports: dict[int, list[float]] = {jobs: [] for jobs in JOBS}
    bare: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    with fresh_server() as server, scratch() as folder:
        path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
        with server.database() as database:
            import_files(database, path)
            rows = inserts.stored_rows(database)
        scripts = {clients: inserts.write_scripts(folder, rows, clients) for clients in CLIENTS}
        for _ in range(rounds):
            for jobs, clients in zip(JOBS, CLIENTS, strict=True):
                with server.database() as database:
                    server.settle()
                    imported = import_files(database, path, jobs=jobs)
                imports[jobs].append(count / imported.seconds)
                with server.database() as database:
                    inserts.make_table(database)
                    server.settle()
                    seconds, _ = pgbench(database, scripts[clients])
                bare[clients].append(len(rows) / seconds)
    for jobs, rates in imports.items():
        note(f"import --jobs {jobs}: {median(rates):,.0f} requests/s")
    for clients, rates in bare.items():
        note(f"bare INSERTs, {clients} connections: {median(rates):,.0f} rows/s")
    best = max(JOBS, key=lambda jobs: median(imports[jobs]))
    most = max(CLIENTS, key=lambda clients: median(bare[clients]))
    pairs = list(zip(imports[best], bare[most], strict=True))
    show(Figure(f"import --jobs {best}", pairs, 0.8, "per second"))
