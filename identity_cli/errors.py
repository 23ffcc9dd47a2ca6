"""Every exception of the package. The message says what is wrong, the hint says the mend."""

from __future__ import annotations


class IdentityError(Exception):
    """Something went wrong that the user can mend."""

    hint: str | None = None

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")
        if hint is not None:
            self.hint = hint

    def as_json(self) -> dict[str, str | None]:
        return {"code": type(self).__name__, "message": str(self), "hint": self.hint}


class UsageError(IdentityError):
    """The options do not fit together."""


class InvalidRequestError(IdentityError):
    """A contact request was rejected by normalisation.

    `code` is one of the stable words of a rejects file, `field` is "email", "phone" or None.
    """

    hint = "give an email such as lorraine@hillvalley.edu, a phone number such as 123456, or both"

    def __init__(self, code: str, reason: str, *, field: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.field = field


class RequestRefusedError(InvalidRequestError):
    """A trigger or a constraint of the database refused a contact request."""

    hint = "look for the reason in the server's log: its message may hold values"

    def __init__(self, sqlstate: str) -> None:
        super().__init__("refused", f"the database refused the request (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class MergeTooLargeError(InvalidRequestError):
    """A merge has to move more contacts than a request over HTTP has time for."""

    hint = "send this request with identity identify or identity import, which have no time limit"

    def __init__(self) -> None:
        super().__init__(
            "merge_too_large",
            "the merge would take too long over HTTP; send this request with"
            " `identity identify` or `identity import`",
        )


class InputNotFoundError(IdentityError):
    """The input cannot be opened."""


class InputUnreadableError(IdentityError):
    """The input cannot be read further; the rows before this place stand.

    `location` is "PATH" or "PATH:LINE".
    """

    def __init__(self, location: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.location = location


class InputBusyError(IdentityError):
    """The same input is being imported by another run."""


class ResumeError(IdentityError):
    """The interrupted run cannot be gone on with."""


class TooManyRejectsError(IdentityError):
    """The import has finished, but more rows were rejected than --max-rejects allows."""


class TooFewRowsError(IdentityError):
    """The import has finished, but fewer rows were read than --min-rows asks for."""


class ContactNotFoundError(IdentityError):
    """No such contact."""


class DatabaseError(IdentityError):
    """The database cannot be used."""

    hint = "give --debug for the details"


class DatabaseUnreachableError(DatabaseError):
    """The database is out of reach."""


class ConnectionLostError(DatabaseUnreachableError):
    """The connection to the database was lost."""


class DatabaseUnsuitableError(DatabaseError):
    """This server or database cannot hold the graph."""


class DatabaseReadOnlyError(DatabaseError):
    """The database is read-only."""

    hint = "point --database-url or DATABASE_URL at the primary server, not at a standby"


class DatabaseFullError(DatabaseError):
    """The server has no room left on its disk."""

    hint = (
        "make room on the server and give the same command again: nothing that was reported is lost"
    )


class PermissionDeniedError(DatabaseError):
    """The role may not do this."""


class SchemaNotAtHeadError(DatabaseError):
    """The database is not at the schema revision that this program needs."""

    hint = "run identity db upgrade"


class ProfileMismatchError(DatabaseError):
    """The database was written with another normalisation profile."""


class RetryableError(DatabaseError):
    """A concurrent request got in the way; the same request can be sent again."""

    hint = "give the same command again"


class EmbeddedServerError(DatabaseError):
    """The embedded PostgreSQL did not start."""


class OutputError(IdentityError):
    """A file of results could not be written."""
