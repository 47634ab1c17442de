"""The positions of the dashboard and the tables of the day on a phone, in a browser."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.site import FOLDER
from tbot_extension_web.testing.client import ask
from web_browser import PHONE, chromium

from tbot_core.status.trades import trades_document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route
    from starlette.types import ASGIApp

pytestmark = [pytest.mark.first(0), pytest.mark.usefixtures("loopback")]

ORIGIN = "http://127.0.0.1:9/"


@pytest.fixture
def dashboard(held: tuple[Path, dict[str, Any]], app_of: Callable[[Path], ASGIApp]) -> str:
    """The dashboard while a trade is open."""
    return ask(app_of(held[0]), "GET", "/", {"cookie": "tbot-session=viewer"}).text


def serve(body: str, kind: str, asked: Route) -> None:
    """Answer a request of the page."""
    asked.fulfill(body=body, content_type=kind)


def phone(browser: Browser, page: str) -> Page:
    """A page on a phone, without scripts."""
    tab = browser.new_context(**{**PHONE, "java_script_enabled": False}).new_page()
    tab.route("**/*", lambda asked: asked.abort())
    for name in ("app.css", "day.css"):
        style = (FOLDER / "static" / name).read_text()
        tab.route(f"**/static/{name}", partial(serve, style, "text/css"))
    tab.route(ORIGIN, partial(serve, page, "text/html"))
    tab.goto(ORIGIN)
    return tab


@pytest.mark.slow
def test_a_position_fits_a_phone_in_two_lines(held: tuple[Path, dict[str, Any]], dashboard: str) -> None:
    """Symbol, side, shares and P&L, then last, stop and target: each is visible without a swipe."""
    first = held[1]
    with chromium() as browser:
        tab = phone(browser, dashboard)
        row = tab.locator(".positions tbody tr").filter(has_text=first["symbol"])
        shown = [cell for cell in row.locator("th, td").all() if cell.is_visible()]
        boxes = [box for cell in shown if (box := cell.bounding_box()) is not None]
        assert len({round(box["y"] + box["height"] / 2) for box in boxes}) == 2
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
        words = row.inner_text().split()
        assert words[:4] == [first["symbol"], "why", first["side"], first["quantity"]]
        assert [cell.get_attribute("data-label") for cell in shown[-3:]] == ["last", "stop", "target"]
        assert not any(cell.evaluate("one => one.scrollWidth > one.clientWidth") for cell in shown)


@pytest.mark.slow
def test_the_tables_and_answers_of_a_day_fit_a_phone(traded_app: ASGIApp, traded: Path) -> None:
    """No figure is beyond the edge, and the page, its tables and its answers scroll down only."""
    symbol = trades_document(traded)["trades"][0]["symbol"]
    day = ("/trades", "/trades?date=all", "/decisions", f"/decisions?symbol={symbol}", "/decisions/day")
    viewer = {"cookie": "tbot-session=viewer"}
    pages = {path: ask(traded_app, "GET", path, viewer).text for path in (*day, "/runs", "/plugins")}
    wide = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText)"
    with chromium() as browser:
        for path, page in pages.items():
            tab = phone(browser, page)
            assert tab.locator("main .table").count() > 0, path
            assert tab.locator("main, main .table, main .answer").evaluate_all(wide) == [], path
