"""The settings of a connection: one statement that makes them independent of role and database.

Both the synchronous connections and the pool of the HTTP service use it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psycopg import errors as pg

from identity_cli.errors import DatabaseUnsuitableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import LiteralString

    import psycopg

CONNECT_SECONDS = 10

# A network that swallows packets ends a connection after half a minute. The client's half is
# libpq's, the server's half (SERVER_NETWORK) frees the locks of a client that is gone.
_CLIENT_NETWORK = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SERVER_NETWORK = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}

# What a role or a database may have set otherwise, and the program relies on.
_FIXED = {
    # The rule looks again after it has waited for a lock, and has to see the other one's commit.
    "default_transaction_isolation": "read committed",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    # Requests are short; compiling them takes longer than running them.
    "jit": "off",
    # A pooled connection waits for the next request, a dry run for a slow pipe.
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    **_SERVER_NETWORK,
}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a connection is for, in PostgreSQL's own settings."""

    statement_timeout: str = "0"
    lock_timeout: str = "30s"
    enable_seqscan: str = "on"
    # The contacts that a merge may move at most, for `reconcile`; empty: any number.
    merge_limit: str = ""
    # Commits do not wait for the disk, except those that set synchronous_commit to the value that
    # identity.durable_commit keeps.
    commits_later: bool = False

    @property
    def statement(self) -> str:
        """One SELECT that applies the settings; it returns the server's process id first.

        Raises `InsufficientPrivilege` if triggers are off and the role may not turn them on.
        """
        values = {
            "statement_timeout": self.statement_timeout,
            "lock_timeout": self.lock_timeout,
            "enable_seqscan": self.enable_seqscan,
            "identity.merge_limit": self.merge_limit,
            **_FIXED,
        }
        applied = (f"set_config('{name}', '{value}', false)" for name, value in values.items())
        return ", ".join((_ADJUSTED, *applied, *((_COMMIT_LATER,) if self.commits_later else ())))


# Settings that keep some values: the server process triggers and foreign
# keys, which guard the graph and are off for a replication role; a commit that waits for the disk;
# and a limit that only PostgreSQL 17 and newer have.
_ADJUSTED = """
    SELECT pg_backend_pid(),
        CASE WHEN current_setting('session_replication_role') <> 'origin'
            THEN set_config('session_replication_role', 'origin', false) END,
        CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', false) END,
        CASE WHEN current_setting('transaction_timeout', true) <> '0'
            THEN set_config('transaction_timeout', '0', false) END
"""

# In this order: a SELECT evaluates its list from left to right.
_COMMIT_LATER = """
        set_config('identity.durable_commit', current_setting('synchronous_commit'), false),
        set_config('synchronous_commit', 'off', false)
"""

# Reading a graph as a whole takes as long as it takes.
READ = SessionSettings()
# Plans are made while the tables are small and kept while they grow: never a sequential scan.
RECONCILE = SessionSettings(statement_timeout="10min", enable_seqscan="off")
# One CALL is a batch of requests; each has its own limits.
IMPORT = SessionSettings(enable_seqscan="off")
# Millions of values are looked up one by one in an index.
LOOK_UP = SessionSettings(enable_seqscan="off")
# An HTTP client waits for the answer, also when a lock is held for long.
SERVE = SessionSettings(statement_timeout="15s", enable_seqscan="off")
# What takes long would keep the other requests of a batch waiting, so it is given up.
SERVE_BATCH = replace(SERVE, lock_timeout="50ms", merge_limit="100", commits_later=True)
# A command works whole identities out again, however long that takes.
STEER = SessionSettings()
# A second upgrade waits for the first one, however long that takes.
MIGRATE = SessionSettings(lock_timeout="0")


def forget_key_query(key: str) -> tuple[LiteralString, tuple[str]]:
    """Return the statement that hands the key of the forgotten values to a session.

    The key is a parameter: the text of a statement may be logged.
    """
    return "SELECT set_config('identity.forget_key', %s, false)", (key,)


def libpq_parameters(given: Mapping[str, str], *, application: str) -> dict[str, Any]:
    """Return libpq's parameters for a connection; the `given` ones win over the program's."""
    return {
        **_CLIENT_NETWORK,
        "application_name": application,
        **given,
        "client_encoding": "UTF8",
    }


def unsuitable_session(error: psycopg.Error) -> DatabaseUnsuitableError | None:
    """Return the error to raise if the settings were refused, None if `error` is another one."""
    if not isinstance(error, pg.InsufficientPrivilege):
        return None
    return DatabaseUnsuitableError(
        "session_replication_role is not origin: the database does not check what is written",
        hint="run ALTER ROLE … RESET session_replication_role and"
        " ALTER DATABASE … RESET session_replication_role",
    )
