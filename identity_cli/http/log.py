"""A log of JSON lines on standard error. No line holds a value of a contact."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec


def write(event: str, **fields: Any) -> None:
    """Write one line: the time (UTC), the event, the fields."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = msgspec.json.encode({"time": time, "event": event, **fields}).decode()
    with suppress(OSError):  # the service outlives the reader of its log
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Handler(logging.Handler):
    """A handler that writes the messages of the ASGI server and the pool without tracebacks."""

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
