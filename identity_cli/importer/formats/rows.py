"""What all formats have in common: rows, readers, and options for reading."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from identity_cli.errors import InputUnreadableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.errors import InvalidRequestError

InputFormat = Literal["csv", "jsonl", "json", "excel", "parquet", "vcard"]
Kind = Literal["email", "phone"]

REJECT_COLUMNS = ("_line", "_code", "_reason")


class Row(NamedTuple):
    """A row as it was read.

    `emails` and `phones` are raw values in the order of their columns; a list is a JSON array of
    values. `content` is what the rejects file needs: cells, or a line. `problem` is why none of it
    can be used. `region` and `key` are the raw values of the columns of these names.
    """

    line: int
    emails: Sequence[object]
    phones: Sequence[object]
    content: Any
    problem: InvalidRequestError | None = None
    region: object = None
    key: object = None


@dataclass(frozen=True, slots=True)
class Layout:
    """How an input is written; its rejects are written the same way.

    `columns`, `delimiter` and `escape` are those of a table.
    """

    input_format: InputFormat
    encoding: str = "utf-8"
    columns: Sequence[str] = ()
    delimiter: str = ","
    escape: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """The columns that are used, and those that look like contact values and are not used.

    A use is "email", "phone", "region" or "key". A column is named as in the file, a key of JSON by
    its path. The unused columns come with the reason.
    """

    used: tuple[tuple[str, str], ...] = ()
    unused: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, list[dict[str, str]]]:
        """Return the document of `identity inspect` and of a summary."""
        return {
            "used": [{"column": name, "use": use} for name, use in self.used],
            "unused": [{"column": name, "reason": reason} for name, reason in self.unused],
        }


class Reader(Protocol):
    """The rows of one input.

    `line` is the last line that was read. `characters` is how many were read, and more for rows
    that take more memory than their text. `notes` is what a user should know about how the input
    is read, known before the first row.
    """

    line: int
    characters: int
    layout: Layout

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def column_report(self) -> ColumnReport:
        """The columns used so far; complete at the end of the input."""
        ...

    @property
    def unseen_keys(self) -> list[str]:
        """The mapped keys that no object has had so far; empty before the first object."""
        ...

    def rows(self) -> Iterator[Row]:
        """Yield the rows. Raises `InputUnreadableError` where the input cannot be read on."""
        ...

    def take_digest_input(self) -> bytes:
        """Return the text that was read since the last call, up to the last row of `rows`.

        The header is part of it. It is held until then, so call this every some hundred rows. All
        parts joined are the same, however often this is called. What exceeds `LINE_MAX` of a line
        is in it as a digest, and so are thousands of blank lines.
        """
        ...


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How to read the inputs; None means that it is detected.

    `mapping` names the columns to read as emails and phone numbers, in order. `skip_lines` is the
    number of lines before the header. Without a `header`, columns are named by numbers from 1.
    `escape` is the character before a quote that belongs to a cell. `sheet` is a name, or a number
    from 1. `region_column` and `key` name columns. `null_words` are read
    as absent values. If it is `strict`, one bad value rejects the row.
    """

    input_format: InputFormat | None = None
    delimiter: str | None = None
    encoding: str | None = None
    mapping: Sequence[tuple[Kind, str]] = ()
    skip_lines: int | None = None
    header: bool = True
    escape: str | None = None
    sheet: str | None = None
    region_column: str | None = None
    key: str | None = None
    null_words: tuple[str, ...] = ()
    strict: bool = False

    def __post_init__(self) -> None:
        encoding = "utf-8" if self.encoding is None else self.encoding
        try:
            codecs.lookup(encoding)
            "".encode(encoding)
        except (LookupError, ValueError) as error:
            raise UsageError(
                f"unknown encoding {self.encoding!r}", hint="use for example --encoding latin-1"
            ) from error
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise UsageError(
                "a delimiter must be one character other than a quote or a line end",
                hint="for a tab use --delimiter '\\t'",
            )
        if self.escape is not None and (len(self.escape) != 1 or self.escape in '"\r\n\0 '):
            raise UsageError(
                "an escape must be one character other than a quote, a space or a line end",
                hint="use for example --escape '\\'",
            )
        if self.escape is not None and self.escape == self.delimiter:
            raise UsageError(
                "the escape and the delimiter are the same character",
                hint="check --escape and --delimiter",
            )
        if self.skip_lines is not None and self.skip_lines < 0:
            raise UsageError(
                "the number of lines to skip cannot be negative", hint="check --skip-lines"
            )
        if not self.header and not self.mapping:
            raise UsageError(
                "without a header nothing shows which columns hold emails and phone numbers",
                hint="number the columns from 1, for example --map email=1 --map phone=2",
            )


def missing_keys(
    name: str, keys: Sequence[str], *, kept: str | None = None
) -> InputUnreadableError:
    """Return the error for keys of the options that no row has had.

    `kept` is what has become of the rows all the same.
    """
    hint = "check --map, --region-column and --key for a typing error"
    return InputUnreadableError(
        name,
        f"no row has the key {', '.join(map(repr, keys))}",
        hint=hint if kept is None else f"{hint}; {kept}",
    )
