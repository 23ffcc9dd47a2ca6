"""Contact requests as they come in: strangers, new values of known people, repeats, merges.

Everything follows from the seed. Values come in no order, as in life: an index sees them spread
over all its pages.
"""

from __future__ import annotations

import csv
import random
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Request = tuple[str | None, str | None]

# A prime above 2**40: multiplication by anything smaller scatters the numbers without a repeat.
_PRIME = 1_099_511_627_791
_SCATTER = 618_033_988_749
_DOMAINS = ("example.com", "example.org", "mail.example.net", "hillvalley.example", "example.de")


def email(number: int) -> str:
    scattered = number * _SCATTER % _PRIME
    return f"user.{scattered:x}@{_DOMAINS[number % 5]}"


def phone(number: int) -> str:
    return f"+1{number * _SCATTER % _PRIME:013d}"


def mixed(count: int, seed: int = 1) -> Iterator[Request]:
    """45 % strangers, 30 % a new value beside a known one, 20 % known, 5 % two people who are one.

    People come back evenly, however long ago they were seen.
    """
    draw = random.Random(seed).random
    people = emails = phones = 1
    yield email(0), phone(0)
    for _ in range(count - 1):
        kind = draw()
        # Extra values count down from zero, so that they never meet those of a new person.
        if kind < 0.45:
            yield email(people), phone(people)
            people += 1
            continue
        person = int(draw() * people)
        if kind < 0.60:
            yield email(-emails), phone(person)
            emails += 1
        elif kind < 0.75:
            yield email(person), phone(-phones)
            phones += 1
        elif kind < 0.87:
            yield email(person), phone(person)
        elif kind < 0.91:
            yield email(person), None
        elif kind < 0.95:
            yield None, phone(person)
        else:
            yield email(person), phone(int(draw() * people))


def strangers(count: int, first: int = 0) -> Iterator[Request]:
    """People that nobody has seen; `first` is the number of the first one."""
    for number in range(first, first + count):
        yield email(number), phone(number)


def on_one_phone(count: int, number: str, first: int = 0) -> Iterator[Request]:
    """New emails, all with the same phone number."""
    for i in range(first, first + count):
        yield email(i), number


def three_of_each(count: int, seed: int = 1) -> Iterator[tuple[list[str], list[str]]]:
    """Three emails and three phone numbers: 60 % strangers, 40 % known people with a new email."""
    draw = random.Random(seed).random
    people = 0
    for number in range(count):
        is_known = people > 0 and draw() < 0.4
        person = int(draw() * people) if is_known else people
        people += not is_known
        emails = [email(3 * person + i) for i in range(3)]
        if is_known:
            emails[2] = email(-number)
        yield emails, [phone(3 * person + i) for i in range(3)]


def write_csv(path: Path, requests: Iterable[Request]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("email", "phone"))
        writer.writerows(requests)
    return path


def write_csv_parts(folder: Path, requests: Iterable[Request], size: int) -> Iterator[Path]:
    """The requests in files of `size`, each made when it is asked for."""
    remaining = iter(requests)
    number = 0
    while part := list(islice(remaining, size)):
        yield write_csv(folder / f"part{number:03}.csv", part)
        number += 1
