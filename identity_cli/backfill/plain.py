"""Blocks of CSV whose values are normal already, as columns of requests; needs pyarrow.

What is not seen to be normal here is left to the reader and the normaliser.
"""

from __future__ import annotations

from array import array
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from identity_cli.backfill.columns import column
from identity_cli.graph.emails import EMAIL_MAX, PLAIN_EMAIL, is_plain_email
from identity_cli.graph.phones import PHONE_MAX, PLAIN_PHONE, is_plain_phone

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.importer.formats.blocks import Block

# Values that these patterns take are normal, unless they are too long or absent.
_EMAIL, _PHONE = f"^(?:{PLAIN_EMAIL})$", f"^(?:{PLAIN_PHONE})$"


@dataclass(frozen=True, slots=True)
class PlainRequests:
    """The requests of a block, as columns, without those of the rows at `other_places`.

    `local_phones` is how many have a phone number without a country code.
    """

    lines: pa.Array
    emails: pa.ListArray
    phones: pa.ListArray
    local_phones: int
    other_places: Sequence[int]


class PlainReader:
    """A reader of blocks whose phone numbers have no region; `absent` are words for no value."""

    def __init__(self, absent: Iterable[str]) -> None:
        words = [word for word in absent if is_plain_email(word) or is_plain_phone(word)]
        self._absent = pa.array([*words, "0"], pa.string())

    def read(self, block: Block) -> PlainRequests | None:
        """Return the requests of a block; None if a line has not as many cells as the header."""
        table = _cells(block)
        if table is None:
            return None
        emails = phones = pa.repeat("", block.count)
        if block.email is not None:
            emails = table.column(str(block.email)).combine_chunks()
        if block.phone is not None:
            phones = table.column(str(block.phone)).combine_chunks()
        has_email, has_phone = pc.not_equal(emails, ""), pc.not_equal(phones, "")
        is_plain = pc.and_(
            pc.and_(
                self._is_plain(emails, _EMAIL, EMAIL_MAX, has_email),
                self._is_plain(phones, _PHONE, PHONE_MAX, has_phone),
            ),
            pc.or_(has_email, has_phone),
        )
        lines = column(array("q", range(block.first_line, block.first_line + block.count)))
        others: Sequence[int] = ()
        if pc.all(is_plain).as_py() is False:
            places = column(array("q", range(block.count)))
            others = places.filter(pc.invert(is_plain)).to_pylist()
            lines, emails, phones, has_email, has_phone = (
                values.filter(is_plain) for values in (lines, emails, phones, has_email, has_phone)
            )
        with_code = pc.starts_with(phones, "+")
        local = pc.sum(pc.and_not(has_phone, with_code)).as_py() or 0
        return PlainRequests(
            lines, _lists(emails, has_email), _lists(phones, has_phone), local, others
        )

    def _is_plain(self, values: pa.Array, pattern: str, most: int, is_there: pa.Array) -> pa.Array:
        is_normal = pc.and_(
            pc.match_substring_regex(values, pattern),
            pc.less_equal(pc.binary_length(values), most),
        )
        is_normal = pc.and_not(is_normal, pc.is_in(values, value_set=self._absent))
        return pc.or_(pc.invert(is_there), is_normal)


def _cells(block: Block) -> pa.Table | None:
    """Return the used columns of a block, by their numbers; None if the lines do not fit."""
    if block.text.startswith(BOM_UTF8):  # Arrow would take it for that of a file
        return None
    names = [str(number) for number in range(block.width)]
    used = [str(number) for number in (block.email, block.phone) if number is not None]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.text),
            pyarrow.csv.ReadOptions(
                use_threads=False, column_names=names, block_size=len(block.text) + 1
            ),
            pyarrow.csv.ParseOptions(
                delimiter=block.separator.decode(),
                quote_char=False,
                escape_char=False,
                newlines_in_values=False,
                ignore_empty_lines=False,
            ),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,
                include_columns=used,
                column_types=dict.fromkeys(used, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == block.count else None


def _lists(values: pa.Array, is_there: pa.Array) -> pa.ListArray:
    """Return lists of one value, or of none."""
    ends = pc.cumulative_sum(is_there.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, values.filter(is_there))
