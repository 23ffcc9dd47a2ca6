"""Tables of a cluster, as Parquet files on storage that all of its machines reach."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from identity_cli.errors import UsageError
from identity_cli.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from identity_cli.backfill.journal import Journal
    from identity_cli.backfill.plan import Statement
    from identity_cli.importer.stop import StopSwitch

# What one task can be sent.
ROWS_SENT = 1 << 16
# What the memory of this process can take, and that of Spark's driver.
_ROWS_FETCHED = 1 << 20
_PROBE_TASKS = 32
# What Spark takes for a pattern in the name of a directory.
_PATTERN_CHARACTERS = re.compile(r"[*?\[\]{}\\]")


class Tables:
    """Tables on the storage of the cluster; each that was made is a view of the session.

    `folder` is the storage, if this process reaches it as a directory.
    """

    def __init__(
        self,
        spark: SparkSession,
        storage: str,
        folder: Path | None,
        journal: Journal,
        switch: StopSwitch,
    ) -> None:
        if _PATTERN_CHARACTERS.search(storage):
            raise UsageError(
                f"Spark would take {storage} for a pattern of names",
                hint="use a directory without any of * ? [ ] { } \\ in its path",
            )
        self.spark = spark
        self.folder = folder
        self._storage = storage
        self._journal = journal
        self._switch = switch

    def check_storage(self) -> None:
        """Raise `UsageError` if not all that the workers write is found by others, and here."""
        with self._switch:
            probe = self.spark.range(0, _PROBE_TASKS, 1, _PROBE_TASKS)
            probe.write.mode("overwrite").parquet(self._path("probe"))
            found = [self.read("probe", "id BIGINT").count()]
        if self.folder is not None:
            files = (self.folder / "probe").glob("*.parquet")
            found.append(sum(pq.read_metadata(file).num_rows for file in files))
        if found != [_PROBE_TASKS] * len(found):
            raise UsageError(
                f"the machines of the cluster, and this one, do not share {self._storage}",
                hint="use --storage with a URL that all machines of the cluster reach",
            )
        self._empty("probe", "id BIGINT")

    def take(self, table: str, make: Callable[[], str]) -> None:
        """Make a table unless that was done; `make` writes it and returns its columns."""
        if table not in self._journal.columns:
            self._switch.check()
            with self._switch:
                columns = make()
            self._journal.note_made(table, columns)
        if table not in self._journal.dropped:
            self.read(table, self._journal.columns[table]).createOrReplaceTempView(table)

    def drop(self, tables: Sequence[str]) -> None:
        """Remove the rows of tables that nothing reads any more."""
        for table in tables:
            if table not in self._journal.dropped:
                self._switch.check()
                with self._switch:
                    self._empty(table, self._journal.columns[table])
                self._journal.note_dropped(table)

    def drop_all(self) -> None:
        """Remove the rows of all tables: they are personal data."""
        self.drop(list(self._journal.columns))

    def make(self, statement: Statement, slices: str | None = None) -> None:
        """Make the table of a statement, in slices for those who read it in order."""

        def write() -> str:
            frame = self.spark.sql(statement.query)
            if slices is not None:
                frame = frame.selectExpr("*", f"CAST({slices} AS BIGINT) AS slice")
            return self._write(statement.table, frame, is_sliced=slices is not None)

        self.take(statement.table, write)
        self.drop(statement.last_use_of)

    def write_here(
        self, table: str, columns: str, batches: Iterable[tuple[int | None, pa.Table]]
    ) -> str:
        """Write rows that this process has, each batch with its slice; return the columns."""
        self._empty(table, columns)
        names = re.findall(r"(\w+) \w+(?:<\w+>)?", columns)
        for number, (slice_, batch) in enumerate(batches):
            rows = batch.rename_columns([name for name in names if name != "slice"])
            place = f"{table}/slice={slice_}" if "slice" in names else table
            if self.folder is not None:
                path = self.folder / place / f"{number:08}.parquet"
                with writing(str(path)):
                    path.parent.mkdir(exist_ok=True)
                    pq.write_table(rows, path)
                continue
            for start in range(0, len(rows), ROWS_SENT):
                frame = self.spark.createDataFrame(rows.slice(start, ROWS_SENT))
                # One file for a batch, however many machines there are.
                frame.coalesce(1).write.mode("append").parquet(f"{self._storage}/{place}")
        return columns

    def in_order(
        self, table: str, key: str, *, where: str = "true", falling: bool = False
    ) -> Generator[tuple[int, pa.Table]]:
        """Yield the rows of a table in the order of the key, in pieces of slices."""
        view = self.spark.table(table).where(where)
        slices = self.spark.sql(
            f"SELECT slice, min({key}) AS first, max({key}) AS last, count(*) AS found"  # noqa: S608 - names of this module
            f" FROM {table} WHERE {where} GROUP BY slice ORDER BY slice"
        ).collect()
        found = 0
        pieces = [piece for one in slices for piece in _pieces(*one)]
        for slice_, first, last in reversed(pieces) if falling else pieces:
            self._switch.check()
            with self._switch:
                piece = view.where(f"slice = {slice_} AND {key} BETWEEN {first} AND {last}")
                rows = piece.drop("slice").toArrow()
            found += len(rows)
            yield slice_, rows.sort_by([(key, "descending" if falling else "ascending")])
        if found != sum(one.found for one in slices):
            raise RuntimeError(f"Spark has not returned all rows of {table}")

    def one(self, query: str) -> tuple[Any, ...]:
        """Return the only row of a query."""
        with self._switch:
            (row,) = self.spark.sql(query).collect()
        return tuple(row)

    def schema(self, table: str) -> pa.Schema:
        """Return the columns of a table as Arrow describes them."""
        return self.spark.table(table).drop("slice").limit(0).toArrow().schema

    def read(self, table: str, columns: str) -> DataFrame:
        """Return the rows of a table that was written."""
        return self.spark.read.schema(columns).parquet(self._path(table))

    def _write(self, table: str, frame: DataFrame, *, is_sliced: bool = False) -> str:
        columns = ", ".join(f"{name} {kind}" for name, kind in frame.dtypes)
        writer = (frame.repartition("slice") if is_sliced else frame).write.mode("overwrite")
        if is_sliced:
            # A cluster may be set to keep the slices that are not written again.
            writer = writer.option("partitionOverwriteMode", "static").partitionBy("slice")
        writer.parquet(self._path(table))
        return columns

    def _empty(self, table: str, columns: str) -> None:
        if self.folder is None:
            self._write(table, self.spark.createDataFrame([], columns))
            return
        path = self.folder / table
        with writing(str(path)):
            if path.exists():
                shutil.rmtree(path)
            path.mkdir()

    def _path(self, table: str) -> str:
        return f"{self._storage}/{table}"


def _pieces(slice_: int, first: int, last: int, found: int) -> list[tuple[int, int, int]]:
    """Return ranges of the key of a slice that have few enough rows, if it is spread evenly."""
    count = -(-found // _ROWS_FETCHED)
    starts = [first + (last - first + 1) * piece // count for piece in range(count + 1)]
    return [(slice_, start, end - 1) for start, end in pairwise(starts)]
