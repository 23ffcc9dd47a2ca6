"""Inputs in object storage, which pyarrow reads: S3, Google Cloud Storage and Azure.

A URL may hold credentials. They are in the root of an object alone: what is shown or stored is its
name, which is the URL without them.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from identity_cli.errors import InputNotFoundError, InputUnreadableError, UsageError
from identity_cli.importer.raw import PositionedFile
from identity_cli.importer.runs import InputIdentity
from identity_cli.importer.source import is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# What one request reads, and how many of these are kept: readers go back and forth a little.
_BLOCK = 4 << 20
_KEPT_BLOCKS = 4
_ASKED_AT_ONCE = 16
_split_query = re.compile(r"(.*?)(\?[A-Za-z_]+=[^?]*)?", re.DOTALL).fullmatch
_split_url = re.compile(r"([a-z0-9]+)://([^/]*)/*(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_is_authority = re.compile(r"([\w.~%!$&'()*+,;=:-]*@)?[\w.:-]+", re.ASCII).fullmatch
_is_pattern = re.compile(r"[*?\[]").search
_ENCODE = "write the credentials of a URL percent-encoded (/ as %2F, + as %2B)"
# The stores' errors have no class of their own in pyarrow, only a text.
_HINTS = (
    (
        r"NETWORK_CONNECTION|CURL error|curlCode|resolve host|UNAVAILABLE|timed? ?out",
        "check the network, and endpoint_override if the URL has one",
    ),
    (
        r"ACCESS_DENIED|ACCESS_KEY|SIGNATURE|PERMISSION_DENIED|UNAUTHENTICATED|HTTP status 40[13]"
        r"|AuthenticationFailed|Authorization|[Cc]redential|\b40[13]\b",
        "check the credentials, and that they are allowed to list and read these objects",
    ),
    (r"NO_SUCH_BUCKET|Bucket .* not found", "check the name of the bucket for a typing error"),
)
# Parameters that may be shown; a password or a signature may be in any other.
_PUBLIC = frozenset(
    ("region", "scheme", "endpoint_override", "retry_limit_seconds", "allow_bucket_creation")
)
_MISSING_HINT = "check the path for a typing error"
_OTHER_HINT = "check the URL, and that its object can be read"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object. `root` is the URL of its store, with credentials, and `path` leads to it there."""

    name: str
    root: str = field(repr=False)
    path: str = field(repr=False)
    size: int
    changed_ns: int | None

    def identity(self) -> InputIdentity:
        """Return what it is found again by: its name, its size and when it was written."""
        text = f"{self.name}\n{self.size}\n{self.changed_ns}"
        return InputIdentity(self.name, self.size, hashlib.sha256(text.encode()).hexdigest())

    def open(self) -> ObjectFile:
        """Open it. Raises `InputNotFoundError`."""
        with _storing(self.name, self.root):
            store, base = _open_store(self.root)
            return ObjectFile(self.name, self.root, store.open_input_file(_join(base, self.path)))


class ObjectFile(PositionedFile):
    """An open object, read in large blocks. Reading raises `InputUnreadableError`."""

    def __init__(self, name: str, root: str, file: Any) -> None:
        super().__init__(file.size())
        self.name = name
        self._root = root
        self._file = file
        self._blocks: dict[int, bytes] = {}
        tags = {key.lower(): value for key, value in (file.metadata() or {}).items()}
        # What the store gives its content; an object is written as a whole, never changed in part.
        version = tags.get("etag") or tags.get("last-modified") or b""
        self.version = hashlib.sha256(b"%d\n%s" % (self.size, version)).hexdigest()

    def read_at(self, buffer: memoryview, position: int) -> int:
        """Fill some of the buffer."""
        number, start = divmod(position, _BLOCK)
        if position >= self.size:
            return 0
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._fetch(number)
        self._blocks[number] = block  # the last one read is the last one dropped
        while len(self._blocks) > _KEPT_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        data = block[start : start + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close it; what was read is dropped."""
        self._blocks.clear()
        self._file.close()
        super().close()

    def _fetch(self, number: int) -> bytes:
        import pyarrow as pa

        start = number * _BLOCK
        try:
            block: bytes = self._file.read_at(min(_BLOCK, self.size - start), start)
        except (OSError, pa.ArrowException) as error:
            # Without a cause: that may hold credentials.
            raise InputUnreadableError(
                self.name,
                f"it cannot be read any further: {_text(error, self._root)}",
                hint="run the same command again; with --work it resumes",
            ) from None
        if not block:
            raise InputUnreadableError(
                self.name,
                f"it became shorter while it was read: {start} of {self.size} bytes",
                hint="run the same command again when nothing writes to it",
            )
        return block


def object_name(url: str) -> str:
    """Return a URL without credentials and parameters; a path as it is."""
    if not is_object(url):
        return url
    try:
        return _parsed(url)[1]
    except UsageError:
        return f"{url.partition(':')[0].lower()}://…"


def find_objects(url: str) -> list[StoredObject]:
    """Return the object of a URL, or those that match its pattern by their names.

    Raises `UsageError` if it is not such a URL and `InputNotFoundError` if there is no such object.
    """
    root, name, path = _parsed(url)
    if not root.startswith("abfs"):
        return _find(root, name, path)
    # Azure's client aborts the process if it finds no credentials.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_silence) as pool:
        try:
            return pool.submit(_find, root, name, path).result()
        except BrokenProcessPool:
            raise InputNotFoundError(
                f"{name}: the client of Azure ended without an answer; it may have no credentials",
                hint="run az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET",
            ) from None


def _silence() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _find(root: str, name: str, path: str) -> list[StoredObject]:
    from pyarrow.fs import FileType

    with _storing(name, root):
        store, base = _open_store(root)
        found = store.get_file_info(_join(base, path)) if path else None
        if found is not None and found.is_file:
            return [_stored(found, root, name, base, path)]
        if _is_pattern(path):
            matches = [info for info in _matches(store, base, path.split("/")) if info.is_file]
            if not matches:
                raise InputNotFoundError(
                    f"{name} matches no object", hint="check the pattern for a typing error"
                )
            matches.sort(key=lambda info: info.path)
            return [_stored(info, root, name, base, path) for info in matches]
        if found is None or found.type == FileType.Directory:
            raise InputNotFoundError(
                f"{name} is a folder", hint=f"use a pattern, such as '{name.rstrip('/')}/*'"
            )
        bucket = base.partition("/")[0]
        if bucket and store.get_file_info(bucket).type == FileType.NotFound:
            raise InputNotFoundError(
                f"{name}: there is no bucket {bucket}",
                hint="check the name of the bucket for a typing error",
            )
        raise InputNotFoundError(f"{name}: there is no such object", hint=_MISSING_HINT)


def read_versions(objects: Iterable[StoredObject]) -> Mapping[str, str]:
    """Return the versions that the store has now, by name. Raises `InputNotFoundError`."""

    def version(one: StoredObject) -> tuple[str, str]:
        with one.open() as file:
            return one.name, file.version

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return dict(pool.map(version, objects))


def _parsed(url: str) -> tuple[str, str, str]:
    """Return the URL of a store, the name without credentials, and the path. No URL is shown."""
    split = _split_query(url)
    address, query = split.groups() if split else (url, None)
    parts = _split_url(address)
    scheme, authority, path = parts.groups() if parts else ("", "", "")
    scheme = scheme.lower()
    if not _is_authority(authority) or (":" in authority and "@" not in authority):
        is_endpoint = scheme.startswith("abfs") and re.fullmatch(r"[\w.-]+:\d+", authority)
        if not is_endpoint:
            raise UsageError(f"this {scheme}:// URL has no valid bucket", hint=_ENCODE)
    user, at, host = authority.rpartition("@")
    # The container of Azure stands there; a password comes after a colon.
    shown = user.partition(":")[0] + at if scheme.startswith("abfs") else ""
    return f"{scheme}://{authority}{query or ''}", f"{scheme}://{shown}{host}/{path}", path


@lru_cache(maxsize=64)
def _open_store(root: str) -> tuple[Any, str]:
    """Return a file system, and the path of the root in it."""
    from pyarrow.fs import FileSystem

    if root.startswith("g") and "retry_limit_seconds=" not in root:
        # The store's own is a quarter of an hour, in which nothing happens.
        root += ("&" if "?" in root else "?") + "retry_limit_seconds=60"
    store, base = FileSystem.from_uri(root)
    return store, base.rstrip("/")


def _stored(info: Any, root: str, name: str, base: str, path: str) -> StoredObject:
    inner = info.path.removeprefix(base).lstrip("/") if base else info.path
    return StoredObject(
        f"{name.removesuffix(path)}{inner}", root, inner, info.size, info.mtime_ns or None
    )


def _matches(store: Any, base: str, segments: list[str]) -> list[Any]:
    """Return what matches, found folder by folder as a shell does."""
    from pyarrow.fs import FileSelector, FileType

    folders = [base]
    for depth, segment in enumerate(segments):
        is_last = depth == len(segments) - 1
        if not _is_pattern(segment):
            folders = [_join(folder, segment) for folder in folders]
            if is_last:
                return list(store.get_file_info(folders))
            continue
        # A folder that a pattern has led to need not have the folder that comes next.
        found = [
            info
            for folder in folders
            for info in store.get_file_info(FileSelector(folder, allow_not_found=True))
            if fnmatchcase(info.base_name, segment)
            and (segment.startswith(".") or not info.base_name.startswith("."))
        ]
        if is_last:
            return found
        folders = [info.path for info in found if info.type == FileType.Directory]
    return []


def _join(base: str, path: str) -> str:
    return f"{base}/{path}" if base else path


@contextmanager
def _storing(name: str, root: str) -> Iterator[None]:
    """Translate what pyarrow raises. No error is kept as a cause: it may hold credentials."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise InputNotFoundError(f"{name}: there is no such object", hint=_MISSING_HINT) from None
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"{name}: {_text(error, root)}", hint="check the URL and the parameters after its ?"
        ) from None
    except (OSError, pa.ArrowException) as error:
        text = _text(error, root)
        hint = next((hint for sign, hint in _HINTS if re.search(sign, text)), _OTHER_HINT)
        raise InputNotFoundError(f"{name}: {text}", hint=hint) from None


def _text(error: Exception, root: str) -> str:
    """Return the text of an error in one line, without the credentials of the root."""
    text = " ".join(str(error).split()).replace(root, "the URL")
    # What Google's client says besides is the same again.
    text = re.sub(r"google::cloud::Status\((.*?) error_info=.*", r"\1", text)
    address, _, query = root.partition("?")
    secrets = address.partition("://")[2].rpartition("@")[0].split(":")
    if root.startswith("abfs"):
        del secrets[0]  # the container or the account
    parameters = [one.partition("=") for one in query.split("&")]
    secrets += [value for key, _, value in parameters if key not in _PUBLIC]
    for secret in secrets:
        for form in {secret, unquote(secret)} - {""}:
            text = text.replace(form, "***")
    return text
