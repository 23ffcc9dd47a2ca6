"""What the routes share: the service of a request, its body, answers and their descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse, Response

from identity_cli.http.models import Problem, Rejected

if TYPE_CHECKING:
    from fastapi import Request

    from identity_cli.http.service import AsyncIdentityService

_Model = TypeVar("_Model", bound=BaseModel)

RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "A token is configured and was not sent."},
    422: {
        "model": Rejected,
        "description": (
            "Not a contact request, refused by a trigger or a constraint of the database (type"
            " `refused`), a request whose values are all blocked (type `blocked`; it is kept, but"
            " links nothing) or forgotten (type `forgotten`), or an identity with too many contacts"
            " for one answer (type `identity_too_large`): ask for it with `?summary=1`."
        ),
    },
    503: {
        "model": Problem,
        "description": "The database is unavailable. The same request can be sent again.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    },
}
READ_ONLY: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "The token that was sent may only read."}
}
MERGE_TOO_LARGE: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Rejected,
        "description": (
            "The request would merge identities of too many contacts for the time limit; nothing"
            " was stored. Send it with `identity identify` or `identity import`."
        ),
    }
}
BODY_TOO_LARGE: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The body is larger than 64 KiB."}
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such contact."}
}


def service_of(request: Request) -> AsyncIdentityService:
    """Return the service that the application has opened."""
    service: AsyncIdentityService = request.state.service
    return service


def validated_body(request: Request, model: type[_Model], body: bytes) -> _Model:
    """Return the JSON document of a request. Raises `RequestValidationError`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page of another site can make a browser send text here, but not JSON.
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise RequestValidationError(
            [{"loc": ("body",), "msg": "The content type is not JSON", "type": "not_json"}]
        )
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid_request(error, "body") from error


def invalid_request(error: ValidationError, *place: str) -> RequestValidationError:
    """Return the error of a part of a request, without the input."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError(
        [problem | {"loc": (*place, *problem["loc"])} for problem in problems]
    )


def document(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def problem(status: int, location: list[str], message: str, code: str) -> Response:
    """Return the answer for a request that is rejected."""
    return JSONResponse({"detail": [{"loc": location, "msg": message, "type": code}]}, status)
