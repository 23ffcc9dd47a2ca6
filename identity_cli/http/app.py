"""The application: routes, and errors as answers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec
from fastapi import Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

from identity_cli import __version__, errors
from identity_cli.graph.normalize import ContactRequest, check_region
from identity_cli.http import metrics
from identity_cli.http.gate import OUTCOME, Gate, unavailable
from identity_cli.http.models import ContactBody, ContactDocument, Health, Problem, Rejected
from identity_cli.http.service import POOL_SIZE, AsyncIdentityService
from identity_cli.settings import open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.datastructures import QueryParams

    from identity_cli.graph.service import ConsolidatedContact
    from identity_cli.http.service import ContactCounts


class _State(TypedDict):
    service: AsyncIdentityService


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[_State]:
    region = check_region(os.environ.get("IDENTITY_REGION") or None)
    pool_size = int(os.environ.get("IDENTITY_HTTP_POOL") or POOL_SIZE)
    with ExitStack() as stack:
        database = await asyncio.to_thread(stack.enter_context, open_database())
        async with AsyncIdentityService.open(
            database, region=region, pool_size=pool_size
        ) as service:
            watch = asyncio.create_task(_watch(service))
            try:
                yield {"service": service}
            finally:
                watch.cancel()


async def _watch(service: AsyncIdentityService) -> None:
    parent = multiprocessing.parent_process()
    while True:
        metrics.observe_pool(service.pool.get_stats())
        if parent is not None and not parent.is_alive():
            # `identity serve` was killed: its workers would hold the port for ever.
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(1)


_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "A token is set, and it was not given."},
    422: {"model": Rejected, "description": "Not a contact request: where, why, and a code."},
    503: {
        "model": Problem,
        "description": "The database is away. The same request can be sent again.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    },
}
_TOO_LARGE: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The body is over 64 KiB."}
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such contact."}
}

app = FastAPIOffline(
    title="identity",
    summary="Who is who: contact requests become identities.",
    version=__version__,
    redoc_url=None,
    lifespan=_lifespan,
    swagger_ui_parameters={"validatorUrl": None},
)
app.add_middleware(Gate)

_boolean = TypeAdapter(bool)
Summary = Annotated[bool, Query(description="Counts instead of values.")]


@app.post(
    "/identify",
    response_model=ContactDocument,
    responses=_RESPONSES | _TOO_LARGE,
    openapi_extra={
        "parameters": [
            {
                "name": "summary",
                "in": "query",
                "description": "Counts instead of values.",
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
    """Reconcile one contact request and answer the identity that it led to."""
    service = _service(request)
    # FastAPI's own handling of parameters and bodies costs as much as all the rest of this.
    summary = _wants_counts(request.query_params) if request.scope["query_string"] else False
    body = _contact_body(request.headers.get("content-type", ""), await request.body())
    wanted = ContactRequest(body.email, body.phoneNumber, region=service.region)
    outcome, contact = await service.identify(wanted, counts=summary)
    request.scope[OUTCOME] = outcome.name
    return _document(contact)


@app.get(
    "/contacts",
    response_model=ContactDocument,
    responses=_RESPONSES | _NOT_FOUND,
    tags=["contacts"],
)
async def find(
    request: Request,
    email: str | None = None,
    phone: Annotated[str | None, Query(description="A leading + is written %2B in a URL.")] = None,
    summary: Summary = False,
) -> Response:
    """The identity that holds the email, the phone number, or both; writes nothing."""
    service = _service(request)
    wanted = ContactRequest(email, phone, region=service.region)
    return await _found(request, await service.find(wanted, counts=summary))


@app.get(
    "/contacts/{id}",
    response_model=ContactDocument,
    responses=_RESPONSES | _NOT_FOUND,
    tags=["contacts"],
)
async def show(
    request: Request,
    contact_id: Annotated[
        int, Path(alias="id", ge=1, lt=2**63, description="Id of any contact of the identity.")
    ],
    summary: Summary = False,
) -> Response:
    """The identity of a contact; writes nothing."""
    found = await _service(request).find(contact_id=contact_id, counts=summary)
    return await _found(request, found)


@app.get("/health/live", response_model=Health, tags=["operation"])
async def live() -> Response:
    """The process answers."""
    return JSONResponse({"status": "live"})


@app.get(
    "/health/ready",
    response_model=Health,
    responses={503: _RESPONSES[503]},
    tags=["operation"],
)
async def ready(request: Request) -> Response:
    """The database answers, and its schema and profile are those of this program."""
    await _service(request).check()
    return JSONResponse({"status": "ready"})


@app.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, 401: _RESPONSES[401]},
    tags=["operation"],
)
async def read_metrics(request: Request) -> Response:
    """For Prometheus."""
    metrics.observe_pool(_service(request).pool.get_stats())
    return Response(
        await asyncio.to_thread(metrics.exposition), headers={"Content-Type": metrics.CONTENT_TYPE}
    )


@app.exception_handler(errors.InvalidRequestError)
async def _rejected(request: Request, error: errors.InvalidRequestError) -> Response:
    where = "body" if request.method == "POST" else "query"
    name = "phoneNumber" if where == "body" and error.field == "phone" else error.field
    location = [where, name] if name else [where]
    return JSONResponse(
        {"detail": [{"loc": location, "msg": error.reason, "type": error.code}]}, 422
    )


@app.exception_handler(RequestValidationError)
async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    # FastAPI's own answer repeats the input.
    detail = [{key: item[key] for key in ("loc", "msg", "type")} for item in error.errors()]
    return JSONResponse({"detail": detail}, 422)


@app.exception_handler(errors.ContactNotFoundError)
async def _not_found(_request: Request, error: errors.ContactNotFoundError) -> Response:
    return JSONResponse({"detail": str(error)}, 404)


@app.exception_handler(errors.DatabaseError)
async def _unavailable(_request: Request, error: errors.DatabaseError) -> Response:
    # The kind only: a message names hosts and roles.
    return unavailable(error.message)


def _wants_counts(query: QueryParams) -> bool:
    try:
        return _boolean.validate_python(query.get("summary", False))
    except ValidationError as error:
        raise _invalid_request(error, "query", "summary") from error


def _contact_body(content_type: str, body: bytes) -> ContactBody:
    media_type = content_type.partition(";")[0].strip().lower()
    # A page of another site can make a browser send text here, but not JSON.
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise RequestValidationError(
            [{"loc": ("body",), "msg": "The content type is not JSON", "type": "not_json"}]
        )
    try:
        return ContactBody.model_validate_json(body)
    except ValidationError as error:
        raise _invalid_request(error, "body") from error


def _invalid_request(error: ValidationError, *place: str) -> RequestValidationError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError(
        [problem | {"loc": (*place, *problem["loc"])} for problem in problems]
    )


def _service(request: Request) -> AsyncIdentityService:
    service: AsyncIdentityService = request.state.service
    return service


async def _found(request: Request, contact: ConsolidatedContact | ContactCounts) -> Response:
    request.scope[OUTCOME] = "found"
    return _document(contact)


def _document(contact: ConsolidatedContact | ContactCounts) -> Response:
    return Response(msgspec.json.encode(contact.as_json()), media_type="application/json")


def _openapi() -> dict[str, Any]:
    document = _describe()
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"token": []}]
    return document


_describe = app.openapi
app.openapi = _openapi  # type: ignore[method-assign]
