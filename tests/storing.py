"""A server of S3 in this process, and what is in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "AKIAEXAMPLE"
SECRET = "wJalr/XUtn+FEMI"
ENCODED_SECRET = "wJalr%2FXUtn%2BFEMI"
# Credentials are in the URLs; the client must not look for others in the network.
ENVIRONMENT = {"AWS_EC2_METADATA_DISABLED": "true"}


class Bucket:
    """A bucket on the server; `url` gives the address of a name or a pattern in it."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self._endpoint = f"127.0.0.1:{port}"
        self._store: Any = S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            endpoint_override=self._endpoint,
            scheme="http",
            allow_bucket_creation=True,
        )
        self._store.create_dir(name)

    def put(self, name: str, content: bytes | Path) -> None:
        """Store an object."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        with self._store.open_output_stream(f"{self.name}/{name}", compression=None) as file:
            file.write(data)

    def url(self, name: str, credentials: str = f"{KEY}:{ENCODED_SECRET}@") -> str:
        """Return the address of an object, with credentials."""
        return (
            f"s3://{credentials}{self.name}/{name}"
            f"?endpoint_override={self._endpoint}&scheme=http&region=us-east-1"
        )


@contextmanager
def s3_server() -> Iterator[int]:
    """Run a server of S3, which holds its objects in memory; yields its port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()
