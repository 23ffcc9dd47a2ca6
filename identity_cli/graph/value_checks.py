"""What has to hold for each value: its rules, who shows it, who anchors it.

A value joins all facts that state it, unless a rule keeps it from linking. Which values those are
is worked out here once more, from the rules and from what was stated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.graph.components import known

if TYPE_CHECKING:
    from typing import LiteralString

    from identity_cli.graph.components import StoredGraph
    from identity_cli.graph.violations import Violations
    from identity_cli.postgres.snapshot import Snapshot

# What a row says of a value. Rules come first, so that they are known when the carriers come.
_BLOCKED, _MATCHING, _HUB, _MISCOUNTED, _RESERVED, _CONTACT, _PLACEHOLDER, _ASIDE, _EVIDENCE = (
    range(9)
)
# Why a value is marked as blocked, in the number of its row.
_BY_COMMAND, _BY_PATTERN, _BY_WRONG_PATTERN = 1, 2, 4

# value, what the row says, a number (mostly the id of a carrier), and a flag. The server sorts: it
# has a disk to do it on. Evidence holds two values of any kind; only an email has an @. Conditions
# that name no value are tested once, so tables without rules cost nothing.
_ROWS = """
    SELECT value COLLATE "C" AS value, {blocked} AS what,
           CASE WHEN command_id IS NULL THEN 0 ELSE {by_command} END
           + CASE WHEN pattern_id IS NULL THEN 0
                  WHEN EXISTS (SELECT FROM block_pattern
                               WHERE id = pattern_id AND value ~ ('^(?:' || pattern || ')$'))
                  THEN {by_pattern} ELSE {by_wrong_pattern} END::bigint AS number,
           is_hub AS flag
    FROM blocked_value WHERE {is_of_kind}

    UNION ALL SELECT value, {matching}, NULL, NULL
    FROM (
        SELECT {column} AS value FROM contact WHERE id >= 0
        UNION ALL SELECT {column} FROM set_aside_contact
        UNION ALL SELECT value FROM link_evidence
        UNION ALL SELECT other_value FROM link_evidence
    ) AS stated
    WHERE (SELECT EXISTS (SELECT FROM block_pattern)) AND {is_of_kind}
        AND EXISTS (SELECT FROM block_pattern WHERE value ~ ('^(?:' || pattern || ')$'))

    UNION ALL SELECT value, CASE WHEN is_about_hub THEN {hub} ELSE {miscounted} END, partners, NULL
    FROM (
        SELECT coalesce(recount.value, partner_count.value) AS value,
               coalesce(recount.partners, 0) AS partners,
               recount.partners IS NOT DISTINCT FROM partner_count.partners AS is_right,
               recount.partners > (SELECT {limit} FROM link_policy) AND NOT EXISTS (
                   SELECT FROM hub_exemption WHERE hub_exemption.value = recount.value
               ) AS is_hub
        FROM (
            SELECT value, count(*) AS partners
            FROM (
                SELECT email, phone_number FROM contact
                WHERE (SELECT num_nonnulls(email_limit, phone_limit) > 0 FROM link_policy)
                    AND id >= 0
                UNION SELECT email, phone_number FROM set_aside_contact
                WHERE (SELECT num_nonnulls(email_limit, phone_limit) > 0 FROM link_policy)
                UNION SELECT value, other_value FROM link_evidence
                WHERE (SELECT num_nonnulls(email_limit, phone_limit) > 0 FROM link_policy)
            ) AS pair (one, another),
                LATERAL (VALUES (one), (another)) AS side (value)
            WHERE one IS NOT NULL AND another IS NOT NULL AND {is_of_kind}
            GROUP BY value
        ) AS recount
        FULL JOIN (
            SELECT value, partners FROM partner_count WHERE {is_of_kind}
            -- A value without a row occurs with the one that its anchor shows beside it.
            UNION ALL SELECT {column}, 1 FROM contact
            WHERE (SELECT num_nonnulls(email_limit, phone_limit) > 0 FROM link_policy)
                AND {anchors} AND num_nonnulls(email, phone_number) = 2 AND id >= 0
                AND NOT EXISTS (SELECT FROM partner_count WHERE value = {column})
        ) AS partner_count ON partner_count.value = recount.value
    ) AS counted, LATERAL (VALUES (true), (false)) AS finding (is_about_hub)
    WHERE CASE WHEN is_about_hub THEN is_hub ELSE NOT is_right END

    UNION ALL SELECT value, {reserved}, NULL, NULL FROM unlinked_pair WHERE {is_of_kind}
    UNION ALL SELECT other_value, {reserved}, NULL, NULL
    FROM unlinked_pair WHERE {is_other_of_kind}

    UNION ALL SELECT {column}, CASE WHEN id < 0 THEN {placeholder} ELSE {contact} END, id, {anchors}
    FROM contact WHERE {column} <> ''

    -- Flagged if it has to show the value, unless the value is blocked: it does not, and does not
    -- show the other value of an unlinked pair instead.
    UNION ALL SELECT s.{column}, {aside}, s.id,
           shown.{column} IS NULL AND NOT (
               shown.{other_column} IS NOT NULL AND EXISTS (
                   SELECT FROM unlinked_pair AS u
                   WHERE u.value = s.email AND u.other_value = s.phone_number))
    FROM set_aside_contact AS s LEFT JOIN contact AS shown ON shown.id = s.id
    WHERE s.{column} <> ''

    -- Flagged if it is the second value.
    UNION ALL SELECT value, {evidence}, id, false FROM link_evidence WHERE {is_of_kind}
    UNION ALL SELECT other_value, {evidence}, id, true FROM link_evidence WHERE {is_other_of_kind}
    ORDER BY value, what, number
"""


def _rows(column: LiteralString, other_column: LiteralString, kind: LiteralString) -> LiteralString:
    comparison = ">" if kind == "email" else "="
    return _ROWS.format(
        column=column,
        other_column=other_column,
        anchors=f"anchors_{kind}",
        limit=f"{kind}_limit",
        is_of_kind=f"strpos(value, '@') {comparison} 0",
        is_other_of_kind=f"strpos(other_value, '@') {comparison} 0",
        blocked=_BLOCKED,
        matching=_MATCHING,
        hub=_HUB,
        miscounted=_MISCOUNTED,
        reserved=_RESERVED,
        contact=_CONTACT,
        placeholder=_PLACEHOLDER,
        aside=_ASIDE,
        evidence=_EVIDENCE,
        by_command=_BY_COMMAND,
        by_pattern=_BY_PATTERN,
        by_wrong_pattern=_BY_WRONG_PATTERN,
    )


def check_values(graph: Snapshot, stored: StoredGraph, violations: Violations) -> None:
    """Check every value, and join the facts that it links into components."""
    for field, is_second, query in (
        ("an email", False, _rows("email", "phone_number", "email")),
        ("a phone number", True, _rows("phone_number", "email", "phone")),
    ):
        current: str | None = None
        value = _Value(field, stored, violations, is_second=is_second)
        for of_value, what, number, flag in graph.rows(query):
            if of_value != current:
                value.check()
                value = _Value(field, stored, violations, is_second=is_second)
                current = of_value
            if what == _CONTACT:
                value.take_contact(number, is_anchor=flag)
            elif what == _EVIDENCE:
                value.take_evidence(number, is_second=flag)
            elif what == _ASIDE:
                value.take_set_aside(number, has_to_show=flag)
            elif what == _PLACEHOLDER:
                value.take_placeholder(number, is_anchor=flag)
            else:
                value.take_rule(what, number, is_hub=flag)
        value.check()


class _Value:
    """The rows of one value, taken one at a time: its rules, then its carriers.

    Whatever states a value that may link is joined into one component.
    """

    # Most values have no rule and one carrier: an attribute is set where it differs from these.
    _first: int | None = None
    _owner: int | None = None  # the node of the first contact that shows it
    _is_split = False
    _anchors = 0
    _is_stated = False  # by a contact that is set aside, or by evidence
    _carrier = ("", 0)  # the first of these
    _placeholder: int | None = None
    _placeholder_anchors = 0
    _has_rules = False
    _is_off = False
    _is_marked = False
    _is_marked_as_hub = False
    _is_hub = False
    _is_reserved = False
    _reasons = 0
    _miscount: int | None = None

    def __init__(
        self, field: str, stored: StoredGraph, violations: Violations, *, is_second: bool
    ) -> None:
        self._field = field
        self._is_second = is_second
        self._stored = stored
        self._violations = violations

    def take_rule(self, what: int, number: int | None, *, is_hub: bool | None) -> None:
        """Law: a value does not link if a rule says so, and only then."""
        self._has_rules = True
        if what == _BLOCKED:
            self._is_marked = True
            self._is_marked_as_hub = bool(is_hub)
            self._reasons = number or 0
            self._is_off = bool(self._reasons & (_BY_COMMAND | _BY_PATTERN))
        elif what == _MATCHING:
            self._is_off = True
        elif what == _HUB:
            self._is_off = self._is_hub = True
        elif what == _MISCOUNTED:
            self._miscount = number
        else:
            self._is_reserved = True

    def take_contact(self, contact_id: int, *, is_anchor: bool) -> None:
        """Law: a value leads to one identity. Reported once per value."""
        stored = self._stored
        node = known(stored.contact(contact_id))
        if is_anchor:
            self._anchors += 1
        self._join(stored.side(node, is_second=self._is_second) if stored.has_sides else node)
        if self._owner is None:
            self._owner = node
            return
        roots = stored.roots
        if roots[node] != roots[self._owner] and not self._is_split and not self._is_off:
            self._is_split = True
            self._violations.add(
                "identifier_in_two_identities",
                contact_id,
                f"it shares {self._field} with contact {stored.ids[self._owner]}"
                " of another identity",
            )

    def take_placeholder(self, contact_id: int, *, is_anchor: bool) -> None:
        if self._placeholder is None:
            self._placeholder = contact_id
        self._placeholder_anchors += is_anchor

    def take_set_aside(self, contact_id: int, *, has_to_show: bool) -> None:
        """Law: a contact shows what it was stored with, except what a rule keeps from linking."""
        if not self._is_stated:
            self._is_stated = True
            self._carrier = ("contact", contact_id)
        node = self._stored.fact(contact_id)
        self._join(self._stored.side(node, is_second=self._is_second))
        if not self._is_off and (has_to_show or self._owner is None):
            self._violations.add(
                "value_not_shown",
                contact_id,
                f"it was stored with {self._field} that no rule keeps from linking,"
                " but does not show it",
            )

    def take_evidence(self, evidence_id: int, *, is_second: bool) -> None:
        """Law: a value of the evidence is a contact's."""
        if not self._is_stated:
            self._is_stated = True
            self._carrier = ("evidence", evidence_id)
        stored = self._stored
        if self._is_off:
            stored.hold(evidence_id)
            return
        node = stored.evidence(evidence_id)
        self._join(stored.side(node, is_second=is_second) if stored.has_sides else node)
        if self._owner is None:
            self._violations.add(
                "evidence_of_unknown_value",
                None,
                f"evidence {evidence_id} names {self._field} that no contact has",
            )

    def check(self) -> None:
        """Check what depends on all rows of the value."""
        if self._anchors != 1 and self._owner is not None and not self._is_off:
            self._check_anchor()
        if self._has_rules or self._placeholder is not None:
            self._check_rules()

    def _check_rules(self) -> None:
        if self._placeholder_anchors > 1:
            message = f"{self._placeholder_anchors} placeholders anchor {self._field}"
            self._violations.add("value_anchored_twice", None, message)
        if self._is_off or self._is_marked:
            self._check_blocked()
        if self._miscount is not None:
            self._violations.add(
                "wrong_partner_count",
                self._owner_id,
                f"{self._name()} occurs with {self._miscount} others, but another number is stored",
            )
        if not self._is_off:
            self._check_placeholder()

    def _check_blocked(self) -> None:
        problem = None
        if self._is_off and self._owner is not None:
            problem = f"it shows {self._field} that a rule blocks"
        elif self._is_off and not self._is_marked:
            problem = f"{self._name()} is not marked as blocked, but a rule blocks it"
        elif not self._is_off:
            problem = f"{self._name()} is marked as blocked, but no rule blocks it"
        elif self._reasons & _BY_WRONG_PATTERN:
            problem = f"{self._name()} is marked as blocked by a pattern that does not match it"
        elif self._is_hub != self._is_marked_as_hub:
            problem = (
                f"{self._name()} occurs with more others than the policy allows,"
                " but is not marked so"
                if self._is_hub
                else f"{self._name()} is marked as one that occurs with more others than the"
                " policy allows, but it does not"
            )
        if problem is not None:
            self._violations.add("rule_not_applied", self._owner_id, problem)
        elif self._placeholder_anchors == 0:
            self._violations.add(
                "placeholder_missing", None, f"nothing anchors {self._name()}, which is blocked"
            )

    def _check_anchor(self) -> None:
        """Law: of the contacts that carry a value, exactly one anchors it."""
        if self._anchors == 0:
            message = f"no contact anchors {self._field}"
            self._violations.add("value_without_anchor", self._owner_id, message)
        else:
            message = f"{self._anchors} contacts anchor {self._field}"
            self._violations.add("value_anchored_twice", self._owner_id, message)

    def _check_placeholder(self) -> None:
        """Law: a value that no contact has is reserved by a placeholder if a rule names it."""
        is_known = self._owner is not None or self._is_stated
        if is_known or not self._is_reserved:
            if self._placeholder is not None and not self._is_marked:
                self._violations.add(
                    "placeholder_without_rule",
                    self._owner_id,
                    f"placeholder {self._placeholder} reserves {self._field} that may link",
                )
        elif self._placeholder_anchors == 0:
            self._violations.add(
                "placeholder_missing",
                None,
                f"nothing reserves {self._field} of an unlinked pair, which no contact has",
            )

    @property
    def _owner_id(self) -> int | None:
        return None if self._owner is None else self._stored.ids[self._owner]

    def _name(self) -> str:
        if self._owner is not None:
            return f"{self._field} of contact {self._owner_id}"
        if self._is_stated:
            kind, number = self._carrier
            return f"{self._field} of {kind} {number}"
        if self._placeholder is not None:
            return f"{self._field} of placeholder {self._placeholder}"
        return self._field

    def _join(self, node: int) -> None:
        if self._is_off:
            return
        if self._first is None:
            self._first = node
        else:
            self._stored.components.join(self._first, node)
