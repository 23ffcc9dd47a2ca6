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


@contextmanager
def open_session(master: str | None, remote: str | None, log: Path) -> Iterator[SparkSession]:
    """Open a session on a cluster by its master's URL, or over Spark Connect by a `remote` one.

    With neither of them, the cluster is the one that `spark-submit` or Spark's own configuration
    names, or else the cores of this machine. A session that is open is used, and kept open.
    What Spark prints is added to the `log`. Raises `UsageError`, and `OutputError` if the log
    cannot be written.
    """
    from pyspark.sql import SparkSession

    # In a notebook or a job, the session belongs to the one who has opened it.
    is_other = SparkSession.getActiveSession() is not None
    try:
        with _signals_kept(), _messages_in(log):
            session = _start(master, remote)
    except (PySparkException, Py4JError, ImportError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"Spark could not be started: {_first_line(error)}",
            hint=f"look into {log}; without --remote, Spark needs Java 17 or newer",
        ) from error
    try:
        yield session
    finally:
        if not is_other:
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
def _signals_kept() -> Iterator[None]:
    """Set the handler of a signal again if Spark sets its own, which would end the program."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


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
            hint="look into the log of Spark; the same command resumes, --restart starts over",
        ) from error


def _interrupt(spark: SparkSession) -> None:
    """Let the cluster end what it is doing for this session."""
    with suppress(PySparkException, Py4JError):
        spark.interruptAll()


def _first_line(error: BaseException) -> str:
    """Return what an error is about; the first line of one in Java only names a method."""
    lines = [line.strip(" :") for line in str(error).splitlines() if line.strip(" :")]
    about = [line for line in lines if not line.startswith("An error occurred while calling")]
    return (about or lines or [type(error).__name__])[0][:300]
