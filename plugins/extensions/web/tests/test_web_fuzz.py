"""Whatever a request brings, no route fails: no 5xx, no traceback, and the headers that keep the page in place.

It takes the place of a fuzzer that reads a schema: the page has none, and its table of routes says the same.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import hypothesis
import pytest
from hypothesis import strategies as st
from starlette.routing import compile_path
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.app import create_app
from tbot_extension_web.headers import HEADERS, Origin
from tbot_extension_web.pages import runs, service
from tbot_extension_web.routes import ROUTES
from tbot_extension_web.site import FOLDER, Site
from tbot_extension_web.testing.client import HOST, ask
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP, GivenSessions

from tbot_core.errors import UsageError
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

STREAMS = {"/live/dashboard"}  # an answer that does not end
WALKED = [one for one in ROUTES if one.path not in STREAMS]
NAMES = sorted(
    {name for path in FOLDER.rglob("*.html") for name in re.findall(r'name="([a-z_]+)"', path.read_text("utf-8"))}
    | {"date", "run", "time", "symbol", "next", "link", "day", "level", "category"}
)
"""The fields of the page's forms, and of its addresses."""

HARD = [
    "",
    " ",
    "0",
    "-1",
    "9" * 400,
    "1e999",
    "NaN",
    "0x10",
    "\x00",
    "a\x00b",
    "\r\nX: y",
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "//evil.example",
    "\\\\evil",
    "%00%ff%zz",
    "2026-11-24",
    "2026-02-30",
    "0000-00-00",
    "9999-12-31",
    "2026-11-24T15:00:00",
    "25:61",
    "true",
    "null",
    "[]",
    "{}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "AAPL",
    "paper",
    "demo",
    "open",
    "broker",
    "login",
    "\u202e\u0000\ufeff\U0001f4a9",
    "e\u0301" * 300,
    "\uffff",
    "x" * 5000,
]
TEXTS = st.sampled_from(HARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FIELDS = st.dictionaries(st.sampled_from(NAMES) | TEXTS, TEXTS, max_size=6)
KINDS = st.sampled_from(
    [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=nonsense",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "application/json",
        "text/plain",
        "\u00e9",
        "",
    ]
)
COOKIES = st.dictionaries(
    st.sampled_from(["tbot-session", "tbot-visit", "tbot-first-run", "x"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters=";"), max_size=80),
    max_size=3,
)
SEGMENTS = st.sampled_from([one for one in HARD if one and "/" not in one]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/?"), min_size=1, max_size=30
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request to one of the routes."""
    route = draw(st.sampled_from(WALKED))
    path = re.sub(r"\{\w+\}", lambda _: draw(SEGMENTS).replace("?", ""), route.path)
    query = urlencode(draw(FIELDS)) if draw(st.booleans()) else quote(draw(TEXTS), safe="&=%;+")
    form = draw(FIELDS) | ({"csrf": CSRF} if draw(st.integers(0, 5)) else {})
    kind = draw(KINDS) if draw(st.integers(0, 4)) == 0 else "application/x-www-form-urlencoded"
    body: bytes = urlencode(form).encode()
    if kind.startswith("multipart") and draw(st.booleans()):
        body = b"--x\r\n" + draw(st.binary(max_size=60)) + b"\r\n--x--\r\n"
    elif draw(st.integers(0, 9)) == 0:
        body = draw(st.binary(max_size=200))
    cookies = "; ".join(f"{name}={text}" for name, text in draw(COOKIES).items())
    hx = "true" if draw(st.booleans()) else ""
    return {"route": route, "path": f"{path}?{query}", "kind": kind, "body": body, "cookies": cookies, "hx": hx}


@pytest.fixture(scope="module")
def fuzzed(traded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ASGIApp, Site]:
    """The page of a demo that requests may change."""
    home = tmp_path_factory.mktemp("fuzzed") / "instance"
    shutil.copytree(traded, home)
    logins = GivenSessions()
    site = Site(home, SystemClock(), Origin(scheme="http", hosts=frozenset({HOST})), logins)  # type: ignore[arg-type]
    return create_app(site), site


def not_started(*_: object) -> str:
    """In the place of a start of a simulation or the bot: what is right in a form would start a process."""
    raise UsageError("Not started.", "It is a test.")


@pytest.mark.slow
@pytest.mark.first(0)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("caller", [*(one.value for one in Role), STEPPED_UP, ""])
@hypothesis.given(given=requests())
def test_no_route_fails_whatever_it_is_sent(fuzzed: tuple[ASGIApp, Site], caller: str, given: dict[str, Any]) -> None:
    """For each caller: an answer below 500 without a traceback, and with all headers."""
    app, site = fuzzed
    site.logins.ended.clear()  # type: ignore[attr-defined]  # of the given sessions
    shutil.rmtree(site.home / "control", ignore_errors=True)
    headers = {
        "cookie": f"{given['cookies']}; tbot-session={caller}" if caller else given["cookies"],
        "content-type": given["kind"],
        "hx-request": given["hx"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "start_simulation", not_started)
        patch.setattr(service, "start_service", not_started)
        answer = ask(app, given["route"].method, given["path"], headers, given["body"])
    assert answer.status < 500, answer.text[-2000:]
    assert "Traceback" not in answer.text
    assert {name.lower() for name in HEADERS} <= set(answer.headers)
    assert answer.headers["cache-control"] == "no-store"


def test_each_route_is_walked() -> None:
    """Only streams are left out, and a parameter is one segment of a path."""
    assert {one.path for one in ROUTES} - {one.path for one in WALKED} == STREAMS
    assert all(set(re.findall(r":\w+", one.path)) == set() for one in ROUTES)
    assert all(compile_path(one.path)[0] for one in ROUTES)
