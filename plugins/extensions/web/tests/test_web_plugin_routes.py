"""The pages of plugins: guarded as the page's own, and a plugin that fails or hangs is a page that says so."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web import plugin_routes
from tbot_extension_web.app import create_app
from tbot_extension_web.plugin_routes import routes_of
from tbot_extension_web.routes import ROUTES
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.actions.plugin_pages import PluginPages
from tbot_core.contracts.pages import (
    Block,
    Field,
    Form,
    GoTo,
    Heading,
    Link,
    Page,
    PagePermission,
    PageRequest,
    Paragraph,
    PluginRoute,
    Table,
)
from tbot_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.client import Answer

VIEWER = {"cookie": "tbot-session=viewer"}
ADMIN = {"cookie": "tbot-session=admin"}


def served(site: Site, *routes: PluginRoute, limit_s: float = 10.0) -> ASGIApp:
    """The page with a plugin `notes` that has these routes, and one that failed."""
    found = (PluginPages(name="notes", routes=routes), PluginPages(name="odd", fault="The extension odd failed: <b>."))
    site.navigation = (*site.navigation, *plugin_routes.navigation(found))
    return create_app(site, (*ROUTES, *plugin_routes.web_routes(found, limit_s)))


def route(answer: Callable[[PageRequest], object], permission: PagePermission = PagePermission.READ) -> PluginRoute:
    """A route; what it answers may be wrong."""
    return PluginRoute(permission=permission, answer=answer, title="Notes")  # type: ignore[arg-type]


def show(app: ASGIApp, path: str = "/x/notes", headers: Mapping[str, str] = VIEWER) -> Answer:
    """A page of the plugin."""
    return ask(app, "GET", path, headers)


def test_a_page_shows_each_block_and_escapes_each_text(site: Site) -> None:
    """Markup in a text, in a value and in a column stays text; the page's own token is in the form."""
    evil = '<script>"</script>\ud800'
    blocks: list[Block] = [
        Heading(evil),
        Paragraph(evil),
        Link(evil, "/of", {"day": f"{evil}&a=b"}),
        Table(columns=[evil, "P&L"], rows=[[evil, "5"]], numbers=frozenset({"P&L"})),
        Form(
            path="/add",
            button=evil,
            fields=[Field(name="text", label=evil, value=evil), Field(name="kind", label="Kind", choices=[evil])],
        ),
    ]
    answer = show(served(site, route(lambda _request: Page(title=evil, blocks=blocks))))
    assert answer.status == 200
    assert "<script>&#34;" not in answer.text
    assert '<script>"' not in answer.text
    assert answer.text.count("&lt;script&gt;&#34;&lt;/script&gt;?") == 11  # twice as title
    assert 'href="/x/notes/of?day=%3Cscript%3E' in answer.text
    assert f'action="/x/notes/add" class="stack">\n<input type="hidden" name="csrf" value="{CSRF}">' in answer.text
    assert '<a href="/x/notes" aria-current="page">Notes</a>' in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_plugin_learns_who_asks_for_what(site: Site) -> None:
    """Fields of the address and of a form, the user and the role; never the token of the form."""
    asked: list[PageRequest] = []

    def add(request: PageRequest) -> GoTo:
        asked.append(request)
        return GoTo("/of")

    app = served(site, PluginRoute(path="/add", method="POST", permission=PagePermission.RUN, answer=add))
    answer = ask(app, "POST", "/x/notes/add?day=5", {"cookie": "tbot-session=trader"}, {"csrf": CSRF, "text": "a"})
    assert (answer.status, answer.headers["location"]) == (303, "/x/notes/of")
    expected = PageRequest(
        method="POST", path="/add", query={"day": "5"}, form={"text": "a"}, user="a-trader", role="trader"
    )
    assert asked == [expected]


def test_a_route_of_a_plugin_is_guarded_as_one_of_the_page(site: Site) -> None:
    """No session, a role without the permission, no token of a form, no password again: the plugin is not called."""
    called: list[PageRequest] = []

    def answer(request: PageRequest) -> Page:
        called.append(request)
        return Page(title="Notes")

    change = PluginRoute(
        path="/add", method="POST", permission=PagePermission.CONFIGURE, answer=answer, stepped_up=True
    )
    app = served(site, change, route(answer, PagePermission.CONTROL))
    assert ask(app, "POST", "/x/notes/add", {}, {"csrf": CSRF}).headers["location"] == "/login?ended=unsent"
    assert ask(app, "POST", "/x/notes/add", VIEWER, {"csrf": CSRF}).status == 403
    assert ask(app, "POST", "/x/notes/add", {"cookie": f"tbot-session={STEPPED_UP}"}, {}).status == 403
    assert ask(app, "POST", "/x/notes/add", {**ADMIN, "origin": "http://evil.example"}, {"csrf": CSRF}).status == 403
    assert ask(app, "POST", "/x/notes/add", ADMIN, {"csrf": CSRF}).headers["location"].startswith("/step-up")
    refused = show(app)
    assert (refused.status, "no permission to arm" in refused.text, ">Notes</a>" in refused.text) == (403, True, False)
    assert called == []


@pytest.mark.parametrize(
    "fault", [ValueError("secret-of-the-vendor"), SystemExit(3), KeyboardInterrupt(), StopIteration()]
)
def test_a_plugin_that_fails_is_a_page_that_says_so(site: Site, fault: BaseException) -> None:
    """Without its words, which go to the log; the page answers as before."""

    def fail(_request: PageRequest) -> Page:
        raise fault

    answer = show(served(site, route(fail)))
    assert answer.status == 500
    assert "The page of the extension notes failed." in answer.text
    assert "secret-of-the-vendor" not in answer.text


def test_an_answer_of_another_kind_is_a_failure(site: Site) -> None:
    """HTML as text is not shown."""
    answer = show(served(site, route(lambda _request: "<h1>Notes</h1>")))
    assert (answer.status, "<h1>Notes" in answer.text) == (500, False)


def test_a_plugin_says_what_cannot_be_done(site: Site) -> None:
    """Its UsageError is shown with the remedy."""

    def refuse(_request: PageRequest) -> Page:
        raise UsageError("There is no note of that day.", "Take another day.")

    answer = show(served(site, route(refuse)))
    assert (answer.status, "There is no note of that day." in answer.text, "Take another" in answer.text) == (
        400,
        True,
        True,
    )


def test_a_plugin_that_hangs_is_left_alone(site: Site) -> None:
    """After the limit the page says so; with two calls hanging the plugin is not called again until one ends."""
    called: list[int] = []
    end = threading.Event()

    def hang(_request: PageRequest) -> Page:
        called.append(1)
        end.wait(30)
        return Page(title="Late")

    app = served(site, route(hang), limit_s=0.02)
    for _ in range(2):
        assert "did not answer within 0.02 s" in show(app).text
    assert "still busy" in show(app).text
    assert len(called) == 2
    end.set()


def test_a_plugin_that_could_not_be_loaded_has_a_page_with_the_reason(site: Site) -> None:
    """As text."""
    answer = show(served(site), "/x/odd")
    assert (answer.status, "The extension odd failed: &lt;b&gt;." in answer.text) == (503, True)


def test_a_set_up_asks_no_plugin(site: Site) -> None:
    """The routes of an instance without extensions are those of the page."""
    assert routes_of(site) == ROUTES


@pytest.mark.usefixtures("sealed")
def test_the_routes_of_an_instance_are_those_of_the_table_and_its_plugins(site: Site, sealed: Path) -> None:
    """With EXTENSIONS=none there are no others."""
    assert sealed.exists()
    assert routes_of(site) == ROUTES
