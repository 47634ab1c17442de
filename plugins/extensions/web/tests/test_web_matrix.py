"""Each route for each caller: what the table allows is answered, and everything else is refused."""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount, Route
from tbot_extension_web import forms
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.denials import AT_ONCE, EVERY_S
from tbot_extension_web.access.permissions import Permission, allows
from tbot_extension_web.app import create_app, routed
from tbot_extension_web.call import Call
from tbot_extension_web.forms import MOST_FORM_BYTES
from tbot_extension_web.routes import ROUTES, Stage
from tbot_extension_web.testing.client import ask, ask_once, send_slowly
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP, GivenSessions

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp
    from tbot_extension_web.routes import WebRoute
    from tbot_extension_web.site import Site

    from tbot_core.model.clock import ManualClock

CHARSETS = ("undefined", "punycode", "idna", "hex", "utf-7", "latin-1")
UNREADABLE = ("http://[", "http://[::1", "http://[vx]:1", "http://\u2100", "//", "http://127.0.0.1:8443/x", "://", "x")
WITHOUT_LOGIN = {Permission.PUBLIC, Permission.FIRST_RUN, Permission.METRICS}
GUARDED = [one for one in ROUTES if one.permission not in WITHOUT_LOGIN]
CHANGES = [one for one in ROUTES if one.method == "POST"]
ALL = pytest.mark.parametrize("route", ROUTES, ids=lambda one: one.name)
EACH_GUARDED = pytest.mark.parametrize("route", GUARDED, ids=lambda one: one.name)
EACH_CHANGE = pytest.mark.parametrize("route", CHANGES, ids=lambda one: one.name)


def test_nothing_is_served_past_the_table(site: Site) -> None:
    """Each route is one of the table with its method, and the only folders are those of styles and scripts.

    The address of a POST alone has a GET too, which leads to a page and does nothing else.
    """
    app = routed(site)
    served = {(one.path, method) for one in app.routes if isinstance(one, Route) for method in one.methods or ()}
    assert served - {(path, "HEAD") for path, _ in served} == {
        *((one.path, one.method) for one in ROUTES),
        *((one.path, "GET") for one in CHANGES),
    }
    mounts = [one for one in app.routes if not isinstance(one, Route)]
    assert [one.path for one in mounts if isinstance(one, Mount)] == ["/static/uplot", "/static"]
    assert len(mounts) == 2


@pytest.mark.parametrize(
    "path", ["/static/app.css", "/static/uplot/uplot.js", "/static/../app.py", "/static/none", "/none"]
)
def test_a_file_is_guarded_as_a_page_where_it_matters(app: ASGIApp, path: str) -> None:
    """A foreign host is refused, a path leads out of no folder, and each answer has the headers."""
    assert ask(app, "GET", path, {"host": "evil.example:8443"}).status == 421
    answer = ask(app, "GET", path)
    assert answer.status in {200, 404}
    assert "from __future__" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def sample(route: WebRoute) -> str:
    """An address that the route takes."""
    return re.sub(r"\{\w+(:path)?\}", "x", route.path)


UNSENT = "/login?ended=unsent"


def unsent(route: WebRoute) -> str:
    """Where a form leads that was sent without a session, of an instance that is set up."""
    return "/login" if route.stage is Stage.SET_UP else UNSENT


def as_role(role: str, **more: str) -> dict[str, str]:
    """The headers of a browser that is logged in."""
    return {"cookie": f"tbot-session={role}", **more}


@EACH_GUARDED
def test_without_a_session_a_route_leads_to_the_login(app: ASGIApp, route: WebRoute) -> None:
    """Also with the token of a session that has ended; nothing is shown but that a form was not done.

    A form of a set-up that is over is not called undone: what has ended the set-up ends its sessions.
    """
    login = unsent(route) if route.method == "POST" else "/login"
    for cookie in ("", "tbot-session=ended"):
        answer = ask(app, route.method, sample(route), {"cookie": cookie}, {"csrf": CSRF})
        assert (answer.status, answer.headers["location"], answer.body) == (303, login, b"")
    assert ("what you sent was not done" in ask(app, "GET", login).text) == (login == UNSENT)


@EACH_GUARDED
def test_a_role_without_the_permission_is_refused(app: ASGIApp, route: WebRoute, logins: GivenSessions) -> None:
    """With 403 and what the role may not do, HEAD too; the security log says who asked for what."""
    for role in [one for one in Role if not allows(one, route.permission)]:
        logins.security.lines.clear()
        answer = ask(app, route.method, sample(route), as_role(role.value), {"csrf": CSRF})
        assert answer.status == 403
        assert re.search(rf"The role {role.value} has no permission to [a-z][^.]+, which this needs\.", answer.text)
        assert logins.security.lines == [(f"a-{role.value}", f"deny role: {role.value} {route.name}")]
        if route.method == "GET":
            assert ask(app, "HEAD", sample(route), as_role(role.value)).status == 403


@EACH_GUARDED
def test_a_head_request_is_guarded_as_its_page(app: ASGIApp, route: WebRoute) -> None:
    """Without a session it leads to the login."""
    if route.method == "GET":
        answer = ask(app, "HEAD", sample(route))
        assert (answer.status, answer.headers["location"]) == (303, "/login")


@EACH_CHANGE
def test_a_change_is_not_made_by_another_method(app: ASGIApp, route: WebRoute, logins: GivenSessions) -> None:
    """GET shows the page of that path, or leads to the one with the form; other methods are refused."""
    pages = {one.path for one in ROUTES if one.method == "GET"}
    for method in ("GET", "HEAD"):
        answer = ask(app, method, f"{sample(route)}?csrf={CSRF}", as_role(STEPPED_UP))
        assert route.path in pages or answer.status == 303
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "MKCOL"):
        answer = ask(app, method, sample(route), as_role(STEPPED_UP), {"csrf": CSRF})
        assert answer.status == 405
        assert ask(app, method, sample(route), as_role(STEPPED_UP, origin="http://evil.example")).status == 403
    assert logins.ended == []


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/risk/kill", "/risk"),
        ("/setup/create", "/setup"),
        ("/setup/restore", "/setup/begin"),
        ("/setup/broker/test", "/setup/broker"),
        ("/settings/review", "/settings"),
        ("/secrets/rotate", "/secrets"),
        ("/secrets/backups", "/secrets"),
        ("/secrets/backups/try", "/secrets"),
        ("/secrets/broker/test", "/secrets/broker"),
        ("/secrets/metrics-token/remove", "/secrets"),
        ("/users/add", "/users"),
        ("/account/codes/off", "/account"),
        ("/runs/started/b x/cancel", "/runs/started/b%20x"),
        ("/confirmations/approve", "/confirmations"),
        ("/logout", "/"),
    ],
)
def test_a_reload_of_what_was_sent_leads_to_its_form(app: ASGIApp, path: str, page: str) -> None:
    """The address of a POST, opened by a browser, is the page with the form; who may see that is its own matter."""
    for role in (STEPPED_UP, "viewer", "ended"):
        answer = ask(app, "GET", path, as_role(role))
        assert (answer.status, answer.headers["location"]) == (303, page)


@EACH_CHANGE
def test_a_form_that_is_too_large_is_not_read(app: ASGIApp, route: WebRoute) -> None:
    """Nor one that does not say how large it is."""
    for length in (str(MOST_FORM_BYTES + 1), "9" * 400, "-1", "many", ""):
        answer = ask(app, "POST", sample(route), as_role(STEPPED_UP, **{"content-length": length}), {"csrf": CSRF})
        assert answer.status == 413


def test_the_refusal_of_a_large_form_names_the_bound_and_what_to_do(app: ASGIApp) -> None:
    """Under a heading of its own, as each other refusal."""
    headers = as_role(STEPPED_UP, **{"content-length": str(MOST_FORM_BYTES + 1)})
    page = ask(app, "POST", "/settings/review", headers, {"csrf": CSRF}).text
    assert "<h1>Too large</h1>" in page
    assert "A form has at most 1 MB (1,000,000 bytes)" in page
    assert "enter less text or choose a smaller file" in page


@cache
def many(size: int) -> tuple[bytes, bytes]:
    """A form of ten thousand fields of so many bytes, in parts and as an address has them."""
    part = b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n' + b"a" * size + b"\r\n"
    parts = b"".join(part % number for number in range(10_000)) + b"--x--\r\n"
    return parts, b"&".join(b"f%d=" % number + b"a" * 2 * size for number in range(10_000))


@pytest.mark.parametrize("size", [0, 60])
@EACH_CHANGE
def test_a_form_of_many_parts_counts_as_a_whole(app: ASGIApp, route: WebRoute, size: int) -> None:
    """Ten thousand small parts are refused: as too many, and where they are too large together by their sum alone."""
    parts, fields = many(size)
    assert (len(parts) > MOST_FORM_BYTES) is (len(fields) > MOST_FORM_BYTES) is bool(size)
    kind = {"content-type": "multipart/form-data; boundary=x"}
    in_parts = ask(app, "POST", sample(route), as_role(STEPPED_UP, **kind), parts)
    assert in_parts.status in ({413} if size else {400, 415})
    assert ask(app, "POST", sample(route), as_role(STEPPED_UP), fields).status == (413 if size else 400)


@EACH_CHANGE
def test_a_right_counts_when_the_whole_form_is_there(app: ASGIApp, route: WebRoute, logins: GivenSessions) -> None:
    """A session that ended, lost its role or its step-up before the last byte of the form does nothing."""

    def sent(meanwhile: Callable[[], None]) -> tuple[int, str]:
        answer = send_slowly(app, sample(route), as_role(STEPPED_UP), {"csrf": CSRF, "sure": "yes"}, meanwhile)
        return answer.status, answer.headers.get("location", "")

    if route.stepped_up:
        assert sent(lambda: logins.became.update({STEPPED_UP: "admin"}))[1].startswith("/step-up")
    if route.permission in WITHOUT_LOGIN:
        return
    if not allows(Role.VIEWER, route.permission):
        assert sent(lambda: logins.became.update({STEPPED_UP: "viewer"}))[0] == 403
    assert sent(lambda: logins.ended.append(logins.became.get(STEPPED_UP, STEPPED_UP))) == (303, unsent(route))


@EACH_CHANGE
def test_a_form_is_text(app: ASGIApp, route: WebRoute) -> None:
    """A file in the place of text, another encoding, bytes that are no text, and another kind of form are refused."""
    head = b'--x\r\nContent-Disposition: form-data; name="csrf"'
    file, text = head + b'; filename="f"\r\n\r\n\xff\xfe\r\n--x--\r\n', head + b"\r\n\r\n\\ud800\r\n--x--\r\n"
    for kind, body, refused in (
        ("multipart/form-data; boundary=x", file, {400, 415}),
        *((f"multipart/form-data; boundary=x; charset={one}", text, {415}) for one in CHARSETS),
        *((f"application/x-www-form-urlencoded; charset={one}", b"csrf=x", {415}) for one in CHARSETS),
        ("application/x-www-form-urlencoded", b"csrf=\xff", {400}),
        ("application/x-www-form-urlencoded", b"csrf=%ed%a0%80", {400}),
        ("application/x-www-form-urlencoded", b"a=1&" * 1001, {400}),
        ("application/json", b"{}", {415}),
        ("text/plain", b"csrf=x", {415}),
    ):
        answer = ask(app, "POST", sample(route), as_role(STEPPED_UP, **{"content-type": kind}), body)
        assert answer.status in refused, (kind, body)


def test_a_file_is_taken_where_the_table_says_so() -> None:
    """At the begin of a set-up, and for an import, whose file is not kept in memory."""
    steps = {"/setup/{step}", "/setup/{step}/test", "/setup/{step}/field"}
    assert {one.path for one in CHANGES if one.files} == {*steps, "/setup/restore"}
    assert {one.path for one in CHANGES if one.upload} == {"/runs/import"}


def test_a_form_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that stays unfinished, nor one whose sender is gone."""
    monkeypatch.setattr(forms, "READ_S", 0.01)
    headers = [(b"content-length", b"9"), (b"content-type", b"application/x-www-form-urlencoded")]

    async def stays() -> Any:
        await asyncio.Event().wait()

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    for receive, code in ((stays, 408), (gone, 400)):
        with pytest.raises(HTTPException) as caught:
            asyncio.run(forms.read_form(Request({"type": "http", "headers": headers}, receive)))
        assert caught.value.status_code == code


@EACH_CHANGE
def test_a_change_without_the_token_of_its_form_is_refused(
    app: ASGIApp, route: WebRoute, logins: GivenSessions
) -> None:
    """Without one, and with one of another session; each is a line of the security log."""
    for form in ({}, {"csrf": "another"}):
        answer = ask(app, "POST", sample(route), as_role(STEPPED_UP), form)
        assert (answer.status, "out of date" in answer.text) == (403, True)
    known = route.permission not in WITHOUT_LOGIN
    line = ("a-admin", f"deny form: admin {route.name}") if known else ("", f"deny form: {route.name}")
    assert logins.security.lines == [line] * 2


@EACH_CHANGE
def test_f112_a_change_from_another_page_is_refused(app: ASGIApp, route: WebRoute, logins: GivenSessions) -> None:
    """By what the browser says of the page, and where it says nothing; each is a line of the security log."""
    for said in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "https://127.0.0.1:8443"},
        {"origin": "null", "sec-fetch-site": ""},
        {"origin": "", "sec-fetch-site": ""},
        *({"origin": one} for one in UNREADABLE),
    ):
        answer = ask(app, "POST", sample(route), as_role(STEPPED_UP, **said), {"csrf": CSRF})
        assert answer.status == 403
    assert len(logins.security.lines) == 7 + len(UNREADABLE)
    assert logins.security.lines[3] == ("", "deny other page: POST from http://evil.example")


@pytest.mark.parametrize("route", [one for one in ROUTES if one.method == "GET"], ids=lambda one: one.name)
def test_a_foreign_page_may_lead_here_and_ask_for_nothing(app: ASGIApp, route: WebRoute) -> None:
    """A link is followed; a script, a picture, a frame and a stream of another origin, also of this host, are not."""
    method = "HEAD" if route.path.startswith("/live/") else "GET"  # a stream does not end
    for site in ("cross-site", "same-site"):
        for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("", "")):
            said = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
            assert ask(app, method, sample(route), as_role(STEPPED_UP, **said)).status == 403
        said = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert ask(app, method, sample(route), said).status != 403 or route.permission is Permission.FIRST_RUN
    for said in ({"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}):
        assert ask(app, method, sample(route), said).status != 403 or route.permission is Permission.FIRST_RUN


@ALL
def test_a_request_that_can_be_read_in_two_ways_is_refused(
    app: ASGIApp, route: WebRoute, logins: GivenSessions
) -> None:
    """A body in chunks, also with a length, and a target that is an address; the connection ends."""
    for path, more in ((sample(route), {"transfer-encoding": "chunked"}), (f"http://evil.example{route.path}", {})):
        answer = ask(app, route.method, path, as_role(STEPPED_UP, **more), {"csrf": CSRF})
        assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert logins.ended == []


@ALL
def test_f112_a_foreign_host_name_is_refused(app: ASGIApp, route: WebRoute, logins: GivenSessions) -> None:
    """A name that leads to this machine (rebinding), another port, and none; nothing is done, and it is logged."""
    hosts = ("evil.example:8443", "127.0.0.1:8444", "127.0.0.1", "")
    for host in hosts:
        origin = {"origin": f"http://{host}"} if host and route.method == "POST" else {}
        answer = ask(app, route.method, sample(route), as_role(STEPPED_UP, host=host, **origin), {"csrf": CSRF})
        assert answer.status == 421
    assert logins.security.lines == [("", f"deny host: {route.method} from {host}") for host in hosts]
    assert logins.ended == []


@EACH_CHANGE
def test_a_dangerous_change_asks_for_the_password_again(app: ASGIApp, route: WebRoute) -> None:
    """Where the table says so, and the admin has not entered it within the last minutes; a question comes before it."""
    answer = ask(app, "POST", sample(route), as_role("admin"), {"csrf": CSRF, "sure": "yes"})
    place = "/step-up?next=" if route.unkept else "/step-up?request="
    assert answer.headers.get("location", "").startswith(place) is route.stepped_up
    assert bool(route.does) >= route.stepped_up
    if route.asks is not None:
        asked = ask_once(app, "POST", sample(route), as_role("admin"), {"csrf": CSRF})
        assert not asked.headers.get("location", "").startswith("/step-up")


@ALL
def test_no_route_fails_on_an_empty_folder(app: ASGIApp, route: WebRoute) -> None:
    """To every request an answer below 500, with the headers that keep it in place."""
    for role in (*(one.value for one in Role), STEPPED_UP, ""):
        method = "HEAD" if route.path.startswith("/live/") else route.method  # a stream does not end
        answer = ask(app, method, sample(route), as_role(role), {"csrf": CSRF})
        assert answer.status < 500
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"


def test_a_failure_anywhere_has_the_headers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what finds the session, of a page, and of the page of a failure: an answer without detail."""

    def broken(*_parts: object, **_more: object) -> Any:
        raise ZeroDivisionError("canary")

    for place, name in ((site.live, "parts"), (GivenSessions, "session"), (Call, "page")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, broken)
            for path in ("/", "/none"):
                answer = ask(create_app(site), "GET", path, as_role("viewer"))
                assert (answer.status in {404, 500}, "canary" in answer.text) == (True, False)
                assert answer.headers["content-security-policy"].startswith("default-src 'none'")
                assert answer.headers["cache-control"] == "no-store"


def test_without_the_users_the_page_says_so(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may do what is not known then: nothing is shown but that, and what needs no session answers."""

    def unread(*_parts: object, **_more: object) -> Any:
        raise AccessError("canary", "Check the disk.")

    monkeypatch.setattr(GivenSessions, "session", unread)
    for path, status in (("/", 503), ("/users", 503), ("/healthz", 200), ("/metrics", 404), ("/static/app.css", 200)):
        answer = ask(app, "GET", path, as_role("admin"))
        assert (answer.status, "canary" in answer.text) == (status, False)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert ask(app, "POST", "/risk/kill", as_role(STEPPED_UP), {"csrf": CSRF}).status == 503


def test_each_permission_is_needed_by_a_route_and_granted_to_a_role() -> None:
    """A permission that nothing asks for, or that no role has, is a mistake in one of the tables."""
    assert {one.permission for one in GUARDED} <= {one for role in Role for one in Permission if allows(role, one)}
    assert len({one.name for one in ROUTES}) == len(ROUTES)


def test_a_flood_of_refused_requests_does_not_fill_the_security_log(
    app: ASGIApp, site: Site, logins: GivenSessions
) -> None:
    """Lines of one kind are bounded and say how many are left out; another kind, and a user's, are still written."""
    for number in range(200):
        ask(app, "GET", "/", {"host": f"{number}.evil.example"})
    assert len(logins.security.lines) == AT_ONCE
    ask(app, "GET", "/users", as_role("viewer"))
    assert logins.security.lines[-1] == ("a-viewer", "deny role: viewer GET /users")
    clock: ManualClock = site.clock  # type: ignore[assignment]  # the fixture's
    clock.advance(EVERY_S)
    ask(app, "GET", "/", {"host": "evil.example\n" + "x" * 500})
    actor, line = logins.security.lines[-1]
    assert (actor, len(line) < 200) == ("", True)
    assert line.startswith("deny host: GET from evil.example xxx")
    assert line.endswith(f", {200 - AT_ONCE} more before it")
    assert len(logins.security.lines) == AT_ONCE + 2
