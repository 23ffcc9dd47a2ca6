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
