"""The documents of look-ups, evidence and history, for the OpenAPI description."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - Pydantic reads the annotations
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

Id = Annotated[int, Field(ge=1)]


class LookupBody(BaseModel):
    """What to look up: one of the four."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"value": "mcfly@hillvalley.edu"}, {"phoneNumber": "123456"}, {"id": 2}]
        }
    )

    value: Annotated[
        str | None,
        Field(
            description=(
                "An email, a phone number or the id of a contact. A bare number is the id of a"
                " contact or, if no contact has that id, a phone number."
            )
        ),
    ] = None
    # Any type, so that normalisation reports what is wrong, in the words of the other commands.
    email: Annotated[Any, WithJsonSchema({"type": ["string", "null"]})] = None
    phoneNumber: Annotated[  # noqa: N815 - the protocol's spelling
        Any, WithJsonSchema({"type": ["string", "integer", "null"]})
    ] = None
    id: Annotated[int | None, Field(ge=1, lt=2**63)] = None


class Located(BaseModel):
    """Where a text leads: how it was read, the identity, and the contact that brought it in."""

    schema_version: Literal[1]
    kind: Literal["email", "phone", "id"]
    value: str | int
    primary_id: Id
    contact_id: Id
    is_ambiguous: Annotated[bool, Field(description="It is a phone number of another identity.")]


class Row(BaseModel):
    """A row of the table contact or of link_evidence: one of the two ids is null."""

    contact_id: Id | None
    evidence_id: Id | None
    merged_id: Annotated[Id | None, Field(description="The primary that became a secondary.")]
    run_id: Annotated[Id | None, Field(description="Null if it came from identify or HTTP.")]
    path: Annotated[str | None, Field(description="The input, - for standard input.")]
    line: int | None
    time: datetime


class EvidenceHop(Row):
    """Two values, and the row that shows both."""

    value: str
    other_value: str


class EvidenceBranch(BaseModel):
    """A value in the tree of an identity, as in `identity explain --json`."""

    value: str
    depth: Annotated[int, Field(ge=0)]
    parent: Annotated[str | None, Field(description="Null for the root; it may be left out.")]
    origin: Annotated[Row | None, Field(description="The contact that brought the value in.")]
    link: Annotated[Row | None, Field(description="The row that linked it with its parent.")]
    children: Annotated[int, Field(ge=0, description="How many values it linked, left out or not.")]


class EvidenceRule(BaseModel):
    """A rule that keeps values from linking."""

    kind: Literal["blocked", "pattern", "hub", "unlinked"]
    values: list[str]
    command_id: int | None
    time: datetime | None
    reason: str | None


class EvidenceExcerpt(BaseModel):
    """The evidence of an identity: nearest to the contact, or a page of its tree."""

    schema_version: Literal[1]
    primary_id: Id
    contacts: Annotated[int, Field(description="Of the identity.")]
    pairs: Annotated[int, Field(description="Pairs of values that no contact shows.")]
    values: Annotated[int, Field(description="Of the whole tree.")]
    offset: Annotated[int | None, Field(description="Of the first branch in the tree; or null.")]
    is_pruned: Annotated[bool, Field(description="Whether branches are left out.")]
    tree: list[EvidenceBranch]
    other_hops: Annotated[
        list[EvidenceHop], Field(description="Rows between these values beside the tree.")
    ]


class End(BaseModel):
    """An end of a chain, as it was read."""

    kind: Literal["email", "phone", "id"]
    value: str | int
    primary_id: Id


class EvidenceChain(BaseModel):
    """The shortest chain between two values or contacts, or the rules that keep them apart."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1]
    primary_id: Annotated[Id | None, Field(description="Null if they are not one identity.")]
    from_: Annotated[End, Field(alias="from")]
    to: End
    hops: list[EvidenceHop] | None
    rules: list[EvidenceRule] = []


class LookupProblem(BaseModel):
    """What was not found, and the rule that blocks it."""

    detail: str
    rules: list[EvidenceRule]


class HistoryEvent(BaseModel):
    """An event of a contact or its identity; it has the keys of its kind."""

    model_config = ConfigDict(extra="allow")

    at: datetime
    event: Literal["merge", "command", "stored", "moved"]


class History(BaseModel):
    """The newest events first."""

    schema_version: Literal[1]
    events: list[HistoryEvent]
