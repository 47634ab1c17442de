"""What calls a person to an open page: an entry that waits, and the end of the login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.site import FOLDER
from web_browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, Route

pytestmark = [pytest.mark.first(0), pytest.mark.usefixtures("loopback")]

SCRIPT = FOLDER / "static" / "app.js"
ORIGIN = "http://127.0.0.1:9/"
PAGE = """
<!doctype html><html lang="en"><head><title>PAPER</title><link rel="icon" href="/static/favicon-paper.svg">
<script src="/static/app.js" defer></script></head>
<body class="mode-paper" data-idle-left="400" data-login-left="1000" data-idle-limit="400" data-login-limit="1000">
<main>
<p id="session-ends" hidden>Your login ends in <span class="countdown"></span><span class="if-idle"> if idle.
<button type="button" id="stay">Stay logged in</button></span><span class="in-any-case">, in any case.</span></p>
<button type="button" id="sound">Sound when an entry waits: <span>off</span></button>
<div id="part-state"><div data-mode="paper" data-waiting="0"></div></div></main></body></html>
"""


@pytest.fixture
def left() -> dict[str, int]:
    """What the page's server says of the login."""
    return {"idle_s": 190, "whole_s": 790}


@pytest.fixture
def asked() -> list[str | None]:
    """For each question about the login, what says that a script asks."""
    return []


@pytest.fixture
def tab(left: dict[str, int], asked: list[str | None]) -> Iterator[Page]:
    """An open page, on a clock of its own."""

    def answer(route: Route) -> None:
        asked.append(route.request.headers.get("hx-request"))
        if asked[-1] is None:
            left["idle_s"] = 400
        route.fulfill(body=json.dumps(left), content_type="application/json")

    with chromium() as browser:
        page = browser.new_page()
        page.clock.install()
        page.route("**/*", lambda other: other.abort())
        page.route("**/static/app.js", lambda one: one.fulfill(path=SCRIPT, content_type="text/javascript"))
        page.route("**/account/session", answer)
        page.route(ORIGIN, lambda one: one.fulfill(body=PAGE, content_type="text/html"))
        page.goto(ORIGIN)
        yield page


def swapped(tab: Page, waiting: int) -> Any:
    """Have the state say that so many entries wait; returns title and icon."""
    tab.evaluate(
        """count => { document.querySelector("[data-waiting]").dataset.waiting = count;
        document.dispatchEvent(new Event("htmx:sse:after:message")); }""",
        waiting,
    )
    return tab.title(), tab.locator("link[rel=icon]").get_attribute("href")


def test_title_and_icon_say_how_many_entries_wait(tab: Page) -> None:
    """While they do, and no longer."""
    assert swapped(tab, 1) == ("(1) PAPER", "/static/favicon-waiting.svg")
    assert swapped(tab, 2) == ("(2) PAPER", "/static/favicon-waiting.svg")
    assert swapped(tab, 0) == ("PAPER", "/static/favicon-paper.svg")


def test_a_sound_is_made_for_who_turned_it_on(tab: Page) -> None:
    """By the button, which is kept in this browser; without it there is none."""
    tab.evaluate(
        """() => { window.tones = 0; const make = AudioContext.prototype.createOscillator;
        AudioContext.prototype.createOscillator = function () { window.tones += 1; return make.call(this); }; }"""
    )
    swapped(tab, 1)
    assert tab.evaluate("window.tones") == 0
    tab.locator("#sound").click()
    tab.get_by_text("Sound when an entry waits: on", exact=True).wait_for()
    tab.clock.run_for(1000)
    before = tab.evaluate("window.tones")
    swapped(tab, 2)
    assert tab.evaluate("window.tones") == before + 2
    assert tab.evaluate("localStorage.getItem('tbot-sound')") == "on"
    tab.locator("#sound").click()
    swapped(tab, 3)
    assert tab.evaluate("window.tones") == before + 2


def test_the_last_minutes_of_a_login_are_counted_down(tab: Page, left: dict[str, int], asked: list[str | None]) -> None:
    """The button stays logged in; before the end that comes in any case there is none."""
    band = tab.locator("#session-ends")
    tab.clock.run_for(190_000)
    assert not band.is_visible()
    tab.clock.run_for(20_000)
    tab.get_by_text("3:0").wait_for()
    assert set(asked) == {"true"}
    tab.get_by_role("button", name="Stay logged in").click()
    band.wait_for(state="hidden")
    assert asked[-1] is None
    left |= {"idle_s": 3000, "whole_s": 120}
    tab.clock.run_for(250_000)
    tab.get_by_text(", in any case.").wait_for()
    assert not tab.locator("#stay").is_visible()


def test_a_page_that_is_opened_in_the_last_minutes_counts_them_down_at_once(tab: Page, left: dict[str, int]) -> None:
    """Who clicks from page to page is warned as well."""
    left |= {"idle_s": 3000, "whole_s": 280}
    late = PAGE.replace('left="400"', 'left="3000"').replace('left="1000"', 'left="280"').replace('"400"', '"3000"')
    tab.route(ORIGIN, lambda one: one.fulfill(body=late.replace('"1000"', '"7200"'), content_type="text/html"))
    tab.goto(ORIGIN)
    tab.clock.run_for(2_000)
    tab.get_by_text("4:3").wait_for()
    assert not tab.locator("#stay").is_visible()
