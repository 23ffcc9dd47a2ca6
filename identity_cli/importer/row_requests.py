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
    if row.problem is not None:
        return None, row.problem
    request, problems = normalizer.good_values(row.emails, row.phones, region=row.region)
    if not problems:
        return request, None
    return None if strict else request, _joined(problems)


def _joined(problems: Sequence[InvalidRequestError]) -> InvalidRequestError:
    """Return one problem for a row that has several: the code of the first, all reasons."""
    # A traceback would hold the frame that holds the problem: a cycle for each row.
    first = problems[0].with_traceback(None)
    if len(problems) == 1:
        return first
    reasons = dict.fromkeys(problem.reason for problem in problems)
    return InvalidRequestError(first.code, "; ".join(reasons), field=first.field)
