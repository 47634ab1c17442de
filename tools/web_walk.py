"""A person's ways through the page: first run with the sample files, login, a paper day, a kill, a backtest, logout.

And the set-up on a phone. Tests judge each page of a way; `tools/web_screenshots.py` takes the pictures of the first.
What a person does is in `web_acts.py`, how it is done at a tab in `web_person.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import web_acts as acts
from playwright.sync_api import Browser, expect
from web_bars import store_bars
from web_browser import PHONE, WIDTHS, Child, Page, venue
from web_person import Walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from web_person import Watcher


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

PLAIN: Final = "plain-"
"""How the names of pages begin that are looked at without scripts."""

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


def look_around(walk: Walk) -> None:
    """Look at the pages that need no session, and let the page make what it shows once."""
    acts.read_pages(walk, READ)
    walk.open("/step-up?next=/secrets")
    acts.step_up(walk, "step-up")
    secrets = walk.watcher.secrets
    secrets[acts.make_metrics_token(walk)] = ("/secrets/metrics-token",)
    secrets[acts.begin_one_time_codes(walk)] = ("/account/codes",)
    acts.add_user(walk)


def live_day(desk: Walk, phone: Walk) -> None:
    """The desk watches; the phone approves an entry, and kills; the desk closes all, and clears the kill."""
    desk.open("/")
    acts.log_in(phone, "login")
    acts.approve(phone)
    acts.see_position(desk)
    acts.kill(phone)
    acts.close_all(desk)
    acts.see_trade(desk)
    acts.clear_kill(desk)
    acts.read_pages(desk, ("/trades", "/decisions", "/decisions/day"))


def without_scripts(walk: Walk) -> None:
    """Log in, read the pages, and act, all by plain links and forms."""
    acts.log_in(walk)
    for path in WITHOUT_SCRIPTS:
        walk.open(path, f"{PLAIN}{path.strip('/') or 'dashboard'}")
        expect(walk.tab.locator("h1")).to_have_count(1)
    walk.open("/risk")
    walk.press("Defense on")
    walk.read("Defense")
    acts.change_setting(walk, "MAX_TRADES", "3")
    acts.log_out(walk)


@attrs.frozen(kw_only=True)
class Place:
    """Where a way is walked: a browser, the folder that becomes the instance, and the sample files."""

    browser: Browser
    home: Path
    samples: Path


def market() -> AbstractContextManager[str]:
    """The venue of a market that opened 26 minutes ago: some symbol breaks out in almost each of the next five."""
    return venue(seed=1, opened_minutes=26)


def whole_way(place: Place, watcher_of: Callable[[str], Watcher]) -> str:
    """Walk the whole way; returns what the processes have printed. `watcher_of` is told the page's address."""
    with ExitStack() as stack:
        page = stack.enter_context(Page(place.home, {"TBOT_REHEARSAL": stack.enter_context(market())}))
        watcher = watcher_of(page.url)
        watcher.secrets |= dict.fromkeys(acts.SECRETS.values(), ())

        def person(**traits: Any) -> Walk:
            scripts = traits.get("java_script_enabled", True)
            tab = watcher.watch(place.browser.new_context(**traits), scripts=scripts)
            return Walk(tab=tab, origin=page.url, watcher=watcher, scripts=scripts)

        desk = person(viewport={"width": WIDTHS["desktop"], "height": 900})
        acts.make_admin(desk, page.link)
        acts.set_up(desk, place.samples)
        for name, text in acts.TRADES_AT_ONCE.items():
            acts.change_setting(desk, name, text, "settings-review")
        store_bars(place.home)
        rehearsal = {"TBOT_REHEARSAL": stack.enter_context(market())}  # as open as if the set-up took no time
        bot = stack.enter_context(Child("run", "--home", str(place.home), environment=rehearsal))
        look_around(desk)
        phone = person(**PHONE)
        live_day(desk, phone)
        acts.backtest(desk)
        without_scripts(person(java_script_enabled=False))
        for one in (phone, desk):
            acts.log_out(one)
        return page.said.replace(page.link, "") + bot.said


def set_up_by_phone(place: Place, watcher_of: Callable[[str], Watcher]) -> str:
    """Set a paper instance up on a phone, with the usual answers; each step is looked at before it is sent."""
    with Page(place.home) as page:
        watcher = watcher_of(page.url)
        watcher.secrets |= {acts.SECRETS["password"]: ()}
        phone = Walk(tab=watcher.watch(place.browser.new_context(**PHONE)), origin=page.url, watcher=watcher)
        acts.make_admin(phone, page.link)
        acts.each_step(phone)
        phone.open("/setup")
        while phone.path != "/setup/summary":
            phone.press("Continue")
        acts.create(phone)
        phone.open("/", "dashboard")
        acts.log_out(phone)
        return page.said.replace(page.link, "")
