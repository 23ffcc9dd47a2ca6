"""Cells as people fill them: wrappings, lists, and the request of a row."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_cli import ContactRequest
from identity_cli.errors import InvalidRequestError
from identity_cli.graph.normalize import REJECT_CODES, VALUES_MAX, Normalizer

REGIONS = [None, "US", "GB", "DE", "NO", "IT"]

Read = tuple[list[str], list[str], list[str]]


def read(emails: Any = (), phones: Any = (), region: str | None = None, row: object = None) -> Read:
    """The emails, the phone numbers and the codes of the problems of a row."""
    request, problems = Normalizer(region).good_values(list(emails), list(phones), region=row)
    codes = [problem.code for problem in problems]
    assert set(codes) <= set(REJECT_CODES)
    return list(request.emails if request else ()), list(request.phones if request else ()), codes


def emails_of(cell: object) -> list[str]:
    emails, _, codes = read([cell])
    return emails or codes


def phones_of(cell: object, region: str | None = None) -> list[str]:
    _, phones, codes = read([], [cell], region)
    return phones or codes


# Wrappings


@pytest.mark.parametrize(
    "cell",
    [
        *("Ann Bell <ann@x.org>", '"Bell, Ann" <ann@x.org>', "Bell, Ann <ann@x.org>"),
        *("<ann@x.org>", "<<ann@x.org>>", "< ann@x.org >", "ann@x.org <ann@x.org>"),
        *("ann@x.org <mailto:ann@x.org>", "'ann@x.org' <ann@x.org>", "Agent 007 <ann@x.org>"),
        *("mailto:ann@x.org", "MAILTO: ann@x.org", "mailto:ann@x.org?subject=hello%20you"),
        *("SMTP:ann@x.org", "E-Mail: ann@x.org", "email:ann@x.org", "e: ann@x.org"),
        *('"ann@x.org"', "'ann@x.org'", "`ann@x.org`", "'ann@x.org", '"ann@x.org', "ann@x.org'"),
        *("\u201cann@x.org\u201d", "\u201eann@x.org\u201c", "\u2018ann@x.org\u2019"),
        *("\u00abann@x.org\u00bb", "\u2039ann@x.org\u203a", '="ann@x.org"', "\"'ann@x.org'\""),
        *("ann@x.org.", "ann@x.org,", "ann@x.org;", "ann@x.org .;,", ";ann@x.org"),
        *("ann@x.org (work)", "(work) ann@x.org", "ann@x.org (work) (old)", "ann@x.org(work)"),
        *("\u202aann@x.org\u202c", "\u2068ann@x.org\u2069", "ann\u200b@x.org\ufeff"),
        *(" ANN@X.ORG\u00a0", "[ann@x.org]", '["ann@x.org"]', "{ann@x.org}"),
        *("'[ann@x.org]", '"[ann@x.org]"', '="[ann@x.org]"', "[ann@x.org];"),
        '"Bell, Ann (work)" <mailto:Ann@X.org>;',
    ],
)
def test_wrapping_of_an_email_is_removed(cell: str) -> None:
    assert emails_of(cell) == ["ann@x.org"]


@pytest.mark.parametrize(
    "cell",
    [
        *("'+12025550101", "p:+12025550101", "P: +1 202 555 0101", "tel:+1-202-555-0101"),
        *("sms:+12025550101", "whatsapp:+12025550101", "WhatsApp: +12025550101"),
        *("tel://+12025550101", "callto:+12025550101", "Mobile: +1 202 555 0101"),
        *("<+12025550101>", "Ann <+12025550101>", '="+12025550101"', '"+1 (202) 555-0101"'),
        *("+12025550101 (mobile)", "(home) +1 202 555 0101", "+12025550101.", "+12025550101;"),
        *("\u202a+12025550101\u202c", "+1\u200b202\u200e5550101", "+1\u00a0202\u2011555\u20130101"),
        *('["+12025550101"]', "[+12025550101]", "{+12025550101}", "\uff0b1 202 555 0101"),
    ],
)
@pytest.mark.parametrize("region", [None, "US", "GB"])
def test_wrapping_of_a_phone_number_is_removed(cell: str, region: str | None) -> None:
    assert phones_of(cell, region) == ["+12025550101"]


@pytest.mark.parametrize(
    "cell",
    [
        *("a@x.org <b@x.org>", "a@x.org (b@x.org)", "Ann Bell", "noemail@", "Ann a@x.org"),
        *("a@x.org b@x.org", "mailto:", "a@x.org and others", "mailto:a@x.org, me"),
    ],
)
def test_what_is_no_wrapping_of_an_email_is_a_bad_email(cell: str) -> None:
    assert emails_of(cell) in (["bad_email"], ["no_identifier"])
    assert read([cell, "good@x.org"])[0] == ["good@x.org"]


def test_number_in_a_name_is_not_dropped() -> None:
    assert phones_of("202-555-0101 <+12025550102>") == ["bad_phone"]


# Lists


@pytest.mark.parametrize(
    "separator",
    [
        *(";", ",", "|", ":::", " ::: ", " or ", " OR ", "/", " / ", "\n", "\r\n", "\r"),
        *("; ", ", ", ";;", " ; , ", "\uff1b", "\uff0c", "\u2028", " and ", " & "),
    ],
)
def test_cell_is_split_at(separator: str) -> None:
    assert emails_of(f"a@x.org{separator}B@x.org") == ["a@x.org", "b@x.org"]
    assert phones_of(f"202-555-0101{separator}202-555-0102") == ["2025550101", "2025550102"]
    assert phones_of(f"202-555-0101{separator}202-555-0102", "US") == [
        "+12025550101",
        "+12025550102",
    ]


@pytest.mark.parametrize(
    "cell",
    [
        '["a@x.org", "b@x.org"]',
        "['a@x.org', 'b@x.org']",
        "[a@x.org, b@x.org]",
        "{a@x.org,b@x.org}",
        '"a@x.org","b@x.org"',
        '"a@x.org, b@x.org"',
        '="a@x.org, b@x.org"',
        "'a@x.org','b@x.org'",
        '["a@x.org", null, "", "b@x.org", "a@x.org"]',
        '["a@x.org; b@x.org"]',
        "a@x.org; n/a; b@x.org;",
        "SMTP:a@x.org;smtp:b@x.org",
        "<a@x.org>;<b@x.org>",
        "Ann <a@x.org>, Bob <b@x.org>",
        "Bell, Ann <a@x.org>, Dorn, Bob <b@x.org>",
        'a@x.org, "Dorn, Bob" <b@x.org>',
        '"Bell, Ann" <a@x.org>; "Dorn; Bob" <b@x.org>',
        "a@x.org (home) / b@x.org (work)",
        ["a@x.org", "b@x.org"],
        ["a@x.org", None, "", "n/a", " B@x.org"],
        ["a@x.org; b@x.org"],
    ],
)
def test_list_of_emails(cell: object) -> None:
    assert emails_of(cell) == ["a@x.org", "b@x.org"]


@pytest.mark.parametrize(
    ("cell", "region", "phones"),
    [
        ("+47 22 12 34 56, +47 22 12 34 57", "NO", ["+4722123456", "+4722123457"]),
        ("0171-1234567 / 030-23125301", "DE", ["+491711234567", "+493023125301"]),
        ("[2025550101, 2025550102]", "US", ["+12025550101", "+12025550102"]),
        ("202-555-0101 (home), 202-555-0102 (work)", "US", ["+12025550101", "+12025550102"]),
        ("home 202-555-0101 work 202-555-0102", "US", ["+12025550101", "+12025550102"]),
        ("202-555-0101 x5; 202-555-0102", "US", ["+12025550101;ext=5", "+12025550102"]),
        ("202-555-0101; n/a", "US", ["+12025550101"]),
        ([2025550101, "202-555-0102"], "US", ["+12025550101", "+12025550102"]),
        # One number each.
        ("08024/12345", "DE", ["+49802412345"]),
        ("08024/12345", None, ["0802412345"]),
        ("030/23125301", "DE", ["+493023125301"]),
        ("12/34", None, ["1234"]),
        ("202-555-0101, ext. 5", "US", ["+12025550101;ext=5"]),
        # Neither one number nor a list of numbers.
        ("5551234,0", None, ["bad_phone"]),
        ("2025550101; 12", "US", ["bad_phone"]),
        ("12; 2025550101", "US", ["bad_phone"]),
        ("2025550101; call me", None, ["bad_phone"]),
    ],
)
def test_list_of_phone_numbers(cell: object, region: str | None, phones: list[str]) -> None:
    assert phones_of(cell, region) == phones


def test_text_with_one_bad_part_is_one_bad_value() -> None:
    assert read(["a@x.org; bad", "c@x.org"]) == (["c@x.org"], [], ["bad_email"])


def test_bad_item_of_a_list_does_not_cost_the_others() -> None:
    assert read([["a@x.org", "bad", 5, ["b@x.org"], {}, "c@x.org"]]) == (
        ["a@x.org", "c@x.org"],
        [],
        ["bad_email"] * 4,
    )


def test_ten_values_of_a_kind_are_the_most() -> None:
    emails = [f"a{i}@x.org" for i in range(VALUES_MAX)]
    phones = [f"202555{i:04}" for i in range(VALUES_MAX)]
    assert read(["; ".join([*emails, emails[0]])], phones) == (emails, phones, [])
    assert read([*emails, "b@x.org"], phones) == ([], phones, ["too_many_values"])
    assert read(["; ".join(emails), "b@x.org"], ["1"]) == ([], ["1"], ["too_many_values"])
    assert read(["1@x.org"], [",".join(["2025559999", *phones])]) == (
        ["1@x.org"],
        [],
        ["too_many_values"],
    )
    with pytest.raises(InvalidRequestError) as caught:
        ContactRequest(emails=[*emails, "b@x.org"])
    assert (caught.value.code, caught.value.field) == ("too_many_values", "email")


# Rows


def test_good_values_of_a_row_are_kept() -> None:
    assert read(["bad", "A@x.org"], ["x", "12"]) == (
        ["a@x.org"],
        ["12"],
        ["bad_email", "bad_phone"],
    )
    assert read(["bad"], ["x"]) == ([], [], ["bad_email", "bad_phone"])


def test_row_without_values_has_no_identifier() -> None:
    assert read() == ([], [], ["no_identifier"])
    assert read([None, "", " "], ["n/a", 0, []]) == ([], [], ["no_identifier"])


def test_strict_request_raises_for_the_first_bad_value() -> None:
    normalizer = Normalizer("US")
    request = normalizer.request(["a@x.org; b@x.org"], ["202-555-0101", 2025550101])
    assert request == ContactRequest(emails=["a@x.org", "b@x.org"], phone="2025550101", region="US")
    for emails, phones, code in (
        (["a@x.org", "bad"], ["x"], "bad_email"),
        (["a@x.org"], ["12"], "bad_phone"),
        ([None], ["0"], "no_identifier"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            normalizer.request(emails, phones)
        assert caught.value.code == code
    with pytest.raises(InvalidRequestError) as caught:
        normalizer.request(["a@x.org"], ["2025550101"], region="Atlantis")
    assert (caught.value.code, caught.value.field) == ("bad_region", "phone")


def test_null_words_count_as_absent() -> None:
    normalizer = Normalizer(null_words=["None@x.org", " KEINE ", "0000000000", "jose\u0301"])
    for cell in ("none@x.org", "NONE@X.ORG ", '"none@x.org"', "keine", "Keine", "jos\u00e9"):
        request, problems = normalizer.good_values([cell, "a@x.org"], [])
        assert request == ContactRequest("a@x.org")
        assert problems == []
    request, _ = normalizer.good_values(["a@x.org; keine"], ["0000000000", "000000000"])
    assert request == ContactRequest("a@x.org", "000000000")
    assert emails_of("none@x.org") == ["none@x.org"]


# Regions of rows


@pytest.mark.parametrize("row", ["GB", "gb", "GBR", "United Kingdom", "UK", " u.k. ", "Scotland"])
@pytest.mark.parametrize("default", [None, "US"])
def test_row_with_a_region_of_its_own(row: str, default: str | None) -> None:
    request, problems = Normalizer(default).good_values([], ["020 7946 0601"], region=row)
    assert request is not None
    assert (request.phones, problems) == (("+442079460601",), [])
    # The request belongs to the database's profile.
    assert request.region == default


@pytest.mark.parametrize("row", [None, "", " ", "n/a", "-", "NA", "unknown"])
def test_row_without_a_region_has_the_default_one(row: object) -> None:
    assert read([], ["202-555-0101"], "US", row) == ([], ["+12025550101"], [])
    assert read([], ["202-555-0101"], None, row) == ([], ["2025550101"], [])


@pytest.mark.parametrize("row", ["Atlantis", "ZZ", "+1", 44, "AQ"])
@pytest.mark.parametrize("default", [None, "US"])
def test_unknown_region_matters_only_to_numbers_without_country_code(
    row: object, default: str | None
) -> None:
    phones = ["202-555-0101", "+44 20 7946 0601", "+1 202 555 0102; 2025550103", "call me", ""]
    assert read(["a@x.org", "bad"], phones, default, row) == (
        ["a@x.org"],
        ["+442079460601"],
        ["bad_email", "bad_region", "bad_region", "bad_region"],
    )


# Whole files: invented people in the forms of real exports


@pytest.mark.parametrize(
    ("region", "emails", "phones", "values"),
    [
        ("US", ["Ann Bell <ann@b.org>"], ["tel:+12025550410"], "ann@b.org +12025550410"),
        ("US", ["ann@b.org"], ["+1 (202) 555-0410 x5"], "ann@b.org +12025550410;ext=5"),
        ("US", ['"Bell, Ann" <ann@b.org>'], ["1-202-555-0410"], "ann@b.org +12025550410"),
        ("US", ["<cat@d.org>"], ["202-555-0411 (mobile)"], "cat@d.org +12025550411"),
        (
            "US",
            ["cat@d.org;cat2@d.org"],
            ["202-555-0411/202-555-0412"],
            "cat@d.org cat2@d.org +12025550411 +12025550412",
        ),
        ("US", ["cat2@d.org"], ["+1.202.555.0412"], "cat2@d.org +12025550412"),
        ("US", ["eva@f.org."], ["202\u2011555\u20110413"], "eva@f.org +12025550413"),
        ("US", ["'eva2@f.org'"], ["\u202a+12025550413\u202c"], "eva2@f.org +12025550413"),
        ("US", ["noemail@"], ["n/a"], "bad_email"),
        ("GB", ["a1@e.org"], ["9.19877E+11"], "a1@e.org bad_phone"),
        ("GB", ["c1@e.org"], ['="02079460301"'], "c1@e.org +442079460301"),
        ("GB", ["d1@e.org"], ["2079460302"], "d1@e.org +442079460302"),
        ("GB", ["f1@e.org"], ["442079460301.0"], "f1@e.org +442079460301"),
        ("GB", ["g1@e.org"], ["#N/A"], "g1@e.org"),
        ("GB", ["h1@e.org"], ["0"], "h1@e.org"),
        ("GB", ["i1@e.org"], ["#REF!"], "i1@e.org"),
        ("GB", ["j1@e.org"], ["00442079460301"], "j1@e.org +442079460301"),
        ("US", ["abe@p.org"], ["2025550441.0"], "abe@p.org +12025550441"),
        ("US", ["bea@p.org"], ["nan"], "bea@p.org"),
        ("US", ["di@p.org"], ["<NA>"], "di@p.org"),
        ("US", [""], ["2025550442.0"], "+12025550442"),
        (
            "US",
            ["ada@m.org", "ada.old@m.org;am@mail.org"],
            ["+1 202-555-0120", ""],
            "ada@m.org ada.old@m.org am@mail.org +12025550120",
        ),
        (
            "US",
            ["ben@n.org", ""],
            ["(202) 555-0121 ext. 12", "202-555-0122"],
            "ben@n.org +12025550121;ext=12 +12025550122",
        ),
        (
            "NO",
            ["pru@q.org, pru.q@q.org", "", ""],
            ["+47 22 12 34 56, +47 22 12 34 57", "", "+47 406 00 001", ""],
            "pru@q.org pru.q@q.org +4722123456 +4722123457 +4740600001",
        ),
        ("NO", ["", "rob@s.org"], ["", "40600002"], "rob@s.org +4740600002"),
        (
            "US",
            ["nora@f.org ::: nora.a@m.org", ""],
            ["+1 202-555-0101", "(202) 555-0102"],
            "nora@f.org nora.a@m.org +12025550101 +12025550102",
        ),
        ("US", [""], ["202-555-0103 ::: 202-555-0104"], "+12025550103 +12025550104"),
    ],
)
def test_row_of_a_real_export(
    region: str, emails: list[str], phones: list[str], values: str
) -> None:
    assert [value for part in read(emails, phones, region) for value in part] == values.split()


# Properties

plain_emails = st.from_regex(
    r"[a-z0-9!#$%&*+/=?^_{|}~.-][a-z0-9!#$%&'*+/=?^_{|}~.-]{0,9}@[a-z0-9-]{1,9}(\.[a-z]{1,4}){0,2}",
    fullmatch=True,
)
digits = st.from_regex(r"\+?[0-9]{1,15}", fullmatch=True)
american = st.from_regex(r"\+?1?[ -]?\(?202\)?[ .-]?555[ .-]?0[0-9]{3}", fullmatch=True)
values = st.one_of(plain_emails, digits, american, st.sampled_from(["n/a", "", "0", "x", "#N/A"]))
decorations = st.sampled_from(
    [
        *("{}", " {} ", "'{}", "'{}'", '"{}"', '="{}"', "<{}>", "Ann Bell <{}>", '"Bell, A" <{}>'),
        *("mailto:{}", "tel: {}", "p:{}", "{},", "{};", "{}.", "{} (work)", "(old) {}", "[{}]"),
        *(
            '["{}"]',
            "\u202a{}\u202c",
            "\ufeff{}",
            "{} x5",
            "{};ext=07",
            "{} or {}",
            "{}; {}",
            "{}/{}",
        ),
        *("{}, {}", "{} ::: n/a", "{} mobile", "(0){}", "00{}", "{}.0", "{}E+5", "\u201c{}\u201d"),
        *(
            "mobile {} home {}",
            "{}\n{}",
            "{}#{}",
            "x{}",
            "-{}",
            "{}?subject=a",
            "e-mail: {}",
            "<<{}>>",
        ),
    ]
)


@st.composite
def decorated(draw: st.DrawFn) -> str:
    text = draw(values)
    for decoration in draw(st.lists(decorations, max_size=4)):
        text = decoration.replace("{}", text, 1).replace("{}", draw(values))
    return text


cells = st.one_of(
    decorated(),
    st.text(),
    st.text("a@.1x+();,/|:<>\"'[]{}=- #\n0"),
    st.lists(decorated(), max_size=4),
    st.lists(decorated(), max_size=4).map(json.dumps),
)


@given(st.lists(cells, max_size=3), st.lists(cells, max_size=3), st.sampled_from(REGIONS))
def test_a_request_twice_is_unchanged(
    emails: list[Any], phones: list[Any], region: str | None
) -> None:
    normalizer = Normalizer(region)
    request, _ = normalizer.good_values(emails, phones)
    if request is None:
        return
    assert normalizer.good_values(request.emails, request.phones) == (request, [])
    assert ContactRequest(emails=request.emails, phones=request.phones, region=region) == request
    # A stored value is one value, never a list, whatever is beside it.
    for value in request.emails:
        assert normalizer.request([value], []).emails == (value,)
        assert Normalizer().request([f" {value.upper()}; "], []).emails in (
            (value,),
            (value.upper().lower(),),
        )
    for value in request.phones:
        assert normalizer.request([], [value]).phones == (value,)
        assert Normalizer().request([], [value]).phones == (value,)


@given(plain_emails)
def test_email_of_version_1_is_itself_or_rejected(value: str) -> None:
    emails, _, codes = read([value])
    assert (emails, codes) in (([value], []), ([], ["bad_email"]))
    assert emails or not all(value.partition("@")[2].split("."))


@given(digits)
def test_phone_number_of_version_1_is_itself_or_absent(value: str) -> None:
    assert phones_of(value) == (["no_identifier"] if value == "0" else [value])


@given(st.from_regex(r"\+(1[2-9]|44[2-9]|49[1-9]|47[2-9])[0-9]{8,9}", fullmatch=True))
def test_e164_of_version_1_is_itself_or_rejected(value: str) -> None:
    for region in ("US", "DE"):
        assert phones_of(value, region) in ([value], ["bad_phone"], ["placeholder"])


@given(
    decorated(), st.sampled_from(REGIONS), st.sampled_from(["'{}", '"{}"', '="{}"', "{};", " {}"])
)
def test_wrapping_does_not_matter(raw: str, region: str | None, wrapping: str) -> None:
    inner, wrapped = read([raw], [raw], region), read([wrapping.format(raw)], [], region)
    if inner[0] and '"' not in raw:
        assert wrapped[0] == inner[0]


@given(cells, cells, st.sampled_from(REGIONS))
def test_strict_and_lenient_agree(email: Any, phone: Any, region: str | None) -> None:
    normalizer = Normalizer(region)
    request, problems = normalizer.good_values([email], [phone])
    if problems:
        with pytest.raises(InvalidRequestError) as caught:
            normalizer.request([email], [phone])
        assert caught.value.code == problems[0].code
    else:
        assert normalizer.request([email], [phone]) == request


# Hostile cells


@pytest.mark.parametrize(
    "cell",
    [
        *(text * 1_000_000 for text in ";,/|:\n \"'`<([{=-.\u200b\u0301x0@"),
        *("; " * 500_000, "()" * 500_000, "a;" * 500_000, "p:" * 500_000, " or " * 250_000),
        *("a@b;" * 4_000, "a@b.;" * 3_200 + "x", "1234567/" * 2_000 + "x", "1234567,/|;" * 1_400),
        *("(" * 1_200, "p:" * 600, "(a)" * 400, "'\"" * 600, "<a" * 600, '"\\' * 600, '"a' * 8_000),
        *("x5" * 100 + "!", "call 1 or 2 " * 20, "1x" * 120, "+1 " * 80, "x#;ext=" * 30),
        *(
            "[" * 8_000 + "]" * 8_000,
            "[" + "1," * 500_000 + "1]",
            '["a@b"' + ',"a@b"' * 2_000 + "]",
        ),
    ],
    ids=lambda cell: f"{cell[:8]!a}-{len(cell)}",
)
@pytest.mark.parametrize("region", [None, "US"])
def test_hostile_cell_takes_little_time(cell: str, region: str | None) -> None:
    started = time.process_time()
    read([cell], [cell], region)
    # Quadratic time would be minutes.
    assert time.process_time() - started < 5
