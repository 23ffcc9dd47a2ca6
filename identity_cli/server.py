"""What a server's settings mean for a graph and for an import, said where they are off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from identity_cli.database import translated

if TYPE_CHECKING:
    import psycopg

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting that should be another one. `dangerous`: a crash may lose or corrupt data."""

    setting: str
    value: str
    wanted: str
    reason: str
    dangerous: bool = False

    def __str__(self) -> str:
        return f"{self.setting} is {self.value}, better {self.wanted}: {self.reason}"


# (setting, the least in bytes, as one writes it, why)
_SIZES = (
    ("shared_buffers", 256 * _MIB, "256MB", "the indexes of a large graph are read all the time"),
    ("max_wal_size", 2048 * _MIB, "2GB", "an import makes a checkpoint every so much of the log"),
)
# (setting, the right value, what else is right, why, whether a crash would hurt)
_VALUES = (
    ("fsync", "on", (), "a crash of the machine corrupts the database", True),
    ("full_page_writes", "on", (), "a crash of the machine corrupts the database", True),
    ("autovacuum", "on", (), "merges leave dead rows behind", False),
    ("wal_compression", "on", ("pglz", "lz4", "zstd"), "the log of an import shrinks", False),
)

_BYTES = {"B": 1, "kB": 1 << 10, "8kB": 1 << 13, "MB": _MIB}


def advice(connection: psycopg.Connection[Any]) -> list[Advice]:
    """What to change on this server, the dangerous first."""
    with translated():
        rows = connection.execute(
            "SELECT name, setting, coalesce(unit, ''), current_setting(name) FROM pg_settings"
            " WHERE name = ANY(%s)",
            ([name for name, *_ in (*_SIZES, *_VALUES)],),
        ).fetchall()
    found = {name: (setting, unit, shown) for name, setting, unit, shown in rows}
    result = []
    for name, wanted, also, reason, dangerous in _VALUES:
        value = found[name][0]
        if value != wanted and value not in also:
            result.append(Advice(name, value, wanted, reason, dangerous))
    for name, least, written, reason in _SIZES:
        setting, unit, shown = found[name]
        if int(setting) * _BYTES[unit] < least:
            result.append(Advice(name, shown, f"{written} or more", reason))
    return result
