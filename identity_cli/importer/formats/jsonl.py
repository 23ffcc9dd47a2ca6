"""JSON Lines files: one JSON object per line."""

from __future__ import annotations

import codecs
import json
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from identity_cli.errors import InputUnreadableError, InvalidRequestError
from identity_cli.importer.formats.columns import kind_of
from identity_cli.importer.formats.rows import ColumnReport, Layout, Row
from identity_cli.importer.formats.text import BOM, LINE_MAX, open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from identity_cli.importer.formats.rows import InputOptions, Kind
    from identity_cli.importer.source import Source

_Shape: TypeAlias = "tuple[list[str], list[str]]"

_KEY_ENDS = (b'":', b" :", b"\t:", b"\r:", b"\n:")
# Objects with the same keys are examined once; the memory for this is bounded.
_KNOWN_SHAPES = 1024
_SHAPE_BYTES = 4096
_MOST_UNTAKEN = 4096


class JsonLinesReader:
    """A reader of one JSON object per line."""

    def __init__(self, source: Source, options: InputOptions) -> None:
        self.line = 0
        self.characters = 0
        self.layout = Layout("jsonl", options.encoding or "utf-8")
        self.notes: Sequence[str] = ()
        self._name = source.name
        self._source = source
        self._encoding = options.encoding or "utf-8"
        self._mapping = options.mapping
        self._used: dict[tuple[str, str], None] = {}
        self._untaken: list[bytes] = []
        self._complete = 0
        self._mapped_keys_seen: set[str] = set()
        self._has_objects = False
        self._shapes: dict[tuple[str, ...], _Shape] = {}

    @property
    def unseen_keys(self) -> list[str]:
        """The mapped keys that no object has had so far; empty before the first object."""
        if not self._has_objects:
            return []
        return [key for _, key in self._mapping if key not in self._mapped_keys_seen]

    @property
    def column_report(self) -> ColumnReport:
        return ColumnReport(tuple(self._used))

    def take_digest_input(self) -> bytes:
        data = b"".join(self._untaken[: self._complete])
        del self._untaken[: self._complete]
        self._complete = 0
        return data

    def rows(self) -> Iterator[Row]:
        import msgspec

        decode = msgspec.json.Decoder().decode
        try:
            for data in self._lines():
                self.line += 1
                self.characters += len(data)
                if data.isspace():
                    if len(self._untaken) - self._complete >= _MOST_UNTAKEN:
                        blank = b"".join(self._untaken[self._complete :])
                        self._untaken[self._complete :] = [sha256(blank).digest()]
                    continue
                self._complete = len(self._untaken)
                if len(data) >= LINE_MAX:
                    yield self._bad(b"", "too_long", f"a line of over {LINE_MAX} bytes")
                    continue
                try:
                    emails, phones = self._values(decode(data), data)
                except InvalidRequestError as error:
                    yield Row(self.line, (), (), data, error.with_traceback(None))
                except UnicodeDecodeError:
                    yield self._bad(data, "bad_encoding", "bytes that are not UTF-8")
                except RecursionError:
                    yield self._bad(data, "bad_json", "nested too deep")
                except msgspec.DecodeError as error:
                    yield self._bad(data, "bad_json", str(error))
                else:
                    yield Row(self.line, emails, phones, data)
        except UnicodeError as error:
            raise InputUnreadableError(
                f"{self._name}:{self.line + 1}",
                "the text is not in the expected encoding",
                hint="use --encoding; the rows before this place are imported",
            ) from error

    def _bad(self, data: bytes, code: str, reason: str) -> Row:
        return Row(self.line, (), (), data, InvalidRequestError(code, reason))

    def _values(self, value: object, data: bytes) -> tuple[list[object], list[object]]:
        if type(value) is not dict:
            raise InvalidRequestError("bad_json", "not a JSON object")
        # As many colons as keys: no key is there twice. Values have colons too, but seldom right
        # behind a quote or white space. Otherwise the keys are compared.
        if data.count(b":") != len(value) and sum(map(data.count, _KEY_ENDS)) != len(value):
            _refuse_duplicate_keys(data)
        keys = tuple(value)
        if keys in self._shapes:
            shape = self._shapes[keys]
        else:
            shape = self._shape(keys)
            if len(self._shapes) < _KNOWN_SHAPES and len(data) <= _SHAPE_BYTES:
                self._shapes[keys] = shape
        email_keys, phone_keys = shape
        return [value[key] for key in email_keys], [value[key] for key in phone_keys]

    def _lines(self) -> Iterator[bytes]:
        readline, keep = self._readline(), self._untaken.append
        data = readline().removeprefix(BOM.encode())
        while data:
            keep(data)
            yield data
            if len(data) >= LINE_MAX and data[-1] != 0x0A:
                keep(_digest_of_rest(readline))
            data = readline()

    def _readline(self) -> Callable[[], bytes]:
        if codecs.lookup(self._encoding).name in {"utf-8", "utf-8-sig", "ascii"}:
            return partial(self._source.stream().readline, LINE_MAX)
        text = open_text(self._source, self._encoding)
        # A byte that was not text must not become a part of the JSON.
        return lambda: text.readline(LINE_MAX).encode("utf-8", "surrogatepass")

    def _shape(self, keys: tuple[str, ...]) -> _Shape:
        """Return the keys of the emails and of the phone numbers."""
        self._has_objects = True
        self._mapped_keys_seen.update(key for _, key in self._mapping if key in keys)
        emails = self._find_keys(keys, "email")
        phones = self._find_keys(keys, "phone")
        self._used |= dict.fromkeys((key, "email") for key in emails)
        self._used |= dict.fromkeys((key, "phone") for key in phones)
        return emails, phones

    def _find_keys(self, keys: Sequence[str], wanted: Kind) -> list[str]:
        named = [key for kind, key in self._mapping if kind == wanted]
        if named:
            return [key for key in named if key in keys]
        return [key for key in keys if kind_of(key) == wanted]


def _digest_of_rest(readline: Callable[[], bytes]) -> bytes:
    """Read the rest of an overlong line, which may be too long to keep, and return its digest."""
    digest = sha256()
    while data := readline():
        digest.update(data)
        if data[-1] == 0x0A:
            break
    return digest.digest()


def _refuse_duplicate_keys(data: bytes) -> None:
    def pairs(found: list[tuple[str, object]]) -> None:
        if len({key for key, _ in found}) != len(found):
            raise InvalidRequestError("bad_json", "the same key twice")

    json.loads(data, object_pairs_hook=pairs)
