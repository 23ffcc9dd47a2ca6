"""The exit code of each error."""

from __future__ import annotations

from identity_cli import errors

# What a shell reports for a process that SIGPIPE ended.
PIPE_CLOSED = 141
# The same of SIGINT.
INTERRUPTED = 130

# The first class that matches decides.
EXIT_CODES: tuple[tuple[type[errors.IdentityError], int], ...] = (
    (errors.TooManyRejectsError, 3),
    (errors.TooFewRowsError, 3),
    (errors.UsageError, 2),
    (errors.RequestBlockedError, 4),
    (errors.RequestForgottenError, 4),
    (errors.InvalidRequestError, 2),
    (errors.InputNotFoundError, 2),
    (errors.ContactNotFoundError, 4),
    (errors.NotOneIdentityError, 4),
    (errors.RunNotFoundError, 4),
    (errors.MomentUnknownError, 4),
    (errors.RuleNotFoundError, 4),
    (errors.InputUnreadableError, 4),
    (errors.InputBusyError, 6),
    (errors.RunBusyError, 6),
    (errors.OutputClosedError, PIPE_CLOSED),
    (errors.OutputError, 7),
    (errors.DatabaseError, 5),
)


def code_after(error: BaseException) -> int:
    """Return the exit code of whatever ends a command."""
    match error:
        case errors.IdentityError():
            return exit_code(error)
        case SystemExit(code=int(code)):
            return code
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return 1


def exit_code(error: errors.IdentityError) -> int:
    """Return the exit code of an error, 1 for an unexpected one."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
