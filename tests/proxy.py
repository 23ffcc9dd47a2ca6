"""A TCP proxy in front of the test server, which can stop answering."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


def connect_to(server: dict[str, str]) -> socket.socket:
    """Open a socket to a server, given libpq's parameters."""
    port = int(server.get("port", "5432"))
    host = server["host"]
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    line = socket.socket(socket.AF_UNIX)
    line.connect(f"{host}/.s.PGSQL.{port}")
    return line


class Proxy:
    """Forwards connections to a server; `silent` swallows everything from then on.

    `watch` sees what the server sends before it is forwarded.
    """

    def __init__(
        self, server: dict[str, str], watch: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self.silent = threading.Event()
        self.connections = 0
        self._server = server
        self._watch = watch
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def parameters(self) -> dict[str, str]:
        """libpq's parameters of the same server behind the proxy."""
        host, port = self._listener.getsockname()
        return self._server | {"host": host, "port": str(port)}

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The listener first: no socket is added after it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for line in self._sockets:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for line in (self._listener, *self._sockets):
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = connect_to(self._server)
            self._sockets += [client, server]
            for source, target, watch in (
                (client, server, lambda _: None),
                (server, client, self._watch),
            ):
                thread = threading.Thread(target=self._forward, args=(source, target, watch))
                self._threads.append(thread)
                thread.start()

    def _forward(
        self, source: socket.socket, target: socket.socket, watch: Callable[[bytes], None]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                watch(data)
                if not self.silent.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
