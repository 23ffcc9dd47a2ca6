"""Routes that read: where a text leads, the evidence of an identity, and its history."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response  # noqa: TC002 - FastAPI reads the annotations

from identity_cli.errors import ContactNotFoundError, InvalidRequestError
from identity_cli.graph import excerpts
from identity_cli.graph.history import read_history_of_contact
from identity_cli.graph.references import (
    Reference,
    email_reference,
    phone_reference,
    read_reference,
)
from identity_cli.graph.separation import blocking_rule
from identity_cli.http.answers import (
    BODY_TOO_LARGE,
    NOT_FOUND,
    RESPONSES,
    document,
    problem,
    service_of,
    validated_body,
)
from identity_cli.http.gate import OUTCOME
from identity_cli.http.lookup_models import (
    EvidenceChain,
    EvidenceExcerpt,
    History,
    Located,
    LookupBody,
    LookupProblem,
)

if TYPE_CHECKING:
    from identity_cli.postgres.snapshot import Snapshot

_VALUES = 60
_VALUES_MAX = 1000
_EVENTS = 20
_EVENTS_MAX = 1000

# Values of people: nothing between the service and its client may keep them.
_HEADERS = {"Cache-Control": "no-store"}

router = APIRouter(tags=["contacts"])

ContactId = Annotated[
    int, Path(alias="id", ge=1, lt=2**63, description="Id of any contact of the identity.")
]


@router.post(
    "/lookup",
    response_model=Located,
    responses=RESPONSES
    | BODY_TOO_LARGE
    | {404: {"model": LookupProblem, "description": "No such contact, or a blocked value."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": LookupBody.model_json_schema()}},
        },
    },
)
async def look_up(request: Request) -> Response:
    """Find the contact that a text stands for; write nothing.

    The text is in the body, because URLs are logged by proxies and kept by browsers.
    """
    service = service_of(request)
    body = validated_body(request, LookupBody, await request.body())
    references = _references(body, service.region)

    def read(graph: Snapshot) -> tuple[int, dict[str, Any]]:
        try:
            return 200, excerpts.locate(graph, references).as_json()
        except ContactNotFoundError as error:
            rule = blocking_rule(graph, str(references[-1].value))
            rules = [] if rule is None else [rule.as_json()]
            return 404, {"detail": str(error), "rules": rules}

    status, found = await service.read(read)
    request.scope[OUTCOME] = "found" if status == 200 else "not_found"
    return document(found, status=status, headers=_HEADERS)


@router.get(
    "/contacts/{id}/evidence",
    response_model=EvidenceExcerpt | EvidenceChain,
    responses=RESPONSES | NOT_FOUND,
)
async def show_evidence(
    request: Request,
    contact_id: ContactId,
    to: Annotated[
        str | None,
        Query(
            description=(
                "An email, a phone number or the id of a contact: return the shortest chain from"
                " the contact to it instead of a tree."
            )
        ),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=_VALUES_MAX, description="Largest number of values of the tree.")
    ] = _VALUES,
    offset: Annotated[
        int | None,
        Query(
            ge=0,
            lt=2**31,
            description="Return the tree from this value on, not what is nearest to the contact.",
        ),
    ] = None,
) -> Response:
    """Return why values are one identity, with the file and line of each row; write nothing."""
    service = service_of(request)
    other = None if to is None else _reference_in_query(to, service.region)

    def read(graph: Snapshot) -> dict[str, Any] | None:
        at_most = service.contact_limit
        if other is not None:
            chain = excerpts.read_chain(graph, contact_id, other, at_most=at_most)
            return None if chain is None else chain.as_json()
        excerpt = excerpts.read_excerpt(
            graph, contact_id, limit=limit, offset=offset, at_most=at_most
        )
        return None if excerpt is None else excerpt.as_json()

    found = await service.read(read)
    request.scope[OUTCOME] = "found"
    return _too_large(service.contact_limit, "explain") if found is None else _document(found)


@router.get(
    "/contacts/{id}/history",
    response_model=History,
    responses=RESPONSES | NOT_FOUND,
)
async def show_history(
    request: Request,
    contact_id: ContactId,
    limit: Annotated[
        int, Query(ge=1, le=_EVENTS_MAX, description="Largest number of events.")
    ] = _EVENTS,
) -> Response:
    """Return what happened to a contact, and the merges of its identity; write nothing."""
    service = service_of(request)

    def read(graph: Snapshot) -> dict[str, Any] | None:
        # A contact of which all values are blocked has a history, but no identity.
        with suppress(ContactNotFoundError):
            named = [Reference("id", contact_id)]
            if excerpts.is_too_large(graph, named, at_most=service.contact_limit):
                return None
        events = read_history_of_contact(graph.connection, contact_id, limit=limit)
        return {"schema_version": 1, "events": [event.as_json() for event in events]}

    found = await service.read(read)
    request.scope[OUTCOME] = "found"
    return _too_large(service.contact_limit, "history") if found is None else _document(found)


def _references(body: LookupBody, region: str | None) -> tuple[Reference, ...]:
    sent = {name: value for name, value in body.model_dump().items() if value is not None}
    if len(sent) != 1:
        message = "Send one of value, email, phoneNumber and id"
        raise RequestValidationError([{"loc": ("body",), "msg": message, "type": "one_value"}])
    [(name, value)] = sent.items()
    if name == "value":
        return read_reference(value, region)
    if name == "email":
        return (email_reference(value),)
    if name == "phoneNumber":
        return (phone_reference(value, region),)
    return (Reference("id", value),)


def _reference_in_query(text: str, region: str | None) -> tuple[Reference, ...]:
    try:
        return read_reference(text, region)
    except InvalidRequestError as error:
        error.field = "to"
        raise


def _document(found: dict[str, Any]) -> Response:
    return document(found, headers=_HEADERS)


def _too_large(limit: int, command: str) -> Response:
    return problem(
        422,
        ["path", "id"],
        f"the identity has more than {limit} contacts, or too many pairs of values;"
        f" run identity {command}, which has no limit",
        "identity_too_large",
    )
