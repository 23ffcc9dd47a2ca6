"""Rows in the binary format of COPY, decoded as its documentation describes it."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from identity_cli.backfill import binary

TYPES: dict[str, Any] = {"number": pa.int64(), "text": pa.string(), "flag": pa.bool_()}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-(2**63), 2**63 - 1),
    "text": st.text(max_size=5),
    "flag": st.booleans(),
}


def decoded(data: bytes, kinds: list[str]) -> list[tuple[Any, ...]]:
    rows, at = [], 0
    while at < len(data):
        assert struct.unpack_from(">h", data, at) == (len(kinds),)
        at += 2
        row: list[Any] = []
        for kind in kinds:
            (length,) = struct.unpack_from(">i", data, at)
            value = data[at + 4 : at + 4 + max(length, 0)]
            at += 4 + max(length, 0)
            if length < 0:
                row.append(None)
            elif kind == "number":
                row.append(struct.unpack(">q", value)[0])
            else:
                row.append(value.decode() if kind == "text" else value == b"\1")
        rows.append(tuple(row))
    return rows


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...]]]:
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=5))
    columns = [VALUES[kind] | st.none() if draw(st.booleans()) else VALUES[kind] for kind in kinds]
    return kinds, draw(st.lists(st.tuples(*columns), max_size=6))


@given(table=tables(), start=st.integers(0, 3))
def test_rows_are_what_a_server_reads(
    table: tuple[list[str], list[tuple[Any, ...]]], start: int
) -> None:
    kinds, rows = table
    columns = [
        pa.array([row[place] for row in rows], TYPES[kind]).slice(start)
        for place, kind in enumerate(kinds)
    ]
    assert decoded(bytes(binary.rows(columns)), kinds) == rows[start:]


def test_smaller_integers_become_bigints() -> None:
    assert decoded(bytes(binary.rows([pa.array([7, None], pa.int32())])), ["number"]) == [
        (7,),
        (None,),
    ]
