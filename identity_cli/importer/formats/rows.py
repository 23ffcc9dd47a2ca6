"""What every format has in common: a row, a reader, the options of reading."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from identity_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from identity_cli.errors import InvalidRequestError

InputFormat = Literal["csv", "jsonl"]

REJECT_COLUMNS = ("_line", "_code", "_reason")


class Row(NamedTuple):
    """A row as it stands: raw values, the cells or the line, and what is wrong with it."""

    line: int
    email: object
    phone: object
    content: Any
    problem: InvalidRequestError | None


class Reader(Protocol):
    """The rows of one input. `line` is the last line read.

    `characters` is how many were read, and more for rows that take more memory than their text.
    `columns` and `delimiter` are a CSV file's.
    """

    line: int
    characters: int
    columns: list[str]
    delimiter: str

    def rows(self) -> Iterator[Row]: ...


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How to read the inputs. `mapping` names the column of "email" and "phone"."""

    input_format: InputFormat | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    mapping: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except (LookupError, ValueError) as error:
            raise UsageError(
                f"unknown encoding {self.encoding!r}", hint="for example --encoding latin-1"
            ) from error
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise UsageError(
                "a delimiter is one character, not a quote or a line end",
                hint="for a tab give --delimiter '\\t'",
            )
