"""The middleware around every request: token, size limit, log, metrics, and no status 500."""

from __future__ import annotations

import hmac
import os
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from identity_cli.errors import UsageError
from identity_cli.http import log, metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 64 * 1024
OUTCOME = "identity.outcome"

# A browser sends no token when it loads a page: the page asks for one, and holds no data by itself.
_PAGE = "/page/"
_OPEN_PATHS = frozenset({"/", "/health/live", "/health/ready"})
# Labels and log lines hold nothing that a caller chose: it may be a value, and there would be no
# limit to the number of labels.
_PATHS = _OPEN_PATHS | {"/identify", "/lookup", "/contacts", "/metrics", "/docs", "/openapi.json"}
_CONTACT_PARTS = ("/evidence", "/history")
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# What the token for reading may do; a look-up is a POST only to keep values out of URLs.
_READING_METHODS = frozenset({"GET", "HEAD"})
_READING_PATHS = frozenset({"/lookup"})
_OUTCOMES = {
    0: "aborted",
    200: "ok",
    401: "unauthorized",
    403: "read_only",
    404: "not_found",
    409: "merge_too_large",
    413: "too_large",
    422: "rejected",
    503: "unavailable",
}


class Tokens(NamedTuple):
    """The token for all requests, and the one for those that only read; empty if not set."""

    full: bytes
    reading: bytes

    def __bool__(self) -> bool:
        return bool(self.full or self.reading)


def configured_tokens() -> Tokens:
    """Return the tokens of the environment. Raises `UsageError` if both are the same."""
    full = os.environ.get("IDENTITY_HTTP_TOKEN", "").encode()
    reading = os.environ.get("IDENTITY_HTTP_READ_TOKEN", "").encode()
    if full and hmac.compare_digest(full, reading):
        raise UsageError(
            "IDENTITY_HTTP_TOKEN and IDENTITY_HTTP_READ_TOKEN are the same",
            hint="set another IDENTITY_HTTP_READ_TOKEN: whoever has it may only read",
        )
    return Tokens(full, reading)


class Gate:
    """An ASGI middleware; it reads the tokens when the application starts."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._tokens = configured_tokens()

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
            refusal = self._refusal(scope["method"], scope["path"], headers)
            if refusal is not None:
                await refusal(scope, receive, observed_send)
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

    def _refusal(self, method: str, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if not self._tokens or path in _OPEN_PATHS or path.startswith(_PAGE):
            return None
        scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
        sent = sent.strip()
        # Both are compared in any case, so that the time does not depend on which one was sent.
        is_full = hmac.compare_digest(sent, self._tokens.full)
        is_reading = hmac.compare_digest(sent, self._tokens.reading)
        if not sent or scheme.lower() != b"bearer" or not (is_full or is_reading):
            return _unauthorized
        if is_full or method in _READING_METHODS or path in _READING_PATHS:
            return None
        return _read_only


def unavailable(detail: str) -> JSONResponse:
    """Return a 503: the same request can be sent again."""
    return JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})


def _known_path(path: str) -> str:
    if path in _PATHS:
        return path
    if path.startswith(_PAGE):
        return f"{_PAGE}{{name}}"
    if not path.startswith("/contacts/"):
        return "other"
    part = next((part for part in _CONTACT_PARTS if path.endswith(part)), "")
    return f"/contacts/{{id}}{part}"


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
_read_only = JSONResponse(
    {"detail": "This token may only read: send this request with the other token."}, 403
)
