"""Import against a loop of SQLAlchemy ORM sessions, as this rule is usually written.

The loop does what such implementations do: a session a request, a SELECT of the contacts with the
email or the phone number, a SELECT of the whole identities that they belong to, what the rule says
on the objects, a commit. Its table has an index on each column that it searches, and its commits
are asynchronous too. It gets fewer requests and the rate is what counts; that favours it, since its
cost grows with the identities. The import counts from the start of the command to its end.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    DateTime,
    Engine,
    ForeignKey,
    String,
    Text,
    create_engine,
    or_,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks import requests
from benchmarks.figures import Figure, note, show
from benchmarks.server import fresh_server, import_files, scratch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.requests import Request
    from identity_cli.postgres.database import Database


class Base(DeclarativeBase):
    pass


class Contact(Base):
    """The table of the task, as an application declares it."""

    __tablename__ = "orm_contact"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str | None] = mapped_column(Text, index=True)
    phone_number: Mapped[str | None] = mapped_column(Text, index=True)
    linked_id: Mapped[int | None] = mapped_column(ForeignKey("orm_contact.id"), index=True)
    link_precedence: Mapped[str] = mapped_column(String(9))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


def run(quick: bool = False) -> None:
    count = 10_000 if quick else 100_000
    loop_count = 300 if quick else 3_000
    rounds = 1 if quick else 3
    pairs = []
    with fresh_server() as server, scratch() as folder:
        path = requests.write_csv(folder / "requests.csv", requests.mixed(count))
        for _ in range(rounds):
            with server.database() as database:
                server.settle()
                imported = import_files(database, path)
                rate = orm_rate(database, list(requests.mixed(loop_count)))
            pairs.append((count / imported.seconds, rate))
        note(f"{loop_count:,} requests through the ORM")
    show(Figure("import --jobs 1", pairs, 20, "requests/s"))


def orm_rate(database: Database, incoming: list[Request]) -> float:
    """Requests a second of the loop; its table is kept if it is there."""
    engine = orm_engine(database)
    Base.metadata.create_all(engine)
    start = time.perf_counter()
    for request in incoming:
        with Session(engine) as session:
            reconcile(session, *request)
    seconds = time.perf_counter() - start
    engine.dispose()
    return len(incoming) / seconds


def orm_engine(database: Database) -> Engine:
    options = "-c synchronous_commit=off -c jit=off"
    return create_engine(
        "postgresql+psycopg://", connect_args={**database.parameters, "options": options}
    )


def fill(database: Database, incoming: Iterable[Request]) -> None:
    """Store the requests as one identity, its first contact the primary."""
    engine = orm_engine(database)
    Base.metadata.create_all(engine)
    now = datetime.now(UTC)
    with Session(engine) as session:
        primary: Contact | None = None
        for email, phone in incoming:
            contact = Contact(
                email=email,
                phone_number=phone,
                linked_id=primary.id if primary else None,
                link_precedence="secondary" if primary else "primary",
                created_at=now,
                updated_at=now,
            )
            session.add(contact)
            if primary is None:
                session.flush()
                primary = contact
        session.commit()
    engine.dispose()


def reconcile(session: Session, email: str | None, phone: str | None) -> dict[str, object]:
    now = datetime.now(UTC)
    wanted = [
        condition
        for value, condition in (
            (email, Contact.email == email),
            (phone, Contact.phone_number == phone),
        )
        if value is not None
    ]
    matches = session.scalars(select(Contact).where(or_(*wanted))).all()
    if not matches:
        primary = Contact(
            email=email,
            phone_number=phone,
            link_precedence="primary",
            created_at=now,
            updated_at=now,
        )
        session.add(primary)
        session.commit()
        return consolidated([primary])
    roots = {contact.linked_id or contact.id for contact in matches}
    members = list(
        session.scalars(
            select(Contact)
            .where(or_(Contact.id.in_(roots), Contact.linked_id.in_(roots)))
            .order_by(Contact.created_at, Contact.id)
        )
    )
    primary = members[0]
    for contact in members[1:]:
        if contact.linked_id != primary.id:
            contact.linked_id = primary.id
            contact.link_precedence = "secondary"
            contact.updated_at = now
    emails = {contact.email for contact in members}
    phones = {contact.phone_number for contact in members}
    if (email is not None and email not in emails) or (phone is not None and phone not in phones):
        newcomer = Contact(
            email=email,
            phone_number=phone,
            linked_id=primary.id,
            link_precedence="secondary",
            created_at=now,
            updated_at=now,
        )
        session.add(newcomer)
        members.append(newcomer)
    session.flush()
    answer = consolidated(members)
    session.commit()
    return answer


def consolidated(members: list[Contact]) -> dict[str, object]:
    return {
        "primary": members[0].id,
        "emails": list(dict.fromkeys(contact.email for contact in members if contact.email)),
        "phones": list(dict.fromkeys(c.phone_number for c in members if c.phone_number)),
        "secondaries": [contact.id for contact in members[1:]],
    }
