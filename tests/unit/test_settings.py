"""Finding the database, and never showing a password."""

from __future__ import annotations

import os
import pwd
import traceback
from pathlib import Path

import pytest

from identity_cli.errors import UsageError
from identity_cli.postgres.database import Database
from identity_cli.settings import connection_parameters, open_database, read_settings

PASSWORD = "hunter2secret"


def test_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/")
    assert read_settings("postgresql://flag/").database_url == "postgresql://flag/"
    assert read_settings(None).database_url == "postgresql://environment/"
    monkeypatch.setenv("DATABASE_URL", "")
    assert read_settings(None).database_url is None
    monkeypatch.delenv("DATABASE_URL")
    assert read_settings(None).database_url is None


def test_key_of_the_forgotten_values_is_read_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_settings("postgresql://flag/").forget_key is None
    monkeypatch.setenv("IDENTITY_FORGET_KEY", "")
    assert read_settings("postgresql://flag/").forget_key is None
    monkeypatch.setenv("IDENTITY_FORGET_KEY", PASSWORD)
    settings = read_settings("postgresql://flag/")
    assert settings.forget_key == PASSWORD
    assert PASSWORD not in repr(settings)
    with open_database("postgresql://flag/") as database:
        assert database.forget_key == PASSWORD
        assert PASSWORD not in repr(database)


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_empty_option_is_wrong_usage(empty: str) -> None:
    with pytest.raises(UsageError, match="--database-url is empty"):
        read_settings(empty)


def test_home_of_the_environment_is_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IDENTITY_HOME", "~/kept")
    assert read_settings().home == tmp_path / "kept"
    monkeypatch.setenv("IDENTITY_HOME", "kept")
    assert read_settings().home == tmp_path / "kept"


def test_default_home_of_a_user_is_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/lorraine")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    home = read_settings().home
    assert home.name == "identity"
    assert home.is_relative_to("/home/lorraine")


def test_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for home in (None, "~/kept"):
        if home is not None:
            monkeypatch.setenv("IDENTITY_HOME", home)
        with pytest.raises(UsageError, match="no home folder"):
            read_settings()
        assert read_settings("postgresql://db/").database_url == "postgresql://db/"


def test_default_home_of_root_is_under_var_lib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert read_settings().home == Path("/var/lib/identity")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_scheme_is_accepted(scheme: str) -> None:
    assert connection_parameters(f"{scheme}://app:p%40ss@db.example.com:5433/people") == {
        "user": "app",
        "password": "p@ss",
        "host": "db.example.com",
        "port": "5433",
        "dbname": "people",
    }


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://", {}),
        ("postgresql:///people", {"dbname": "people"}),
        ("postgresql://db/people", {"host": "db", "dbname": "people"}),
        (
            "postgresql:///people?host=/run/postgresql&port=5433",
            {"dbname": "people", "host": "/run/postgresql", "port": "5433"},
        ),
        ("postgresql://%2Frun%2Fpg/people", {"host": "/run/pg", "dbname": "people"}),
        ("postgresql://[::1]:5433/people", {"host": "::1", "port": "5433", "dbname": "people"}),
        ("postgresql://a:1,b:2/people", {"host": "a,b", "port": "1,2", "dbname": "people"}),
        ("postgresql://db/?sslmode=require", {"host": "db", "sslmode": "require"}),
    ],
)
def test_url_gives_the_parameters(url: str, parameters: dict[str, str]) -> None:
    assert connection_parameters(url) == parameters


MALFORMED = [
    f"mysql://app:{PASSWORD}@db/people",
    f"app:{PASSWORD}@db/people",
    f"//app:{PASSWORD}@db/people",
    f"POSTGRES//app:{PASSWORD}@db/people",
    f"postgresql+asyncpg://app:{PASSWORD}@db/people",
    f"postgresql://app:{PASSWORD}@db:port/people",
    f"postgresql://app:{PASSWORD}@db@two/people",
    f"postgresql://app:{PASSWORD}/more@db/people",
    f"postgresql://app:{PASSWORD}%zz@db/people",
    f"postgresql://app:{PASSWORD}@[::1/people",
    f"postgresql://app:{PASSWORD}@db/people?nonsense=1",
    f"postgresql://app:{PASSWORD}@db/people?sslmode",
    f"host=db password={PASSWORD}",
    PASSWORD,
]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        connection_parameters(url)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
    assert PASSWORD not in shown
    assert "postgresql://" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        ("?pgbouncer=true", "pgbouncer", "session pool"),
        ("?sslmode=require&schema=people", "schema", "search_path"),
        ("?schema=", "schema", "search_path"),
        ("\n", "line break", "remove it"),
        ("?sslmode=require ", "white space", "remove it"),
    ],
)
def test_common_mistake_in_a_url_is_named(query: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        connection_parameters(f"postgresql://app:{PASSWORD}@db/people{query}")
    assert hint in (caught.value.hint or "")
    assert PASSWORD not in str(caught.value)


def test_space_in_a_shown_url_is_percent_encoded() -> None:
    folder = "/Users/lorraine/Library/Application Support/identity"
    url = Database({"host": folder, "dbname": "identity"}, embedded=True).url
    assert url == (
        "postgresql:///identity?host=/Users/lorraine/Library/Application%20Support/identity"
    )
    assert connection_parameters(url) == {"host": folder, "dbname": "identity"}


def test_a_database_is_shown_without_its_password() -> None:
    url = f"postgresql://app:{PASSWORD}@db:5433/people?sslpassword={PASSWORD}"
    database = Database(connection_parameters(url), embedded=False)
    assert database.url == "postgresql://app@db:5433/people"
    assert database.place == "db:5433/people"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app@db:5433/people",
        "postgresql://app@db/people",
        "postgresql:///people",
        "postgresql://app@/people?host=/run/pg&port=5433",
        "postgresql://[::1]:5433/people",
        "postgresql://a%40b@db/pe%20ople",
        "postgresql://app@db/people?sslmode=require",
    ],
)
def test_the_shown_url_leads_to_the_same_database(url: str) -> None:
    parameters = connection_parameters(url)
    assert connection_parameters(Database(parameters, embedded=False).url) == parameters


def test_open_database_uses_the_server_of_the_url() -> None:
    with open_database("postgres://app@db/people") as database:
        assert not database.embedded
        assert database.parameters == {"user": "app", "host": "db", "dbname": "people"}
