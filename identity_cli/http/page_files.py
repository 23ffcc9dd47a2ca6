"""The page to look people up: its files, and headers that let it load nothing else."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Whatever a value holds, nothing but the page's own files runs, and nothing leaves for another
# site. Trusted types refuse text as HTML.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(tags=["page"])


def _folder() -> Traversable:
    return resources.files("identity_cli.http") / "page"


def _read_files() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in _folder().iterdir() if file.is_file()}


_FILES = _read_files()


@router.get("/", response_class=HTMLResponse)
async def show_page() -> Response:
    """Return the page to look people up; it asks for a token if one is needed."""
    return Response(_FILES["index.html"], 200, _HEADERS, "text/html; charset=utf-8")


@router.get("/page/{name}", include_in_schema=False)
async def show_file(name: str) -> Response:
    """Return a file of the page."""
    media_type = _TYPES.get(name.rpartition(".")[2])
    if media_type is None or name not in _FILES:
        raise HTTPException(404)
    return Response(_FILES[name], 200, _HEADERS, f"{media_type}; charset=utf-8")
