"""A session of Apache Spark: how a backfill gets at a cluster."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException

from identity_cli.errors import OutputError, UsageError
from identity_cli.files import writing
from identity_cli.importer.stop import StopRequestedError

try:
    from py4j.protocol import Py4JError
except ImportError:  # the package pyspark-client is only for Spark Connect
    Py4JError = PySparkException

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from identity_cli.importer.stop import StopSwitch

_QUIET = {"spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
_STANDARD_ERROR = 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def open_session(master: str | None, remote: str | None, log: Path) -> Iterator[SparkSession]:
    """Open a session on a cluster by its master's URL, or over Spark Connect by a `remote` one.

    With neither of them, the cluster is the one that `spark-submit` or Spark's own configuration
    names, or else the cores of this machine. What Spark prints is added to the `log`.
    Raises `UsageError`, and `OutputError` if the log cannot be written.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        with _messages_in(log):
            session = _start(master, remote)
    except (PySparkException, Py4JError, ImportError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"Spark could not be started: {_first_line(error)}",
            hint=f"look into {log}; without --remote, Spark needs Java 17 or newer",
        ) from error
    finally:
        # Spark has set a handler of its own, which would end the program without a summary.
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield session
    finally:
        with suppress(PySparkException, Py4JError):
            session.stop()


def _start(master: str | None, remote: str | None) -> SparkSession:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("identity backfill")
    if remote is not None:
        builder = builder.remote(remote)
    else:
        for name, value in _QUIET.items():
            builder = builder.config(name, value)
        builder = builder if master is None else builder.master(master)
    session = builder.getOrCreate()
    # A session is returned before it is known that there is a cluster that answers.
    session.sql("SELECT 1").collect()
    return session


@contextmanager
def _messages_in(log: Path) -> Iterator[None]:
    """Let a file take what is printed on standard error, also by processes started meanwhile."""
    with writing(str(log)), open(log, "ab") as file:
        sys.stderr.flush()
        kept = os.dup(_STANDARD_ERROR)
        os.dup2(file.fileno(), _STANDARD_ERROR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)


@contextmanager
def translated(spark: SparkSession, switch: StopSwitch) -> Iterator[None]:
    """Translate what Spark raises, and stop what it is doing if the switch asks for it."""
    try:
        yield
    except StopRequestedError:
        _interrupt(spark)
        raise
    except (PySparkException, Py4JError) as error:
        # A signal that comes while a call waits may be told of in the call's own way.
        if switch.requested:
            _interrupt(spark)
            raise StopRequestedError from error
        raise OutputError(
            f"Spark could not compute the rows: {_first_line(error)}",
            hint="look into the log of Spark; the same command resumes",
        ) from error


def _interrupt(spark: SparkSession) -> None:
    """Let the cluster end what it is doing for this session."""
    with suppress(PySparkException, Py4JError):
        spark.interruptAll()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
