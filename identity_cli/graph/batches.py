"""Batches: many requests that travel to the database together, and their answers, as columns.

An object for each request would cost the client more than reading its row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from identity_cli.errors import InvalidRequestError, RequestForgottenError, RequestRefusedError
from identity_cli.graph.core import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.graph.core import OutcomeName
    from identity_cli.graph.normalize import ContactRequest

# Between two values of a request; no value holds a control character.
_SEPARATOR = "\x1f"
_NAMES: dict[str, OutcomeName] = {
    "c": "created",
    "l": "linked",
    "m": "merged",
    "u": "unchanged",
    "b": "blocked",
}
REFUSED, FORGOTTEN = "r", "f"


class Refusal(NamedTuple):
    """A request of which nothing was stored.

    The database refused it in every attempt; if there is no SQLSTATE, all of its values are
    forgotten.
    """

    sqlstate: str | None

    def as_error(self) -> InvalidRequestError:
        """Return the error that says why."""
        if self.sqlstate is None:
            return RequestForgottenError()
        return RequestRefusedError(self.sqlstate)


class RunRequest(NamedTuple):
    """A request of a run, its line counted through all inputs of the run, and its time.

    `run_line` is None for a request that comes from no file. The time is in microseconds since
    1970.
    """

    request: ContactRequest
    run_line: int | None
    request_time_us: int


@dataclass(slots=True)
class RequestColumns:
    """Requests of a run: their values, lines and times, a list of each.

    A text holds the emails, or the phone numbers, of one request and is empty if there are none.
    `run_lines` is empty for requests that come from no file.
    """

    emails: list[str] = field(default_factory=list)
    phones: list[str] = field(default_factory=list)
    run_lines: list[int] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, requests: Iterable[RunRequest]) -> RequestColumns:
        """Return the columns of some requests, which come from a file, or all from none."""
        columns = cls()
        for request, run_line, time_us in requests:
            columns.append(request.emails, request.phones)
            columns.times_us.append(time_us)
            if run_line is not None:
                columns.run_lines.append(run_line)
        return columns

    def __len__(self) -> int:
        return len(self.emails)

    def append(self, emails: tuple[str, ...], phones: tuple[str, ...]) -> None:
        """Add the values of a request; its line and time are the caller's to add."""
        self.emails.append(emails[0] if len(emails) == 1 else _SEPARATOR.join(emails))
        self.phones.append(phones[0] if len(phones) == 1 else _SEPARATOR.join(phones))

    def values(self, index: int) -> tuple[list[str], list[str]]:
        """Return the emails and the phone numbers of a request."""
        emails, phones = self.emails[index], self.phones[index]
        return (
            emails.split(_SEPARATOR) if emails else [],
            phones.split(_SEPARATOR) if phones else [],
        )

    def take(self, indexes: Sequence[int]) -> RequestColumns:
        """Return the requests with these indexes."""
        return RequestColumns(
            [self.emails[i] for i in indexes],
            [self.phones[i] for i in indexes],
            [self.run_lines[i] for i in indexes] if self.run_lines else [],
            [self.times_us[i] for i in indexes],
        )

    def as_parameters(self) -> tuple[str, str, str, str | None]:
        """Return the texts that `reconcile_batch` takes: emails, phones, times, lines."""
        return (
            "\n".join(self.emails),
            "\n".join(self.phones),
            ",".join(map(str, self.times_us)),
            ",".join(map(str, self.run_lines)) or None,
        )


class Answers(NamedTuple):
    """The answers to a batch, as `reconcile_batch` returns them.

    `letters` has the first letter of each outcome; the ids are texts with an entry for each
    request, `sqlstates` has one for each refusal.
    """

    letters: str
    primary_ids: str
    contact_ids: str
    sqlstates: list[str]

    @property
    def have_primary(self) -> bool:
        """Whether a request led to an identity."""
        return bool(self.primary_ids.strip(","))

    def outcomes(self) -> list[Outcome | Refusal]:
        """Return the answer to each request."""
        if not self.letters:
            return []
        states = iter(self.sqlstates)
        outcomes: list[Outcome | Refusal] = []
        for letter, primary_id, contact_ids in zip(
            self.letters, self.primary_ids.split(","), self.contact_ids.split(","), strict=True
        ):
            if letter == REFUSED:
                outcomes.append(Refusal(next(states)))
            elif letter == FORGOTTEN:
                outcomes.append(Refusal(None))
            elif not primary_id:
                # It may have linked before its last pair made its values hubs.
                outcomes.append(Outcome("blocked", None, None))
            elif not contact_ids:
                outcomes.append(Outcome(_NAMES[letter], int(primary_id), None))
            else:
                stored = tuple(map(int, contact_ids.split()))
                several = stored if len(stored) > 1 else ()
                outcomes.append(Outcome(_NAMES[letter], int(primary_id), stored[0], several))
        return outcomes
