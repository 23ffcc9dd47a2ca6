"""Columns of integers between an engine and the replay; needs pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator


def integers(column: pa.Array) -> memoryview[int]:
    """Return a view of a column of integers, none of which is null."""
    _, values = column.buffers()
    everything = memoryview(values).cast("B").cast("q")
    return everything[column.offset : column.offset + len(column)]


def column(numbers: array[int]) -> pa.Array:
    """Return integers as a column, without a copy."""
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def in_order(
    batches: Iterable[pa.RecordBatch], *, falling: bool = False
) -> Iterator[list[pa.Array]]:
    """Yield the columns of each batch, of which the first has to rise, or to fall, throughout.

    An engine that returned rows in another order would make the replay wrong without any error.
    """
    follows = pc.greater if falling else pc.less
    last = None
    for batch in batches:
        first = batch.column(0)
        is_next = last is None or not len(first) or follows(last, first[0]).as_py()
        if not is_next or pc.all(follows(first[:-1], first[1:])).as_py() is False:
            raise RuntimeError("the engine has returned rows out of order")
        last = first[-1] if len(first) else last
        yield batch.columns
