"""The dashboard in a browser when the page's server answers no longer."""

from __future__ import annotations

import pytest
from tbot_extension_web.site import FOLDER
from web_browser import chromium

pytestmark = [pytest.mark.first(0), pytest.mark.usefixtures("loopback")]

SCRIPT = FOLDER / "static" / "app.js"
PAGE = """
<!doctype html><html lang="en"><head><title>x</title><script src="/static/app.js" defer></script></head><body>
<p id="lost" hidden>No news from tbot for <span id="silent-for">20 s</span>: <span id="shown-of">-</span></p>
<p>As of <time id="as-of">14:03:22</time></p>
<p id="unheard" hidden>The page does not answer.</p>
<form method="post" action="/risk/kill"><button>Kill</button></form></body></html>
"""


@pytest.mark.slow
def test_a_dashboard_without_an_answer_says_so_and_sends_nothing() -> None:
    """After 20 s, with the time of what is shown; news end it. A request that would not arrive stays on the page."""
    sent: list[str] = []
    with chromium() as browser:
        tab = browser.new_page()
        tab.clock.install()
        tab.on("request", lambda asked: sent.append(asked.url))
        tab.route("**/*", lambda asked: asked.abort())
        tab.route("**/static/app.js", lambda asked: asked.fulfill(path=SCRIPT, content_type="text/javascript"))
        tab.route("http://127.0.0.1:9/", lambda asked: asked.fulfill(body=PAGE, content_type="text/html"))
        tab.goto("http://127.0.0.1:9/")
        tab.clock.run_for(19_000)
        assert not tab.locator("#lost").is_visible()
        tab.clock.run_for(6_000)
        assert tab.locator("#lost").inner_text() == "No news from tbot for 25 s: 14:03:22"
        assert tab.locator("#unheard").is_visible()
        tab.get_by_role("button").click()
        tab.get_by_text("Not sent. The page does not answer.").wait_for()
        assert sent[2:] == ["http://127.0.0.1:9/healthz"]
        tab.evaluate("document.dispatchEvent(new Event('heard'))")
        assert not tab.locator("#lost").is_visible()
        assert not tab.locator("#unheard").is_visible()
