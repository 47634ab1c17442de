"""A person at a tab of a browser: opens pages, fills forms, presses buttons, reads; who looks at the pages is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import attrs
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect
from web_browser import PATIENCE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext


class Watcher(Protocol):
    """Who looks at the pages of a way; `secrets` are the texts of which it is told, with the paths that show them."""

    secrets: dict[str, tuple[str, ...]]

    def watch(self, context: BrowserContext, *, scripts: bool = True) -> Tab:
        """A new tab."""

    def look(self, tab: Tab, name: str) -> None:
        """Look at the page that a tab shows."""

    def settle(self, tab: Tab) -> None:
        """Look at what a tab has got, before it leaves its page."""


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
