"""The middleware around every request: token, size limit, log, metrics, and no status 500."""

from __future__ import annotations

import hmac
import os
from time import perf_counter
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from identity_cli.http import log, metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 64 * 1024
OUTCOME = "identity.outcome"

_OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
# Labels and log lines hold nothing that a caller chose: it may be a value, and there would be no
# limit to the number of labels.
_PATHS = _OPEN_PATHS | {"/identify", "/contacts", "/metrics", "/docs", "/openapi.json"}
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OUTCOMES = {
    0: "aborted",
    200: "ok",
    401: "unauthorized",
    404: "not_found",
    409: "merge_too_large",
    413: "too_large",
    422: "rejected",
    503: "unavailable",
}


class Gate:
    """An ASGI middleware; it reads `IDENTITY_HTTP_TOKEN` when the application starts."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._token = os.environ.get("IDENTITY_HTTP_TOKEN", "").encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        status = received = 0
        headers = dict(scope["headers"])

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_LIMIT:
                raise _TOO_LARGE
            return message

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if not self._may_pass(scope["path"], headers):
                await _unauthorized(scope, receive, observed_send)
            elif _declared_length(headers) > BODY_LIMIT:
                await _too_large(scope, receive, observed_send)
            else:
                await self.app(scope, limited_receive, observed_send)
        except Exception as error:
            if status:
                raise
            log.write("error", error=type(error).__name__)
            await unavailable("The request could not be served.")(scope, receive, observed_send)
        finally:
            seconds = perf_counter() - started
            outcome = scope.get(OUTCOME) or _OUTCOMES.get(status, "refused")
            path = _known_path(scope["path"])
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.REQUESTS.labels(method, path, status, outcome).inc()
            metrics.SECONDS.labels(path).observe(seconds)
            log.write(
                "request",
                method=method,
                path=path,
                status=status,
                milliseconds=round(seconds * 1000, 3),
                outcome=outcome,
            )

    def _may_pass(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if not self._token or path in _OPEN_PATHS:
            return True
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"


def unavailable(detail: str) -> JSONResponse:
    """Return a 503: the same request can be sent again."""
    return JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})


def _known_path(path: str) -> str:
    if path in _PATHS:
        return path
    return "/contacts/{id}" if path.startswith("/contacts/") else "other"


def _declared_length(headers: dict[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


# The connection is closed, because nobody reads the rest of the body.
_TOO_LARGE = HTTPException(
    413, f"The body is larger than {BODY_LIMIT} bytes.", headers={"Connection": "close"}
)
_too_large = JSONResponse({"detail": _TOO_LARGE.detail}, 413, _TOO_LARGE.headers)
_unauthorized = JSONResponse(
    {"detail": "A bearer token is required."}, 401, {"WWW-Authenticate": "Bearer"}
)
