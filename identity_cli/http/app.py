"""The web application: its routes, and the answer for each error."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
from contextlib import ExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from fastapi import Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import TypeAdapter, ValidationError
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import JSONResponse, Response

from identity_cli import __version__, errors
from identity_cli.graph.normalize import ContactRequest, check_region
from identity_cli.http import lookups, metrics, page_files
from identity_cli.http.answers import (
    BODY_TOO_LARGE,
    MERGE_TOO_LARGE,
    NOT_FOUND,
    READ_ONLY,
    RESPONSES,
    document,
    invalid_request,
    problem,
    service_of,
    validated_body,
)
from identity_cli.http.gate import OUTCOME, Gate, unavailable
from identity_cli.http.models import ContactBody, ContactDocument, Health
from identity_cli.http.service import CONTACT_LIMIT, POOL_SIZE, AsyncIdentityService
from identity_cli.settings import open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.datastructures import QueryParams
    from starlette.types import Receive, Scope, Send

    from identity_cli.graph.core import ConsolidatedContact, ContactCounts


class _State(TypedDict):
    service: AsyncIdentityService


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[_State]:
    region = check_region(os.environ.get("IDENTITY_REGION") or None)
    pool_size = int(os.environ.get("IDENTITY_HTTP_POOL") or POOL_SIZE)
    contact_limit = int(os.environ.get("IDENTITY_HTTP_CONTACT_LIMIT") or CONTACT_LIMIT)
    with ExitStack() as stack:
        database = await asyncio.to_thread(stack.enter_context, open_database())
        async with AsyncIdentityService.open(
            database, region=region, pool_size=pool_size, contact_limit=contact_limit
        ) as service:
            watch = asyncio.create_task(_watch(service))
            # Looking through all that was imported for cycles would take a tenth of the time.
            gc.freeze()
            try:
                yield {"service": service}
            finally:
                gc.unfreeze()
                watch.cancel()


async def _watch(service: AsyncIdentityService) -> None:
    parent = multiprocessing.parent_process()
    while True:
        metrics.observe_pool(service.pool_figures())
        if parent is not None and not parent.is_alive():
            # `identity serve` was killed: without it its workers would keep the port forever.
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(1)


api = FastAPIOffline(
    title="identity",
    summary="Reconcile contact requests into identities.",
    version=__version__,
    redoc_url=None,
    lifespan=_lifespan,
    swagger_ui_parameters={"validatorUrl": None},
)
api.add_middleware(Gate)

_boolean = TypeAdapter(bool)
Summary = Annotated[bool, Query(description="Return counts instead of values.")]


@api.post(
    "/identify",
    response_model=ContactDocument,
    responses=RESPONSES | READ_ONLY | MERGE_TOO_LARGE | BODY_TOO_LARGE,
    openapi_extra={
        "parameters": [
            {
                "name": "summary",
                "in": "query",
                "description": "Return counts instead of values.",
                "schema": {"type": "boolean", "default": False},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ContactBody.model_json_schema()}},
        },
    },
    tags=["contacts"],
)
async def identify(request: Request) -> Response:
    """Reconcile one contact request and return the identity that it led to."""
    service = service_of(request)
    # FastAPI's own handling of parameters and bodies would double the cost of a request.
    summary = _wants_counts(request.query_params) if request.scope["query_string"] else False
    body = validated_body(request, ContactBody, await request.body())
    contact_request = ContactRequest(
        body.email,
        body.phoneNumber,
        emails=body.emails or (),
        phones=body.phoneNumbers or (),
        region=service.region,
    )
    outcome, contact = await service.identify(contact_request, counts=summary)
    request.scope[OUTCOME] = outcome.name
    if contact is None:
        return _too_large(service.contact_limit, "the request was reconciled, but ")
    return document(contact.as_json())


@api.get(
    "/contacts",
    response_model=ContactDocument,
    responses=RESPONSES | NOT_FOUND,
    tags=["contacts"],
)
async def find(
    request: Request,
    email: str | None = None,
    phone: Annotated[str | None, Query(description="Write a leading + as %2B.")] = None,
    summary: Summary = False,
) -> Response:
    """Return the identity that holds the email, the phone number, or both; write nothing."""
    service = service_of(request)
    values = ContactRequest(email, phone, region=service.region)
    return _found(request, await service.find(values, counts=summary))


@api.get(
    "/contacts/{id}",
    response_model=ContactDocument,
    responses=RESPONSES | NOT_FOUND,
    tags=["contacts"],
)
async def show(
    request: Request,
    contact_id: Annotated[
        int, Path(alias="id", ge=1, lt=2**63, description="Id of any contact of the identity.")
    ],
    summary: Summary = False,
) -> Response:
    """Return the identity of a contact; write nothing."""
    contact = await service_of(request).find(contact_id=contact_id, counts=summary)
    return _found(request, contact)


api.include_router(lookups.router)
api.include_router(page_files.router)


# Load balancers and container runtimes probe with HEAD.
@api.head("/health/live", include_in_schema=False)
@api.get("/health/live", response_model=Health, tags=["operation"])
async def live() -> Response:
    """Report that the process runs."""
    return JSONResponse({"status": "live"})


@api.head("/health/ready", include_in_schema=False)
@api.get(
    "/health/ready",
    response_model=Health,
    responses={503: RESPONSES[503]},
    tags=["operation"],
)
async def ready(request: Request) -> Response:
    """Check that requests can be served: the database, its schema and its profile."""
    await service_of(request).check()
    return JSONResponse({"status": "ready"})


@api.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: RESPONSES[401]},
    tags=["operation"],
)
async def read_metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    metrics.observe_pool(service_of(request).pool_figures())
    return Response(
        await asyncio.to_thread(metrics.exposition), headers={"Content-Type": metrics.CONTENT_TYPE}
    )


@api.exception_handler(errors.InvalidRequestError)
async def _rejected(request: Request, error: errors.InvalidRequestError) -> Response:
    if isinstance(error, (errors.RequestBlockedError, errors.RequestForgottenError)):
        request.scope[OUTCOME] = error.code
    part = "body" if request.method == "POST" else "query"
    name = "phoneNumber" if part == "body" and error.field == "phone" else error.field
    status = 409 if isinstance(error, errors.MergeTooLargeError) else 422
    return problem(status, [part, name] if name else [part], error.reason, error.code)


@api.exception_handler(RequestValidationError)
async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    # FastAPI's own answer would repeat the input.
    detail = [{key: problem[key] for key in ("loc", "msg", "type")} for problem in error.errors()]
    return JSONResponse({"detail": detail}, 422)


@api.exception_handler(errors.ContactNotFoundError)
async def _not_found(_request: Request, error: errors.ContactNotFoundError) -> Response:
    return JSONResponse({"detail": str(error)}, 404)


@api.exception_handler(errors.DatabaseError)
async def _unavailable(_request: Request, error: errors.DatabaseError) -> Response:
    # Only the kind: a message names hosts and roles.
    return unavailable(error.message)


def _wants_counts(query: QueryParams) -> bool:
    try:
        return _boolean.validate_python(query.get("summary", False))
    except ValidationError as error:
        raise invalid_request(error, "query", "summary") from error


def _found(request: Request, contact: ConsolidatedContact | ContactCounts | None) -> Response:
    request.scope[OUTCOME] = "found"
    if contact is None:
        return _too_large(service_of(request).contact_limit)
    return document(contact.as_json())


def _too_large(limit: int, reconciled: str = "") -> Response:
    return problem(
        422,
        ["query", "summary"],
        f"{reconciled}the identity has more than {limit} contacts;"
        " add ?summary=1 for counts, or run identity show",
        "identity_too_large",
    )


def _openapi() -> dict[str, Any]:
    description = _describe()
    description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    description["security"] = [{}, {"token": []}]
    return description


_describe = api.openapi
api.openapi = _openapi  # type: ignore[method-assign]


class Application:
    """The service for an ASGI server, with a short way to `POST /identify`.

    FastAPI's middleware and routers would cost a request as much as all that it needs. The route
    in `api` describes it, and serves it below a root path.
    """

    def __init__(self, api: FastAPI) -> None:
        self._api = api

    @cached_property
    def _short_way(self) -> Gate:
        return Gate(ExceptionMiddleware(_identify, handlers=self._api.exception_handlers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/identify" and scope["method"] == "POST":
            await self._short_way(scope, receive, send)
        else:
            await self._api(scope, receive, send)


async def _identify(scope: Scope, receive: Receive, send: Send) -> None:
    response = await identify(Request(scope, receive, send))
    await response(scope, receive, send)


app = Application(api)
