"""Advice on server settings that slow an import down or endanger the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from identity_cli.postgres.database import translated

if TYPE_CHECKING:
    import psycopg

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting to change. If it is `dangerous`, a crash may lose or corrupt data."""

    setting: str
    value: str
    wanted: str
    reason: str
    dangerous: bool = False

    def __str__(self) -> str:
        return f"{self.setting} is {self.value}, better {self.wanted}: {self.reason}"


# (setting, least value in bytes, the same as text, reason)
_SIZES = (
    ("shared_buffers", 256 * _MIB, "256MB", "every request reads the indexes"),
    ("max_wal_size", 2048 * _MIB, "2GB", "a smaller one makes an import write more checkpoints"),
)
# (setting, reason, dangerous); each should be on
_SWITCHES = (
    ("fsync", "a crash of the machine corrupts the database", True),
    ("full_page_writes", "a crash of the machine corrupts the database", True),
    ("autovacuum", "merges leave dead rows behind", False),
)

_BYTES = {"B": 1, "kB": 1 << 10, "8kB": 1 << 13, "MB": _MIB}


def advice(connection: psycopg.Connection[Any]) -> list[Advice]:
    """Return what to change on this server, dangerous settings first."""
    with translated():
        rows = connection.execute(
            "SELECT name, setting, coalesce(unit, ''), current_setting(name) FROM pg_settings"
            " WHERE name = ANY(%s)",
            ([name for name, *_ in (*_SIZES, *_SWITCHES)],),
        ).fetchall()
    found = {name: (setting, unit, shown) for name, setting, unit, shown in rows}
    result = []
    for name, reason, dangerous in _SWITCHES:
        if found[name][0] != "on":
            result.append(Advice(name, found[name][0], "on", reason, dangerous))
    for name, least, written, reason in _SIZES:
        setting, unit, shown = found[name]
        if int(setting) * _BYTES[unit] < least:
            result.append(Advice(name, shown, f"{written} or more", reason))
    return result
