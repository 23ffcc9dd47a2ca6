"""What becomes of a row: the request of its values, what is wrong with them, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.normalize import ContactRequest, Normalizer
    from identity_cli.importer.formats import Row


def read_request(
    row: Row, normalizer: Normalizer, *, strict: bool
) -> tuple[ContactRequest | None, InvalidRequestError | None]:
    """Return the request of a row, and what is wrong with the row.

    A row with both is read without its bad values; if it is `strict`, there is no such row.
    """
    emails, phones, problem = read_values(row, normalizer, strict=strict)
    if not emails and not phones:
        return None, problem
    return normalizer.request_of(emails, phones), problem


def read_values(
    row: Row, normalizer: Normalizer, *, strict: bool
) -> tuple[tuple[str, ...], tuple[str, ...], InvalidRequestError | None]:
    """Return the emails and the phone numbers of a row's request, and what is wrong with the row.

    There is no request if there are no values.
    """
    if row.problem is not None:
        return (), (), row.problem
    emails, phones, problems = normalizer.good_texts(row.emails, row.phones, region=row.region)
    if not problems:
        return emails, phones, None
    problem = _joined(problems)
    return ((), (), problem) if strict else (emails, phones, problem)


def _joined(problems: Sequence[InvalidRequestError]) -> InvalidRequestError:
    """Return one problem for a row that has several: the code of the first, all reasons."""
    # A traceback would hold the frame that holds the problem: a cycle for each row.
    first = problems[0].with_traceback(None)
    if len(problems) == 1:
        return first
    reasons = dict.fromkeys(problem.reason for problem in problems)
    return InvalidRequestError(first.code, "; ".join(reasons), field=first.field)
