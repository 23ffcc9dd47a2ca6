"""The format and the encoding of an input, by its first bytes."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.errors import InputUnreadableError
from identity_cli.importer.archive import ZIP_MAGICS, entry_names, is_document
from identity_cli.importer.compression import GZIP_MAGIC, ZSTD_MAGICS
from identity_cli.importer.formats.columns import kind_of
from identity_cli.importer.formats.text import BOM, KEEP_BYTES

if TYPE_CHECKING:
    from identity_cli.importer.formats.rows import InputFormat, InputOptions
    from identity_cli.importer.source import Source

# The encoding that a byte order mark shows; that of UTF-32 begins like that of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PARQUET_MAGIC = b"PAR1"
_SPREADSHEET = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_LIMIT_OF_MIMETYPE = 200
_EXTRACT = "extract it first; .gz, .zst and .zip can be imported"
_SAVE_AS = "save it as CSV or .xlsx with the program that it belongs to"
_FOREIGN_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF-", "a PDF document", "export the contacts as CSV instead"),
    (b"SQLite format 3\0", "an SQLite database", "export its table of contacts as CSV first"),
    (b"\x89PNG", "a PNG image", "name the file that holds the contacts"),
    (b"\xff\xd8\xff", "a JPEG image", "name the file that holds the contacts"),
    (b"GIF89a", "a GIF image", "name the file that holds the contacts"),
    (b"ARROW1\0\0", "an Arrow file", "write it as Parquet or CSV first"),
    (b"Obj\x01", "an Avro file", "write it as Parquet, JSON Lines or CSV first"),
    (b"BZh91AY&SY", "compressed with bzip2", _EXTRACT),
    (b"\xfd7zXZ\0", "compressed with xz", _EXTRACT),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive", _EXTRACT),
    (b"Rar!\x1a\x07", "a RAR archive", _EXTRACT),
    (b"!BDN", "an Outlook data file", "export the contacts as CSV from Outlook"),
    (b"{\\rtf", "a rich text document", _SAVE_AS),
)
_FOREIGN_TEXT: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"<!doctype html|<html|<head|<body|<table|<meta", re.IGNORECASE),
        "an HTML page",
        "download the file itself: a page is often the log-in of a site, or a table that a"
        " spreadsheet program can save as CSV",
    ),
    (re.compile(r"<\?xml|<[a-z]+[ >]", re.IGNORECASE), "an XML document", _SAVE_AS),
    (
        re.compile(r"version https://git-lfs"),
        "a pointer of Git LFS",
        "get the file itself with git lfs pull",
    ),
)
# A text has few of these characters, whatever its language.
_CONTROL = frozenset(range(32)) - set(b"\t\n\r\f\x1a\x1b")
_BINARY_SAMPLE = 1024
_BINARY_COUNT = 4
_BINARY_SHARE = 0.05
# A table may begin with a name in brackets, but not with one of these behind the bracket.
_JSON_ARRAY = re.compile(r"\[\s*(?:[\[\]{\"]|-?\d|true\b|false\b|null\b|$)")


class Detected(NamedTuple):
    """How an input is written; `encoding` is that of text, `beginning` is its first text."""

    input_format: InputFormat
    encoding: str
    beginning: str
    notes: tuple[str, ...] = ()


def detect(source: Source, options: InputOptions) -> Detected:
    """Find out the format and the encoding of an input.

    What the options say is not questioned. Only the beginning is looked at, so that the rows of a
    slow pipe are not waited for. Raises `InputUnreadableError` for what is none of our formats.
    """
    data = source.peek()
    if options.input_format in {"excel", "parquet"}:
        return Detected(options.input_format, "utf-8", "")
    if options.input_format is None:
        binary = _binary_format(data, source)
        if binary is not None:
            return Detected(binary, "utf-8", "")
        if options.encoding is None and _is_binary(data):
            raise _foreign(
                source.name,
                "binary data of an unknown format",
                "import CSV, JSON, Excel, Parquet or vCard, or use --input-format",
            )
    encoding, notes = (
        _encoding_of(data, source.name) if options.encoding is None else (options.encoding, ())
    )
    text = decode_beginning(data, encoding)
    input_format = options.input_format
    if input_format is None:
        if text.isspace() or not text:
            # Nothing else can tell that a file without a line is complete: an export of nobody.
            is_lines = source.path.endswith((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"))
            return Detected("jsonl" if is_lines else "csv", encoding, text, notes)
        input_format = _text_format(text, options)
        if input_format == "csv":
            _refuse_foreign(text, source.name)
    return Detected(input_format, encoding, text, notes)


def decode_beginning(data: bytes, encoding: str) -> str:
    """Decode the beginning of a text, which may end within a character."""
    try:
        text = codecs.getincrementaldecoder(encoding)(KEEP_BYTES).decode(data)
    except UnicodeError:  # the reader meets it at the same place, and reports it
        return ""
    return text.removeprefix(BOM)


def likely_encoding(data: bytes) -> str:
    """Return the encoding that bytes are likely in, if they are not UTF-8."""
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _encoding_of(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return encoding, ()
    wide = _wide_encoding(data)
    if wide is not None:
        return wide, (f"{name}: read as {wide.upper()}, although it has no byte order mark",)
    return "utf-8", ()


def _wide_encoding(data: bytes) -> str | None:
    """Return the UTF-16 of a text without a BOM: every other byte of a header is a NUL."""
    sample = data[: min(len(data), _BINARY_SAMPLE) & ~1]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if half < 2 or min(even, odd) > 0 or max(even, odd) < 0.7 * half:
        return None
    return "utf-16-be" if even else "utf-16-le"


def _binary_format(data: bytes, source: Source) -> InputFormat | None:
    if data.startswith(_PARQUET_MAGIC):
        return "parquet"
    if data.startswith(_OLE_MAGIC):
        return "excel"
    if data.startswith(ZIP_MAGICS):
        return _document_format(data, source)
    if data.startswith((GZIP_MAGIC, *ZSTD_MAGICS)):
        raise InputUnreadableError(
            source.name, "the file is compressed twice", hint="decompress it once, then import it"
        )
    for magic, what, hint in _FOREIGN_BYTES:
        if data.startswith(magic):
            raise _foreign(source.name, what, hint)
    return None


def _is_binary(data: bytes) -> bool:
    if any(data.startswith(bom) for bom, _ in _BOMS) or _wide_encoding(data) is not None:
        return False
    # The rows of a table may be anything, its first line is not.
    sample = re.split(rb"[\r\n]", data.lstrip(b"\r\n"), maxsplit=1)[0][:_BINARY_SAMPLE]
    count = sum(byte in _CONTROL for byte in sample)
    return count >= _BINARY_COUNT and count > _BINARY_SHARE * len(sample)


def _document_format(data: bytes, source: Source) -> InputFormat:
    names = entry_names(source.seekable(), source.name)
    folders = {name.partition("/")[0] for name in names}
    if "[Content_Types].xml" in names and "xl" in folders:
        return "excel"
    if _SPREADSHEET in data[:_LIMIT_OF_MIMETYPE]:
        return "excel"
    if is_document(names):
        what = "a Word document" if "word" in folders else "an office document, not a spreadsheet"
        raise _foreign(source.name, what, _SAVE_AS)
    raise InputUnreadableError(
        source.name,
        "a zip file inside of compressed data",
        hint="extract it, then import the file that holds contacts",
    )


def _text_format(text: str, options: InputOptions) -> InputFormat:
    stripped = text.lstrip()
    if stripped[:11].upper() == "BEGIN:VCARD":
        return "vcard"
    if stripped.startswith("{"):
        return "jsonl" if _has_one_object_a_line(stripped, options) else "json"
    if _JSON_ARRAY.match(stripped):
        return "json"
    return "csv"


def _has_one_object_a_line(text: str, options: InputOptions) -> bool:
    first, _, rest = text.partition("\n")
    first = first.strip()
    if rest.startswith("{") and not first.endswith(("[", "{", ":", ",")):
        return True
    try:
        value, end = json.JSONDecoder().raw_decode(first)
    except (ValueError, RecursionError):
        # A broken object is one bad row; what is on many lines does not end with its first.
        return first.endswith(("}", "},")) and first.count("{") == first.count("}")
    if first[end:].strip(" \t,"):
        return False
    return bool(rest.strip()) or not _is_envelope(value, options)


def _is_envelope(value: dict[str, object], options: InputOptions) -> bool:
    """Return whether an object is not a record itself, but holds an array of records."""
    mapped = {re.split(r"[.\[]", name, maxsplit=1)[0] for _, name in options.mapping}
    if any(kind_of(key) is not None or key in mapped for key in value):
        return False
    arrays = [item for item in value.values() if isinstance(item, list) and item]
    return sum(all(isinstance(item, dict) for item in array) for array in arrays) == 1


def _refuse_foreign(text: str, name: str) -> None:
    stripped = text.lstrip()
    for pattern, what, hint in _FOREIGN_TEXT:
        if pattern.match(stripped):
            raise _foreign(name, what, hint)


def _foreign(name: str, what: str, hint: str) -> InputUnreadableError:
    return InputUnreadableError(name, f"it is {what}", hint=hint)
