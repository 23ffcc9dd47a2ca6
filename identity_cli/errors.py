"""Every exception of the package. The message says what is wrong, the hint how to fix it."""

from __future__ import annotations


class IdentityError(Exception):
    """An error that the user can fix.

    `code` is a stable word for scripts. `message` is what the error says when it is raised without
    a text of its own: an attribute, because `python -OO` removes docstrings.
    """

    code: str = "unexpected"
    message: str = "Something went wrong."
    hint: str | None = None

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or self.message)
        if hint is not None:
            self.hint = hint


class UsageError(IdentityError):
    """Wrong usage: options that are unknown, malformed or do not go together."""

    code = "usage"
    message = "The options do not go together."


class InvalidRequestError(IdentityError):
    """A contact request that normalisation rejected.

    `code` is one of the stable words of a rejects file, `field` is "email", "phone" or None.
    """

    message = "The contact request is not valid."
    hint = "use an email such as lorraine@hillvalley.edu, a phone number such as 123456, or both"

    def __init__(self, code: str, reason: str, *, field: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.field = field


class RequestRefusedError(InvalidRequestError):
    """A trigger or a constraint of the database refused a contact request."""

    code = "refused"
    hint = "look for the reason in the server's log: its message may hold values"

    def __init__(self, sqlstate: str) -> None:
        super().__init__("refused", f"the database refused the request (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class RequestBlockedError(InvalidRequestError):
    """A contact request whose values are all blocked; it is kept, but links nothing."""

    code = "blocked"
    hint = "identity block --list lists the rules; identity unblock lets the value link again"

    def __init__(self) -> None:
        super().__init__("blocked", "nothing was linked: every value of the request is blocked")


class RequestForgottenError(InvalidRequestError):
    """A contact request whose values are all forgotten; nothing of it is stored."""

    code = "forgotten"
    hint = "identity forget has erased these values for good: use other values"

    def __init__(self) -> None:
        super().__init__("forgotten", "nothing was stored: every value of the request is forgotten")


class MergeTooLargeError(InvalidRequestError):
    """A merge has to move more contacts than a request over HTTP has time for."""

    code = "merge_too_large"
    hint = "send this request with identity identify or identity import, which have no time limit"

    def __init__(self) -> None:
        super().__init__(
            "merge_too_large",
            "the merge would take too long over HTTP; send this request with"
            " `identity identify` or `identity import`",
        )


class InputNotFoundError(IdentityError):
    """An input that cannot be opened."""

    code = "input_not_found"
    message = "The input cannot be opened."


class InputUnreadableError(IdentityError):
    """An input that cannot be read, or not any further.

    `location` is "PATH" or "PATH:LINE". `is_midway` is whether there were rows before this place;
    what becomes of them is up to the command.
    """

    code = "input_unreadable"
    message = "The input cannot be read any further."

    def __init__(self, location: str, message: str, *, hint: str, is_midway: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.location = location
        self.is_midway = is_midway


class InputBusyError(IdentityError):
    """An input that another run is importing."""

    code = "input_busy"
    message = "The same input is being imported by another run."


class TooManyRejectsError(IdentityError):
    """An import that has finished with more rejected rows than --max-rejects allows."""

    code = "too_many_rejects"
    message = "More rows were rejected than --max-rejects allows."


class TooFewRowsError(IdentityError):
    """An import that has finished with fewer rows than --min-rows asks for."""

    code = "too_few_rows"
    message = "Fewer rows were read than --min-rows asks for."


class ContactNotFoundError(IdentityError):
    """A contact that does not exist."""

    code = "contact_not_found"
    message = "No such contact."


class ValueBlockedError(ContactNotFoundError):
    """An email or a phone number that belongs to no identity, because a rule blocks it."""

    code = "value_blocked"
    message = "The value is blocked."
    hint = "identity block --list prints the values that are blocked"


class ContactSetAsideError(ContactNotFoundError):
    """A contact that belongs to no identity, because rules block all of its values."""

    code = "set_aside"
    message = "The contact is set aside: its values are blocked."
    hint = "identity block --list prints the values that are blocked"


class NotOneIdentityError(IdentityError):
    """Two values or contacts of which nothing that is stored makes one identity."""

    code = "not_one_identity"
    message = "They are not one identity."


class RunNotFoundError(IdentityError):
    """An import run that does not exist."""

    code = "run_not_found"
    message = "No such run."
    hint = "identity runs lists them"


class MomentUnknownError(IdentityError):
    """A moment of the past of which this database does not know what was stored by then."""

    code = "moment_unknown"
    message = "What was stored by then is not known."
    hint = "export everything, and use the token of that export from now on"


class RunBusyError(IdentityError):
    """An import run that is still at work, so that it cannot be taken back."""

    code = "run_busy"
    message = "The run is at work."
    hint = "wait until it has ended, or stop it"


class RuleNotFoundError(IdentityError):
    """A rule that does not exist: a value that is not blocked, a pair that is not unlinked."""

    code = "rule_not_found"
    message = "No such rule."


class OutputError(IdentityError):
    """A result file, or standard output, that cannot be written."""

    code = "output"
    message = "The results cannot be written."


class OutputClosedError(OutputError):
    """A pipe whose reader has gone, as in `| head`: the end of the work, not a defect."""

    code = "output_closed"
    message = "The reader of the output has closed it."


class DatabaseError(IdentityError):
    """A database that cannot be used."""

    code = "database"
    message = "The database cannot be used."
    hint = "use --debug for the details"


class DatabaseUnreachableError(DatabaseError):
    """A database that cannot be reached."""

    code = "database_unreachable"
    message = "The database is unreachable."


class ConnectionLostError(DatabaseUnreachableError):
    """A connection to the database that was lost."""

    code = "connection_lost"
    message = "The connection to the database was lost."


class ServerWentBackError(DatabaseError):
    """A server that has lost what it had reported to be on disk."""

    code = "server_went_back"
    message = "The database has lost rows that it had reported to be on disk."


class DatabaseUnsuitableError(DatabaseError):
    """A server or database that cannot hold the graph."""

    code = "database_unsuitable"
    message = "This server or database cannot hold the graph."


class DatabaseReadOnlyError(DatabaseError):
    """A database that is read-only."""

    code = "database_read_only"
    message = "The database is read-only."
    hint = "point --database-url or DATABASE_URL at the primary server, not at a standby"


class DatabaseFullError(DatabaseError):
    """A server without room on its disk."""

    code = "database_full"
    message = "The server has no room left on its disk."
    hint = (
        "make room on the server and run the same command again: nothing that was reported is lost"
    )


class PermissionDeniedError(DatabaseError):
    """A database role that lacks a privilege."""

    code = "permission_denied"
    message = "The database role lacks a privilege."


class SchemaNotAtHeadError(DatabaseError):
    """A database that is not at the schema revision that this program needs."""

    code = "schema_not_at_head"
    message = "The database is not at the schema revision that this program needs."
    hint = "run identity db upgrade"


class ProfileMismatchError(DatabaseError):
    """A database that was written with another normalisation profile."""

    code = "profile_mismatch"
    message = "The database was written with another normalisation profile."


class TargetUnsuitableError(DatabaseError):
    """A database that a backfill cannot be loaded into, and that an import can write to."""

    code = "target_unsuitable"
    message = "A backfill cannot be loaded into this database."


class TargetChangedError(DatabaseError):
    """A database that has changed since a backfill for it was computed."""

    code = "target_changed"
    message = "The database has changed since the backfill was computed."


class ForgetKeyError(DatabaseError):
    """A forget key that is missing, or another one than that of the forgotten values."""

    code = "forget_key"
    message = "The key of the forgotten values is missing, or is another one."
    hint = "set IDENTITY_FORGET_KEY to the key that identity forget was first run with"


class RetryableError(DatabaseError):
    """A request that a concurrent one got in the way of; it can be sent again."""

    code = "conflict"
    message = "A concurrent request got in the way; the same request can be sent again."
    hint = "run the same command again"


class EmbeddedServerError(DatabaseError):
    """An embedded PostgreSQL that did not start."""

    code = "embedded_server"
    message = "The embedded PostgreSQL did not start."
