"""Which SQLSTATEs are about one request, and which are about the server or the connection."""

from __future__ import annotations

# Raised by claim_profile.sql, reconcile.sql, forget.sql, undo.sql and guard_identifiers.sql.
PROFILE_MISMATCH = "ID001"
MERGE_TOO_LARGE = "ID002"
FORGET_KEY = "ID003"
NOT_THE_NEWEST_RUN = "ID004"
GUARD_VIOLATION = "23G01"

# A value or a trigger may cause any SQLSTATE, so the list names those that it does not cause.
# Classes: connection, unsupported (a cached plan of an older schema), transaction state, prepared
# statement, authorization, transaction rollback, database and schema names, resources, operator
# intervention, system, configuration file, foreign data wrapper, internal error.
_SERVER_CLASSES = frozenset(
    {"08", "0A", "25", "26", "28", "40", "3D", "3F", "53", "57", "58", "F0", "HV", "XX"}
)
# A lock that took too long, a prepared statement that exists already, and what a schema lacks that
# is not at head: column, function, table.
_SERVER_STATES = frozenset({"55P03", "42P05", "42703", "42883", "42P01"})
_OWN_STATES = frozenset({PROFILE_MISMATCH, MERGE_TOO_LARGE, FORGET_KEY})

# 42501 is the server's answer to a role that may not write to the tables, and it is what a trigger
# may raise by itself: only the role's privileges tell the two apart.
MAY_WRITE = (
    "SELECT has_table_privilege('contact', 'SELECT') AND has_table_privilege('contact', 'INSERT')"
    " AND has_table_privilege('contact', 'UPDATE')"
    " AND has_table_privilege('link_evidence', 'SELECT')"
    " AND has_table_privilege('link_evidence', 'INSERT')"
    " AND has_table_privilege('normalization_profile', 'SELECT')"
    " AND has_table_privilege('blocked_value', 'SELECT')"
    " AND has_table_privilege('unlinked_pair', 'SELECT')"
)
INSUFFICIENT_PRIVILEGE = "42501"


def is_about_request(sqlstate: str | None) -> bool:
    """Return whether the database refused one request and would serve another one.

    True for 42501: the caller has to check `MAY_WRITE`.
    """
    if sqlstate is None or sqlstate in _SERVER_STATES | _OWN_STATES:
        return False
    return sqlstate[:2] not in _SERVER_CLASSES
