"""The bodies of requests and answers, for the OpenAPI document; `normalize` checks the values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from identity_cli.graph.normalize import EMAIL_MAX, PHONE_MAX

_EMAIL = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_PHONE = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "null"}]}


class ContactBody(BaseModel):
    """A contact request: emails, phone numbers, or both.

    The lists hold further values besides `email` and `phoneNumber`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"email": "mcfly@hillvalley.edu", "phoneNumber": "123456"},
                {"email": None, "phoneNumber": 123456},
                {
                    "emails": ["mcfly@hillvalley.edu", "marty@hillvalley.edu"],
                    "phoneNumbers": ["123456", 717171],
                },
            ]
        }
    )

    # Any type, so that normalisation reports what is wrong, in the words of the other commands.
    email: Annotated[
        Any,
        WithJsonSchema(_EMAIL),
        Field(description=f"At most {EMAIL_MAX} characters."),
    ] = None
    phoneNumber: Annotated[  # noqa: N815 - the protocol's spelling
        Any,
        WithJsonSchema(_PHONE),
        Field(description=f"Text or a whole number, at most {PHONE_MAX} digits."),
    ] = None
    emails: Annotated[
        list[Annotated[Any, WithJsonSchema(_EMAIL)]] | None,
        Field(description="Further emails of the same request."),
    ] = None
    phoneNumbers: Annotated[  # noqa: N815
        list[Annotated[Any, WithJsonSchema(_PHONE)]] | None,
        Field(description="Further phone numbers of the same request."),
    ] = None


class Consolidated(BaseModel):
    """All that is known of one identity; the primary's own values come first."""

    primaryContatctId: int  # noqa: N815
    emails: list[str]
    phoneNumbers: list[str]  # noqa: N815
    secondaryContactIds: list[int]  # noqa: N815


class Counts(BaseModel):
    """The number of values of each kind, with `?summary=1`."""

    primaryContatctId: int  # noqa: N815
    emails: int
    phoneNumbers: int  # noqa: N815
    secondaryContactIds: int  # noqa: N815


class ContactDocument(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "contact": {
                        "primaryContatctId": 1,
                        "emails": ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"],
                        "phoneNumbers": ["123456"],
                        "secondaryContactIds": [2],
                    }
                }
            ]
        }
    )

    contact: Consolidated | Counts


class Rejection(BaseModel):
    """A problem of a request: its place, its description, and its stable code."""

    loc: list[str | int]
    msg: str
    type: str


class Rejected(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "detail": [
                        {
                            "loc": ["body", "email"],
                            "msg": "an email needs exactly one @",
                            "type": "bad_email",
                        }
                    ]
                }
            ]
        }
    )

    detail: list[Rejection]


class Problem(BaseModel):
    detail: str


class Health(BaseModel):
    status: str
