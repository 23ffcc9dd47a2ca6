"""`identity serve`."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Annotated

import typer

from identity_cli import errors
from identity_cli.commands.options import DatabaseUrl, Debug, Region
from identity_cli.settings import open_database

_EXTRA = ("fastapi", "fastapi_offline", "prometheus_client", "psycopg_pool", "uvicorn")
_LOOPBACK = ("127.", "::1", "localhost")

# Open requests may take this long after SIGTERM; Docker kills after ten seconds.
_GRACE_SECONDS = 8


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, metavar="N", help="Port to listen on; 0 for any free port."
        ),
    ] = 8000,
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", help="Number of processes.")
    ] = 1,
    pool: Annotated[
        int,
        typer.Option("--pool", min=1, metavar="N", help="Database connections per process."),
    ] = 16,
    region: Region = None,
    database_url: DatabaseUrl = None,
    _debug: Debug = False,
) -> None:
    """Serve POST /identify, and a page to look people up, until INT or TERM.

    If IDENTITY_HTTP_TOKEN is set, clients must send it as a bearer token.
    The one in IDENTITY_HTTP_READ_TOKEN lets them read, but not reconcile.
    An identity of more than IDENTITY_HTTP_CONTACT_LIMIT contacts (10000) is
    not printed; clients get its counts with ?summary=1.

    \b
    Example:
      identity serve --port 8000
      curl -d '{"email": "mcfly@hillvalley.edu"}' -H 'Content-Type: application/json' \\
        http://127.0.0.1:8000/identify
    """
    if not all(map(find_spec, _EXTRA)):
        raise errors.UsageError(
            "identity serve needs packages that are not installed",
            hint="pip install 'identity-cli[http]'",
        )
    from identity_cli.graph.normalize import check_region
    from identity_cli.http import log
    from identity_cli.http.gate import configured_tokens
    from identity_cli.http.service import prepare

    tokens = configured_tokens()
    region = check_region(region)
    # The application, in this process or in workers, reads its settings from the environment.
    os.environ["IDENTITY_REGION"] = region or ""
    os.environ["IDENTITY_HTTP_POOL"] = str(pool)
    if database_url:
        os.environ["DATABASE_URL"] = database_url
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        prepare(stack.enter_context(open_database()), region)
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="identity-metrics-")
            )
        if not (host.startswith(_LOOPBACK) or tokens):
            log.write(
                "warning",
                message="no token is set: anyone who can reach this port can use the service",
            )
        address, bound_port = listener.getsockname()[:2]
        at = f"[{address}]" if ":" in address else address
        log.write("listening", url=f"http://{at}:{bound_port}", workers=workers)
        _serve(listener, workers)
    log.write("stopped")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise errors.UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="use another --host or --port",
        ) from error


def _serve(listener: socket.socket, workers: int) -> None:
    from uvicorn import Config, Server
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    from identity_cli.http import log

    config = Config(
        "identity_cli.http:app",
        workers=workers,
        lifespan="on",
        access_log=False,
        log_config=log.CONFIGURATION,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    codes: list[int | None]
    if workers > 1:
        supervisor = Multiprocess(config, sockets=[listener])
        supervisor.run()
        codes = [process.exitcode for process in supervisor.processes]
    else:
        # uvicorn raises the signal again after it has stopped; that must not end this process.
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            Server(config).run(sockets=[listener])
        except SystemExit as stopped:
            codes = [STARTUP_FAILURE if stopped.code else 0]
        else:
            codes = [0]
    if STARTUP_FAILURE in codes:
        raise errors.IdentityError("the service did not start", hint="see the log above")
