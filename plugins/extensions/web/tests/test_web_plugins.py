"""The pages of plugins: what is installed, the state of the lock, and each plugin's capabilities."""

from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING

from tbot_extension_web.testing.client import ask

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

VIEWER = {"cookie": "tbot-session=viewer"}


def shown(app: ASGIApp, path: str, status: int = 200) -> str:
    """The text of a page."""
    answer = ask(app, "GET", path, VIEWER)
    assert answer.status == status
    return unescape(answer.text)


def test_each_plugin_is_listed_with_its_state(traded_app: ASGIApp) -> None:
    """Those that the settings name are active; without a lock the page says how one is made."""
    page = shown(traded_app, "/plugins")
    row = page[page.index('href="/plugins/strategy/open"') :].partition("</tr>")[0]
    assert "<td>active</td>" in row
    assert "UNLISTED" in row
    assert "There is no plugins.lock" in page
    assert "An admin approves them." in page


def test_a_broker_shows_its_capabilities(traded_app: ASGIApp) -> None:
    """As the matrix that it declares; a strategy shows its settings."""
    broker = shown(traded_app, "/plugins/broker/paper")
    assert "<h2>Capabilities</h2>" in broker
    assert "<code>query_by_cid</code>" in broker
    assert "<code>OPEN_ANALYSIS_TIME</code>" in shown(traded_app, "/plugins/strategy/open")


def test_an_unknown_plugin_is_refused(traded_app: ASGIApp) -> None:
    """With what is there instead."""
    assert "Unknown plugin broker/none" in shown(traded_app, "/plugins/broker/none", 400)


def test_an_empty_folder_lists_what_is_installed(app: ASGIApp) -> None:
    """The settings that are missing are said."""
    page = shown(app, "/plugins")
    assert 'href="/plugins/broker/paper"' in page


def test_a_lock_that_cannot_be_read_is_said(app: ASGIApp, sealed: Path) -> None:
    """The list is there all the same."""
    (sealed / "plugins.lock").write_text("no lock")
    page = shown(app, "/plugins")
    assert "plugins.lock" in page
    assert 'href="/plugins/broker/paper"' in page
