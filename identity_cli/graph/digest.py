"""The digest of who is who, made of the values of each identity alone."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from identity_cli.postgres.snapshot import Snapshot

# Placeholders and contacts that are set aside belong to no identity.
_LINES = """
    SELECT coalesce(linked_id, id) AS identity, 'email:' || email COLLATE "C" AS line
    FROM contact WHERE email <> '' AND id >= 0
    UNION ALL SELECT coalesce(linked_id, id), 'phone:' || phone_number COLLATE "C"
    FROM contact WHERE phone_number <> '' AND id >= 0
    ORDER BY identity, line
"""


def digest(graph: Snapshot) -> str:
    """Return the digest of the identities as they are stored."""
    digests = []
    current = previous = None
    values = sha256()
    for identity, line in graph.rows(_LINES):
        if identity != current:
            if current is not None:
                digests.append(values.digest())
            values = sha256(line.encode())
        elif line != previous:
            values.update(b"\n" + line.encode())
        current, previous = identity, line
    if current is not None:
        digests.append(values.digest())
    # The order of the digests is that of their hex forms.
    digests.sort()
    whole = sha256()
    for place, each in enumerate(digests):
        whole.update((b"\n" if place else b"") + each.hex().encode())
    return f"sha256:{whole.hexdigest()}"
