"""Files read by one reader, for the tests of the formats."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from identity_cli.errors import InputUnreadableError
from identity_cli.importer.formats import InputOptions
from identity_cli.importer.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from identity_cli.importer.formats import Reader, Row

R = TypeVar("R", bound="Reader")


def read_until_error(
    open_reader: Callable[[Source, InputOptions], R], path: Path, *mapping: str, **options: Any
) -> tuple[list[Row], InputUnreadableError | None, R]:
    """Read a file with the mapping of `--map KIND=NAME`: its rows, and what ended the reading."""
    pairs: Any = [tuple(text.split("=", 1)) for text in mapping]
    rows: list[Row] = []
    with closing(Source(str(path))) as source:
        reader = open_reader(source, InputOptions(mapping=pairs, **options))
        try:
            rows += reader.rows()
        except InputUnreadableError as error:
            return rows, error, reader
    return rows, None, reader


def read_all(
    open_reader: Callable[[Source, InputOptions], R], path: Path, *mapping: str, **options: Any
) -> tuple[list[Row], R]:
    """Read a file to its end with the mapping of `--map KIND=NAME`."""
    rows, error, reader = read_until_error(open_reader, path, *mapping, **options)
    if error is not None:
        raise error
    return rows, reader
