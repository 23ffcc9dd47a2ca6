"""Advice on a server's settings: given where they are off, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity_cli.postgres.advice import advice
from identity_cli.postgres.database import Database
from identity_cli.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg


class Settings:
    """Answers like a server that has these settings."""

    def __init__(self, **changed: tuple[str, str, str]) -> None:
        self.rows = {
            "fsync": ("on", "", "on"),
            "full_page_writes": ("on", "", "on"),
            "autovacuum": ("on", "", "on"),
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
        shared_buffers=("16384", "8kB", "128MB"),
        max_wal_size=("1024", "MB", "1GB"),
    )
    found = advice(bad)  # type: ignore[arg-type]
    assert {one.setting for one in found} == set(bad.rows)
    assert [one.setting for one in found if one.dangerous] == ["fsync", "full_page_writes"]
    assert "max_wal_size is 1GB, better 2GB or more" in str(found[-1])


def test_real_server_is_asked(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute(
        "SELECT pg_size_bytes(current_setting('shared_buffers')) < 256 * 1024 * 1024,"
        " pg_size_bytes(current_setting('max_wal_size')) < 2048 * 1024 * 1024::bigint"
    ).fetchone()
    assert row is not None
    found = {one.setting: one.value for one in advice(connection)}
    assert ("shared_buffers" in found, "max_wal_size" in found) == row
    for name, value in found.items():
        shown = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        assert shown == (value,)


def test_embedded_server_needs_no_advice(identity_home: Path) -> None:
    with EmbeddedServer(identity_home) as server:
        database = Database(server.connection_parameters(), embedded=True)
        with database.connect() as connection:
            assert advice(connection) == []
