"""The service over HTTP: `identity_cli.http:app` is an application for any ASGI server."""

from identity_cli.http.app import app

__all__ = ["app"]
