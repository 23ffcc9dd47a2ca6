"""The page to look people up, in a real browser against a real service."""

from __future__ import annotations

import json
import re
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
from browser.lookups import fill_database, looking_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from serving import Served

pytestmark = pytest.mark.slow

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
DESK, PHONE = 1400, 390
TOKENS = {"IDENTITY_HTTP_TOKEN": "sesame-öffne", "IDENTITY_HTTP_READ_TOKEN": "nur-schaün"}
FIELD = "Email, phone number or contact id"
MARTY = "marty@hillvalley.example"
HOSTILE = "<img/src=x/onerror=alert(1)>'$(id)`id`@x.org"
HOSTILE_PHONE = "5550666"
CROWD = "5550777"
LINE = [f"55508{n:03}" if n % 2 else f"line{n}@line.example" for n in range(200)]
# What reaches beyond the right edge, apart from what scrolls by itself.
OUTSIDE = """
    [...document.querySelectorAll('body *')].filter(one =>
        !one.closest('.hidden') && !one.parentElement.closest('.scroll')
        && one.getBoundingClientRect().right > innerWidth + 0.5
    ).map(one => one.outerHTML)
"""
# The texts of the picture with their colour and that of what is behind them.
PICTURE_COLORS = """
    [...document.querySelectorAll('#picture text')].map(text => {
        const box = text.parentElement.querySelector('rect');
        const ground = getComputedStyle(text.closest('.picture')).backgroundColor;
        return [getComputedStyle(text).fill, box ? getComputedStyle(box).fill : ground];
    })
"""


@pytest.fixture(scope="module")
def world(
    cloned_database: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, str]]:
    """A folder and a database: a family, a blocked mailbox, a hostile value, a crowd, a line.

    The crowd of 5,000 shares a phone number; each value of the line is linked by the one before.
    """
    folder = tmp_path_factory.mktemp("lookups")
    with cloned_database() as url:
        fill_database(folder, {"DATABASE_URL": url})
        with psycopg.connect(url, autocommit=True) as connection:
            # As a database of an older normalisation may hold it.
            connection.execute(
                "SELECT reconcile_request(ARRAY[%s], ARRAY[%s])", (HOSTILE, HOSTILE_PHONE)
            )
            connection.execute(
                "WITH first AS (INSERT INTO contact (email, phone_number, link_precedence)"
                "  VALUES ('p1@crowd.example', %(crowd)s, 'primary') RETURNING id, created_at)"
                " SELECT set_config('test.primary', id::text, false) FROM first",
                {"crowd": CROWD},
            )
            connection.execute(
                "INSERT INTO contact"
                " (email, phone_number, linked_id, link_precedence, anchors_phone)"
                " SELECT 'p' || n || '@crowd.example', %(crowd)s,"
                "  current_setting('test.primary')::bigint, 'secondary', false"
                " FROM generate_series(2, 5000) AS n",
                {"crowd": CROWD},
            )
            for pair in pairwise(LINE):
                emails = [value for value in pair if "@" in value]
                phones = [value for value in pair if "@" not in value]
                connection.execute("SELECT reconcile_request(%s, %s)", (emails, phones))
        yield folder, url


@pytest.fixture(scope="module")
def served(world: tuple[Path, str]) -> Iterator[Served]:
    folder, url = world
    with looking_up(folder, {"DATABASE_URL": url}) as served:
        yield served


@pytest.fixture(scope="module")
def guarded(world: tuple[Path, str]) -> Iterator[Served]:
    """A service with both tokens."""
    folder, url = world
    with looking_up(folder, {"DATABASE_URL": url}, **TOKENS) as served:
        yield served


class Visit:
    """A page with the service, what it asked for and what it complained about."""

    def __init__(self, browser: Any, served: Served, width: int, scheme: str) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.requests: list[Any] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(f"{served.url}/")
        self.host = urlsplit(served.url).netloc

    def look_up(self, text: str) -> None:
        self.page.get_by_label(FIELD).fill(text)
        self.page.keyboard.press("Enter")

    def find(self, text: str) -> None:
        self.look_up(text)
        self.page.get_by_role("status").filter(has_text="Found contact").wait_for()
        self.page.get_by_role("table", name="Each value").wait_for()

    @property
    def status(self) -> str:
        text: str = self.page.get_by_role("status").inner_text()
        return text

    def details(self) -> str:
        text: str = self.page.locator("#details-body").inner_text()
        return text

    def facts(self) -> dict[str, str]:
        """The names and descriptions of what is selected."""
        found: dict[str, str] = self.page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('#details-body dt')]"
            ".map(one => [one.textContent, one.nextElementSibling.textContent]))"
        )
        return found

    def commands(self) -> list[list[str]]:
        """The words of the commands that are shown."""
        lines = (
            self.page.locator("code").filter(has_text=re.compile("^identity ")).all_inner_texts()
        )
        return [shlex.split(line) for line in lines]

    def focused(self) -> str:
        label: str = self.page.evaluate(
            "document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"
        )
        return label


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def start(service: Served = served, width: int = DESK, scheme: str = "light") -> Visit:
        visits.append(Visit(browser, service, width, scheme))
        return visits[-1]

    yield start
    for visited in visits:
        visited.context.close()


def test_look_up_shows_contact_evidence_and_history(visit: Callable[..., Visit]) -> None:
    seen = visit()
    assert seen.focused() == "value"
    seen.find(" Marty@HillValley.example ")
    page = seen.page

    assert seen.status == (
        "Found contact 5 of identity 1: 6 contacts, 9 values, 3 rows of later evidence."
    )
    emails = page.get_by_role("list", name="Emails").get_by_role("listitem").all_inner_texts()
    assert emails == [
        "george@hillvalley.example",
        "lorraine@hillvalley.example",
        "marty@twinpines.example",
        "marty@hillvalley.example",
    ]
    assert page.get_by_role("list", name="Phone numbers").get_by_role("listitem").count() == 5
    picture = page.get_by_role("group", name="Picture of the evidence")
    assert picture.get_by_role("button", name=MARTY, exact=True).get_attribute("aria-pressed") == (
        "true"
    )
    assert picture.get_by_role("button", name=re.compile(", joins ")).count() == 9
    rows = page.get_by_role("table", name="Each value").get_by_role("row")
    assert rows.count() == 10
    cells = rows.nth(3).get_by_role("cell").all_inner_texts()
    assert cells[:4] == ["george@hillvalley.example", "evidence 1", "2", "letters-2026-11-28.csv:4"]
    history = page.get_by_role("table", name="What happened").get_by_role("row")
    assert "identity 4 became part of identity 1, run 3" in history.nth(1).inner_text()
    assert seen.complaints == []


def test_values_are_in_no_url_no_log_and_no_storage(
    visit: Callable[..., Visit], served: Served
) -> None:
    seen = visit()
    seen.find(MARTY)
    seen.page.get_by_label("Show the shortest chain").fill("george@hillvalley.example")
    seen.page.keyboard.press("Enter")
    seen.page.get_by_role("status").filter(has_text="The chain has").wait_for()

    urls = [request.url for request in seen.requests]
    assert len(urls) > 10
    assert {urlsplit(url).netloc for url in urls} == {seen.host}
    for text in (*urls, seen.page.url, *served.lines):
        assert "marty" not in text
        assert "hillvalley" not in text
    assert seen.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]


def test_hop_is_followed_from_value_to_value(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.find(MARTY)
    details = seen.page.get_by_role("region", name="Selected")
    assert seen.facts()["Source"] == "letters-2026-11-28.csv:3"

    details.get_by_role("button", name="to +12025550144").click()
    assert seen.focused() == "details-heading"
    assert f"Contact 5 shows +12025550144 and {MARTY}." in seen.details()
    facts = seen.facts()
    assert facts["Row"] == "contact 5"
    assert facts["Run"] == "2"
    assert facts["Source"] == "letters-2026-11-28.csv:3"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", facts["Time"])
    assert ["identity", "unlink", "+12025550144", MARTY] in seen.commands()
    assert ["identity", "undo", "2"] in seen.commands()

    details.get_by_role("button", name="+12025550144", exact=True).click()
    details.get_by_role("button", name="to lorraine@hillvalley.example").click()
    assert seen.facts()["Merged"] == "the identity of contact 4 became part of this one"
    assert seen.facts()["Source"] == "calls-2026-11-29.csv:2"
    pressed = seen.page.locator("#picture [aria-pressed=true]")
    assert pressed.get_attribute("aria-label") == (
        "evidence 2, calls-2026-11-29.csv:2, joins lorraine@hillvalley.example and +12025550144"
    )


def test_pointer_selects_values_and_rows_in_the_picture(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.find(MARTY)
    picture = seen.page.get_by_role("group", name="Picture of the evidence")
    picture.locator("text", has_text="contact 8").click()
    facts = seen.facts()
    assert (facts["Row"], facts["Run"], facts["Source"]) == (
        "contact 8",
        "none",
        "identify or HTTP",
    )
    assert ["identity", "unlink", MARTY, "+12025550146"] in seen.commands()
    picture.locator("text", has_text="lorraine@hillvalley.example").click()
    assert seen.details().startswith("Email lorraine@hillvalley.example")
    assert ["identity", "block", "lorraine@hillvalley.example"] in seen.commands()
    # The row beside the tree: a line between two boxes that has no text.
    other = picture.locator(".other")
    assert other.count() == 1
    other.focus()
    seen.page.keyboard.press("Enter")
    assert seen.facts()["Source"] == "calls-2026-11-29.csv:4"


def test_chain_leads_to_another_value_or_reports_two_identities(
    visit: Callable[..., Visit],
) -> None:
    seen = visit()
    seen.find(MARTY)
    other = seen.page.get_by_label("Show the shortest chain")

    other.fill("+12025550141")
    seen.page.keyboard.press("Enter")
    seen.page.get_by_role("status").filter(has_text="The chain has 3 hops.").wait_for()
    hops = seen.page.locator("#chain-body li").all_inner_texts()
    assert hops == [
        f"{MARTY} to +12025550144: contact 5, letters-2026-11-28.csv:3",
        "+12025550144 to george@hillvalley.example: evidence 3, calls-2026-11-29.csv:4",
        "george@hillvalley.example to +12025550141: contact 1, shop-2026-11-27.csv:2",
    ]
    name = "evidence 3, calls-2026-11-29.csv:4"
    seen.page.get_by_role("button", name=name, exact=True).click()
    assert seen.facts()["Row"] == "evidence 3"

    other.fill("biff@hillvalley.example")
    seen.page.keyboard.press("Enter")
    seen.page.get_by_role("status").filter(has_text="They are two identities.").wait_for()
    assert "They are two identities: 1 and 3." in seen.page.locator("#chain-body").inner_text()
    other.fill("info@hillvalley.example")
    seen.page.keyboard.press("Enter")
    seen.page.get_by_text("This value is blocked").wait_for()
    assert ["identity", "unblock", "info@hillvalley.example"] in seen.commands()


def test_unknown_wrong_and_blocked_values_are_explained(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.find(MARTY)
    result = seen.page.locator("#result")
    for text, message in (
        ("nobody@hillvalley.example", "No such contact."),
        ("99999", "No such contact."),
        ("no value", "A phone number may contain only digits and a leading +."),
        ("info@hillvalley.example", "No identity has the value: it was blocked (command 1)."),
    ):
        seen.look_up(text)
        seen.page.get_by_role("status").filter(has_text=message).wait_for()
        assert result.is_hidden()
    rules = seen.page.get_by_role("region", name="Why it is not found").inner_text()
    assert "This value is blocked: it belongs to no identity." in rules
    assert "front office" in rules
    assert seen.commands() == [["identity", "unblock", "info@hillvalley.example"]]
    seen.find(MARTY)
    assert seen.page.locator("#rules").is_hidden()


def test_number_of_an_id_can_be_looked_up_as_a_phone_number(
    visit: Callable[..., Visit], served: Served
) -> None:
    served.identify("five@hillvalley.example", "5")
    seen = visit()
    seen.find("5")
    assert "marty@twinpines.example" in seen.page.locator("#contact-body").inner_text()
    seen.page.get_by_role("button", name="Look up the phone number").click()
    seen.page.get_by_text("five@hillvalley.example").first.wait_for()
    assert seen.page.get_by_role("button", name="Look up the phone number").count() == 0


def test_wrong_token_is_refused_and_the_read_token_is_enough(
    visit: Callable[..., Visit], guarded: Served
) -> None:
    seen = visit(guarded)
    seen.look_up(MARTY)
    page = seen.page
    page.get_by_role("status").filter(has_text="This service needs a token.").wait_for()
    assert seen.focused() == "token"
    assert page.get_by_label("Token of this service").get_attribute("type") == "password"

    page.get_by_label("Token of this service").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="This token was refused: check it.").wait_for()
    assert page.evaluate("sessionStorage.length") == 0
    assert page.locator("#result").is_hidden()

    page.get_by_label("Token of this service").fill(TOKENS["IDENTITY_HTTP_READ_TOKEN"])
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="Found contact 5").wait_for()
    assert page.get_by_label("Token of this service").is_hidden()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        1,
        "",
    ]
    refused = page.evaluate(
        "async () => (await fetch('identify', {method: 'POST', body: '{\"email\": \"x@y\"}',"
        " headers: {'Content-Type': 'application/json', Authorization: 'Bearer '"
        " + String.fromCharCode(...new TextEncoder().encode(sessionStorage['identity.token']))}}))"
        ".status"
    )
    assert refused == 403
    page.reload()
    seen.find(MARTY)  # kept in the tab
    page.get_by_role("button", name="Forget the token").click()
    assert page.evaluate("sessionStorage.length") == 0
    assert page.locator("#result").is_hidden()
    other = visit(guarded)
    other.look_up(MARTY)
    other.page.get_by_role("status").filter(has_text="This service needs a token.").wait_for()
    secrets = [*TOKENS.values(), "wrong"]
    assert not [r.url for r in seen.requests if any(s in r.url for s in secrets)]
    assert not [line for line in guarded.lines if any(s in line for s in secrets)]


def test_identity_of_5000_is_pruned_paged_and_responsive(visit: Callable[..., Visit]) -> None:
    seen = visit()
    start = time.monotonic()
    seen.find("p4000@crowd.example")
    assert time.monotonic() - start < 10
    page = seen.page
    summary = page.locator("#evidence-summary").inner_text()
    assert re.fullmatch(r"\d\d of 5,001 values are drawn: those nearest to .*", summary)
    assert page.locator("#picture .node").count() < 60
    assert page.locator("#picture text", has_text="p4000@crowd.example").is_visible()
    assert page.get_by_role("button", name=re.compile(f"{CROWD}, and 4,98\\d more values")).count()
    assert page.evaluate("document.querySelectorAll('*').length") < 2000

    table = page.get_by_role("table", name="Each value")
    assert table.get_by_role("row").count() == 51
    pages = page.get_by_role("group", name="Pages of values")
    assert "1\N{EN DASH}50 of 5,001" in pages.inner_text()
    pages.get_by_role("button", name="Next").click()
    page.get_by_text("51\N{EN DASH}100 of 5,001").wait_for()
    region = "document.activeElement.getAttribute('aria-labelledby')"
    assert page.evaluate(region) == "table-caption"
    assert table.get_by_role("row").nth(1).get_by_role("rowheader").inner_text() == (
        "p50@crowd.example"
    )
    emails = page.get_by_role("group", name="Pages of emails")
    emails.get_by_role("button", name="Next").click()
    assert "21\N{EN DASH}40 of 5,000" in emails.inner_text()

    table.get_by_role("button", name="p60@crowd.example").click()
    details = page.get_by_role("region", name="Selected")
    details.get_by_role("button", name="Show what is around this value").click()
    page.locator("#picture text", has_text="p60@crowd.example").wait_for()
    start = time.monotonic()
    details.get_by_role("button", name=f"to {CROWD}").click()
    assert seen.facts()["Row"].startswith("contact ")
    assert time.monotonic() - start < 5
    assert seen.complaints == []


def test_identity_above_the_contact_limit_is_counted_and_refused_with_a_command(
    visit: Callable[..., Visit], world: tuple[Path, str]
) -> None:
    folder, url = world
    limit = {"IDENTITY_HTTP_CONTACT_LIMIT": "100"}
    with looking_up(folder, {"DATABASE_URL": url}, **limit) as served:
        seen = visit(served, width=PHONE)
        seen.look_up(CROWD)
        page = seen.page
        page.get_by_role("status").filter(has_text="Found contact").wait_for()
    contact = page.locator("#contact-body").inner_text()
    assert "5,000" in contact
    assert re.search(r"run identity show --id \d+ on the command line", contact)
    assert (
        "run identity explain, which has no limit" in page.locator("#evidence-summary").inner_text()
    )
    assert "run identity history" in page.locator("#history-body").inner_text()
    assert page.locator("#picture").is_hidden()
    assert page.evaluate(CONTRAST)[1] == []
    assert page.evaluate(OUTSIDE) == []


def test_long_way_to_the_primary_is_drawn_with_a_gap(visit: Callable[..., Visit]) -> None:
    seen = visit(width=PHONE)
    seen.find(LINE[-1])
    page = seen.page
    picture = page.get_by_role("group", name="Picture of the evidence")
    assert "of 200 values are drawn" in page.locator("#evidence-summary").inner_text()
    assert picture.locator("text", has_text=LINE[0]).count() == 1
    gap = picture.get_by_role("button", name="167 more values are left out")
    gap.focus()
    page.keyboard.press("Enter")
    assert f"{LINE[167]} and {LINE[168]}." in seen.details()
    details = page.get_by_role("region", name="Selected")
    details.get_by_role("button", name=LINE[167], exact=True).click()
    details.get_by_role("button", name="Show what is around this value").click()
    picture.locator("text", has_text=LINE[150]).wait_for()
    assert page.evaluate(OUTSIDE) == []
    assert seen.complaints == []


def test_keyboard_alone_looks_up_follows_and_reaches_everything(
    visit: Callable[..., Visit],
) -> None:
    seen = visit()
    keyboard = seen.page.keyboard
    keyboard.type(MARTY)
    keyboard.press("Enter")
    seen.page.get_by_role("table", name="Each value").wait_for()

    for _ in range(30):
        keyboard.press("Tab")
        if seen.focused() == MARTY:
            break
    else:
        pytest.fail("Tab does not reach the picture")
    keyboard.press("ArrowLeft")
    row = "contact 5, letters-2026-11-28.csv:3, joins +12025550144 and marty@hillvalley.example"
    assert seen.focused() == row
    keyboard.press("Enter")
    assert seen.facts()["Row"] == "contact 5"
    keyboard.press("ArrowLeft")
    assert seen.focused() == "+12025550144"
    keyboard.press("Space")
    assert seen.details().startswith("Phone number +12025550144")
    keyboard.press("ArrowRight")
    assert seen.focused().startswith("contact 4, ")
    keyboard.press("ArrowDown")
    assert seen.focused() == row
    keyboard.press("ArrowRight")
    assert seen.focused() == MARTY
    keyboard.press("Home")
    assert seen.focused() == "george@hillvalley.example"
    keyboard.press("ArrowUp")
    assert seen.focused() == "george@hillvalley.example"

    reached = []
    for _ in range(60):
        keyboard.press("Tab")
        reached.append(
            seen.page.evaluate(
                "(document.activeElement.closest('section section, form, table, #history-body,"
                " #table-body') ?? document.activeElement).id"
            )
        )
        outline = seen.page.evaluate(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, parseFloat(outlineWidth)])"
            "(getComputedStyle(document.activeElement))"
        )
        if reached[-1] == "history-body":
            break
        assert outline[0] != "none"
        assert outline[1] >= 2
    assert "chain" in reached
    assert "table-body" in reached
    assert reached[-1] == "history-body"


def test_focus_in_the_picture_can_be_seen(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.find(MARTY)
    width = "getComputedStyle(document.activeElement.querySelector('rect, .line')).strokeWidth"
    seen.page.locator("#picture [tabindex='0']").focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp"):
        seen.page.keyboard.press(key)
        assert seen.page.evaluate(width) == "4px"


def test_hostile_value_is_inert_and_quoted(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.find(HOSTILE_PHONE)
    page = seen.page
    assert page.get_by_role("list", name="Emails").inner_text() == HOSTILE
    page.get_by_role("list", name="Emails").get_by_role("button").click()
    assert HOSTILE in seen.details()
    assert ["identity", "block", HOSTILE] in seen.commands()
    page.get_by_role("region", name="Selected").get_by_role(
        "button", name=f"to {HOSTILE_PHONE}"
    ).click()
    assert ["identity", "unlink", HOSTILE, HOSTILE_PHONE] in seen.commands()
    page.get_by_label("Show the shortest chain").fill(HOSTILE)
    page.keyboard.press("Enter")
    page.locator("#status.bad").wait_for()
    assert "$(id)" not in seen.status
    assert page.locator("img, script:not([src]), [onerror]").count() == 0
    # The last look-up was refused, and Chromium reports that.
    [complaint] = seen.complaints
    assert "status of 422" in complaint


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["a@x.org", "+12025550141"], "identity unlink a@x.org +12025550141"),
        (["o'brien@x.org", "1"], "identity unlink 'o'\"'\"'brien@x.org' 1"),
        (["-x@y.org", "$(id)@y.org"], "identity unlink -- -x@y.org '$(id)@y.org'"),
        (["grüße@x.org", "a&b@x.org"], "identity unlink 'grüße@x.org' 'a&b@x.org'"),
    ],
)
def test_commands_are_quoted_for_a_shell(
    visit: Callable[..., Visit], words: list[str], line: str
) -> None:
    written = visit().page.evaluate(
        "async (words) => (await import(new URL('page/commands.js', location))).commandLine("
        "['unlink'], words)",
        words,
    )
    assert written == line
    assert [word for word in shlex.split(written)[2:] if word != "--"] == words


def test_policy_lets_nothing_else_run_or_load(visit: Callable[..., Visit], served: Served) -> None:
    policy = served.get("/").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    seen = visit()
    ran = seen.page.evaluate(
        """() => {
            const script = document.createElement('script');
            try { script.textContent = 'window.ran = true'; } catch { return 'refused'; }
            document.body.append(script);
            return window.ran ?? 'blocked';
        }"""
    )
    assert ran in {"refused", "blocked"}
    refused = seen.page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x'; } catch (error) { return error.name; } }"
    )
    assert refused == "TypeError"
    loaded = seen.page.evaluate(
        "fetch('https://example.org/').then(() => 'loaded', error => error.name)"
    )
    assert loaded == "TypeError"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("text", [MARTY, "p4000@crowd.example"], ids=["family", "crowd"])
def test_page_fits_and_can_be_read(
    visit: Callable[..., Visit], tmp_path: Path, text: str, width: int, scheme: str
) -> None:
    seen = visit(width=width, scheme=scheme)
    page = seen.page
    seen.find(text)
    page.locator("#picture .row").first.focus()
    page.keyboard.press("Enter")
    texts, too_faint = page.evaluate(CONTRAST)
    assert texts > 50
    assert too_faint == []
    colors = page.evaluate(PICTURE_COLORS)
    assert len(colors) > 20
    assert [pair for pair in colors if contrast(*pair) < 4.5] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OUTSIDE) == []
    is_dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 26)"
    assert is_dark == (scheme == "dark")
    picture = page.screenshot(path=tmp_path / f"page-{width}-{scheme}.png", full_page=True)
    assert len(picture) > 20_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_messages_and_rules_can_be_read(
    visit: Callable[..., Visit], guarded: Served, scheme: str
) -> None:
    seen = visit(width=PHONE, scheme=scheme)
    seen.look_up("info@hillvalley.example")
    seen.page.get_by_role("region", name="Why it is not found").wait_for()
    assert seen.page.evaluate(CONTRAST)[1] == []
    assert seen.page.evaluate(OUTSIDE) == []
    asked = visit(guarded, width=PHONE, scheme=scheme)
    asked.look_up("5")
    asked.page.get_by_label("Token of this service").wait_for()
    assert asked.page.evaluate(CONTRAST)[1] == []
    assert asked.page.evaluate(OUTSIDE) == []


def test_screen_reader_finds_regions_labels_and_headings(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.find(MARTY)
    page = seen.page
    for name in ("Consolidated contact", "Evidence", "Selected", "History"):
        assert page.get_by_role("region", name=name, exact=True).count() == 1
        assert page.get_by_role("heading", name=name, exact=True).count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("textbox").count() == 2
    unnamed = "[...document.querySelectorAll('button, input')].filter(one => one.checkVisibility())"
    names = page.evaluate(
        f"{unnamed}.map(one => one.getAttribute('aria-label') ?? (one.labels?.[0] ?? one)"
        ".textContent.trim())"
    )
    assert len(names) > 20
    assert all(names)
    assert page.get_by_role("status").get_attribute("role") == "status"
    assert page.locator("#picture svg").get_attribute("aria-describedby") == "picture-help"


def test_command_is_copied_or_else_selected(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    seen.find(MARTY)
    button = seen.page.get_by_role("button", name=f"Copy identity block {MARTY}")
    button.click()
    seen.page.get_by_role("status").filter(has_text="Copied.").wait_for()
    assert seen.page.evaluate("navigator.clipboard.readText()") == f"identity block {MARTY}"
    # As over HTTP without TLS.
    seen.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    button.click()
    seen.page.get_by_role("status").filter(has_text="Selected").wait_for()
    assert seen.page.evaluate("getSelection().toString()") == f"identity block {MARTY}"


def test_newer_look_up_replaces_the_one_before(visit: Callable[..., Visit]) -> None:
    seen = visit()
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    seen.page.route("**/contacts/*/evidence", hold_the_first)
    seen.look_up("p4000@crowd.example")
    while not held:
        seen.page.wait_for_timeout(20)
    seen.find(MARTY)
    held[0].abort()
    seen.page.wait_for_timeout(100)
    assert seen.status.startswith("Found contact 5 of identity 1")
    assert seen.page.locator("#result").get_attribute("aria-busy") is None
    assert seen.complaints == []


def test_answer_of_something_else_is_reported(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.page.route("**/lookup", lambda route: route.fulfill(body="<h1>Sign in</h1>"))
    seen.look_up(MARTY)
    message = "The answer is not from this service."
    seen.page.get_by_role("status").filter(has_text=message).wait_for()


def test_service_that_is_gone_is_reported(
    visit: Callable[..., Visit], world: tuple[Path, str]
) -> None:
    folder, url = world
    with looking_up(folder, {"DATABASE_URL": url}) as short_lived:
        seen = visit(short_lived)
    seen.look_up(MARTY)
    seen.page.get_by_role("status").filter(has_text="The service cannot be reached.").wait_for()


def contrast(color: str, other: str) -> float:
    """The contrast of two opaque colours by WCAG."""
    low, high = sorted(map(luminance, (color, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert json.dumps(round(contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)"), 2)) == "4.54"
