"""The metrics for Prometheus: of this process, or of all workers if there are several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]

# Set before the workers start: prometheus_client then keeps the values in files that they share.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

REQUESTS = Counter("identity_http_requests", "Requests.", ["method", "path", "status", "outcome"])
SECONDS = Histogram(
    "identity_http_request_seconds",
    "Time from the request's headers to the last byte of the answer.",
    ["path"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RETRIES = Counter(
    "identity_http_retries",
    "Requests sent to the database again after a conflict or a lost connection.",
)
POOL = Gauge(
    "identity_http_pool_connections",
    "Open and idle database connections, and requests that wait for one.",
    ["state"],
    multiprocess_mode="livesum",
)


def observe_pool(stats: Mapping[str, int]) -> None:
    """Set the gauges of the pool to the figures of psycopg_pool."""
    POOL.labels("open").set(stats["pool_size"])
    POOL.labels("idle").set(stats["pool_available"])
    POOL.labels("waiting").set(stats["requests_waiting"])


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format."""
    folder = os.environ.get(SHARED_FOLDER)
    if not folder:
        return generate_latest(REGISTRY)
    for file in Path(folder).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not _is_alive(pid):  # a killed worker leaves its gauges behind
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
