"""The tables as SQLAlchemy models, which Alembic compares with the database.

The functions and triggers are in `sql/`.
"""

from __future__ import annotations

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
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

# "C": comparisons by bytes are cheap, and no upgrade of the system's collations can break an index.
_identifier = Text(collation="C")
_precedence = Enum("primary", "secondary", name="link_precedence", metadata=metadata)
_moment = DateTime(timezone=True)

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
    PrimaryKeyConstraint("id", name="contact_pkey"),
    UniqueConstraint("id", "link_precedence", name="contact_id_link_precedence_key"),
    ForeignKeyConstraint(
        ["linked_id", "linked_precedence"],
        ["contact.id", "contact.link_precedence"],
        name="contact_links_to_a_primary",
    ),
    CheckConstraint(
        "(link_precedence = 'primary') = (linked_id IS NULL)", name="contact_primary_has_no_link"
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
    Column("primary_id", BigInteger, nullable=False),
    # The primary that became a secondary; null if both values were in one identity already.
    Column("merged_id", BigInteger),
    Column("run_id", BigInteger),
    Column("line", BigInteger),
    Column("created_at", _moment, nullable=False),
    # An email and a phone number, or two of a kind, the smaller first. Only an email has an @.
    Column("value", _identifier, nullable=False),
    Column("other_value", _identifier, nullable=False),
    PrimaryKeyConstraint("id", name="link_evidence_pkey"),
    UniqueConstraint("value", "other_value", name="link_evidence_pair_key"),
    CheckConstraint(
        "(strpos(value, '@') = 0, value) < (strpos(other_value, '@') = 0, other_value)",
        name="link_evidence_pair_order",
    ),
    # A primary becomes a secondary only once.
    Index(
        "link_evidence_merged_id",
        "merged_id",
        unique=True,
        postgresql_where=text("merged_id IS NOT NULL"),
    ),
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
    # {"read", "created", "linked", "merged", "unchanged", "rejected"}
    Column("rows", JSONB, nullable=False),
    # Seconds of work, summed over the attempts of a resumed run.
    Column("seconds", Double, nullable=False, server_default=text("0")),
    Column("started_at", _moment, nullable=False),
    Column("finished_at", _moment),
    # Why it failed: {"code", "message", "hint"}.
    Column("error", JSONB),
    PrimaryKeyConstraint("id", name="import_run_pkey"),
    CheckConstraint(
        "status IN ('running', 'finished', 'stopped', 'failed')", name="import_run_status"
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
