"""What all formats have in common: rows, readers, and options for reading."""

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
    """The rows of one input.

    `line` is the last line that was read. `characters` is how many were read, and more for rows
    that take more memory than their text. `columns` and `delimiter` are those of a CSV file.
    """

    line: int
    characters: int
    columns: list[str]
    delimiter: str

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
    """How to read the inputs. `mapping` names the columns of "email" and "phone"."""

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
                f"unknown encoding {self.encoding!r}", hint="use for example --encoding latin-1"
            ) from error
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise UsageError(
                "a delimiter must be one character other than a quote or a line end",
                hint="for a tab use --delimiter '\\t'",
            )
