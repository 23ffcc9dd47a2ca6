"""The emails and phone numbers of JSON objects."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from identity_cli.errors import InvalidRequestError
from identity_cli.importer.formats import columns
from identity_cli.importer.formats.paths import Path
from identity_cli.importer.formats.rows import ColumnReport, InputOptions, Row
from identity_cli.importer.formats.text import KEEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from identity_cli.importer.formats.columns import Choice
    from identity_cli.importer.formats.rows import Kind

_KEY_ENDS = (b'":', b" :", b"\t:", b"\r:", b"\n:")
# Objects with the same keys are examined once; the memory for this is bounded.
_KNOWN_SHAPES = 1024
_SHAPE_BYTES = 4096
_KEYS = 256
_KEY_CHARACTERS = 100
# How many nested objects are searched for values that are not used, how deep, and how many keys
# are reported: an object may have an id of its own as a key for every customer.
_SEARCHED_OBJECTS = 10_000
_SEARCHED_LEVELS = 3
_SEARCHED_ELEMENTS = 10
_MOST_UNUSED = 50
# How MongoDB writes a number: {"$numberLong": "12025550400"}.
_MONGO_NUMBERS = frozenset({"$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"})


class _Shape(NamedTuple):
    """The keys that are used of a flat object.

    `pair` is the email and the phone number of an object that has nothing else.
    """

    pair: tuple[str, str] | None
    emails: list[str]
    phones: list[str]
    region: str | None
    key: str | None


class JsonObjects:
    """A reader of the values of JSON objects: those of recognised keys, or of mapped paths."""

    def __init__(self, options: InputOptions) -> None:
        import msgspec

        self._decode = msgspec.json.Decoder().decode
        self._invalid = msgspec.DecodeError
        self._mapped: dict[Kind, list[Path]] = {
            "email": [Path(name) for kind, name in options.mapping if kind == "email"],
            "phone": [Path(name) for kind, name in options.mapping if kind == "phone"],
        }
        self._region = None if options.region_column is None else Path(options.region_column)
        self._key = None if options.key is None else Path(options.key)
        self._has_objects = False
        self._seen: set[str] = set()
        self._used: dict[tuple[str, str], None] = {}
        self._unused: dict[str, str] = {}
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._searched = 0

    @property
    def unseen_keys(self) -> list[str]:
        """The paths of options that no object has had so far; empty before the first object."""
        if not self._has_objects:
            return []
        wanted = [*self._mapped["email"], *self._mapped["phone"], self._region, self._key]
        return [path.text for path in wanted if path is not None and path.text not in self._seen]

    @property
    def column_report(self) -> ColumnReport:
        return ColumnReport(tuple(self._used), tuple(self._unused.items()))

    def has_values(self, value: object) -> bool:
        """Return whether an object has a key that is used."""
        if type(value) is not dict:
            return False
        paths = (*self._mapped["email"], *self._mapped["phone"])
        if any(path.values(value) is not None for path in paths):
            return True
        keys = tuple(value)
        return any(not self._mapped[kind] and _recognised(keys, kind) for kind in self._mapped)

    def row(self, line: int, data: bytes) -> Row:
        """Return the row of an object; `data` is its JSON."""
        try:
            try:
                value = self._decode(data)
            except self._invalid:
                # A line of an array that was written one object a line ends with a comma.
                text = data.strip()
                if not text.endswith(b","):
                    raise
                data = text[:-1]
                value = self._decode(data)
            if type(value) is not dict:
                raise InvalidRequestError("bad_json", "not a JSON object")
            # As many colons as keys: no key is there twice. Values have colons too, but seldom
            # right behind a quote or white space. Otherwise the keys are compared.
            if data.count(b":") != len(value) and sum(map(data.count, _KEY_ENDS)) != len(value):
                _refuse_duplicate_keys(data)
            keys = tuple(value)
            shape = self._shapes.get(keys)
            if shape is not None and shape.pair is not None:
                email, phone = value[shape.pair[0]], value[shape.pair[1]]
                if type(email) is str and type(phone) is str:
                    return Row(line, [email], [phone], data)
            if data.find(b"[") >= 0 or data.find(b"{", 1) > 0:
                return self._nested_row(line, value, data)
            shape = shape or self._new_shape(keys, len(data))
            emails = [value[name] for name in shape.emails]
            phones = [value[name] for name in shape.phones]
            return Row(
                line, emails, phones, data, None, value.get(shape.region), value.get(shape.key)
            )
        except InvalidRequestError as error:
            return _bad(line, data, error.with_traceback(None))
        except UnicodeDecodeError:
            reject = InvalidRequestError("bad_encoding", "bytes that are not UTF-8")
            return self._row_with_bad_bytes(line, data, reject)
        except RecursionError:
            return _bad(line, data, InvalidRequestError("bad_json", "nested too deep"))
        except self._invalid as error:
            reject = InvalidRequestError("bad_json", str(error))
            if not _is_utf8(data):  # from msgspec 0.23 on, no UnicodeDecodeError is raised
                return self._row_with_bad_bytes(line, data, reject)
            return _bad(line, data, reject)

    def _row_with_bad_bytes(self, line: int, data: bytes, reject: InvalidRequestError) -> Row:
        """Return the row of an object with bytes that are not UTF-8; they may be in other keys.

        If it cannot be read all the same, `reject` is the reason.
        """
        try:
            value = json.loads(
                data.strip().removesuffix(b",").decode("utf-8", KEEP_BYTES),
                object_pairs_hook=_distinct,
                parse_constant=_refuse_constant,
            )
        except InvalidRequestError as error:
            return _bad(line, data, error.with_traceback(None))
        except (ValueError, RecursionError):
            return _bad(line, data, reject)
        if type(value) is not dict:
            return _bad(line, data, InvalidRequestError("bad_json", "not a JSON object"))
        return self._nested_row(line, value, data)

    def _new_shape(self, keys: tuple[str, ...], size: int) -> _Shape:
        self._has_objects = True
        emails, phones = self._flat_keys(keys, "email"), self._flat_keys(keys, "phone")
        region = None if self._region is None else self._region.text
        key = None if self._key is None else self._key.text
        is_pair = len(emails) == len(phones) == 1 and len(keys) == 2 and region is key is None
        shape = _Shape((emails[0], phones[0]) if is_pair else None, emails, phones, region, key)
        for name, use in (
            *((name, "email") for name in shape.emails),
            *((name, "phone") for name in shape.phones),
            (shape.region, "region"),
            (shape.key, "key"),
        ):
            if name in keys:
                self._record_use(name, use)
        self._record_reasons(keys)
        if len(self._shapes) < _KNOWN_SHAPES and size <= _SHAPE_BYTES:
            self._shapes[keys] = shape
        return shape

    def _flat_keys(self, keys: tuple[str, ...], wanted: Kind) -> list[str]:
        if self._mapped[wanted]:
            return [path.text for path in self._mapped[wanted] if path.text in keys]
        return _recognised(keys, wanted)

    def _nested_row(self, line: int, value: dict[str, Any], data: bytes) -> Row:
        self._has_objects = True
        emails = list(self._values(value, "email"))
        phones = list(self._values(value, "phone"))
        region = self._single_value(value, self._region, "region")
        key = self._single_value(value, self._key, "key")
        if self._searched < _SEARCHED_OBJECTS:
            self._searched += 1
            self._record_reasons(tuple(value))
            self._search(value, "", 0, None)
        return Row(line, emails, phones, data, None, region, key)

    def _values(self, value: dict[str, Any], kind: Kind) -> Iterator[object]:
        for path in self._mapped[kind]:
            found = path.values(value)
            if found is not None:
                self._record_use(path.text, kind)
                yield _number(found[0]) if len(found) == 1 else list(map(_number, found))
        if not self._mapped[kind]:
            for name in _recognised(tuple(value), kind):
                item = value[name]
                if _is_plain(item):
                    self._record_use(name, kind)
                    yield list(map(_number, item)) if type(item) is list else _number(item)

    def _single_value(self, value: dict[str, Any], path: Path | None, use: str) -> object:
        found = None if path is None else path.values(value)
        if path is None or found is None:
            return None
        self._record_use(path.text, use)
        return _number(found[0]) if found else None

    def _record_use(self, name: str, use: str) -> None:
        self._used[name, use] = None
        self._seen.add(name)
        self._unused.pop(name, None)

    def _record_reasons(self, keys: tuple[str, ...]) -> None:
        for name, reason in _choice(keys).report.unused:
            self._record_reason(name, reason)

    def _record_reason(self, path: str, reason: str | None) -> None:
        if reason is not None and len(self._unused) < _MOST_UNUSED and path not in self._seen:
            self._unused.setdefault(path, reason)

    def _search(self, value: dict[str, Any], prefix: str, level: int, within: Kind | None) -> None:
        """Look for values that are not used, in an object under a key of the kind `within`."""
        for name, item in value.items():
            path, kind = f"{prefix}{name}", _kind_of(name)
            if _is_plain(item):
                if not level or item is None or item in ("", []):
                    continue
                if kind is None and within is not None and _looks_like(item, within):
                    kind = within
                reason = _why_unused(name)
                if reason is None and kind is not None:
                    reason = f"it is not at the top level; to use it: --map {kind}={path}"
                self._record_reason(path, reason)
            elif level < _SEARCHED_LEVELS:
                is_array = type(item) is list
                for element in item[:_SEARCHED_ELEMENTS] if is_array else (item,):
                    if type(element) is dict:
                        below = f"{path}[]." if is_array else f"{path}."
                        self._search(element, below, level + 1, kind or within)
                if kind is not None and not any(known.startswith(path) for known in self._known()):
                    held = "an array of objects" if is_array else "an object"
                    self._record_reason(path, f"it is {held}; to use it: --map {kind}=PATH")

    def _known(self) -> Iterator[str]:
        yield from self._unused
        yield from self._seen


def _bad(line: int, data: bytes, problem: InvalidRequestError) -> Row:
    return Row(line, (), (), data, problem)


def _choice(keys: tuple[str, ...]) -> Choice:
    """Return which keys of an object are recognised."""
    short = tuple(key if len(key) <= _KEY_CHARACTERS else "" for key in keys)
    return _known_choice(short) if len(short) <= _KEYS else columns.choose(short, InputOptions())


@lru_cache(maxsize=_KNOWN_SHAPES)
def _known_choice(keys: tuple[str, ...]) -> Choice:
    return columns.choose(keys, InputOptions())


def _recognised(keys: tuple[str, ...], kind: Kind) -> list[str]:
    choice = _choice(keys)
    return [keys[index] for index in (choice.emails if kind == "email" else choice.phones)]


def _kind_of(name: str) -> Kind | None:
    return columns.kind_of(name) if len(name) <= _KEY_CHARACTERS else None


def _why_unused(name: str) -> str | None:
    return columns.why_unused(name) if len(name) <= _KEY_CHARACTERS else None


def _is_plain(value: object) -> bool:
    """Return whether a value is text, a number and the like, or an array of such."""
    if type(value) is list:
        return not any(type(element) is list or _is_object(element) for element in value)
    return not _is_object(value)


def _is_object(value: object) -> bool:
    return type(value) is dict and not (len(value) == 1 and _MONGO_NUMBERS.issuperset(value))


def _number(value: object) -> object:
    """Return the number that MongoDB wrote as an object; any other value as it is."""
    if type(value) is not dict or _is_object(value):
        return value
    (text,) = value.values()
    return text


def _looks_like(value: object, kind: Kind) -> bool:
    text = str(value)[:_KEY_CHARACTERS]
    if kind == "email":
        return "@" in text
    return not isinstance(value, bool) and sum(map(str.isdigit, text)) > 4


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequestError("bad_json", "the same key twice")
    return found


def _refuse_constant(_name: str) -> None:
    raise ValueError


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_duplicate_keys(data: bytes) -> None:
    json.loads(data, object_pairs_hook=_distinct)
