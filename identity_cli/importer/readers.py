"""CSV and JSON Lines: an input's rows, each with the line that it begins on."""

from __future__ import annotations

import codecs
import csv
import io
import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from identity_cli.errors import InputUnreadableError, InvalidRequestError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from identity_cli.importer.source import Source

InputFormat = Literal["csv", "jsonl"]

# The longest line and the longest field, in characters. More is a missing line end or quote, and
# would take many times its size in memory when it is all commas or brackets.
LINE_MAX = 1 << 22
# Bytes that are no text become lone surrogates, one each; written again, they are those bytes.
KEEP_BYTES = "identity-keep-bytes"

REJECT_COLUMNS = ("_line", "_code", "_reason")

_ALIASES = {
    "email": frozenset({"email", "mail", "emailaddress"}),
    "phone": frozenset({"phone", "phonenumber", "mobile", "tel", "telephone"}),
}
# What an empty cell takes in memory, for a line that is all commas.
_CELL_CHARACTERS = 8
_BOM = "\ufeff"
_KEY_ENDS = (b'":', b" :", b"\t:", b"\r:", b"\n:")
_BETWEEN_WORDS = str.maketrans("", "", " -_")
# Objects with the same keys are looked at once; what is remembered of them stays small.
_KNOWN_SHAPES = 1024
_SHAPE_BYTES = 4096


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


def format_of(path: str, options: InputOptions) -> InputFormat:
    """The format that was asked for, or that the name says."""
    if options.input_format is not None:
        return options.input_format
    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".csv", ".tsv", ".tab")):
        return "csv"
    if name.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    what = "standard input" if path == "-" else f"the name {path}"
    raise UsageError(
        f"{what} does not tell the format", hint="give --input-format csv or --input-format jsonl"
    )


def open_reader(source: Source, options: InputOptions) -> Reader:
    """A reader for the source, whose header (of CSV) is read already."""
    if format_of(source.path, options) == "jsonl":
        return JsonLinesReader(source, options)
    name = source.path.lower().removesuffix(".gz").removesuffix(".zst")
    delimiter = options.delimiter or ("\t" if name.endswith((".tsv", ".tab")) else ",")
    return CsvReader(source, options, delimiter)


def _text(source: Source, encoding: str) -> io.TextIOWrapper:
    # One bad byte is one bad row: the encoding goes on after it.
    return io.TextIOWrapper(source.stream(), encoding=encoding, errors=KEEP_BYTES, newline="")


def _keep_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Like Python's "surrogateescape", which does so from byte 128 on only."""
    if isinstance(error, UnicodeDecodeError):
        bad = error.object[error.start : error.end]
        return "".join([chr(0xDC00 + byte) for byte in bad]), error.end
    if not isinstance(error, UnicodeEncodeError):
        raise error
    kept = [ord(character) - 0xDC00 for character in error.object[error.start : error.end]]
    # A single byte has no place between the wide units of UTF-16 and UTF-32.
    if error.encoding.startswith(("utf-16", "utf-32")) or not all(0 <= one < 256 for one in kept):
        return "\ufffd" * len(kept), error.end
    return bytes(kept), error.end


codecs.register_error(KEEP_BYTES, _keep_bytes)


class CsvReader:
    """CSV with a header line, quoting strict."""

    def __init__(self, source: Source, options: InputOptions, delimiter: str) -> None:
        self.line = 0
        self.characters = 0
        self.delimiter = delimiter
        self._name = source.name
        self._text = _text(source, options.encoding)
        csv.field_size_limit(LINE_MAX)
        self._records = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        self.columns = self._header(options.encoding)
        self._email, self._phone = self._find_columns(options.mapping)

    def rows(self) -> Iterator[Row]:
        records, width = self._records, len(self.columns)
        email_at, phone_at = self._email, self._phone
        before = records.line_num
        try:
            for cells in records:
                line, before = before + 1, records.line_num
                if len(cells) == width and (width > 1 or not cells[0].isspace()):
                    email = cells[email_at] if email_at is not None else None
                    phone = cells[phone_at] if phone_at is not None else None
                    yield Row(line, email, phone, cells, None)
                elif cells and not (len(cells) == 1 and cells[0].isspace()):
                    self.characters += _CELL_CHARACTERS * len(cells)
                    yield Row(line, None, None, cells, _wrong_width(len(cells), width))
                self.line = before
        except (csv.Error, UnicodeError) as error:
            raise self._unreadable(before + 1, error) from error

    def _lines(self) -> Iterator[str]:
        readline = self._text.readline
        # A BOM belongs to the file, not to the first column's name.
        line = readline(LINE_MAX).removeprefix(_BOM)
        while line:
            if len(line) == LINE_MAX and line[-1] not in "\r\n":
                raise csv.Error(f"a line of more than {LINE_MAX} characters")
            self.characters += len(line)
            yield line
            line = readline(LINE_MAX)

    def _header(self, encoding: str) -> list[str]:
        try:
            for cells in self._records:
                self.line = self._records.line_num
                if any(map(str.strip, cells)):
                    break
            else:
                raise InputUnreadableError(
                    self._name,
                    "the file is empty",
                    hint="the first line must name the columns, for example email,phone",
                )
        except (csv.Error, UnicodeError) as error:
            raise self._unreadable(self.line + 1, error) from error
        if any("\0" in cell for cell in cells) and codecs.lookup(encoding).name == "utf-8":
            raise InputUnreadableError(
                f"{self._name}:1",
                "the header holds NUL characters",
                hint="this looks like UTF-16: give --encoding utf-16",
            )
        return cells

    def _find_columns(self, mapping: Mapping[str, str]) -> tuple[int | None, int | None]:
        email = self._find_column("email", mapping.get("email"))
        phone = self._find_column("phone", mapping.get("phone"))
        if email is None and phone is None:
            raise self._bad_header("no column is an email or a phone number")
        if email == phone:
            raise self._bad_header("one column cannot be both email and phone")
        return email, phone

    def _find_column(self, what: str, wanted: str | None) -> int | None:
        if wanted is not None:
            names = [name.strip() for name in self.columns]
            found = [i for i, name in enumerate(names) if name == wanted.strip()] or [
                i for i, name in enumerate(names) if name.lower() == wanted.strip().lower()
            ]
            if not found:
                raise self._bad_header(f"there is no column {wanted!r}")
        else:
            found = [i for i, name in enumerate(self.columns) if _is_alias(name, what)]
        if len(found) > 1:
            raise self._bad_header(f"{len(found)} columns could be the {what}")
        return found[0] if found else None

    def _bad_header(self, problem: str) -> InputUnreadableError:
        columns = ", ".join(repr(name[:40]) for name in self.columns[:20])
        return InputUnreadableError(
            f"{self._name}:{self.line}",
            problem,
            hint=f"the columns are {columns}: give --map email=COLUMN or --map phone=COLUMN",
        )

    def _unreadable(self, line: int, error: Exception) -> InputUnreadableError:
        location = f"{self._name}:{line}"
        if isinstance(error, UnicodeError):
            return InputUnreadableError(
                location,
                "the text is not in the encoding that it should be in",
                hint="give --encoding; the rows before this place are imported",
            )
        if "line of more" in str(error):
            return InputUnreadableError(
                location,
                f"{error}, without a line end",
                hint="see that this is a CSV file; the rows before this line are imported",
            )
        return InputUnreadableError(
            location,
            f"broken quoting in the record that begins here ({error})",
            hint='close the quote, and double a quote inside a quoted cell (""); '
            "the rows before this line are imported",
        )


def _wrong_width(cells: int, width: int) -> InvalidRequestError:
    return InvalidRequestError("bad_row", f"{cells} cells, the header has {width}")


def _is_alias(name: str, what: str) -> bool:
    return name.strip().lower().translate(_BETWEEN_WORDS) in _ALIASES[what]


class JsonLinesReader:
    """One JSON object a line."""

    def __init__(self, source: Source, options: InputOptions) -> None:
        self.line = 0
        self.characters = 0
        self.columns: list[str] = []
        self.delimiter = ""
        self._name = source.name
        self._source = source
        self._encoding = options.encoding
        self._mapping = options.mapping
        self._shapes: dict[tuple[str, ...], tuple[str | None, str | None] | None] = {}

    def rows(self) -> Iterator[Row]:
        import msgspec

        decode = msgspec.json.Decoder().decode
        try:
            for data in self._lines():
                self.line += 1
                self.characters += len(data)
                if data.isspace():
                    continue
                if len(data) >= LINE_MAX:
                    yield self._bad(b"", "too_long", f"a line of over {LINE_MAX} bytes")
                    continue
                try:
                    email, phone = self._values(decode(data), data)
                except InvalidRequestError as error:
                    yield Row(self.line, None, None, data, error.with_traceback(None))
                except UnicodeDecodeError:
                    yield self._bad(data, "bad_encoding", "bytes that are not UTF-8")
                except RecursionError:
                    yield self._bad(data, "bad_json", "nested too deep")
                except msgspec.DecodeError as error:
                    yield self._bad(data, "bad_json", str(error))
                else:
                    yield Row(self.line, email, phone, data, None)
        except UnicodeError as error:
            raise InputUnreadableError(
                f"{self._name}:{self.line + 1}",
                "the text is not in the encoding that it should be in",
                hint="give --encoding; the rows before this place are imported",
            ) from error

    def _bad(self, data: bytes, code: str, reason: str) -> Row:
        return Row(self.line, None, None, data, InvalidRequestError(code, reason))

    def _values(self, value: object, data: bytes) -> tuple[object, object]:
        if type(value) is not dict:
            raise InvalidRequestError("bad_json", "not a JSON object")
        # As many colons as keys: none is twice. Colons stand in values too, but seldom right
        # behind a quote or white space. Else look closely.
        if data.count(b":") != len(value) and sum(map(data.count, _KEY_ENDS)) != len(value):
            _refuse_duplicate_keys(data)
        keys = tuple(value)
        if keys in self._shapes:
            shape = self._shapes[keys]
        else:
            shape = self._shape(keys)
            if len(self._shapes) < _KNOWN_SHAPES and len(data) <= _SHAPE_BYTES:
                self._shapes[keys] = shape
        if shape is None:
            raise InvalidRequestError(
                "bad_row", "several keys could be the email or the phone number"
            )
        email_key, phone_key = shape
        return (
            None if email_key is None else value[email_key],
            None if phone_key is None else value[phone_key],
        )

    def _lines(self) -> Iterator[bytes]:
        readline = self._readline()
        data = readline().removeprefix(_BOM.encode())
        while data:
            yield data
            while len(data) >= LINE_MAX and data[-1] != 0x0A:  # the rest of an overlong line
                data = readline()
            data = readline()

    def _readline(self) -> Callable[[], bytes]:
        if codecs.lookup(self._encoding).name in {"utf-8", "utf-8-sig", "ascii"}:
            return partial(self._source.stream().readline, LINE_MAX)
        text = _text(self._source, self._encoding)
        # A byte that was no text must not become a part of the JSON: it stays none.
        return lambda: text.readline(LINE_MAX).encode("utf-8", "surrogatepass")

    def _shape(self, keys: tuple[str, ...]) -> tuple[str | None, str | None] | None:
        """Which keys hold the email and the phone number; None when that is not clear."""
        email = self._find_keys(keys, "email")
        phone = self._find_keys(keys, "phone")
        if len(email) > 1 or len(phone) > 1 or (email and email == phone):
            return None
        return (email[0] if email else None, phone[0] if phone else None)

    def _find_keys(self, keys: Sequence[str], what: str) -> list[str]:
        wanted = self._mapping.get(what)
        if wanted is not None:
            return [key for key in keys if key == wanted]
        return [key for key in keys if _is_alias(key, what)]


def _refuse_duplicate_keys(data: bytes) -> None:
    def pairs(found: list[tuple[str, object]]) -> None:
        if len({key for key, _ in found}) != len(found):
            raise InvalidRequestError("bad_json", "a key that stands twice")

    json.loads(data, object_pairs_hook=pairs)
