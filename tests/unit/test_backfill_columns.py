"""Columns of integers, and the order that the replay relies on."""

from __future__ import annotations

from array import array

import pyarrow as pa
import pytest

from identity_cli.backfill.columns import column, in_order, integers


def batches(*columns: list[int]) -> list[pa.RecordBatch]:
    return [pa.record_batch([pa.array(numbers, pa.int64())], names=["turn"]) for numbers in columns]


@pytest.mark.parametrize("numbers", [[], [1], [1, -(2**62), 2**62]])
def test_integers_and_columns_are_the_same(numbers: list[int]) -> None:
    made = column(array("q", numbers))
    assert made.to_pylist() == numbers
    assert list(integers(made)) == numbers


def test_integers_of_a_slice() -> None:
    assert list(integers(pa.array(range(10), pa.int64())[3:6])) == [3, 4, 5]


def test_batches_in_order_are_yielded() -> None:
    rising = batches([1, 2], [], [3], [7, 9])
    assert [c.to_pylist() for (c,) in in_order(rising)] == [[1, 2], [], [3], [7, 9]]
    falling = batches([9, 7], [3], [2, 1])
    assert [c.to_pylist() for (c,) in in_order(falling, falling=True)] == [[9, 7], [3], [2, 1]]


@pytest.mark.parametrize(
    "columns", [([1, 3, 2],), ([1, 1],), ([4, 5], [1, 2]), ([1, 2], [2, 3]), ([1, 5], [], [4, 6])]
)
def test_rows_out_of_order_are_an_error(columns: tuple[list[int], ...]) -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        list(in_order(batches(*columns)))
    backwards = [numbers[::-1] for numbers in columns[::-1]]
    with pytest.raises(RuntimeError, match="out of order"):
        list(in_order(batches(*backwards), falling=True))
