"""The server's clock, followed on this machine: every timestamp is the server's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    import psycopg


class ServerClock:
    """The server's time, asked once and carried on by this machine's monotonic clock."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        with translated():
            row = connection.execute(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            ).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM returns one row
        self._offset_us = int(row[0]) - time.monotonic_ns() // 1000

    def now_us(self) -> int:
        """Return the microseconds since 1970."""
        return self._offset_us + time.monotonic_ns() // 1000
