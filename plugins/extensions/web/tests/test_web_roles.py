"""Who may do what on the page: a list of its own, from what the documents say of the roles, for every route served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from starlette.routing import Mount, Route
from tbot_extension_web.app import routed
from tbot_extension_web.cookies import form_token
from tbot_extension_web.testing.client import ask_once
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.client import Answer

CALLERS: Final = ("", "viewer", "trader", "admin", STEPPED_UP)
"""A visitor, each role, and an admin who entered the password again."""

# login: led to it. 403: refused. password: asked for again. none: not there without its token. ok: answered.
LIST: Final = """
                                    nobody viewer    trader    admin     confirmed
GET  /healthz                       ok     ok        ok        ok        ok
GET  /metrics                       none   none      none      none      none
GET  /first-run                     none   none      none      none      none
POST /first-run                     none   none      none      none      none
GET  /login                         ok     ok        ok        ok        ok
POST /login                         ok     ok        ok        ok        ok

POST /logout                        login  login     login     login     login
GET  /step-up                       login  ok        ok        ok        ok
POST /step-up                       login  ok        ok        ok        ok
GET  /answer/{number}               login  ok        ok        ok        ok
POST /answer/forget                 login  ok        ok        ok        ok
GET  /account                       login  ok        ok        ok        ok
GET  /account/session               login  ok        ok        ok        ok
POST /account/password              login  ok        ok        ok        ok
GET  /account/codes                 login  password  password  password  ok
POST /account/codes                 login  password  password  password  ok
POST /account/codes/off             login  password  password  password  ok
POST /account/sessions/end          login  ok        ok        ok        ok

GET  /                              login  ok        ok        ok        ok
GET  /live/dashboard                login  ok        ok        ok        ok
GET  /confirmations                 login  ok        ok        ok        ok
GET  /confirmations/waiting         login  ok        ok        ok        ok
GET  /service                       login  ok        ok        ok        ok
GET  /risk                          login  ok        ok        ok        ok
GET  /risk/state                    login  ok        ok        ok        ok
GET  /settings                      login  ok        ok        ok        ok
GET  /settings/{group}              login  ok        ok        ok        ok
GET  /logs                          login  ok        ok        ok        ok
GET  /audit                         login  ok        ok        ok        ok
POST /audit/verify                  login  ok        ok        ok        ok
GET  /check                         login  ok        ok        ok        ok
GET  /decisions                     login  ok        ok        ok        ok
GET  /decisions/day                 login  ok        ok        ok        ok
GET  /trades                        login  ok        ok        ok        ok
GET  /trades/{id}                   login  ok        ok        ok        ok
GET  /runs                          login  ok        ok        ok        ok
GET  /runs/started/{id}             login  ok        ok        ok        ok
GET  /runs/started/{id}/progress    login  ok        ok        ok        ok
GET  /runs/{name}/report            login  ok        ok        ok        ok
GET  /runs/{name}/trades.csv        login  ok        ok        ok        ok
GET  /alerts                        login  ok        ok        ok        ok
GET  /plugins                       login  ok        ok        ok        ok
GET  /plugins/{kind}/{name}         login  ok        ok        ok        ok

POST /confirmations/approve         login  403       ok        ok        ok
POST /confirmations/reject          login  403       ok        ok        ok
POST /risk/stop                     login  403       ok        ok        ok
POST /risk/kill                     login  403       ok        ok        ok
POST /risk/defense-on               login  403       ok        ok        ok
POST /risk/disarm                   login  403       ok        ok        ok
POST /runs                          login  403       ok        ok        ok
POST /runs/started/{id}/cancel      login  403       ok        ok        ok
POST /runs/import                   login  403       ok        ok        ok
POST /alerts/acknowledge            login  403       ok        ok        ok
POST /alerts/test                   login  403       ok        ok        ok

POST /service/start                 login  403       403       password  ok
POST /service/stop                  login  403       403       ok        ok
POST /risk/stop-flatten             login  403       403       ok        ok
POST /risk/kill-flatten             login  403       403       ok        ok
POST /risk/stop-keep                login  403       403       ok        ok
POST /risk/stop-cancel              login  403       403       ok        ok
POST /risk/defense-off              login  403       403       ok        ok
POST /risk/kill-clear               login  403       403       password  ok
POST /risk/arm                      login  403       403       password  ok
POST /risk/accept-journal           login  403       403       password  ok
POST /settings/review               login  403       403       ok        ok
POST /settings/save                 login  403       403       ok        ok
POST /settings/encrypt              login  403       403       ok        ok
POST /plugins/approve               login  403       403       password  ok

GET  /secrets                       login  403       403       ok        ok
GET  /secrets/{category}            login  403       403       ok        ok
POST /secrets/{category}            login  403       403       password  ok
POST /secrets/rotate                login  403       403       password  ok
POST /secrets/metrics-token         login  403       403       password  ok
POST /secrets/metrics-token/remove  login  403       403       password  ok
POST /secrets/broker/test           login  403       403       password  ok
POST /secrets/backups               login  403       403       password  ok
POST /secrets/backups/try           login  403       403       password  ok
GET  /secrets/backups/{name}        login  403       403       password  ok
GET  /users                         login  403       403       ok        ok
POST /users/add                     login  403       403       password  ok
POST /users/role                    login  403       403       password  ok
POST /users/password                login  403       403       password  ok
POST /users/codes-off               login  403       403       password  ok
POST /users/remove                  login  403       403       password  ok
POST /users/unlock                  login  403       403       password  ok
POST /users/end-sessions            login  403       403       password  ok

GET  /setup                         login  403       403       ok        ok
POST /setup/create                  login  403       403       ok        ok
POST /setup/restore                 login  403       403       ok        ok
GET  /setup/{step}                  login  403       403       ok        ok
POST /setup/{step}                  login  403       403       ok        ok
POST /setup/{step}/test             login  403       403       ok        ok
POST /setup/{step}/field            login  403       403       ok        ok
"""

ROWS: Final = [line.split() for line in LIST.splitlines() if line[:1] not in {"", " "}]
EXPECTED: Final = {(method, path): tuple(cells) for method, path, *cells in ROWS}
EACH: Final = pytest.mark.parametrize(("method", "path"), EXPECTED, ids=lambda one: one)
UNSAFE: Final = ("POST", "PUT", "PATCH", "DELETE")


def asked(app: ASGIApp, method: str, path: str, caller: str, **more: str) -> Answer:
    """The answer to the caller's request, as a browser on the page makes it but for these headers; with a form's token.

    With the header `without_token` it has none.
    """
    csrf = form_token("a-visit") if path in {"/login", "/first-run"} else CSRF
    cookies = "tbot-visit=a-visit" + (f"; tbot-session={caller}" if caller else "")
    method = "HEAD" if path.startswith("/live/") and method == "GET" else method  # a stream does not end
    place, fields = re.sub(r"\{\w+\}", "x", path), {"sure": "yes"}
    fields |= {} if more.pop("without_token", "") else {"csrf": csrf}
    headers = {"cookie": cookies, **{name.replace("_", "-"): text for name, text in more.items()}}
    return ask_once(app, method, place, headers, fields)


def outcome(answer: Answer, path: str) -> str:
    """The answer in a word of the list; what is asked for (`x`) need not exist."""
    place = answer.headers.get("location", "").partition("?")[0]
    if answer.status == 303 and place in {"/login", "/step-up"}:
        return "login" if place == "/login" else "password"
    if answer.status == 404 and path in {"/metrics", "/first-run"}:
        return "none"
    return "403" if answer.status == 403 else "ok"


def test_the_list_names_every_route_that_is_served(site: Site) -> None:
    """A new one fails this until the list says who may use it; the address of a form alone only leads to its page."""
    served = {
        (method, one.path)
        for one in routed(site).routes
        if isinstance(one, Route)
        for method in (one.methods or set()) - {"HEAD"}
    }
    leading = {("GET", path) for method, path in EXPECTED if method == "POST"} - EXPECTED.keys()
    assert served == EXPECTED.keys() | leading
    assert [one.path for one in routed(site).routes if isinstance(one, Mount)] == ["/static/uplot", "/static"]


@EACH
def test_each_route_answers_each_role_as_the_list_says(app: ASGIApp, method: str, path: str) -> None:
    """By method, and for a visitor, each role, and an admin who entered the password again."""
    found = tuple(outcome(asked(app, method, path, caller), path) for caller in CALLERS)
    assert found == EXPECTED[method, path]


@EACH
def test_a_part_of_a_page_is_refused_as_the_page(app: ASGIApp, method: str, path: str) -> None:
    """What a script asks for by itself needs the same role, the form's token, and the page's own origin."""
    part = {"hx_request": "true"}
    if method == "POST":
        refused = asked(app, method, path, STEPPED_UP, without_token="yes", **part)
        assert (refused.status, "out of date" in refused.text) == (403, True)
    for unsafe in ("POST", "PUT", "PATCH", "DELETE"):
        for said in ({"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}):
            assert asked(app, unsafe, path, STEPPED_UP, **part, **said).status == 403
    for caller, cell in zip(CALLERS, EXPECTED[method, path], strict=True):
        answer = asked(app, method, path, caller, **part)
        if cell == "login" and caller == "":
            assert (answer.status, answer.body) == (401, b"")
        elif cell in {"403", "password"}:
            assert outcome(answer, path) == cell
