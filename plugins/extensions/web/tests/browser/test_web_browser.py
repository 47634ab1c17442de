"""A person's whole way in a real browser: first run, a paper day at the venue of Alpaca, a kill, a backtest, logout.

`tools/web_walk.py` is the way, `tools/web_audit.py` what each page is judged by.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import attrs
import pytest
import sample_day
import web_walk as way
from tbot_extension_web.site import NAVIGATION
from web_audit import AXE, VENDOR, Audit
from web_browser import CHROMIUM, PHONE, WIDTHS, Child, Page, chromium, venue
from web_walk import SECRETS, TRADES_AT_ONCE, Walk, backtest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.first(0),  # over two seconds
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("loopback"),
]
DAY = dt.date(2026, 11, 24)
READ = (
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

WITHOUT_SCRIPTS = ("/", "/trades", "/decisions", "/confirmations", "/risk", "/settings", "/runs", "/alerts", "/account")


@attrs.frozen(kw_only=True)
class Walked:
    """What the way has left: the faults of its pages, the instance, and what the processes have printed."""

    audit: Audit
    home: Path
    printed: tuple[str, ...]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of this module."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def walked(browser: Browser, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """The whole way, walked once."""
    home = tmp_path_factory.mktemp("walk") / "bot"
    with ExitStack() as stack:
        rehearsal = {"TBOT_REHEARSAL": stack.enter_context(venue(seed=1, opened_minutes=22))}
        page = stack.enter_context(Page(home, rehearsal))
        audit = Audit(page.url, secrets=dict.fromkeys(SECRETS.values(), ()))
        desk = walk_of(browser, audit, page)
        way.make_admin(desk, page.link)
        way.set_up(desk, shared / "reference")
        for name, text in TRADES_AT_ONCE.items():
            way.change_setting(desk, name, text, "settings-review")
        bot = stack.enter_context(Child("run", "--home", str(home), environment=rehearsal))
        look_around(desk, audit)
        phone = walk_of(browser, audit, page, **PHONE)
        live_day(desk, phone)
        store_bars(home)
        backtest(desk)
        without_scripts(browser, audit, page)
        for one in (phone, desk):
            way.log_out(one)
            assert one.path == "/login"
        printed = (page.said.replace(page.link, ""), bot.said)
    return Walked(audit=audit, home=home, printed=printed)


def walk_of(browser: Browser, audit: Audit, page: Page, **traits: object) -> Walk:
    """A person at a browser of its own."""
    size = {"width": WIDTHS["desktop"], "height": 900}
    scripts = bool(traits.get("java_script_enabled", True))
    tab = audit.watch(browser.new_context(**{"viewport": size, **traits}), scripts=scripts)  # type: ignore[arg-type]
    return Walk(tab=tab, origin=page.url, look=audit.look, leave=audit.settle, scripts=scripts)


def look_around(walk: Walk, audit: Audit) -> None:
    """Look at the pages that need no session, and let the page make what it shows once."""
    way.read_pages(walk, READ)
    walk.open("/step-up?next=/secrets")
    way.step_up(walk, "step-up")
    audit.secrets[way.make_metrics_token(walk)] = ("/secrets/metrics-token",)
    audit.secrets[way.begin_one_time_codes(walk)] = ("/account/codes",)
    way.add_user(walk)


def live_day(desk: Walk, phone: Walk) -> None:
    """The desk watches; the phone approves an entry, and kills; the desk clears the kill."""
    desk.open("/")
    way.log_in(phone, "login")
    way.approve(phone)
    way.see_position(desk)
    phone.open("/")
    way.kill(phone)
    desk.read("KILLED")
    way.clear_kill(desk)
    way.read_pages(desk, ("/decisions", "/decisions/day"))


def store_bars(home: Path) -> None:
    """Import a session of bars."""
    file = home.parent / "bars.csv"
    way.write_bars(file, DAY)
    code, out = sample_day.command(home, "data", "import", str(file))
    assert code == 0, out


def without_scripts(browser: Browser, audit: Audit, page: Page) -> None:
    """Log in, read the pages, and act, all by plain links and forms."""
    walk = walk_of(browser, audit, page, java_script_enabled=False)
    way.log_in(walk)
    for path in WITHOUT_SCRIPTS:
        walk.open(path)
        assert walk.tab.locator("h1").count() == 1, path
    walk.open("/risk")
    walk.press("Defense on")
    walk.read("DEFENSE")
    way.change_setting(walk, "MAX_TRADES", "3")
    way.log_out(walk)
    assert walk.path == "/login"


def test_no_page_fails_or_asks_elsewhere(walked: Walked) -> None:
    """No error on the console, no exception, nothing that the policy of content refuses, no foreign request."""
    assert walked.audit.faults == []
    assert walked.audit.foreign == []


def test_everybody_can_use_each_page(walked: Walked) -> None:
    """WCAG 2.2 AA by axe, light and dark; no page is wider than a phone, no control too small, the focus is visible."""
    assert walked.audit.unusable == []


def test_the_way_leads_to_each_page(walked: Walked) -> None:
    """A new page of the navigation has to be looked at."""
    seen = {f"/{name}".replace("/dashboard", "/") for name in walked.audit.seen}
    assert {one.path for one in NAVIGATION} <= seen


def test_no_secret_is_shown_or_kept(walked: Walked) -> None:
    """What was typed is in no answer, cache, output or file; what the page makes is in the one answer that shows it."""
    assert walked.audit.read > 50
    assert walked.audit.leaks == []
    assert walked.audit.stored == []
    files = [path for path in walked.home.rglob("*") if path.is_file()]
    texts = [*walked.printed, *(path.read_bytes().decode("latin-1") for path in files)]
    for secret in walked.audit.secrets:
        assert not any(secret in text for text in texts)


def test_axe_is_the_published_one() -> None:
    """Its version and licence are written down, and its hash."""
    table = (VENDOR / "README.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|", table))
    there = {path.name: path for path in VENDOR.iterdir() if path.name != "README.md"}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()} == written
    assert "axe v4.14.1" in AXE.read_text(encoding="utf-8")[:40]
