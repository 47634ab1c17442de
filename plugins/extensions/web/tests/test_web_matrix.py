"""Each route for each caller: what the table allows is answered, and everything else is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.permissions import Permission, allows
from tbot_extension_web.routes import ROUTES
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from tbot_extension_web.routes import WebRoute

WITHOUT_LOGIN = {Permission.PUBLIC, Permission.FIRST_RUN, Permission.METRICS}
GUARDED = [one for one in ROUTES if one.permission not in WITHOUT_LOGIN]
CHANGES = [one for one in ROUTES if one.method == "POST"]
ALL = pytest.mark.parametrize("route", ROUTES, ids=lambda one: one.name)
EACH_GUARDED = pytest.mark.parametrize("route", GUARDED, ids=lambda one: one.name)
EACH_CHANGE = pytest.mark.parametrize("route", CHANGES, ids=lambda one: one.name)


def sample(route: WebRoute) -> str:
    """An address that the route takes."""
    return re.sub(r"\{\w+(:path)?\}", "x", route.path)


def as_role(role: str, **more: str) -> dict[str, str]:
    """The headers of a browser that is logged in."""
    return {"cookie": f"tbot-session={role}", **more}


@EACH_GUARDED
def test_without_a_session_a_route_leads_to_the_login(app: ASGIApp, route: WebRoute) -> None:
    """Also with the token of a session that has ended; nothing of the page is shown."""
    for cookie in ("", "tbot-session=ended"):
        answer = ask(app, route.method, sample(route), {"cookie": cookie}, {"csrf": CSRF})
        assert (answer.status, answer.headers["location"], answer.body) == (303, "/login", b"")


@EACH_GUARDED
def test_a_role_without_the_permission_is_refused(app: ASGIApp, route: WebRoute) -> None:
    """With 403 and the name of what is missing."""
    for role in Role:
        if not allows(role, route.permission):
            answer = ask(app, route.method, sample(route), as_role(role.value), {"csrf": CSRF})
            assert answer.status == 403
            assert f"`{route.permission.value}`" in answer.text


@EACH_CHANGE
def test_a_change_without_the_token_of_its_form_is_refused(app: ASGIApp, route: WebRoute) -> None:
    """Without one, and with one of another session."""
    for form in ({}, {"csrf": "another"}):
        answer = ask(app, "POST", sample(route), as_role(STEPPED_UP), form)
        assert (answer.status, "out of date" in answer.text) == (403, True)


@EACH_CHANGE
def test_a_change_from_another_page_is_refused(app: ASGIApp, route: WebRoute) -> None:
    """By what the browser says of the page, and where it says nothing (F112)."""
    for said in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "https://127.0.0.1:8443"},
        {"origin": "null", "sec-fetch-site": ""},
        {"origin": "", "sec-fetch-site": ""},
    ):
        answer = ask(app, "POST", sample(route), as_role(STEPPED_UP, **said), {"csrf": CSRF})
        assert answer.status == 403


@ALL
def test_a_foreign_host_name_is_refused(app: ASGIApp, route: WebRoute) -> None:
    """A name that leads to this machine (rebinding), another port, and none (F112)."""
    for host in ("evil.example:8443", "127.0.0.1:8444", "127.0.0.1", ""):
        answer = ask(app, route.method, sample(route), as_role(STEPPED_UP, host=host), {"csrf": CSRF})
        assert answer.status == 421


@EACH_CHANGE
def test_a_dangerous_change_asks_for_the_password_again(app: ASGIApp, route: WebRoute) -> None:
    """Where the table says so, and the admin has not entered it within the last minutes."""
    answer = ask(app, "POST", sample(route), as_role("admin"), {"csrf": CSRF})
    assert answer.headers.get("location", "").startswith("/step-up") is route.stepped_up


@ALL
def test_no_route_fails_on_an_empty_folder(app: ASGIApp, route: WebRoute) -> None:
    """Whoever asks: an answer below 500, with the headers that keep it in place."""
    for role in (*(one.value for one in Role), STEPPED_UP, ""):
        if route.path.startswith("/live/"):
            continue  # a stream does not end
        answer = ask(app, route.method, sample(route), as_role(role), {"csrf": CSRF})
        assert answer.status < 500
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"


def test_each_permission_is_needed_by_a_route_and_granted_to_a_role() -> None:
    """A permission that nothing asks for, or that no role has, is a mistake in one of the tables."""
    assert {one.permission for one in GUARDED} <= {one for role in Role for one in Permission if allows(role, one)}
    assert len({one.name for one in ROUTES}) == len(ROUTES)
