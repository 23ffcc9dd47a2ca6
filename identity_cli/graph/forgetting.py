"""The command that erases values for good, and the receipt of what it has erased."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from identity_cli.errors import InvalidRequestError, UsageError
from identity_cli.graph.normalize import normalize_email
from identity_cli.graph.steering import CommandLog, Effect
from identity_cli.graph.values import NamedValue, distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

# In a reason, a phone number may lack its country code: as many last digits tell it.
_LAST_DIGITS = 7

_OF_IDENTITY = """
    WITH root AS (SELECT unnest(primaries_of(%s::text[])) AS id),
    member AS MATERIALIZED (
        SELECT contact.email, contact.phone_number FROM root JOIN contact USING (id)
        UNION ALL
        SELECT contact.email, contact.phone_number FROM root JOIN contact ON linked_id = root.id
    )
    SELECT email FROM member WHERE email IS NOT NULL
    UNION
    SELECT phone_number FROM member WHERE phone_number IS NOT NULL
"""
# Contacts by what was stored: set_aside_contact has it where contact shows less.
_CONTACTS = """
    WITH holder AS (
        SELECT id, email, phone_number, run_id FROM set_aside_contact
        WHERE email = ANY (%(values)s) OR phone_number = ANY (%(values)s)
        UNION ALL
        SELECT id, email, phone_number, run_id FROM contact
        WHERE (email = ANY (%(values)s) OR phone_number = ANY (%(values)s)) AND id > 0
    ), stored AS (
        SELECT id, max(email) AS email, max(phone_number) AS phone_number, max(run_id) AS run_id
        FROM holder GROUP BY id
    )
    SELECT count(*) FILTER (WHERE coalesce(email = ANY (%(values)s), true)
                                  AND coalesce(phone_number = ANY (%(values)s), true)),
           count(*),
           array_agg(DISTINCT run_id) FILTER (WHERE run_id IS NOT NULL)
    FROM stored
"""
_STATEMENTS = """
    WITH evidence AS (
        SELECT run_id FROM link_evidence WHERE value = ANY (%(values)s)
        UNION ALL
        SELECT run_id FROM link_evidence
        WHERE other_value = ANY (%(values)s) AND value <> ALL (%(values)s)
    ), restated AS (
        SELECT run_id FROM restatement
        WHERE value = ANY (%(values)s) OR other_value = ANY (%(values)s)
    )
    SELECT (SELECT count(*) FROM evidence), (SELECT count(*) FROM restated),
           ARRAY(SELECT run_id FROM evidence WHERE run_id IS NOT NULL
                 UNION SELECT run_id FROM restated WHERE run_id IS NOT NULL)
"""
# Contacts and evidence as they were before a command changed them.
_FORMER = """
    SELECT (SELECT count(*) FROM former_contact
            WHERE email = ANY (%(values)s) OR phone_number = ANY (%(values)s))
         + (SELECT count(*) FROM former_evidence
            WHERE value = ANY (%(values)s) OR other_value = ANY (%(values)s))
"""
_RULES = """
    SELECT (SELECT count(*) FROM blocked_value WHERE value = ANY (%(values)s)),
           (SELECT count(*) FROM unlinked_pair
            WHERE value = ANY (%(values)s) OR other_value = ANY (%(values)s)),
           (SELECT count(*) FROM hub_exemption WHERE value = ANY (%(values)s)),
           (SELECT count(*) FROM block_pattern),
           (SELECT count(*) FROM steering_command WHERE reason IS NOT NULL),
           (SELECT count(*) FROM forgotten_value)
"""
_LATER = """
    SELECT (SELECT count(*) FROM block_pattern),
           (SELECT count(*) FROM steering_command WHERE reason IS NOT NULL),
           (SELECT count(*) FROM forgotten_value),
           (SELECT key IS NOT NULL FROM forget_key)
"""
_INPUTS = "SELECT id, inputs FROM import_run WHERE id = ANY (%s) ORDER BY id"


@dataclass(frozen=True, slots=True)
class SourceRun:
    """A run that has brought a forgotten value, with the inputs that hold it."""

    run_id: int
    input: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased, in rows; it holds no value.

    `contacts_kept` have lost a value and keep the other one. `former_rows` are contacts and
    evidence as they once were. `reasons` of older commands held a value. `key_in_database` reports
    where the key of the hashes is.
    """

    values: int
    new_hashes: int
    contacts_erased: int
    contacts_kept: int
    evidence: int
    restatements: int
    former_rows: int
    blocked_values: int
    unlinked_pairs: int
    hub_exemptions: int
    patterns: int
    reasons: int
    key_in_database: bool
    runs: tuple[SourceRun, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the document of the receipt, with what the user has to see to."""
        document = asdict(self)
        document["runs"] = [{"run_id": run.run_id, "input": list(run.input)} for run in self.runs]
        return {**document, "remaining": list(REMAINING)}


# What holds a value outside of the database's tables.
REMAINING = (
    "backups of the database",
    "WAL archives and standby servers, until they have replayed and recycled it",
    "dead rows, until VACUUM has removed them",
    "the server's log, if it records statements or their parameters",
    "input files, and what imports wrote: FILE.RUN.rejects, outcomes with --key, summaries",
    "files that identity export, annotate and report wrote",
)


@dataclass(frozen=True, slots=True)
class Forget:
    """Erase values, or all values of their identities."""

    values: tuple[NamedValue, ...]
    with_identity: bool = False
    reason: str | None = None
    name: str = "forget"

    def run(self, log: CommandLog) -> Effect:
        """Erase the values. Raises `UsageError` if the reason holds one of them."""
        values = [one.value for one in distinct(self.values)]
        if self.with_identity:
            found = [row[0] for row in log.rows(_OF_IDENTITY, values)]
            values = list(dict.fromkeys((*values, *found)))
        self._check_reason(values)
        receipt = _erase(log, values, self.reason)
        notes = []
        held = receipt.contacts_erased + receipt.contacts_kept + receipt.evidence
        if not held + receipt.former_rows:
            notes.append("the database held nothing of it; a request that brings it will drop it")
        return Effect(tuple(notes), {"receipt": receipt.as_json()})

    def _check_reason(self, values: Sequence[str]) -> None:
        if self.reason is not None and _names_any(self.reason, values):
            raise UsageError(
                "the reason holds a value that is to be forgotten",
                hint="name a ticket or a case instead: the reason is kept",
            )


def _names_any(reason: str, values: Sequence[str]) -> bool:
    """Return whether a text holds one of the values, however it is written."""
    text = unicodedata.normalize("NFKC", reason).lower()
    without_separators = re.sub(r"[\W_]+", "", text)
    emails = {_normal_email(word) for word in text.split() if "@" in word}
    for value in values:
        if "@" in value:
            if value in text or value in emails:
                return True
        else:
            number = value.partition(";")[0].removeprefix("+")
            if number[-_LAST_DIGITS:] in without_separators:
                return True
    return False


def _normal_email(word: str) -> str | None:
    try:
        return normalize_email(word)
    except InvalidRequestError:
        return None


def _erase(log: CommandLog, values: Sequence[str], reason: str | None) -> Receipt:
    named = {"values": list(values)}

    def row(query: Any) -> tuple[Any, ...]:
        [found] = log.connection.execute(query, named).fetchall()
        return tuple(found)

    detail = f"{len(values)} value{'' if len(values) == 1 else 's'}"
    command = log.enter("forget", detail=detail, reason=reason)
    # Counted while no writer can add to it; forget_values() takes the same lock.
    log.call("LOCK TABLE contact, link_evidence, set_aside_contact IN EXCLUSIVE MODE")
    erased, holders, contact_runs = row(_CONTACTS)
    evidence, restated, statement_runs = row(_STATEMENTS)
    [former_rows] = row(_FORMER)
    blocked, pairs, exemptions, patterns, reasons, hashes = row(_RULES)
    log.rows("SELECT forget_values(%s::text[], %s)", list(values), command)
    patterns_now, reasons_now, hashes_now, key_in_database = row(_LATER)
    runs = log.rows(_INPUTS, sorted({*(contact_runs or ()), *statement_runs}))
    return Receipt(
        values=len(values),
        new_hashes=hashes_now - hashes,
        contacts_erased=erased,
        contacts_kept=holders - erased,
        evidence=evidence,
        restatements=restated,
        former_rows=former_rows,
        blocked_values=blocked,
        unlinked_pairs=pairs,
        hub_exemptions=exemptions,
        patterns=patterns - patterns_now,
        reasons=reasons - reasons_now,
        key_in_database=bool(key_in_database),
        runs=tuple(
            SourceRun(run_id, tuple(source["path"] for source in inputs)) for run_id, inputs in runs
        ),
    )
