"""A person's way through the page: first run with the sample files, login, a paper day, a kill, a backtest, logout.

Tests judge each page of the way, and `tools/web_screenshots.py` takes its picture.
"""

from __future__ import annotations

import csv
import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab
from web_browser import PATIENCE_MS, PHONE, WIDTHS, Child, Page, venue

from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.rehearsal.prices import bars_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from playwright.sync_api import BrowserContext


USER: Final = "anna"
IDENTITY: Final = "ACME_US_ALPACA_B01"
SECRETS: Final = {
    "password": "velvet otter quarry lantern",
    "api_key": "PKWALKOFTHEPAGE00001",
    "api_secret": "walk-of-the-page-secret-4711",
    "finnhub": "walkofthepagefinnhub0",
    "routing_key": "0123456789abcdef0123456789abcdef",
    "smtp": "walk-of-the-page-mail-0815",
    "another password": "copper meadow violin harbour",
}
"""What a person types on the way and no answer may show."""

WAIT_MS: Final = 240_000
"""How long a signal or a backtest may take on a busy machine."""

LOGINS: Final = {
    "smtp.email.host": "127.0.0.1",
    "smtp.email.port": "2525",
    "smtp.email.user": "bot@example.com",
    "smtp.email.password": SECRETS["smtp"],
    "smtp.email.recipients": "me@example.com",
    "alert.pagerduty.routing_key": SECRETS["routing_key"],
    "screener_api.finnhub.api_key": SECRETS["finnhub"],
}
"""What a person enters at the steps of alerts and screeners: nothing is sent there in a rehearsal."""

TRADES_AT_ONCE: Final = {
    "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER": "false",
    "FILTER_MISSING_DATA": "pass",
    "TRADE_CONFIRMATION_REQUIRED": "true",
}
"""What a person changes so that the day needs no account at Finnhub, and asks before it trades."""

_FILES: Final = {"env_bot": "env_bot.sample", "env": "env.sample"}


class Watcher(Protocol):
    """Who looks at the pages of a way; `secrets` are the texts of which it is told, with the paths that show them."""

    secrets: dict[str, tuple[str, ...]]

    def watch(self, context: BrowserContext, *, scripts: bool = True) -> Tab:
        """A new tab."""

    def look(self, tab: Tab, name: str) -> None:
        """Look at the page that a tab shows."""

    def settle(self, tab: Tab) -> None:
        """Look at what a tab has got, before it leaves its page."""


DAY: Final = dt.date(2026, 11, 24)
READ: Final = (
    "/trades",
    "/decisions",
    "/decisions/day",
    "/confirmations",
    "/risk",
    "/settings",
    "/secrets/broker",
    "/alerts",
    "/plugins",
    "/plugins/broker/alpaca",
    "/audit",
    "/logs",
    "/account",
)
"""Pages that are looked at while the bot gets ready; the others are on the way."""

WITHOUT_SCRIPTS: Final = (
    "/",
    "/trades",
    "/decisions",
    "/confirmations",
    "/risk",
    "/settings",
    "/runs",
    "/alerts",
    "/account",
)


@attrs.define(eq=False, kw_only=True)
class Walk:
    """A person at a browser's tab; `origin` is the address of the page."""

    tab: Tab
    origin: str
    watcher: Watcher
    scripts: bool = True

    @property
    def path(self) -> str:
        """Where the tab is."""
        return self.tab.url.removeprefix(self.origin).partition("?")[0]

    def open(self, path: str, name: str = "") -> None:
        """Open a page; it is looked at if it has a name."""
        self.watcher.settle(self.tab)
        self.tab.goto(self.origin + path)
        self.see(name)

    def press(self, button: str, name: str = "", *, at: str = "body") -> None:
        """Press a button or open a link of the page, or of a part of it."""
        self.watcher.settle(self.tab)
        place = self.tab.locator(at)
        there = place.get_by_role("button", name=button, exact=True).or_(
            place.get_by_role("link", name=button, exact=True)
        )
        with self.arriving():
            there.first.click()
        self.see(name)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Wait until the tab has another page."""
        if not self.scripts:
            with self.tab.expect_navigation():
                yield
            return
        self.tab.evaluate("() => { window.here = true; }")
        yield
        self.tab.wait_for_function("() => !window.here && document.readyState === 'complete'")

    def see(self, name: str) -> None:
        """Look at the page, if it has a name."""
        if name:
            self.watcher.look(self.tab, name)

    def fill(self, **fields: str) -> None:
        """Fill the fields of a form, by their names."""
        for name, text in fields.items():
            self.tab.locator(f"main [name='{name}']").first.fill(text)

    def read(self, text: str) -> None:
        """Wait for a text."""
        expect(self.tab.locator("body")).to_contain_text(text, timeout=PATIENCE_MS)


def make_admin(walk: Walk, link: str) -> None:
    """Open the link of the first run, and become the admin."""
    walk.open(link, "first-run")
    walk.fill(name=USER, password=SECRETS["password"], again=SECRETS["password"])
    walk.press("Make the admin", "setup-begin")


def set_up(walk: Walk, samples: Path) -> None:
    """Drop the sample files in, answer what they do not, and make the instance."""
    walk.tab.locator("input[name=how][value=upload]").check()
    for field, sample in _FILES.items():
        walk.tab.set_input_files(f"input[name={field}]", samples / sample)
    walk.press("Continue", "setup-taken")
    walk.press("Continue", "setup-identity")
    walk.fill(identity=IDENTITY)
    walk.press("Continue", "setup-credentials")
    for field in ("api_key", "api_secret"):
        walk.tab.locator(f"main input[name$='{field}']").first.fill(SECRETS[field])
    walk.press("Test the login")
    walk.see("setup-credentials-tested")
    walk.press("Continue")
    while walk.path != "/setup/summary":
        walk.see(walk.path.removeprefix("/").replace("/", "-"))
        for name, text in LOGINS.items():
            if walk.tab.locator(f"main input[name='{name}']").count():
                walk.fill(**{name: text})
        walk.press("Continue")
    walk.see("setup-summary")
    walk.press("Approve the plugins and create the instance", "check")


def each_step(walk: Walk) -> None:
    """Look at every step of the set-up, without an answer."""
    steps = walk.tab.locator("nav.steps a")
    for path in [one.get_attribute("href") or "" for one in steps.all()]:
        walk.open(path, path.removeprefix("/").replace("/", "-"))


def log_in(walk: Walk, name: str = "") -> None:
    """Log in at the page's form."""
    walk.open("/login", name)
    walk.fill(name=USER, password=SECRETS["password"])
    walk.press("Log in")


def log_out(walk: Walk) -> None:
    """Log out by the menu."""
    walk.tab.locator("details.menu summary").click()
    walk.press("Log out")
    if walk.path != "/login":
        raise AssertionError(f"Logged out, and at {walk.path}.")


def step_up(walk: Walk, name: str = "") -> None:
    """Enter the password again."""
    walk.see(name)
    walk.fill(password=SECRETS["password"])
    walk.press("Continue")


def change_setting(walk: Walk, setting: str, text: str, name: str = "") -> None:
    """Change a setting: find it, read the difference, save."""
    walk.open(f"/settings?q={setting}")
    field = walk.tab.locator(f"[name='set.{setting}']")
    if field.evaluate("(one) => one.tagName") == "SELECT":
        field.select_option(text)
    else:
        field.fill(text)
    walk.press("Review the changes", name)
    again = walk.tab.locator("main input[name=password]")
    if again.count():
        again.fill(SECRETS["password"])
    walk.press("Save")
    walk.read("Saved:")


def make_metrics_token(walk: Walk) -> str:
    """Let the page make a token for /metrics, and read it where it is shown once."""
    walk.open("/secrets", "secrets")
    walk.press("Make a token", "secrets-token")
    return walk.tab.locator("code.long").inner_text()


def begin_one_time_codes(walk: Walk) -> str:
    """Begin with one-time codes, and read the secret where it is shown."""
    walk.open("/account/codes", "account-codes")
    return walk.tab.locator("code.long").inner_text().replace(" ", "")


def add_user(walk: Walk) -> None:
    """Add a viewer."""
    walk.open("/users", "users")
    form = walk.tab.locator("form[action='/users/add']")
    form.locator("[name=name]").fill("bob")
    for field in ("password", "again"):
        form.locator(f"[name={field}]").fill(SECRETS["another password"])
    walk.press("Add", at="form[action='/users/add']")
    walk.read("bob is added")


def read_pages(walk: Walk, paths: Sequence[str]) -> None:
    """Look at pages, each under its own name."""
    for path in paths:
        walk.open(path, path.strip("/").replace("/", "-"))


def approve(walk: Walk) -> None:
    """Wait for an entry on the page of confirmations, and approve it."""
    walk.open("/confirmations")
    walk.tab.get_by_role("button", name="Approve").first.wait_for(timeout=WAIT_MS)
    expect(walk.tab.locator(".top .badge")).to_have_text("REHEARSAL")
    walk.see("confirmations")
    walk.press("Approve")
    walk.read("Confirmed, checked again and sent")


def see_position(walk: Walk) -> None:
    """See a protected position come on the dashboard, which is not opened again."""
    walk.tab.bring_to_front()
    expect(walk.tab.locator("#part-positions")).to_contain_text("resting", timeout=WAIT_MS)
    expect(walk.tab.locator(".top .badge")).to_have_text("REHEARSAL")
    walk.see("dashboard")


def kill(walk: Walk) -> None:
    """Kill on the dashboard, and see what is recorded."""
    walk.open("/")
    walk.press("Kill", "risk-question")
    walk.press("Kill now", "risk-killed")
    walk.read("Killed: entries are blocked")


def clear_kill(walk: Walk) -> None:
    """Clear the kill; the password is asked for where it was not entered lately."""
    walk.open("/risk")
    walk.press("Clear the kill")
    if walk.path == "/step-up":
        step_up(walk, "step-up")
        walk.press("Clear the kill")


def backtest(walk: Walk) -> None:
    """Start a backtest over what is stored, wait for its end, and open its report."""
    walk.open("/runs", "runs")
    walk.press("Start")
    walk.see("runs-started")
    walk.tab.get_by_role("link", name="Open the report").wait_for(timeout=WAIT_MS)
    walk.see("runs-done")
    walk.press("Open the report")
    walk.read("Trades")
    walk.open("/runs")


def look_around(walk: Walk) -> None:
    """Look at the pages that need no session, and let the page make what it shows once."""
    read_pages(walk, READ)
    walk.open("/step-up?next=/secrets")
    step_up(walk, "step-up")
    secrets = walk.watcher.secrets
    secrets[make_metrics_token(walk)] = ("/secrets/metrics-token",)
    secrets[begin_one_time_codes(walk)] = ("/account/codes",)
    add_user(walk)


def live_day(desk: Walk, phone: Walk) -> None:
    """The desk watches; the phone approves an entry, and kills; the desk clears the kill."""
    desk.open("/")
    log_in(phone, "login")
    approve(phone)
    see_position(desk)
    kill(phone)
    clear_kill(desk)
    read_pages(desk, ("/decisions", "/decisions/day"))


def without_scripts(walk: Walk) -> None:
    """Log in, read the pages, and act, all by plain links and forms."""
    log_in(walk)
    for path in WITHOUT_SCRIPTS:
        walk.open(path)
        expect(walk.tab.locator("h1")).to_have_count(1)
    walk.open("/risk")
    walk.press("Defense on")
    walk.read("Defense")
    change_setting(walk, "MAX_TRADES", "3")
    log_out(walk)


@attrs.frozen(kw_only=True)
class Place:
    """Where a way is walked: a browser, the folder that becomes the instance, and the sample files."""

    browser: Browser
    home: Path
    samples: Path


def whole_way(place: Place, watcher_of: Callable[[str], Watcher]) -> str:
    """Walk the whole way; returns what the processes have printed. `watcher_of` is told the page's address."""
    with ExitStack() as stack:
        rehearsal = {"TBOT_REHEARSAL": stack.enter_context(venue(seed=1, opened_minutes=22))}
        page = stack.enter_context(Page(place.home, rehearsal))
        watcher = watcher_of(page.url)
        watcher.secrets |= dict.fromkeys(SECRETS.values(), ())

        def person(**traits: Any) -> Walk:
            scripts = traits.get("java_script_enabled", True)
            tab = watcher.watch(place.browser.new_context(**traits), scripts=scripts)
            return Walk(tab=tab, origin=page.url, watcher=watcher, scripts=scripts)

        desk = person(viewport={"width": WIDTHS["desktop"], "height": 900})
        make_admin(desk, page.link)
        set_up(desk, place.samples)
        for name, text in TRADES_AT_ONCE.items():
            change_setting(desk, name, text, "settings-review")
        store_bars(place.home)
        bot = stack.enter_context(Child("run", "--home", str(place.home), environment=rehearsal))
        look_around(desk)
        phone = person(**PHONE)
        live_day(desk, phone)
        backtest(desk)
        without_scripts(person(java_script_enabled=False))
        for one in (phone, desk):
            log_out(one)
        return page.said.replace(page.link, "") + bot.said


def store_bars(home: Path) -> None:
    """Import a session of bars."""
    file = home.parent / "bars.csv"
    with ThreadPoolExecutor(1) as thread:  # the browser's driver runs a loop in this one
        thread.submit(write_bars, file, DAY).result()
    with Child("data", "import", str(file), "--home", str(home)) as importing:
        importing.awaited("(added)")


def write_bars(file: Path, day: dt.date, seed: int = 1) -> None:
    """Write the bars of the demo's companies on a day, as `tbot data import` reads them."""
    session = ExchangeCalendar().session(day)
    if session is None:
        raise ValueError(f"{day} has no session.")
    market = demo_market(seed)
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("symbol", "timestamp", "open", "high", "low", "close", "volume", "vwap"))
        for minute in range(session.minutes):
            for bar in bars_of(session, market.minute(minute), market.symbols):
                rows.writerow(
                    (bar.symbol, bar.start.isoformat(), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap)
                )
