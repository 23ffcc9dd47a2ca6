"""Apache Spark in the tests: the same requests on both engines, and a cluster on this machine."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from backfilled import counts, run_compute, write_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.backfill.plan import Part

# Few tasks, as the tables are small.
SMALL = {"spark.sql.shuffle.partitions": "3"}

Request = tuple[list[str], list[str]]
# A forgotten value is None.
Rest = tuple[list[str | None], list[str | None]]


def why_not() -> str | None:
    """Return why Spark cannot run here, or None."""
    if find_spec("pyspark") is None:
        return "Spark was not tested: the extra spark is not installed"
    java = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=java and f"{java}/bin") is None:
        return "Spark was not tested: there is no Java"
    return None


def requests_of(seed: int, count: int) -> list[Request]:
    """Return requests of one to five values, of so few people that they keep meeting."""
    draw = random.Random(seed)
    people = max(4, count // 2)

    def some_values(name: str) -> list[str]:
        size = draw.choice((0, 1, 1, 1, 1, 1, 2, 3))
        return [name.format(int(people * draw.random() ** 2)) for _ in range(size)]

    requests: list[Request] = []
    while len(requests) < count:
        emails, phones = some_values("p{}@x.org"), some_values("555{}")
        if emails or phones:
            requests.append((list(dict.fromkeys(emails)), list(dict.fromkeys(phones))))
    return requests


def chain(length: int) -> list[Request]:
    """Return requests of which each links its new value to the one before, in order."""
    names = [f"777{i}" if i % 2 else f"c{i}@x.org" for i in range(length + 1)]
    return [
        ([v for v in two if "@" in v], [v for v in two if "@" not in v]) for two in pairwise(names)
    ]


def skewed(count: int) -> list[Request]:
    """Return requests of which a tenth are of one identity, and a third are a chain in order."""
    of_one = [
        ([f"hub{i % 40}@x.org"], [f"800{i % 40 + i // 1000}" if i % 9 else f"801{i}"])
        for i in range(count // 10)
    ]
    kinds = [of_one, chain(count // 3), requests_of(3, count - count // 3 - count // 10)]
    turns = [index for index, requests in enumerate(kinds) for _ in requests]
    random.Random(4).shuffle(turns)
    remaining = [iter(requests) for requests in kinds]
    return [next(remaining[index]) for index in turns]


def forget_some(requests: Sequence[Request]) -> list[Rest]:
    """Return the requests as the door writes them if some values are forgotten."""
    draw = random.Random(5)
    rests: list[Rest] = []
    for emails, phones in requests:
        values: list[str | None] = [*emails, *phones]
        for place in draw.sample(range(len(values)), draw.choice((0, 0, 1, 2)) % len(values)):
            values[place] = None
        rests.append((values[: len(emails)], values[len(emails) :]))
    return rests


def write_parts(work: Path, requests: Sequence[Request | Rest], *, apart: int = 0) -> list[Part]:
    """Write requests as two parts; `apart` is how many lines are between them."""
    half = len(requests) // 2
    lines = [(line, *request) for line, request in enumerate(requests[:half], 1)]
    others = [(line, *request) for line, request in enumerate(requests[half:], 1)]
    return [write_part(work, 0, lines), write_part(work, half + apart, others)]


def hold_result(source: Path, work: Path, seed: int) -> int:
    """Let a target hold what was computed, with ids in another order; return the next id."""
    contacts = pq.read_table(source / "result" / "contact.parquet").to_pylist()
    ids = random.Random(seed).sample(range(1, 2 * len(contacts)), len(contacts))
    new_id = {row["id"]: id_ for row, id_ in zip(contacts, ids, strict=True)} | {None: None}
    held = [
        {
            "id": new_id[row["id"]],
            "email": row["email"],
            "phone_number": row["phone_number"],
            "linked_id": new_id[row["linked_id"]],
            "anchors_email": row["anchors_email"],
            "anchors_phone": row["anchors_phone"],
            # Several that a request has stored are of the same age: the id decides.
            "created_at": row["id"],
        }
        for row in contacts
    ]
    folder = work / "held"
    folder.mkdir(parents=True)
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("email", pa.string()),
            ("phone_number", pa.string()),
            ("linked_id", pa.int64()),
            ("anchors_email", pa.bool_()),
            ("anchors_phone", pa.bool_()),
            ("created_at", pa.timestamp("us", "UTC")),
        ]
    )
    pq.write_table(pa.Table.from_pylist(held, schema), folder / "contact.parquet")
    evidence = pq.read_table(
        source / "result" / "link_evidence.parquet", columns=["value", "other_value"]
    )
    pq.write_table(evidence, folder / "link_evidence.parquet")
    return max(ids) + 1


def hold_rules(work: Path) -> None:
    """Let a target have rules about values of `requests_of`: some of each kind."""
    texts = {
        "blocked": [{"value": f"p{i}@x.org"} for i in range(0, 100, 5)],
        "unlinked": [{"value": f"p{i}@x.org", "other_value": f"555{i}"} for i in range(1, 60)],
        "aside": [{"email": "p5@x.org", "phone_number": None}],
    }
    numbered = {
        "matched": [{"value": f"555{i}", "pattern_id": 1 + i % 2} for i in range(0, 90, 6)] * 2,
        "placeholder": [{"id": -i, "value": f"555{i}"} for i in range(3, 60, 3)],
    }
    (work / "held").mkdir(parents=True, exist_ok=True)
    for name, rows in (texts | numbered).items():
        schema = pa.schema(
            [
                (column, pa.int64() if column in ("id", "pattern_id") else pa.string())
                for column in rows[0]
            ]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema), work / "held" / f"{name}.parquet")


def compute_on_duckdb(work: Path, parts: Sequence[Part], **first_ids: int) -> None:
    """Compute what Spark has to compute, too, and set the result aside."""
    run_compute(work, parts, **first_ids)
    (work / "result").rename(work / "expected")


def assert_same_as_duckdb(work: Path) -> dict[str, int]:
    """Compare all rows; return how many requests had which outcome."""
    names = sorted(path.name for path in (work / "expected").iterdir())
    assert sorted(path.name for path in (work / "result").iterdir()) == names
    for name in names:
        if name.endswith(".parquet"):
            found = pq.read_table(work / "result" / name)
            expected = pq.read_table(work / "expected" / name)
            assert found.schema.names == expected.schema.names
            assert found.schema.types == expected.schema.types
            assert found.to_pylist() == expected.to_pylist(), name
    found_counts = counts(work)
    (work / "result").rename(work / "found")
    (work / "expected").rename(work / "result")
    assert found_counts == counts(work)
    return found_counts


class Driver:
    """A process that computes on a cluster, and can be killed as such."""

    def __init__(self, work: Path, *options: str) -> None:
        self.work = work
        self.log = work / "driver.log"
        environment = os.environ | {
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("spark_driver.py")), work, *options],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def wait_until_made(self, table: str) -> None:
        """Wait until a table is complete, so that the next one is being made."""
        journal = self.work / "spark.json"

        def is_made() -> bool:
            assert self.process.poll() is None, self.text()
            return journal.exists() and f'"{table}":' in journal.read_text()

        wait_for(is_made)

    def finish(self) -> None:
        """Wait until it has ended, and well."""
        assert self.process.wait(180) == 0, self.text()

    def kill(self) -> None:
        """Kill it, with the Java that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        """Return what it has printed, and what Spark has."""
        logs = [self.log, self.work / "spark.log"]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())


class Cluster:
    """A standalone master and workers, of the classes that are in the package of Spark."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        log = folder / "master.log"
        self._start(log, "master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        self.url = wait_for(lambda: _found(r"Starting Spark master at (spark://\S+)", log))

    def start_worker(self) -> None:
        number = len(self._processes)
        log = self._folder / f"worker{number}.log"
        options = ["--host", "127.0.0.1", "--webui-port", "0", "-c", "1", "-m", "1100m"]
        work = ["-d", str(self._folder / f"worker{number}")]
        self.workers.append(self._start(log, "worker.Worker", *options, *work, self.url))
        wait_for(lambda: _found(r"(Successfully registered with master)", log))

    def kill_worker(self) -> None:
        """Kill the oldest worker and its executor."""
        _kill(self.workers.pop(0))

    def stop(self) -> None:
        for process in self._processes:
            _kill(process)

    def _start(self, log: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
        import pyspark

        home = Path(pyspark.__file__).parent
        java = os.environ.get("JAVA_HOME")
        program = shutil.which("java", path=java and f"{java}/bin")
        assert program is not None
        logging = self._folder / "log4j2.properties"
        logging.write_text(
            "rootLogger.level = info\nrootLogger.appenderRef.stderr.ref = console\n"
            "appender.console.type = Console\nappender.console.name = console\n"
            "appender.console.target = SYSTEM_ERR\nappender.console.layout.type = PatternLayout\n"
            "appender.console.layout.pattern = %m%n\n"
        )
        command = [program, "-Xmx256m", f"-Dlog4j2.configurationFile={logging}"]
        command += ["-cp", f"{home}/jars/*", f"org.apache.spark.deploy.{name}", *options]
        # Spark's scripts set the rest, too, and are not made to be killed with what they start.
        environment = os.environ | {
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_HOME": str(home),
            "SPARK_SCALA_VERSION": "2.13",
        }
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        self._processes.append(process)
        return process


def wait_for(look: Any, seconds: float = 120) -> Any:
    """Look until there is something, and return it."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def _found(pattern: str, log: Path) -> str | None:
    found = re.search(pattern, log.read_text(errors="replace"))
    return found and found[1]


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
