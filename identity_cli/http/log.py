"""JSON lines on standard error. None holds a value of a contact."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec


def write(event: str, **fields: Any) -> None:
    """One line: time (UTC), event, fields."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = msgspec.json.encode({"time": time, "event": event, **fields}).decode()
    with suppress(OSError):  # a log that nobody reads any more must not end the service
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Handler(logging.Handler):
    """Messages of the ASGI server and of the pool, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        write(
            "message",
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage(),
        )


CONFIGURATION: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"json": {"class": "identity_cli.http.log.Handler"}},
    "root": {"handlers": ["json"], "level": "WARNING"},
}
