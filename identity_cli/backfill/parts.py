"""Files of normalised requests, as the plan reads them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from identity_cli.files import open_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Rows of a row group, which is held in memory.
_ROW_GROUP = 16_384


class PartFile:
    """A Parquet file of requests that grows by row groups."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        texts = pa.list_(pa.string())
        self._schema = pa.schema([("line", pa.int64()), ("emails", texts), ("phones", texts)])
        self._file = open(path, "wb", opener=open_private)  # noqa: SIM115 - closed by `close`
        # Most values occur once or twice: a dictionary would only take time.
        self._writer = pq.ParquetWriter(self._file, self._schema, use_dictionary=False)
        self._batches: list[Any] = []
        self._batched_rows = 0
        self._begin_group()

    def _begin_group(self) -> None:
        self._lines: list[int] = []
        self._emails: list[str | None] = []
        self._phones: list[str | None] = []
        self._email_ends = [0]
        self._phone_ends = [0]

    def append(self, line: int, emails: Sequence[str | None], phones: Sequence[str | None]) -> None:
        """Add a request; a forgotten value is None."""
        self._lines.append(line)
        self._emails += emails
        self._phones += phones
        self._email_ends.append(len(self._emails))
        self._phone_ends.append(len(self._phones))
        if len(self._lines) >= _ROW_GROUP:
            self._write_group()

    def append_columns(self, lines: Any, emails: Any, phones: Any) -> None:
        """Add requests as columns of Arrow, in no order with those that are added one by one."""
        batch = self._pa.RecordBatch.from_arrays([lines, emails, phones], schema=self._schema)
        self._batches.append(batch)
        self._batched_rows += batch.num_rows
        if self._batched_rows >= _ROW_GROUP:
            self._write_batches()

    def finish(self) -> None:
        """Write what is left; the file is on disk when this returns."""
        if self._lines:
            self._write_group()
        if self._batches:
            self._write_batches()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, finished or not."""
        with suppress(Exception):
            self._writer.close()
        self._file.close()

    def _write_group(self) -> None:
        pa = self._pa
        columns = [
            pa.array(self._lines, pa.int64()),
            self._lists(self._email_ends, self._emails),
            self._lists(self._phone_ends, self._phones),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._begin_group()

    def _write_batches(self) -> None:
        self._writer.write_table(self._pa.Table.from_batches(self._batches))
        self._batches.clear()
        self._batched_rows = 0

    def _lists(self, ends: list[int], values: list[str | None]) -> Any:
        pa = self._pa
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values, pa.string()))
