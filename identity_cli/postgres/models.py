"""The tables as SQLAlchemy models, which Alembic compares with the database.

The functions and triggers are in `sql/`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
    Enum,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType


class Xid8(UserDefinedType[str]):
    """A transaction id that never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "xid8"


# Otherwise Alembic does not recognise the columns that it finds in the database.
ischema_names["xid8"] = Xid8

metadata = MetaData()

# "C": comparisons by bytes are cheap, and no upgrade of the system's collations can break an index.
_identifier = Text(collation="C")
_precedence = Enum("primary", "secondary", name="link_precedence", metadata=metadata)
_moment = DateTime(timezone=True)
_this_transaction = text("pg_current_xact_id()")

contact = Table(
    "contact",
    metadata,
    Column("id", BigInteger, Identity(always=False), nullable=False),
    Column("linked_id", BigInteger),
    # The primary that a secondary was linked to when it was stored; a merge moves linked_id only.
    Column("initial_linked_id", BigInteger),
    # Where the contact comes from: the run, and the line counted through the run's inputs.
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment, nullable=False, server_default=text("now()")),
    Column("updated_at", _moment, nullable=False, server_default=text("now()")),
    Column("deleted_at", _moment),
    Column("link_precedence", _precedence, nullable=False),
    Column(
        "linked_precedence",
        _precedence,
        Computed(
            "CASE WHEN (linked_id IS NOT NULL) THEN 'primary'::link_precedence"
            " ELSE NULL::link_precedence END",
            persisted=True,
        ),
    ),
    # Whether this contact was the first with its email, with its phone number.
    Column("anchors_email", Boolean, nullable=False, server_default=text("true")),
    Column("anchors_phone", Boolean, nullable=False, server_default=text("true")),
    Column("email", _identifier),
    Column("phone_number", _identifier),
    # The transaction that stored the contact or, if a command has changed it, that one. The xmin of
    # PostgreSQL may be a subtransaction, which no snapshot lists. Null: before this column.
    Column("stored_in", Xid8, server_default=_this_transaction),
    PrimaryKeyConstraint("id", name="contact_pkey"),
    UniqueConstraint("id", "link_precedence", name="contact_id_link_precedence_key"),
    ForeignKeyConstraint(
        ["linked_id", "linked_precedence"],
        ["contact.id", "contact.link_precedence"],
        name="contact_links_to_a_primary",
    ),
    # A placeholder has a negative id: nothing links to it.
    CheckConstraint(
        "(link_precedence = 'primary') = (linked_id IS NULL) AND linked_id > 0 IS NOT FALSE",
        name="contact_primary_has_no_link",
    ),
    CheckConstraint(
        "coalesce(least(email, phone_number), '') <> ''", name="contact_has_an_identifier"
    ),
    Index("contact_email_anchor", "email", unique=True, postgresql_where=text("anchors_email")),
    Index(
        "contact_phone_anchor", "phone_number", unique=True, postgresql_where=text("anchors_phone")
    ),
    Index("contact_linked_id", "linked_id", postgresql_where=text("linked_id IS NOT NULL")),
)

# Each pair of values that no contact row shows: known values in a new pair, merges, and two values
# of a kind, of which a contact has room for one.
link_evidence = Table(
    "link_evidence",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    # The primary of both values when they were linked; null if they never were.
    Column("primary_id", BigInteger),
    # The primary that became a secondary; null if both values were in one identity already.
    Column("merged_id", BigInteger),
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment, nullable=False),
    # An email and a phone number, or two of a kind, the smaller first. Only an email has an @.
    Column("value", _identifier, nullable=False),
    Column("other_value", _identifier, nullable=False),
    # A rule keeps the pair from linking.
    Column("is_held", Boolean, nullable=False, server_default=text("false")),
    Column("stored_in", Xid8, server_default=_this_transaction),
    PrimaryKeyConstraint("id", name="link_evidence_pkey"),
    UniqueConstraint("value", "other_value", name="link_evidence_pair_key"),
    CheckConstraint(
        "(strpos(value, '@') = 0, value) < (strpos(other_value, '@') = 0, other_value)",
        name="link_evidence_pair_order",
    ),
    # A primary that a rule has split off may be merged again.
    Index("link_evidence_merged_id", "merged_id", postgresql_where=text("merged_id IS NOT NULL")),
    Index("link_evidence_held", "other_value", postgresql_where=text("is_held")),
)

# The contacts, as they were stored, that show less than that because of a rule, or nothing: then
# they have no row in contact.
set_aside_contact = Table(
    "set_aside_contact",
    metadata,
    Column("id", BigInteger, nullable=False),
    Column("initial_linked_id", BigInteger),
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment, nullable=False),
    # Whether the contact anchored the value when it last showed it.
    Column("anchors_email", Boolean, nullable=False),
    Column("anchors_phone", Boolean, nullable=False),
    Column("email", _identifier),
    Column("phone_number", _identifier),
    PrimaryKeyConstraint("id", name="set_aside_contact_pkey"),
    CheckConstraint(
        "coalesce(least(email, phone_number), '') <> ''", name="set_aside_contact_has_an_identifier"
    ),
    Index(
        "set_aside_contact_pair_key",
        "email",
        "phone_number",
        unique=True,
        postgresql_where=text("email IS NOT NULL AND phone_number IS NOT NULL"),
    ),
    Index("set_aside_contact_email", "email", postgresql_where=text("email IS NOT NULL")),
    Index(
        "set_aside_contact_phone", "phone_number", postgresql_where=text("phone_number IS NOT NULL")
    ),
)

# Pairs and values of a run that somebody else has stated too, whose statement outlives an undo of
# the run: the earliest such statement. other_value is empty for a value alone.
restatement = Table(
    "restatement",
    metadata,
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment, nullable=False),
    Column("value", _identifier, nullable=False),
    Column("other_value", _identifier, nullable=False),
    PrimaryKeyConstraint("value", "other_value", name="restatement_pkey"),
)

# The log of the commands that change what links. It holds no values.
steering_command = Table(
    "steering_command",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("verb", Text, nullable=False),
    Column("detail", Text),
    Column("reason", Text),
    Column("run_id", BigInteger),
    Column("role_name", Text, nullable=False, server_default=text("SESSION_USER")),
    Column("ran_at", _moment, nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("id", name="steering_command_pkey"),
)

# Each contact that a command has moved; null for no identity. Merges of requests are in
# link_evidence, and here when the evidence of a merge is taken back.
contact_move = Table(
    "contact_move",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    Column("from_primary_id", BigInteger),
    Column("to_primary_id", BigInteger),
    Column("command_id", BigInteger),
    Column("moved_at", _moment, nullable=False),
    PrimaryKeyConstraint("id", name="contact_move_pkey"),
    Index("contact_move_contact_id", "contact_id"),
    Index("contact_move_command_id", "command_id"),
)

# Contacts as they were before a command changed them: what a reader of the past needs, besides the
# merges of link_evidence. Forgotten values are null here, too.
former_contact = Table(
    "former_contact",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    # Before and after; null if the contact was shown nowhere.
    Column("primary_id", BigInteger),
    Column("next_primary_id", BigInteger),
    Column("command_id", BigInteger),
    Column("replaced_in", Xid8, nullable=False, server_default=_this_transaction),
    Column("replaced_at", _moment, nullable=False),
    # The last ids given out by then: contacts and merges of the identity with higher ids are later.
    Column("contact_mark", BigInteger, nullable=False),
    Column("evidence_mark", BigInteger, nullable=False),
    Column("initial_linked_id", BigInteger),
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment),
    Column("updated_at", _moment),
    Column("stored_in", Xid8),
    Column("anchors_email", Boolean),
    Column("anchors_phone", Boolean),
    Column("email", _identifier),
    Column("phone_number", _identifier),
    PrimaryKeyConstraint("id", name="former_contact_pkey"),
    Index("former_contact_contact_id", "contact_id", "id"),
)

# Evidence as it was before a command changed or deleted it. The values are null if they are
# forgotten.
former_evidence = Table(
    "former_evidence",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("evidence_id", BigInteger, nullable=False),
    Column("replaced_in", Xid8, nullable=False, server_default=_this_transaction),
    Column("replaced_at", _moment, nullable=False),
    Column("primary_id", BigInteger),
    Column("merged_id", BigInteger),
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment, nullable=False),
    Column("stored_in", Xid8),
    Column("value", _identifier),
    Column("other_value", _identifier),
    Column("is_held", Boolean, nullable=False),
    PrimaryKeyConstraint("id", name="former_evidence_pkey"),
    Index("former_evidence_evidence_id", "evidence_id"),
    Index("former_evidence_merged_id", "merged_id", postgresql_where=text("merged_id IS NOT NULL")),
    Index("former_evidence_value", "value"),
)

# Values matching a pattern are blocked. The pattern has to match a value as a whole.
block_pattern = Table(
    "block_pattern",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("pattern", Text, nullable=False),
    Column("command_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("id", name="block_pattern_pkey"),
    UniqueConstraint("pattern", name="block_pattern_pattern_key"),
)

# Values that link nobody, and why: blocked by a command, by a pattern, or seen with too many
# others.
blocked_value = Table(
    "blocked_value",
    metadata,
    Column("command_id", BigInteger),
    Column("pattern_id", BigInteger),
    Column("is_hub", Boolean, nullable=False, server_default=text("false")),
    Column("value", _identifier, nullable=False),
    PrimaryKeyConstraint("value", name="blocked_value_pkey"),
    ForeignKeyConstraint(
        ["pattern_id"], ["block_pattern.id"], name="blocked_value_pattern_id_fkey"
    ),
    CheckConstraint(
        "num_nonnulls(command_id, pattern_id) > 0 OR is_hub", name="blocked_value_has_a_reason"
    ),
)

# Pairs that do not link, in the order of link_evidence.
unlinked_pair = Table(
    "unlinked_pair",
    metadata,
    Column("command_id", BigInteger, nullable=False),
    Column("value", _identifier, nullable=False),
    Column("other_value", _identifier, nullable=False),
    PrimaryKeyConstraint("value", "other_value", name="unlinked_pair_pkey"),
    CheckConstraint(
        "(strpos(value, '@') = 0, value) < (strpos(other_value, '@') = 0, other_value)",
        name="unlinked_pair_order",
    ),
    Index("unlinked_pair_other_value", "other_value"),
)

# One row: with how many others a value may occur before it stops linking; null: any number.
link_policy = Table(
    "link_policy",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=text("true")),
    Column("email_limit", Integer),
    Column("phone_limit", Integer),
    PrimaryKeyConstraint("only_row", name="link_policy_pkey"),
    CheckConstraint("only_row", name="link_policy_one_row"),
    CheckConstraint("least(email_limit, phone_limit) >= 1", name="link_policy_limits"),
)

# Values that link however many others they occur with.
hub_exemption = Table(
    "hub_exemption",
    metadata,
    Column("command_id", BigInteger, nullable=False),
    Column("value", _identifier, nullable=False),
    PrimaryKeyConstraint("value", name="hub_exemption_pkey"),
)

# With how many others each value occurs; kept only while the policy has a limit. A value without a
# row occurs with the one that its anchor shows beside it, or with none.
partner_count = Table(
    "partner_count",
    metadata,
    Column("partners", Integer, nullable=False),
    Column("value", _identifier, nullable=False),
    PrimaryKeyConstraint("value", name="partner_count_pkey"),
)

# Keyed hashes of the values that are dropped from every request.
forgotten_value = Table(
    "forgotten_value",
    metadata,
    Column("command_id", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("hash", name="forgotten_value_pkey"),
)

# One row at most: the key of these hashes, null if the session brings it, and its fingerprint.
forget_key = Table(
    "forget_key",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=text("true")),
    Column("key", LargeBinary),
    Column("fingerprint", LargeBinary, nullable=False),
    PrimaryKeyConstraint("only_row", name="forget_key_pkey"),
    CheckConstraint("only_row", name="forget_key_one_row"),
)

import_run = Table(
    "import_run",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("status", Text, nullable=False),
    # [{"path", "size" or null, "sha256" of the beginning, "first_line"}] in the order of reading.
    Column("inputs", JSONB, nullable=False),
    Column("fingerprint", Text, nullable=False),
    # Key of the advisory lock that a living run holds.
    Column("lock_key", BigInteger, nullable=False),
    # How the inputs are read: {"input_format", "delimiter", "encoding", "mapping", "region"}.
    Column("options", JSONB),
    Column("checkpoint", JSONB),
    # {"read", "created", "linked", "merged", "unchanged", "blocked", "rejected", "partial"}
    Column("rows", JSONB, nullable=False),
    # Seconds of work, summed over the attempts of a resumed run.
    Column("seconds", Double, nullable=False, server_default=text("0")),
    Column("started_at", _moment, nullable=False),
    Column("finished_at", _moment),
    # Why it failed: {"code", "message", "hint"}.
    Column("error", JSONB),
    # What the run saw at its start, and what was stored at its end: the server and its snapshot.
    Column("start_snapshot", Text),
    Column("end_snapshot", Text),
    PrimaryKeyConstraint("id", name="import_run_pkey"),
    CheckConstraint(
        "status IN ('running', 'finished', 'stopped', 'failed', 'undone')",
        name="import_run_status",
    ),
)

# One row at most: how the values in this database were normalised.
normalization_profile = Table(
    "normalization_profile",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=text("true")),
    Column("version", Integer, nullable=False),
    Column("region", Text),
    PrimaryKeyConstraint("only_row", name="normalization_profile_pkey"),
    CheckConstraint("only_row", name="normalization_profile_one_row"),
)
