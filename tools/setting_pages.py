"""The page of an instance of the sample files, asked as a browser asks it, and what of it a setting changes."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
import click
from setting_runs import plain
from starlette.types import ASGIApp
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.passwords import HashParameters, PasswordHasher
from tbot_extension_web.app import create_app
from tbot_extension_web.opening import open_site
from tbot_extension_web.testing.browser import Browser

from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from setting_runs import Bench, Figures

_START: Final = datetime(2026, 3, 3, 14, 30, tzinfo=UTC)
_CHEAP: Final = HashParameters(memory_kib=8, iterations=1)
_PASSWORD: Final = "velvet otter quarry"  # noqa: S105  -- of users that this tool makes
_OK: Final = 200
_HALF: Final = 30
"""Half a minute, in seconds: no time of a setting ends in the moment of a request."""

_GUESTS: Final = tuple(f"guest{number}" for number in range(1, 13))
_MINUTES: Final = 200
"""So many minutes are tried at most; every setting of the samples is shorter."""


@attrs.define(kw_only=True)
class _Visitor:
    # A person at the page; a pause of a tenth of a second is before each login, which the budget of attempts needs.
    app: ASGIApp
    clock: ManualClock

    def logged_in(self, name: str = "admin", password: str = _PASSWORD) -> Browser | None:
        self.clock.advance(0.1)
        browser = Browser(app=self.app)
        browser.open("/login")
        browser.send("/login", {"name": name, "password": password})
        return browser if browser.place != "/login" else None

    def used_minutes(self) -> int:
        # After how many minutes the page asks for the login again, though it is opened each minute.
        browser = self.logged_in()
        self.clock.advance(_HALF)
        for minute in range(1, _MINUTES):
            self.clock.advance(60)
            if browser is None or self.is_login(browser):
                return minute
        return _MINUTES

    def idle_minutes(self) -> int:
        # The shortest pause, in minutes, after which the page asks for the login again.
        for minute in range(1, _MINUTES):
            browser = self.logged_in()
            self.clock.advance(60 * minute + _HALF)
            if browser is None or self.is_login(browser):
                return minute
        return _MINUTES

    def failures(self) -> int:
        # After how many wrong passwords the right one is refused; each user has one number of them.
        for number, name in enumerate(_GUESTS, start=1):
            for _ in range(number):
                self.logged_in(name, "wrong wrong wrong")
            if self.logged_in(name) is None:
                return number
        return len(_GUESTS)

    def locked_minutes(self) -> int:
        # How long the right password is refused after too many wrong ones.
        for _ in _GUESTS:
            self.logged_in(_GUESTS[-1], "wrong wrong wrong")
        self.clock.advance(_HALF)
        for minute in range(_MINUTES):
            if self.logged_in(_GUESTS[-1]) is not None:
                return minute
            self.clock.advance(60)
        return _MINUTES

    @staticmethod
    def is_login(browser: Browser) -> bool:
        browser.open("/")
        return browser.place.startswith("/login")


def page(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """Requests to the page of `tbot web`: logins, their end, and what roles may do."""
    home, clock = plain(bench, "page", settings), ManualClock(_START)
    opened = open_site(home, clock, port=8443, hasher=PasswordHasher(_CHEAP))
    try:
        accounts = opened.site.logins.accounts
        asyncio.run(accounts.add_first_admin("admin", _PASSWORD))
        for name in _GUESTS:
            asyncio.run(accounts.add(name, _PASSWORD, Role.VIEWER, actor="admin"))
        return _shown(_Visitor(app=create_app(opened.site), clock=clock))
    finally:
        opened.store.close()


def _shown(visitor: _Visitor) -> Figures:
    admin, guest = visitor.logged_in(), visitor.logged_in(_GUESTS[0])
    if admin is None or guest is None:
        raise click.ClickException("the page of the sample files refuses a right password")
    admin.open("/step-up")
    admin.send("/step-up", {"password": _PASSWORD})
    chosen = re.search(r"<option selected>(\w+)", admin.open("/users").text.partition("Add a user")[2])
    return {
        "role that the form for a new user proposes": chosen[1] if chosen else "none",
        "a viewer opens the page of users": "yes" if guest.open("/users").status == _OK else "refused",
        "login asked again after a pause of minutes": str(visitor.idle_minutes()),
        "login asked again after minutes of use": str(visitor.used_minutes()),
        "wrong passwords until the right one is refused": str(visitor.failures()),
        "minutes until it is accepted again": str(visitor.locked_minutes()),
    }
