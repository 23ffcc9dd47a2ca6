"""A TCP proxy in front of the test server, which can stop answering."""

from __future__ import annotations

import socket
import struct
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

    `watch` sees what the server sends before it is forwarded. `lose_clients` is a network
    partition that only the clients notice.
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
        self._clients: list[socket.socket] = []
        self._lost: set[socket.socket] = set()
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

    def lose_clients(self) -> None:
        """Cut the connections to the clients, and keep those to the server open."""
        lost = [client for client in self._clients if client not in self._lost]
        self._lost.update(lost)
        for client in lost:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = connect_to(self._server)
            self._sockets += [client, server]
            self._clients.append(client)
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
                if not self.silent.is_set() and target not in self._lost:
                    target.sendall(data)
            if source not in self._lost:
                target.shutdown(socket.SHUT_RDWR)


class TransactionPool:
    """A pool of one server connection that clients get for one transaction at a time.

    As PgBouncer does it, a client gets a process id that no server process has.
    """

    def __init__(self, server: dict[str, str]) -> None:
        self._parameters = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._turn = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._server = connect_to(server)
        self._greeting = b""

    @property
    def parameters(self) -> dict[str, str]:
        """libpq's parameters of the pool."""
        host, port = self._listener.getsockname()
        return self._parameters | {"host": host, "port": str(port), "sslmode": "disable"}

    def __enter__(self) -> Self:
        fields = {"user": self._parameters["user"], "database": self._parameters["dbname"]}
        fields["client_encoding"] = "UTF8"
        startup = struct.pack("!i", 196608)
        for name, value in fields.items():
            startup += name.encode() + b"\0" + value.encode() + b"\0"
        startup += b"\0"
        self._server.sendall(struct.pack("!i", len(startup) + 4) + startup)
        while True:
            kind, message = _read(self._server)
            if kind == b"K":
                message = kind + struct.pack("!iii", 12, 99_999_999, 1)
            self._greeting += message
            if kind == b"Z":
                break
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for line in self._sockets:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for line in (self._listener, self._server, *self._sockets):
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            while True:  # requests for encryption, then the startup message
                (length,) = struct.unpack("!i", _exactly(client, 4))
                (code,) = struct.unpack("!i", _exactly(client, length - 4)[:4])
                if code == 196608:
                    break
                client.sendall(b"N")
            client.sendall(self._greeting)
            while True:
                kind, message = _read(client)
                if kind == b"X":
                    return
                with self._turn:
                    self._transaction(client, kind, message)

    def _transaction(self, client: socket.socket, kind: bytes, message: bytes) -> None:
        while True:
            self._server.sendall(message)
            if kind in {b"Q", b"S"}:
                answer = b""
                while answer != b"Z":
                    answer, reply = _read(self._server)
                    client.sendall(reply)
                if reply.endswith(b"I"):
                    return
            kind, message = _read(client)


def _read(line: socket.socket) -> tuple[bytes, bytes]:
    """Return the type of the next message, and the whole message."""
    head = _exactly(line, 5)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], head + _exactly(line, length - 4)


def _exactly(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = line.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
