"""What a command that changes what links has changed, the rules, and the history."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from identity_cli.output.streams import line, note, printable, remark
from identity_cli.output.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from identity_cli.graph.history import Event
    from identity_cli.graph.paths import Pair
    from identity_cli.graph.rule_lists import (
        Author,
        BlockedValue,
        BlockPattern,
        Policy,
        UnlinkedPair,
    )
    from identity_cli.graph.steering import Change, Regrouping, SizedIdentity

# Identities and ids that a text names; the JSON document has all.
_SHOWN = 5
_VALUE_COUNTS = {
    "stop_linking": "values that stop linking",
    "link_again": "values that link again",
    "hubs": "values blocked as hubs",
}


def change(shown: Change, *, to_stderr: bool = False) -> None:
    """Write what a command has changed, or would change."""
    write = note if to_stderr else line
    for text in change_lines(shown):
        write(printable(text))
    for text in shown.notes:
        remark(text)


def change_lines(shown: Change) -> Iterable[str]:
    """Yield the lines of a change: identities before and after, contacts, what the command adds."""
    yield shown.command if shown.is_applied else f"{shown.command} (preview)"
    for name, text in _VALUE_COUNTS.items():
        if name in shown.details:
            yield f"{text}: {shown.details[name]:,}"
    if not shown.before and not shown.after:
        yield "no contact moves to another identity"
    else:
        yield (f"contacts: {shown.moved:,} moved, {shown.removed:,} removed, {shown.added:,} added")
        yield from _identities("before", shown.before)
        yield from _identities("after", shown.after)
        yield from _regroupings("split", "into", shown.split)
        yield from _regroupings("merged", "from", shown.merged)
    if shown.path:
        yield "still joined by"
        for pair in shown.path:
            yield f"  {_pair(pair)}"
    if "receipt" in shown.details:
        yield from receipt_lines(shown.details["receipt"])
    if shown.is_applied and shown.command_ids:
        yield f"recorded as: {_ids(shown.command_ids)}"


def receipt_lines(receipt: Mapping[str, Any]) -> Iterable[str]:
    """Yield the lines of a receipt: what was erased, and what the user has to see to."""
    yield "receipt"
    counts = {
        "values forgotten": receipt["values"],
        "contacts erased": receipt["contacts_erased"],
        "contacts that keep another value": receipt["contacts_kept"],
        "evidence": receipt["evidence"],
        "restatements": receipt["restatements"],
        "former rows": receipt["former_rows"],
        "blocked values": receipt["blocked_values"],
        "unlinked pairs": receipt["unlinked_pairs"],
        "exemptions": receipt["hub_exemptions"],
        "patterns": receipt["patterns"],
        "reasons": receipt["reasons"],
    }
    for name, count in counts.items():
        yield f"  {name}: {count:,}"
    yield f"  key of the hashes: {_place_of_key(receipt)}"
    yield "what may still hold a value"
    for run in receipt["runs"]:
        yield f"  run {run['run_id']}: {', '.join(run['input'])}"
    for place in receipt["remaining"]:
        yield f"  {place}"


def cut(pairs: Sequence[Pair]) -> None:
    """Write the fewest pairs that separate two values, each as the command that unlinks it."""
    if not pairs:
        line("the two are in different identities")
        return
    line(f"pairs to unlink: {len(pairs):,}")
    for pair in pairs:
        line(f"  {printable(_pair(pair))}")


def blocked(values: Sequence[BlockedValue], patterns: Sequence[BlockPattern]) -> None:
    """Write the blocked values and the patterns."""
    rows = [("pattern", one.pattern, *_author(one.author)) for one in patterns]
    rows += [(" ".join(one.causes), one.value, *_author(one.author)) for one in values]
    _rows(("blocked by", "value", "command", "when", "who", "reason"), rows)


def unlinked(pairs: Sequence[UnlinkedPair]) -> None:
    """Write the unlinked pairs."""
    rows = [(one.value, one.other_value, *_author(one.author)) for one in pairs]
    _rows(("value", "other value", "command", "when", "who", "reason"), rows)


def policy(shown: Policy) -> None:
    """Write the limits, and the values that they spare."""
    for name, limit, hubs in (
        ("hub-limit-email", shown.email_limit, shown.email_hubs),
        ("hub-limit-phone", shown.phone_limit, shown.phone_hubs),
    ):
        line(f"{name}: {'off' if limit is None else f'{limit:,} ({hubs:,} blocked as hubs)'}")
    line(f"allowed: {len(shown.allowed):,}")
    if shown.allowed:
        rows = [(one.value, *_author(one.author)) for one in shown.allowed]
        _rows(("value", "command", "when", "who", "reason"), rows)


def history(events: Sequence[Event]) -> None:
    """Write one line per event."""
    rows = [
        (
            one.at.isoformat(sep=" ", timespec="seconds"),
            one.event,
            _DESCRIPTIONS[one.event](one),
            one.role or "",
            one.reason or "",
        )
        for one in events
    ]
    _rows(("when", "event", "what", "who", "reason"), rows)


def _rows(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if sys.stdout.isatty():
        table(rows, header)
    else:
        for row in (header, *rows):
            line("\t".join(map(printable, row)))


def _identities(name: str, identities: Sequence[SizedIdentity]) -> Iterable[str]:
    yield f"identities {name}: {len(identities):,}"
    for one in identities[:_SHOWN]:
        contacts = f"{one.contacts:,} contact{'' if one.contacts == 1 else 's'}"
        members = f": {', '.join(one.members)}" if one.members else ""
        more = ", …" if one.members and one.contacts > len(one.members) else ""
        yield f"  {one.primary_id}: {contacts}{members}{more}"
    if len(identities) > _SHOWN:
        yield f"  … and {len(identities) - _SHOWN:,} more"


def _regroupings(name: str, way: str, regroupings: Sequence[Regrouping]) -> Iterable[str]:
    for one in regroupings[:_SHOWN]:
        yield f"{name}: {one.primary_id} {way} {_ids(one.others)}"
    if len(regroupings) > _SHOWN:
        yield f"{name}: … and {len(regroupings) - _SHOWN:,} more"


def _ids(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(map(str, ids[:_SHOWN]))}{more}"


def _pair(pair: Pair) -> str:
    place = "evidence" if pair.contact_id is None else f"contact {pair.contact_id}"
    place += "" if pair.run_id is None else f", run {pair.run_id}"
    place += "" if pair.line is None else f" line {pair.line}"
    return f"{pair.value} {pair.other_value} ({place})"


def _place_of_key(receipt: Mapping[str, Any]) -> str:
    return "in the database" if receipt["key_in_database"] else "in IDENTITY_FORGET_KEY"


def _author(author: Author) -> tuple[str, str, str, str]:
    return (
        "" if author.command_id is None else str(author.command_id),
        "" if author.at is None else author.at.isoformat(sep=" ", timespec="seconds"),
        author.role or "",
        author.reason or "",
    )


def _described_command(event: Event) -> str:
    parts = [f"{event.command_id}: {event.command}"]
    if event.detail:
        parts.append(event.detail)
    if event.run_id is not None:
        parts.append(f"run {event.run_id}")
    contacts = event.contacts or 0
    return f"{' '.join(parts)}, {contacts:,} contact{'' if contacts == 1 else 's'}"


def _described_move(event: Event) -> str:
    source = "no identity" if event.from_primary_id is None else event.from_primary_id
    target = "no identity" if event.to_primary_id is None else event.to_primary_id
    by = f" by {event.command} {event.command_id}" if event.command_id is not None else ""
    return f"contact {event.contact_id} from {source} to {target}{by}"


def _place(event: Event) -> str:
    run = "" if event.run_id is None else f", run {event.run_id}"
    return run if event.line is None else f"{run} line {event.line}"


_DESCRIPTIONS: dict[str, Callable[[Event], str]] = {
    "run": lambda event: f"run {event.run_id} {event.status}",
    "merge": lambda event: f"{event.from_primary_id} into {event.to_primary_id}{_place(event)}",
    "command": _described_command,
    "moved": _described_move,
    "stored": lambda event: f"contact {event.contact_id}{_place(event)}",
}
