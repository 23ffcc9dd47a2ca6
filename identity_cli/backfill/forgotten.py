"""Values that the target has forgotten: they are left out while the inputs are read.

So they are recognised here as `forget_hash()` in `forget.sql` recognises them, and get neither into
the work directory nor to an engine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from identity_cli.errors import ForgetKeyError, RetryableError
from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

# The owner of the tables need not be allowed to call forget_hash().
_KEY = """
    SELECT key FROM (
        SELECT fingerprint, coalesce(key, convert_to(
            current_setting('identity.forget_key', true), 'UTF8')) AS key
        FROM forget_key
    ) AS found
    WHERE sha256('fingerprint'::bytea || key) = fingerprint
"""
_HASHES = "SELECT hash FROM forgotten_value"
_DIGEST = """
    SELECT encode(sha256(string_agg(hash, ''::bytea ORDER BY hash)), 'hex') FROM forgotten_value
"""


@dataclass(frozen=True, slots=True)
class ForgottenValues:
    """The keyed hashes of all values that a database has forgotten; `digest` is over all hashes."""

    key: bytes = field(repr=False)
    hashes: frozenset[bytes] = field(repr=False)
    digest: str

    def left_out(self, values: Sequence[str]) -> tuple[str | None, ...]:
        """Return the values, with None in the place of each forgotten one."""
        return tuple(None if self._hash(value) in self.hashes else value for value in values)

    def _hash(self, value: str) -> bytes:
        inner = hashlib.sha256(self.key + value.encode()).digest()
        return hashlib.sha256(self.key + inner).digest()


def read_forgotten(connection: psycopg.Connection[Any]) -> ForgottenValues | None:
    """Return the forgotten values of a database, None if there are none.

    Raises `ForgetKeyError` if the key is missing, or another one.
    """
    with translated(), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        digest = _read_digest(connection)
        if digest is None:
            return None
        key = connection.execute(_KEY).fetchone()
        if key is None:
            raise ForgetKeyError
        hashes = frozenset(bytes(row[0]) for row in connection.execute(_HASHES))
    return ForgottenValues(bytes(key[0]), hashes, digest)


def check_forgotten(connection: psycopg.Connection[Any], forgotten: ForgottenValues | None) -> None:
    """Raise `RetryableError` if values were forgotten since these were read."""
    if _read_digest(connection) != digest_of(forgotten):
        raise RetryableError("values were forgotten while the inputs were read")


def digest_of(forgotten: ForgottenValues | None) -> str | None:
    """Return the digest of forgotten values, None if there are none."""
    return None if forgotten is None else forgotten.digest


def _read_digest(connection: psycopg.Connection[Any]) -> str | None:
    with translated():
        row = connection.execute(_DIGEST).fetchone()
    assert row is not None  # noqa: S101 - an aggregate returns one row
    digest: str | None = row[0]
    return digest
