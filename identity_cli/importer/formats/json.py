"""JSON documents: an array of objects, an object that holds one, or one object after the other.

`json.raw_decode` of the standard library finds where a value ends, at the speed of C; the value is
then read like a line of JSON Lines. No more of the document than one object is held in memory.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, NamedTuple, cast

from identity_cli.errors import InputUnreadableError
from identity_cli.importer.formats.json_objects import JsonObjects
from identity_cli.importer.formats.rows import Layout, Row
from identity_cli.importer.formats.text import BOM, KEEP_BYTES, LINE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

    from identity_cli.importer.formats.rows import ColumnReport, InputOptions
    from identity_cli.importer.source import Source

_BLOCK = 1 << 16
_space = re.compile(r"[ \t\r\n]*")
# How deep an array is looked for inside objects, and by how many objects it is judged.
_DEEPEST_ARRAY = 8
_SAMPLE = 100


class _Array(NamedTuple):
    """An array of objects inside another object; `is_used` if they have keys that are used."""

    path: str
    is_used: bool


class JsonReader:
    """A reader of a JSON document. A row's line is the number of its object."""

    def __init__(self, source: Source, options: InputOptions) -> None:
        self.line = 0
        self.characters = 0
        self.notes: Sequence[str] = ()
        encoding = options.encoding or "utf-8"
        self.layout = Layout("json", encoding)
        # A byte that was not text must not become a part of the JSON.
        is_utf_8 = codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}
        self._bad_bytes = KEEP_BYTES if is_utf_8 else "surrogatepass"
        self._name = source.name
        self._objects = JsonObjects(options)
        self._text = _Text(source, encoding)
        self._untaken: list[bytes] = []
        self._arrays: list[_Array] = []

    @property
    def unseen_keys(self) -> list[str]:
        return self._objects.unseen_keys

    @property
    def column_report(self) -> ColumnReport:
        return self._objects.column_report

    def take_digest_input(self) -> bytes:
        data = b"".join(self._untaken)
        self._untaken.clear()
        return data

    def rows(self) -> Iterator[Row]:
        try:
            yield from self._document()
        except _BrokenError as error:
            raise self._broken(str(error)) from error
        except RecursionError as error:
            raise self._broken("it is nested too deep") from error
        except UnicodeError as error:
            raise InputUnreadableError(
                self._name,
                f"the text after object {self.line} is not in the expected encoding",
                hint="use --encoding",
                is_midway=True,
            ) from error

    def _document(self) -> Iterator[Row]:
        text = self._text
        first = text.next()
        if first == "[":
            yield from self._elements()
            if text.next():
                raise _BrokenError("there is something after the end of the array")
        elif first == "{" and self._is_wrapper():
            yield from self._wrapped("", 0)
            if text.next():
                raise _BrokenError("there is something after the end of the object")
            self._check_found()
        else:
            while text.next():
                yield self._row()
                # Commas and line ends between objects are not JSON, but common.
                text.skip(",")

    def _is_wrapper(self) -> bool:
        """Return whether the document is an object around an array, and not a row itself."""
        try:
            first, is_last = self._text.look()
        except _BrokenError:
            return True  # it is too large for an object of a few values, or it is cut off
        return is_last and not self._objects.has_values(first) and _has_array(first, 0)

    def _wrapped(self, prefix: str, level: int) -> Iterator[Row]:
        """Read an object, and the rows of the arrays in it."""
        text = self._text
        text.expect("{")
        while text.next() != "}":
            key = text.key()
            path = f"{prefix}{key}"
            opening = text.next()
            if opening == "[":
                yield from self._array(path)
            elif opening == "{" and level < _DEEPEST_ARRAY:
                yield from self._wrapped(f"{path}.", level + 1)
            else:
                text.take()
            if text.next() != "}":
                text.expect(",")
        text.expect("}")

    def _array(self, path: str) -> Iterator[Row]:
        sample = self._text.look_into_array(_SAMPLE)
        if not sample or type(sample[0]) is not dict:
            self._skip_array()
            return
        is_used = any(map(self._objects.has_values, sample))
        if is_used and any(array.is_used for array in self._arrays):
            raise InputUnreadableError(
                self._name,
                f"there is a second array of contacts, {path!r}, after object {self.line}",
                hint=f"split it, for example: jq '.{path}[]' FILE",
                is_midway=True,
            )
        self._arrays.append(_Array(path, is_used))
        if is_used:
            yield from self._elements()
        else:
            self._skip_array()

    def _elements(self) -> Iterator[Row]:
        for _ in self._places():
            yield self._row()

    def _skip_array(self) -> None:
        for _ in self._places():
            self._text.take()

    def _places(self) -> Iterator[None]:
        """Stop before each element of an array, which the caller takes."""
        text = self._text
        text.expect("[")
        while text.next() != "]":
            yield
            if text.next() != "]":
                text.expect(",")
        text.expect("]")

    def _row(self) -> Row:
        content = self._text.take()
        self.line += 1
        self.characters += len(content)
        data = content.encode("utf-8", self._bad_bytes)
        self._untaken += (data, b"\n")
        return self._objects.row(self.line, data)

    def _check_found(self) -> None:
        if any(array.is_used for array in self._arrays):
            return
        paths = ", ".join(repr(array.path[:40]) for array in self._arrays[:20])
        raise InputUnreadableError(
            self._name,
            f"no key of the objects in {paths} is an email or a phone number",
            hint="use --map email=KEY or --map phone=KEY, with a path such as properties.email",
        )

    def _broken(self, problem: str) -> InputUnreadableError:
        line, column = self._text.position()
        return InputUnreadableError(
            self._name,
            f"broken JSON in object {self.line + 1}, at line {line}, column {column}: {problem}",
            hint="make the file again, or correct it there",
            is_midway=True,
        )


class _BrokenError(Exception):
    """A place where the document is not JSON."""


class _Text:
    """The text of a document, of which no more is held than a value needs."""

    def __init__(self, source: Source, encoding: str) -> None:
        self._read_some = cast("BufferedReader", source.stream()).read1
        self._decode_bytes = codecs.getincrementaldecoder(encoding)(KEEP_BYTES).decode
        # Numbers are left alone: they are only passed over here.
        self._decode_value = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
        self._held = ""
        self._at = 0
        self._error_at = 0
        self._lines_dropped = 0
        self._column_dropped = 0
        self._is_at_end = False

    def next(self) -> str:
        """Skip white space and return the character after it; "" is the end."""
        self._at = _after_space(self._held, self._at)
        while self._at == len(self._held) and self._read():
            self._at = _after_space(self._held, self._at)
        self._error_at = self._at
        return self._held[self._at : self._at + 1]

    def expect(self, character: str) -> None:
        found = self.next()
        if found != character:
            raise _BrokenError(f"{character!r} is missing" if found else "it ends too early")
        self._at += 1

    def skip(self, character: str) -> None:
        while self.next() == character:
            self._at += 1

    def key(self) -> str:
        if self.next() != '"':
            raise _BrokenError("a key in double quotes is missing")
        key, self._at = self._value(self._at)
        self.expect(":")
        return str(key)

    def take(self) -> str:
        """Return the text of the value that is next, and go on behind it."""
        if not self.next():
            raise _BrokenError("it ends too early")
        _, end = self._value(self._at)
        text = self._held[self._at : end]
        self._at = end
        if end > _BLOCK:
            self._drop()
        return text

    def look(self) -> tuple[object, bool]:
        """Return the value that is next, and whether it is the last; go nowhere."""
        value, end = self._value(self._at)
        place = _after_space(self._held, end)
        while place == len(self._held) and len(self._held) < LINE_MAX and self._read(drop=False):
            place = _after_space(self._held, place)
        return value, place == len(self._held)

    def look_into_array(self, most: int) -> list[object]:
        """Return the first elements of the array that is next, as far as held; go nowhere."""
        place = self._at + 1
        found: list[object] = []
        while len(found) < most:
            place = _after_space(self._held, place)
            if place == len(self._held) and not found and self._read(drop=False):
                continue
            if self._held[place : place + 1] in {"", "]"}:
                break
            try:
                value, place = (
                    self._decode_value(self._held, place) if found else self._value(place)
                )
            except json.JSONDecodeError:
                break
            found.append(value)
            place = _after_space(self._held, place)
            if self._held[place : place + 1] != ",":
                break
            place += 1
        return found

    def position(self) -> tuple[int, int]:
        """Return the line and the column of the last error, both from 1."""
        before = self._held[: self._error_at]
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") - 1
        return 1 + self._lines_dropped + lines, 1 + column + (0 if lines else self._column_dropped)

    def _value(self, start: int) -> tuple[object, int]:
        """Return the value that begins there, and its end. Reads until it is complete."""
        while True:
            try:
                value, end = self._decode_value(self._held, start)
            except json.JSONDecodeError as error:
                # What is not complete looks like an error, too: read on, twice as much each time.
                held = len(self._held)
                if held - start > LINE_MAX or self._is_at_end:
                    self._error_at = error.pos
                    raise _BrokenError(
                        f"{error.msg}, or the value has more than {LINE_MAX} characters"
                        if held - start > LINE_MAX
                        else error.msg
                    ) from error
                while len(self._held) < 2 * held and self._read(drop=False):
                    pass
            else:
                # A number may have more digits.
                if end < len(self._held) or not self._read(drop=False):
                    return value, end

    def _read(self, *, drop: bool = True) -> bool:
        """Append more text; return False at the end."""
        if self._is_at_end:
            return False
        if drop:
            self._drop()
        text = ""
        while not text and not self._is_at_end:
            data = self._read_some(_BLOCK)
            self._is_at_end = not data
            text = self._decode_bytes(data, self._is_at_end)
        if not self._lines_dropped and not self._held and self._at == 0:
            text = text.removeprefix(BOM)
        self._held += text
        return bool(text) or not self._is_at_end

    def _drop(self) -> None:
        dropped, self._held = self._held[: self._at], self._held[self._at :]
        self._at = self._error_at = 0
        lines = dropped.count("\n")
        self._lines_dropped += lines
        column = len(dropped) - dropped.rfind("\n") - 1
        self._column_dropped = column + (0 if lines else self._column_dropped)


def _after_space(text: str, start: int) -> int:
    found = _space.match(text, start)
    return found.end() if found else start


def _has_array(value: object, level: int) -> bool:
    """Return whether there is an array of objects, not below another array."""
    if type(value) is list:
        return bool(value) and type(value[0]) is dict
    if type(value) is not dict or level > _DEEPEST_ARRAY:
        return False
    return any(_has_array(item, level + 1) for item in value.values())
