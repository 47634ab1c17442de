"""A request that needs the password again is made by the password, once, within a minute, and nothing else is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.permissions import Permission
from tbot_extension_web.app import create_app
from tbot_extension_web.notices import ASKED_S, MOST_ASKED, AskedRequest, AskedRequests
from tbot_extension_web.routes import ROUTES, WebRoute
from tbot_extension_web.testing.client import Answer, ask, ask_once
from tbot_extension_web.testing.given_sessions import CSRF, RIGHT, GivenSessions

if TYPE_CHECKING:
    from starlette.responses import Response
    from tbot_extension_web.call import Call
    from tbot_extension_web.site import Site

    from tbot_core.model.clock import ManualClock

ADMIN = {"cookie": "tbot-session=admin"}


class Asked:
    """An admin who sends a form that needs the password; `done` has what was done with which fields."""

    def __init__(self, site: Site) -> None:
        self.done: list[dict[str, str]] = []
        route = WebRoute(
            method="POST",
            path="/users/test/{name}",
            permission=Permission.USERS,
            endpoint=self._act,
            stepped_up=True,
            does="Test a user",
            form="/users",
        )
        self.app = create_app(site, (*ROUTES, route))

    async def _act(self, call: Call) -> Response:
        self.done.append({**call.form, **call.request.path_params})
        return call.to("/users", "Tested.")

    def post(self, path: str, headers: dict[str, str] = ADMIN, **fields: str) -> Answer:
        """Send a form as the browser does."""
        return ask_once(self.app, "POST", path, headers, {"csrf": CSRF, **fields})

    def send(self) -> str:
        """Send the form, and return the number of the request that waits."""
        place = self.post("/users/test/bob", text="a secret").headers["location"]
        page = ask(self.app, "GET", place, ADMIN).text
        assert "<strong>Test a user</strong> needs it" in page
        assert "a secret" not in page
        number = re.search(r'name="request" value="(\w+)"', page)
        assert number is not None
        return number[1]

    def enter(self, number: str, password: str = RIGHT, headers: dict[str, str] = ADMIN) -> Answer:
        """Enter the password; the page to which that leads."""
        answer = self.post("/step-up", headers, request=number, password=password)
        return ask(self.app, "GET", answer.headers["location"], headers) if answer.status == 303 else answer


@pytest.fixture
def asked(site: Site) -> Asked:
    """The page with a form that needs the password."""
    return Asked(site)


def test_the_password_makes_the_request_that_asked_for_it(asked: Asked) -> None:
    """With its fields as they were sent; a wrong password makes none, and the right one after it does."""
    number = asked.send()
    assert asked.done == []
    assert "Wrong." in asked.enter(number, "wrong").text
    assert asked.done == []
    assert "Tested." in asked.enter(number).text
    assert asked.done == [{"text": "a secret", "name": "bob"}]


def test_it_is_made_once_and_nothing_else_is_allowed(asked: Asked) -> None:
    """A form that is sent twice does nothing again, and the next request asks anew."""
    number = asked.send()
    asked.enter(number)
    assert "was made already" in asked.enter(number).text
    assert len(asked.done) == 1
    assert asked.post("/users/test/bob").headers["location"].startswith("/step-up?request=")
    assert len(asked.done) == 1


def test_it_waits_a_minute(asked: Asked, site: Site) -> None:
    """Then nothing is done, and the page says so before a password is entered."""
    number = asked.send()
    clock: ManualClock = site.clock  # type: ignore[assignment]  # the fixture's
    clock.advance(ASKED_S)
    assert (
        "it waited for your password for over 60 s" in ask(asked.app, "GET", f"/step-up?request={number}", ADMIN).text
    )
    assert "See whether it was done" in asked.enter(number).text
    assert asked.done == []


def test_it_is_made_for_its_own_session_with_the_role_of_now(asked: Asked, logins: GivenSessions) -> None:
    """The number opens nothing for others, and who lost the role meanwhile is refused."""
    number = asked.send()
    assert "waited" in asked.enter(number, headers={"cookie": "tbot-session=trader"}).text
    logins.became["admin"] = "viewer"
    assert "waited" in asked.enter(number).text
    assert asked.done == []


def test_a_role_that_is_lost_between_form_and_password_is_refused(
    asked: Asked, logins: GivenSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session goes on, its role does not."""
    number, session = asked.send(), GivenSessions.session

    def demoted(self: GivenSessions, token: str, *, active: bool = True) -> Any:
        found = session(self, token, active=active)
        return None if found is None else attrs.evolve(found, role=Role.VIEWER)

    monkeypatch.setattr(GivenSessions, "session", demoted)
    assert asked.enter(number).status == 403
    assert asked.done == []
    assert logins.security.lines[-1] == ("a-admin", "deny role: viewer POST /users/test/{name}")


def test_requests_that_wait_do_not_pile_up(asked: Asked, logins: GivenSessions, site: Site) -> None:
    """The oldest are dropped."""
    session = logins.session("admin")
    assert session is not None
    waiting = AskedRequests(site.clock)
    kept = [waiting.keep(session, AskedRequest(does="x", make=asked._act)) for _ in range(MOST_ASKED + 1)]
    assert waiting.take(session, kept[0]) is None
    assert waiting.take(session, kept[-1]) is not None
