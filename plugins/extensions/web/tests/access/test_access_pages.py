"""The pages of users and of one's own account, with real accounts and sessions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.logins import csrf_token
from tbot_extension_web.access.second_factor import totp_code
from tbot_extension_web.app import create_app
from tbot_extension_web.headers import Origin
from tbot_extension_web.pages.account import qr_code
from tbot_extension_web.site import Site
from tbot_extension_web.testing.client import HOST, Answer, ask

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb

NEW = "copper lantern meadow"
PASSWORD = "velvet otter quarry"


class Browser:
    """A browser that is logged in, and follows the token that it is given."""

    def __init__(self, access: Any, user: str, *, stepped_up: bool = True) -> None:
        self.access = access
        origin = Origin(scheme="http", hosts=frozenset({HOST}))
        self.app = create_app(Site(access.home, access.clock, origin, access.logins, "B01"))
        self.token = access.token(user)
        if stepped_up:
            self.token = access.do(access.logins.step_up(self.token, PASSWORD, "")).token

    def get(self, path: str) -> Answer:
        """Open a page."""
        return ask(self.app, "GET", path, {"cookie": f"tbot-session={self.token}"})

    def send(self, path: str, **form: Any) -> Answer:
        """Send a form."""
        self.access.clock.advance(0.1)
        fields = {"csrf": csrf_token(self.token), **form}
        answer = ask(self.app, "POST", path, {"cookie": f"tbot-session={self.token}"}, fields)
        for cookie in answer.cookies:
            if found := re.match(r"tbot-session=([0-9a-f]+)", cookie):
                self.token = found[1]
        return answer

    def refusal(self, path: str, **form: Any) -> str:
        """Send a form, and read the page that it leads to."""
        return self.get(self.send(path, **form).headers["location"]).text


@pytest.fixture
def alice(access: Any) -> Browser:
    """The admin."""
    return Browser(access, "alice")


def test_the_list_shows_who_may_log_in(access: Any, alice: Browser) -> None:
    """Role, codes, lock, open sessions, last login; forms only after the password."""
    access.add("bob", Role.TRADER)
    access.token("bob")
    access.fail(access.rules.attempt_limit, "bob")
    row = re.sub(r"<[^>]+>", " ", alice.get("/users").text.split("bob", 1)[1].split("</tr>")[0])
    assert row.split() == ["trader", "off", "locked", "1", *row.split()[-2:]]
    assert re.fullmatch(r"2026-\d\d-\d\d \d\d:\d\d", " ".join(row.split()[-2:]))
    assert "/users/remove" not in Browser(access, "alice", stepped_up=False).get("/users").text


def test_an_admin_adds_changes_and_removes_users(access: Any, alice: Browser) -> None:
    """Each step counts at once and is recorded with the admin's name."""
    page = alice.refusal("/users/add", name="Bob", role="viewer", password=NEW, again=NEW)
    assert "bob is added as viewer." in page
    assert "bob is now trader." in alice.refusal("/users/role", name="bob", role="trader")
    assert access.accounts.read()["bob"].role is Role.TRADER
    assert access.log_in("bob", NEW).token
    assert "bob: 1 sessions ended." in alice.refusal("/users/end-sessions", name="bob")
    other = "marble harbour violin"
    assert "new password" in alice.refusal("/users/password", name="bob", password=other, again=other)
    assert access.log_in("bob", other).token
    access.fail(access.rules.attempt_limit, "bob")
    assert access.logins.locked_users() == ("bob",)
    assert "may log in again" in alice.refusal("/users/unlock", name="bob")
    assert access.logins.locked_users() == ()
    access.do(access.accounts.set_totp("bob", "A" * 32, actor="bob"))
    assert "without one-time codes" in alice.refusal("/users/codes-off", name="bob")
    for verb in (ControlVerb.STOP, ControlVerb.DEFENSE_ON, ControlVerb.KILL):
        control.write_request(access.home / "control", verb, actor="web/bob", now=access.clock.now())
    assert "Refused" not in alice.refusal("/users/role", name="bob", role="trader")
    page = alice.refusal("/users/remove", name="bob", sure="yes")
    assert "bob is removed." in page
    assert re.search("Refused are the waiting requests of bob: (stop, defense-on|defense-on, stop)\\.", page)
    assert "The kill of bob waits until an admin clears it." in page
    assert set(access.accounts.read()) == {"alice"}
    assert ("web/alice", "account", "removal of bob") in access.log()


@pytest.mark.parametrize(
    ("path", "form", "words"),
    [
        ("/users/add", {"name": "bob", "role": "king", "password": NEW, "again": NEW}, "Unknown role"),
        ("/users/add", {"name": "b", "role": "viewer", "password": NEW, "again": NEW}, "2 to 32"),
        ("/users/add", {"name": "bob", "role": "viewer", "password": "short", "again": "short"}, "12"),
        ("/users/add", {"name": "bob", "role": "viewer", "password": NEW, "again": "x"}, "differ"),
        ("/users/add", {}, "differ|2 to 32|Unknown role"),
        ("/users/role", {"name": "bob", "role": "viewer"}, "does not exist"),
        ("/users/role", {"name": "alice", "role": "viewer"}, "last admin"),
        ("/users/remove", {"name": "alice", "sure": "yes"}, "last admin"),
        ("/users/password", {"name": "bob"}, "does not exist"),
        ("/users/unlock", {}, "does not exist"),
    ],
)
def test_what_is_not_allowed_changes_nothing(
    access: Any, alice: Browser, path: str, form: dict[str, str], words: str
) -> None:
    """The last admin stays, names and passwords keep their rules, and there is no user but those of the list."""
    before = access.accounts.read()
    answer = alice.send(path, **form)
    assert answer.status == 400
    assert re.search(words, answer.text)
    assert access.accounts.read() == before


def test_an_admin_who_changes_the_own_account_logs_in_again(access: Any, alice: Browser) -> None:
    """The sessions ended with the change."""
    access.add("bob", Role.ADMIN)
    assert alice.send("/users/role", name="alice", role="viewer").headers["location"] == "/users"
    assert alice.get("/users").headers["location"] == "/login"


def test_new_users_get_the_role_of_the_settings(access: Any, alice: Browser) -> None:
    """DEFAULT_USER_ROLE is chosen in the form."""
    assert "<option selected>viewer" in alice.get("/users").text
    (access.home / ".env_bot").write_text("DEFAULT_USER_ROLE=trader\n")
    assert "<option selected>trader" in alice.get("/users").text.split("Add a user")[1]


def test_a_password_is_changed_with_the_present_one(access: Any) -> None:
    """Other sessions end, this one goes on."""
    access.add("bob")
    bob, other = Browser(access, "bob", stepped_up=False), access.token("bob")
    assert "Wrong" not in bob.get("/account").text
    for form, words in (
        ({"password": "wrong wrong wrong", "new": NEW, "again": NEW}, "password or the code is wrong"),
        ({"password": PASSWORD, "new": NEW, "again": "x"}, "differ"),
        ({"password": PASSWORD, "new": "short", "again": "short"}, "12"),
    ):
        answer = bob.send("/account/password", **form)
        assert (answer.status, words in answer.text) == (400, True)
    answer = bob.send("/account/password", password=PASSWORD, new=NEW, again=NEW)
    assert answer.headers["location"] == "/account?done=password"
    assert "Your password is changed" in bob.get("/account?done=password").text
    assert access.logins.session(other) is None
    assert access.log_in("bob", NEW).token


def test_one_time_codes_are_turned_on_with_a_code_and_off(access: Any) -> None:
    """The secret is a picture and a text; the recovery codes are shown once; a login then asks for a code."""
    access.add("bob")
    bob = Browser(access, "bob")
    page = bob.get("/account/codes").text
    found = re.search(r'name="secret" value="([A-Z2-7]+)"', page)
    assert found is not None
    assert '<svg xmlns="http://www.w3.org/2000/svg"' in page
    assert "style=" not in page
    wrong = bob.send("/account/codes", secret=found[1], code="000000")
    assert (wrong.status, found[1] in wrong.text) == (400, True)
    done = bob.send("/account/codes", secret=found[1], code=totp_code(found[1], access.clock.now())).text
    codes = re.findall(r"<li><code>([0-9a-z-]+)</code></li>", done)
    assert len(codes) == 10
    assert "10 recovery codes are left" in bob.get("/account").text
    assert not hasattr(access.log_in("bob"), "token")
    assert access.log_in("bob", code=codes[0]).token
    assert bob.send("/account/codes", secret="no secret", code="1").headers["location"] == "/account/codes"
    assert bob.send("/account/codes/off").headers["location"] == "/account"
    assert access.log_in("bob").token


def test_codes_that_the_address_requires_stay_on(access: Any, alice: Browser) -> None:
    """Where other machines reach the page; those of others can be turned off."""
    secret = re.search(r'name="secret" value="([A-Z2-7]+)"', alice.get("/account/codes").text)
    assert secret is not None
    alice.send("/account/codes", secret=secret[1], code=totp_code(secret[1], access.clock.now()))
    access.logins.rules = type(access.rules)(totp_required=True)
    assert alice.send("/account/codes/off").status == 400
    assert alice.send("/users/codes-off", name="alice").status == 400
    assert access.accounts.read()["alice"].totp is not None
    access.add("bob")
    assert alice.send("/users/codes-off", name="bob").headers["location"] == "/users"


def test_codes_ask_for_the_password_first(access: Any) -> None:
    """Someone at an open browser enrols no app of their own."""
    bob = Browser(access, "alice", stepped_up=False)
    assert bob.get("/account/codes").headers["location"] == "/step-up?next=/account/codes"
    assert bob.send("/account/codes/off").headers["location"].startswith("/step-up?request=")


def test_own_sessions_are_listed_and_ended(access: Any) -> None:
    """Those of others are neither shown nor ended."""
    access.add("bob")
    bob, alice = Browser(access, "bob", stepped_up=False), access.token("alice")
    mine = access.logins.session(access.token("bob"))
    theirs = access.logins.session(alice)
    assert bob.get("/account").text.count("/account/sessions/end") == 2
    assert bob.send("/account/sessions/end", id=str(theirs.id)).status == 400
    assert bob.send("/account/sessions/end", id="x").status == 400
    assert bob.send("/account/sessions/end", id=str(mine.id)).headers["location"] == "/account"
    assert bob.get("/account").text.count("/account/sessions/end") == 1
    assert access.logins.session(alice) is not None


def test_a_qr_code_has_no_style() -> None:
    """The policy of the page allows none."""
    picture = qr_code("otpauth://totp/tbot:bob?secret=AAAA")
    assert picture.startswith("<svg ")
    assert "style" not in picture
    assert "AAAA" not in picture


def test_each_page_knows_when_the_session_ends(access: Any, alice: Browser) -> None:
    """By the idle time and by that of every login, which the account page names. The login says why it has ended."""
    page = alice.get("/account").text
    assert 'data-idle-left="3000" data-login-left="7200" data-idle-limit="3000" data-login-limit="7200"' in page
    assert 'id="session-ends"' in page
    assert "ends after 50 min without a click, and 2 h after its begin in any case" in page
    for _ in range(3):
        access.clock.advance(2_000.0)
        alice.get("/account")
    assert 'data-login-left="1200"' in alice.get("/account").text
    alice.token = "none"
    assert "Your session has ended: after 50 min without a click" in alice.get("/login?ended=yes").text


def test_a_page_asks_for_the_time_left_without_a_click_and_stays_logged_in_by_one(access: Any, alice: Browser) -> None:
    """What a script asks by itself counts as no click; the button's request does, up to the end of every login."""

    def left(by: dict[str, str]) -> Any:
        headers = {"cookie": f"tbot-session={alice.token}", **by}
        return json.loads(ask(alice.app, "GET", "/account/session", headers).text)

    by_script = {"HX-Request": "true"}
    access.clock.advance(2_800.0)
    assert left(by_script) == left(by_script) == {"idle_s": 200, "whole_s": 4400}
    assert left({}) == {"idle_s": 3000, "whole_s": 4400}
    access.clock.advance(2_900.0)
    assert left({})["whole_s"] == 1500
    access.clock.advance(1_600.0)
    answer = ask(alice.app, "GET", "/account/session", {"cookie": f"tbot-session={alice.token}"})
    assert (answer.status, answer.headers["location"]) == (303, "/login")


def test_a_code_is_asked_for_where_the_account_has_codes(access: Any) -> None:
    """At the password again; an account without them sees no field for one."""
    page = Browser(access, "alice", stepped_up=False)
    assert 'name="code"' not in page.get("/step-up").text
    access.do(access.accounts.set_totp("alice", "A" * 32, actor="alice"))
    page.token = access.log_in("alice", code=totp_code("A" * 32, access.clock.now())).token
    assert 'name="code"' in page.get("/step-up").text
