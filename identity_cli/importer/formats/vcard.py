"""Address books in vCard 2.1, 3.0 (RFC 2426) and 4.0 (RFC 6350)."""

from __future__ import annotations

import quopri
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from identity_cli.errors import InputUnreadableError, InvalidRequestError
from identity_cli.importer.formats.column_words import terms_of
from identity_cli.importer.formats.rows import ColumnReport, Layout, Row
from identity_cli.importer.formats.text import BOM, KEEP_BYTES, open_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from identity_cli.importer.formats.rows import InputOptions, Kind
    from identity_cli.importer.source import Source

# What is kept of one property, and of a whole card: a photo takes megabytes.
_PROPERTY_CHARACTERS = 1 << 14
_CARD_CHARACTERS = 1 << 18
_property = re.compile(
    r'(?:(?P<group>[\w-]+)\.)?(?P<name>[\w-]+)(?P<parameters>(?:;(?:[^:;"]|"[^"]*")*)*):'
).match
_parameters = re.compile(r';((?:[^;"]|"[^"]*")*)').findall
_quoted_printable = re.compile(r"[^:]*;(?:ENCODING=)?QUOTED-PRINTABLE[;:]", re.IGNORECASE).match
_card_mark = re.compile(r"(BEGIN|END)[ \t]*:[ \t]*VCARD[ \t]*", re.IGNORECASE).fullmatch
_escaped = re.compile(r"\\(.)", re.DOTALL)
_uri_parameter = re.compile(r";(?!ext=)[^;]*", re.IGNORECASE)
_PICTURES = frozenset({"PHOTO", "LOGO", "SOUND", "KEY"})
_BINARY = frozenset({"B", "BASE64"})
_KINDS: dict[str, Kind] = {"EMAIL": "email", "TEL": "phone"}
_LABEL = "X-ABLABEL"
_LABEL_CHARACTERS = 100
_MOST_UNUSED = 50


class _Property(NamedTuple):
    """A property of a card. Parameters without a name are types, as vCard 2.1 has them."""

    group: str
    name: str
    types: list[str]
    parameters: dict[str, str]
    value: str


@dataclass(slots=True)
class _Card:
    """A card as far as it was read, without its pictures."""

    line: int
    lines: list[str] = field(default_factory=lambda: ["BEGIN:VCARD"])
    characters: int = 0
    properties: list[_Property] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, "END:VCARD", ""])

    def add(self, line: str, found: _Property) -> None:
        """Add a property if there is room."""
        is_binary = found.parameters.get("ENCODING", "").upper() in _BINARY
        if is_binary or found.name in _PICTURES:
            return
        if self.characters + len(line) <= _CARD_CHARACTERS:
            self.characters += len(line)
            self.lines.append(line)
            self.properties.append(found)


class VcardReader:
    """A reader of the cards of an address book. A row's line is the first one of its card."""

    def __init__(self, source: Source, options: InputOptions, encoding: str) -> None:
        self.line = 0
        self.characters = 0
        self.notes: Sequence[str] = ()
        # A BOM is taken off here, so that the rejects do not have one in every card.
        self._encoding = "utf-8" if encoding.lower() == "utf-8-sig" else encoding
        self.layout = Layout("vcard", encoding)
        self._name = source.name
        self._text = open_text(source, self._encoding)
        self._mapped: dict[Kind, list[str]] = {
            "email": [name.upper() for kind, name in options.mapping if kind == "email"],
            "phone": [name.upper() for kind, name in options.mapping if kind == "phone"],
        }
        self._region, self._key = options.region_column, options.key
        self._wanted = [
            name
            for name in (*(name for _, name in options.mapping), self._region, self._key)
            if name is not None
        ]
        self._has_cards = False
        self._used: dict[tuple[str, str], None] = {}
        self._unused: dict[str, str] = {}
        self._untaken: list[str] = []

    @property
    def unseen_keys(self) -> list[str]:
        """The properties of options that no card has had so far; empty before the first card."""
        if not self._has_cards:
            return []
        seen = {name for name, _ in self._used}
        return [name for name in self._wanted if name.upper() not in seen]

    @property
    def column_report(self) -> ColumnReport:
        return ColumnReport(tuple(self._used), tuple(self._unused.items()))

    def take_digest_input(self) -> bytes:
        text = "".join(self._untaken)
        self._untaken.clear()
        return text.encode("utf-8", "surrogatepass")

    def rows(self) -> Iterator[Row]:
        card: _Card | None = None
        agents = 0  # how many cards of agents the next line is in
        is_agent = False
        is_outside = False
        for number, line in self._lines():
            mark = _card_mark(line)
            begins = mark is not None and mark[1].upper() == "BEGIN"
            if begins and card is not None and is_agent:
                agents += 1
            elif begins:
                if card is not None:
                    yield self._bad(card.line, card.text, "there is no END:VCARD")
                card, agents = _Card(number), 0
            elif card is None:
                if not is_outside:
                    text = _Card(number, ["BEGIN:VCARD", line]).text
                    yield self._bad(number, text, "this is not part of a card")
            elif mark is not None and agents:
                agents -= 1
            elif mark is not None:
                yield self._row(card)
                card = None
            elif not agents and (found := _parsed(line)) is not None:
                card.add(line, found)
            is_outside = card is None and mark is None
            is_agent = line.upper().startswith("AGENT:") and not line[6:].strip()
        if card is not None:
            raise InputUnreadableError(
                f"{self._name}:{card.line}",
                "the card that begins here has no END:VCARD",
                hint="if the file is cut off, export it again",
                is_midway=True,
            )

    def _bad(self, line: int, content: str, problem: str) -> Row:
        self.characters += len(content)
        self._untaken.append(content)
        return Row(line, (), (), content, InvalidRequestError("bad_row", problem))

    def _row(self, card: _Card) -> Row:
        self._has_cards = True
        content = card.text
        self.characters += len(content)
        self._untaken.append(content)
        labels = {found.group: found.value for found in card.properties if found.name == _LABEL}
        values: dict[Kind, list[object]] = {"email": [], "phone": []}
        for found in card.properties:
            for kind in values:
                if self._is_used(found, kind, labels.get(found.group, "")):
                    self._used[found.name, kind] = None
                    values[kind].append(self._value(found))
        return Row(
            card.line,
            values["email"],
            values["phone"],
            content,
            None,
            self._single_value(card, self._region, "region"),
            self._single_value(card, self._key, "key"),
        )

    def _is_used(self, found: _Property, kind: Kind, label: str) -> bool:
        if self._mapped[kind]:
            return found.name in self._mapped[kind]
        if _KINDS.get(found.name) != kind:
            return False
        for word in (*found.types, label):
            reason = _why_unused(word[:_LABEL_CHARACTERS])
            if reason is not None:
                if len(self._unused) < _MOST_UNUSED:
                    self._unused.setdefault(f"{found.name};{word.strip()[:40]}", reason)
                return False
        return True

    def _single_value(self, card: _Card, wanted: str | None, use: str) -> object:
        for found in card.properties:
            if wanted is not None and found.name == wanted.upper():
                self._used[found.name, use] = None
                return self._value(found)
        return None

    def _value(self, found: _Property) -> str:
        text = self._decoded(found)
        text = _escaped.sub(lambda match: "\n" if match[1] in "nN" else match[1], text).strip()
        scheme, colon, rest = text.partition(":")
        if colon and scheme.lower() == "tel":
            return _uri_parameter.sub("", unquote(rest))
        if colon and scheme.lower() == "mailto":
            return unquote(rest.partition("?")[0])
        return text

    def _decoded(self, found: _Property) -> str:
        charset = found.parameters.get("CHARSET", "")
        is_quoted = found.parameters.get("ENCODING", "").upper() == "QUOTED-PRINTABLE"
        if not is_quoted and (not charset or self._encoding != "utf-8"):
            return found.value
        data = found.value.encode("utf-8", KEEP_BYTES)
        if is_quoted:
            data = quopri.decodestring(data)
        try:
            return data.decode(charset or "utf-8", KEEP_BYTES)
        except (LookupError, UnicodeError):
            return data.decode("utf-8", KEEP_BYTES)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines with what was folded joined, and the numbers of their first lines."""
        begun, line = 0, ""
        is_quoted = False
        for number, text in self._physical_lines():
            if is_quoted and line.endswith("=") and not _card_mark(text):
                line = line[:-1] + text
            elif text.startswith((" ", "\t")) and line:
                if len(line) < _PROPERTY_CHARACTERS:
                    line += text[1:]
            else:
                if line.strip():
                    yield begun, line
                begun, line = number, text
                is_quoted = _quoted_printable(text) is not None
            if len(line) > _PROPERTY_CHARACTERS:
                line = line[:_PROPERTY_CHARACTERS]
        if line.strip():
            yield begun, line

    def _physical_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines without their ends, and no more than the beginning of a long one."""
        readline = self._text.readline
        try:
            text = readline(_PROPERTY_CHARACTERS).removeprefix(BOM)
            while text:
                self.line += 1
                beginning = text
                while text and not text.endswith(("\n", "\r")):
                    text = readline(_PROPERTY_CHARACTERS)
                yield self.line, beginning.rstrip("\r\n")
                text = readline(_PROPERTY_CHARACTERS)
        except UnicodeError as error:
            raise InputUnreadableError(
                f"{self._name}:{self.line + 1}",
                "the text is not in the expected encoding",
                hint="use --encoding",
                is_midway=True,
            ) from error


def _parsed(line: str) -> _Property | None:
    """Return the property of a line; None for the rest of a picture that is not indented."""
    match = _property(line)
    if match is None:
        return None
    types: list[str] = []
    parameters: dict[str, str] = {}
    for parameter in _parameters(match["parameters"]):
        name, equals, value = parameter.partition("=")
        name, value = name.strip().upper(), value.strip().strip('"')
        if name == "TYPE":
            types += value.lower().split(",")
        elif equals:
            parameters[name] = value
        elif name in {"QUOTED-PRINTABLE", *_BINARY}:
            parameters["ENCODING"] = name
        else:
            types.append(name.lower())
    name = match["name"].upper()
    return _Property((match["group"] or "").lower(), name, types, parameters, line[match.end() :])


@lru_cache(maxsize=1024)
def _why_unused(word: str) -> str | None:
    """Return why a value of this type, or with this label, is not used."""
    for term in terms_of(word.removeprefix("x-")):
        if term.meaning == "not_a_phone":
            return f"'{term.text}' is not a phone number of a person"
        if term.meaning == "another_party":
            return f"'{term.text}' may refer to another person or thing"
    return None
