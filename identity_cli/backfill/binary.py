"""Rows in the binary format of PostgreSQL's COPY, made of whole columns; needs pyarrow.

PostgreSQL reads it in about two thirds of the time that it takes for text.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

# The signature, no flags, and no extension of the header.
BEGINNING = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"

_NULL = b"\xff\xff\xff\xff"
# A timestamptz is the number of microseconds since 2000.
EPOCH_US = 946_684_800_000_000


def rows(columns: Sequence[pa.Array]) -> memoryview:
    """Return rows of integers, texts and booleans; all integers become a bigint."""
    pieces: list[pa.Array | pa.Scalar] = [_binary(len(columns).to_bytes(2, "big"))]
    for column in columns:
        pieces += _field(column)
    joined = pc.binary_join_element_wise(*pieces, b"")
    size = pc.sum(pc.binary_length(joined)).as_py() or 0
    return memoryview(joined.buffers()[2])[:size] if size else memoryview(b"")


def _field(column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """Return what is to be joined for a column: the length of the value, and the value."""
    if not column.null_count:
        return _present(column)
    nothing: Any = {pa.bool_(): False, pa.string(): ""}.get(column.type, 0)
    pieces = _present(column.fill_null(nothing))
    joined = pieces[0] if len(pieces) == 1 else pc.binary_join_element_wise(*pieces, b"")
    return [pc.if_else(column.is_null(), _binary(_NULL), joined)]


def _present(column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """Return the same for a column without nulls."""
    if column.type == pa.bool_():
        yes, no = (_binary(b"\0\0\0\1" + value) for value in (b"\1", b"\0"))
        return [pc.if_else(column, yes, no)]
    if column.type == pa.string():
        lengths = pc.binary_length(column)
        return [_big_endian(lengths, "i"), column.cast(pa.binary())]
    return [_binary(b"\0\0\0\x08"), _big_endian(column.cast(pa.int64()), "q")]


def _binary(value: bytes) -> pa.Scalar:
    return pa.scalar(value, pa.binary())


def _big_endian(numbers: pa.Array, code: str) -> pa.Array:
    """Return the bytes of numbers, none of which is null."""
    swapped = array(code)
    width = swapped.itemsize
    everything = memoryview(numbers.buffers()[1]).cast("B")
    swapped.frombytes(everything[numbers.offset * width : (numbers.offset + len(numbers)) * width])
    if sys.byteorder == "little":
        swapped.byteswap()
    found = pa.Array.from_buffers(pa.binary(width), len(numbers), [None, pa.py_buffer(swapped)])
    return found.cast(pa.binary())
