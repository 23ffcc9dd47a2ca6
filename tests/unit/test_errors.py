"""Every error has a code, a sentence and a shape."""

from __future__ import annotations

import inspect
import subprocess
import sys

import psycopg
import pytest
from psycopg import errors as pg

from identity_cli import errors, exit_codes, output
from identity_cli.postgres import sqlstates
from identity_cli.postgres.database import is_retryable, translate

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.IdentityError)
]


def make(kind: type[errors.IdentityError]) -> errors.IdentityError:
    if kind is errors.InvalidRequestError:
        return errors.InvalidRequestError("bad_email", "not an email address")
    if issubclass(kind, errors.RequestRefusedError):
        return kind("23514")
    if issubclass(kind, errors.InputUnreadableError):
        return kind("contacts.csv:17", "an unclosed quote", hint="close it")
    return kind()


EXPECTED = {
    "IdentityError": 1,
    "UsageError": 2,
    "InvalidRequestError": 2,
    "RequestBlockedError": 4,
    "RequestForgottenError": 4,
    "InputNotFoundError": 2,
    "ContactNotFoundError": 4,
    "InputUnreadableError": 4,
    "DatabaseError": 5,
    "DatabaseUnreachableError": 5,
    "SchemaNotAtHeadError": 5,
    "ProfileMismatchError": 5,
    "RetryableError": 5,
    "EmbeddedServerError": 5,
    "ForgetKeyError": 5,
    "InputBusyError": 6,
    "RunBusyError": 6,
    "RunNotFoundError": 4,
    "RuleNotFoundError": 4,
    "TooManyRejectsError": 3,
    "TooFewRowsError": 3,
    "OutputError": 7,
    "OutputClosedError": 141,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_codes_of_the_contract(name: str) -> None:
    assert exit_codes.exit_code(make(getattr(errors, name))) == EXPECTED[name]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_code(kind: type[errors.IdentityError]) -> None:
    code = exit_codes.exit_code(make(kind))
    assert code in {2, 3, 4, 5, 6, 7, 141} or kind is errors.IdentityError


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_sentence(kind: type[errors.IdentityError]) -> None:
    assert str(make(kind))
    assert kind.message
    assert (inspect.getdoc(kind) or "").splitlines()[0].endswith(".")


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in CLASSES if kind is not errors.InvalidRequestError]
    assert len(set(codes)) == len(codes)


def test_error_without_docstrings_keeps_its_message() -> None:
    code = "from identity_cli.errors import ContactNotFoundError; print(ContactNotFoundError())"
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == "No such contact.\n"


def test_an_error_as_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(errors.UsageError("the options [do] not fit", hint="take one [/away]"))
    assert capsys.readouterr() == (
        "",
        "error: the options [do] not fit\n\nhint: take one [/away]\n",
    )


def test_an_error_of_a_place_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(make(errors.InputUnreadableError))
    shown = capsys.readouterr().err
    assert shown == "contacts.csv:17: error: an unclosed quote\n\nhint: close it\n"


def test_an_error_without_hint(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(errors.ContactNotFoundError())
    assert capsys.readouterr().err == "error: No such contact.\n"


def test_what_a_terminal_would_obey_is_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(errors.UsageError("no file \x1b[2J\u202e.csv"))
    assert capsys.readouterr().err == "error: no file \\x1b[2J\\u202e.csv\n"


@pytest.mark.parametrize(
    ("driver", "ours"),
    [
        (pg.DeadlockDetected, errors.RetryableError),
        (pg.SerializationFailure, errors.RetryableError),
        (pg.ForeignKeyViolation, errors.RetryableError),
        (pg.UniqueViolation, errors.RetryableError),
        (pg.ReadOnlySqlTransaction, errors.DatabaseReadOnlyError),
        (pg.UndefinedTable, errors.SchemaNotAtHeadError),
        (pg.UndefinedFunction, errors.SchemaNotAtHeadError),
        (pg.UndefinedColumn, errors.SchemaNotAtHeadError),
        (pg.InsufficientPrivilege, errors.PermissionDeniedError),
        (pg.DiskFull, errors.DatabaseFullError),
        (pg.AdminShutdown, errors.ConnectionLostError),
        (pg.CrashShutdown, errors.ConnectionLostError),
        (pg.CannotConnectNow, errors.ConnectionLostError),
        (pg.ConnectionFailure, errors.ConnectionLostError),
        (psycopg.OperationalError, errors.ConnectionLostError),
        (pg.CheckViolation, errors.DatabaseError),
        (pg.SyntaxError, errors.DatabaseError),
    ],
)
def test_driver_errors_become_ours(
    driver: type[psycopg.Error], ours: type[errors.IdentityError]
) -> None:
    assert type(translate(driver())) is ours


class GuardViolation(psycopg.IntegrityError):
    """What psycopg raises for the guard's SQLSTATE, of which it knows only the class."""

    sqlstate = sqlstates.GUARD_VIOLATION


class MissingForgetKey(psycopg.DatabaseError):
    """What psycopg raises for a SQLSTATE that it does not know."""

    sqlstate = sqlstates.FORGET_KEY


def test_violation_of_the_guard_is_tried_again_and_then_about_the_request() -> None:
    assert is_retryable(GuardViolation())
    assert isinstance(translate(GuardViolation()), errors.RetryableError)
    assert sqlstates.is_about_request(sqlstates.GUARD_VIOLATION)


def test_missing_forget_key_is_about_the_server() -> None:
    assert not is_retryable(MissingForgetKey())
    assert not sqlstates.is_about_request(sqlstates.FORGET_KEY)
    error = translate(MissingForgetKey())
    assert isinstance(error, errors.ForgetKeyError)
    assert "IDENTITY_FORGET_KEY" in (error.hint or "")
