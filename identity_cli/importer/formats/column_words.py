"""What the words in a column's name mean, by the table in `column_words.toml`."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import Literal, NamedTuple

Meaning = Literal[
    "email",
    "phone",
    "phone_alone",
    "phone_noun",
    "same_person",
    "another_party",
    "property",
    "not_a_phone",
    "unclear",
    "unknown",
]

_SECTIONS: tuple[tuple[str, str, Meaning], ...] = (
    ("email", "words", "email"),
    ("phone", "words", "phone"),
    ("phone", "alone", "phone_alone"),
    ("phone", "nouns", "phone_noun"),
    ("same_person", "words", "same_person"),
    ("another_party", "words", "another_party"),
    ("property", "words", "property"),
    ("not_a_phone", "words", "not_a_phone"),
    ("unclear", "words", "unclear"),
)
_CAMEL_CASE = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_LATER_NUMBER = "#"
# Shorter words are found inside of too many others.
_SHORTEST_PART = 3
_LONGEST_COMPOUND = 40
# The longest name that is looked at; no name of a column is longer.
_LONGEST_NAME = 200


class Term(NamedTuple):
    """An entry of the table that is in a name, or a word that is in no entry."""

    text: str
    meaning: Meaning


class _Table(NamedTuple):
    meanings: dict[tuple[str, ...], Meaning]
    longest: int
    gives_way: dict[str, tuple[str, ...]]


def terms_of(name: str) -> list[Term]:
    """Return what a name consists of; a number means nothing. Empty for an overlong name."""
    if len(name) > _LONGEST_NAME:
        return []
    text = _without_accents(name)
    split = _CAMEL_CASE.sub(" ", text)
    terms = _terms(_words(split))
    if split != text and any(term.meaning == "unknown" for term in terms):
        # WhatsApp and TelePhone are one word.
        whole = _terms(_words(text))
        if all(term.meaning != "unknown" for term in whole):
            return whole
    return terms


def comparable(name: str) -> str:
    """Return the words of a name without case, accents, and what is between them."""
    return " ".join(_words(_CAMEL_CASE.sub(" ", _without_accents(name))))


def gives_way(word: str) -> tuple[str, ...]:
    """Return the words beside which a column with this qualifier may be that of another person."""
    return _table().gives_way.get(word, ())


def _without_accents(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _terms(words: list[str]) -> list[Term]:
    table = _table()
    found: list[Term] = []
    at = 0
    while at < len(words):
        for end in range(min(len(words), at + table.longest), at, -1):
            entry = _entry(words[at:end])
            if entry in table.meanings:
                found.append(Term(" ".join(words[at:end]), table.meanings[entry]))
                at = end
                break
        else:
            if not words[at].isdecimal():
                found += _parts(words[at]) or [Term(words[at], "unknown")]
            at += 1
    return found


def _entry(words: list[str]) -> tuple[str, ...]:
    return tuple(_LATER_NUMBER if word.isdecimal() and word != "1" else word for word in words)


@lru_cache(maxsize=4096)
def _parts(word: str) -> list[Term]:
    """Return the fewest entries that make up a compound word; none if it is not one."""
    if len(word) > _LONGEST_COMPOUND:
        return []
    meanings = _table().meanings
    best: list[list[Term] | None] = [[], *[None] * len(word)]
    for end in range(_SHORTEST_PART, len(word) + 1):
        for start in range(end - _SHORTEST_PART + 1):
            before, part = best[start], word[start:end]
            if before is not None and (part,) in meanings:
                terms = [*before, Term(part, meanings[part,])]
                known = best[end]
                if known is None or len(terms) < len(known):
                    best[end] = terms
    return best[-1] or []


@cache
def _table() -> _Table:
    text = resources.files(__package__).joinpath("column_words.toml").read_text("utf-8")
    sections = tomllib.loads(text)
    meanings: dict[tuple[str, ...], Meaning] = {
        tuple(entry.split()): meaning
        for section, key, meaning in reversed(_SECTIONS)
        for entry in sections[section][key]
    }
    return _Table(
        meanings,
        max(map(len, meanings)),
        {word: tuple(others) for word, others in sections["gives_way"].items()},
    )
