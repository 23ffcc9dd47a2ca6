"""Advice on a server's settings: given where they are off, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity_cli.server import advice

if TYPE_CHECKING:
    import psycopg


class Settings:
    """Answers like a server that has these settings."""

    def __init__(self, **changed: tuple[str, str, str]) -> None:
        self.rows = {
            "fsync": ("on", "", "on"),
            "full_page_writes": ("on", "", "on"),
            "autovacuum": ("on", "", "on"),
            "wal_compression": ("lz4", "", "lz4"),
            "shared_buffers": ("65536", "8kB", "512MB"),
            "max_wal_size": ("4096", "MB", "4GB"),
        } | changed

    def execute(self, *_: object) -> Settings:
        return self

    def fetchall(self) -> list[tuple[str, ...]]:
        return [(name, *values) for name, values in self.rows.items()]


def test_good_settings_need_no_advice() -> None:
    assert advice(Settings()) == []  # type: ignore[arg-type]


def test_each_bad_setting_is_named() -> None:
    bad = Settings(
        fsync=("off", "", "off"),
        full_page_writes=("off", "", "off"),
        autovacuum=("off", "", "off"),
        wal_compression=("off", "", "off"),
        shared_buffers=("16384", "8kB", "128MB"),
        max_wal_size=("1024", "MB", "1GB"),
    )
    found = advice(bad)  # type: ignore[arg-type]
    assert {one.setting for one in found} == set(bad.rows)
    assert [one.setting for one in found if one.dangerous] == ["fsync", "full_page_writes"]
    assert "max_wal_size is 1GB, better 2GB or more" in str(found[-1])


def test_real_server_is_asked(connection: psycopg.Connection[Any]) -> None:
    before = advice(connection)
    connection.execute("SET wal_compression = off")
    after = advice(connection)
    assert {one.setting for one in after} == {one.setting for one in before} | {"wal_compression"}
