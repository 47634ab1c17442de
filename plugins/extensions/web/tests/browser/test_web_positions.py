"""The positions of the dashboard on a phone, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.site import FOLDER
from tbot_extension_web.testing.client import ask
from web_browser import PHONE, chromium

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp

pytestmark = [pytest.mark.first(0), pytest.mark.usefixtures("loopback")]

STYLE = FOLDER / "static" / "app.css"
ORIGIN = "http://127.0.0.1:9/"


@pytest.fixture
def dashboard(held: tuple[Path, dict[str, Any]], app_of: Callable[[Path], ASGIApp]) -> str:
    """The dashboard while a trade is open."""
    return ask(app_of(held[0]), "GET", "/", {"cookie": "tbot-session=viewer"}).text


@pytest.mark.slow
def test_a_position_fits_a_phone_in_two_lines(held: tuple[Path, dict[str, Any]], dashboard: str) -> None:
    """Symbol, side, shares and P&L, then last, stop and target: each is visible without a swipe."""
    first = held[1]
    with chromium() as browser:
        tab = browser.new_context(**PHONE).new_page()
        tab.route("**/*", lambda asked: asked.abort())
        tab.route("**/static/app.css", lambda asked: asked.fulfill(path=STYLE, content_type="text/css"))
        tab.route(ORIGIN, lambda asked: asked.fulfill(body=dashboard, content_type="text/html"))
        tab.goto(ORIGIN)
        row = tab.locator(".positions tbody tr").filter(has_text=first["symbol"])
        shown = [cell for cell in row.locator("th, td").all() if cell.is_visible()]
        boxes = [box for cell in shown if (box := cell.bounding_box()) is not None]
        assert len({round(box["y"] + box["height"] / 2) for box in boxes}) == 2
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
        words = row.inner_text().split()
        assert words[:4] == [first["symbol"], "why", first["side"], first["quantity"]]
        assert [cell.get_attribute("data-label") for cell in shown[-3:]] == ["last", "stop", "target"]
        assert not any(cell.evaluate("one => one.scrollWidth > one.clientWidth") for cell in shown)
