"""The columns of an export, the same in every format."""

from __future__ import annotations

CONTACT_COLUMNS = (
    "id",
    "email",
    "phone_number",
    "linked_id",
    "link_precedence",
    "created_at",
    "updated_at",
    "deleted_at",
)
IDENTITY_COLUMNS = ("primaryContatctId", "emails", "phoneNumbers", "secondaryContactIds")
# What a contact is now, then what it was.
CHANGE_COLUMNS = (
    "change",
    *CONTACT_COLUMNS,
    "primary_id",
    "old_email",
    "old_phone_number",
    "old_primary_id",
)
REDIRECT_COLUMNS = ("id", "primary_id", "status")
