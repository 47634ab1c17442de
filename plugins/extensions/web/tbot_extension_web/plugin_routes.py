"""The routes of plugins: called in threads of their own, and a plugin that fails or hangs is a page that says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import attrs

from tbot_core.actions.plugin_pages import PluginPages, plugin_pages
from tbot_core.contracts.pages import Block, Field, Form, GoTo, Link, Page, PageRequest, PluginRoute, Table
from tbot_core.errors import PluginError, TbotError
from tbot_core.system import log, random
from tbot_core.system.threads import DaemonThreads
from tbot_extension_web.access.permissions import Permission
from tbot_extension_web.routes import ROUTES, WebRoute
from tbot_extension_web.site import NAVIGATION, NavigationItem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response

    from tbot_extension_web.call import Call
    from tbot_extension_web.site import Site

ANSWER_S: Final = 10.0
"""How long a plugin has for an answer."""

AT_ONCE: Final = 2
"""How many calls of a plugin run at the same time; those that hang count."""

_REMEDY: Final = "Try again in a minute; if it stays so, start the page again. The bot is not affected."
_log = log.logger(__name__)


def routes_of(site: Site) -> tuple[WebRoute, ...]:
    """The routes of the page and of the plugins of its instance; the site's navigation gets the latter's pages.

    During a set-up there are no plugins: their pages come with the next start.
    """
    found = () if site.setup is not None else plugin_pages(site.home, site.clock)
    site.navigation = (*NAVIGATION, *navigation(found))
    return (*ROUTES, *web_routes(found))


def web_routes(found: Iterable[PluginPages], limit_s: float = ANSWER_S) -> tuple[WebRoute, ...]:
    """The routes of the plugins as the page serves them; a plugin without any has a page that says why."""
    made: list[WebRoute] = []
    for pages in found:
        if pages.fault:
            made.append(_failed_route(pages))
        calls = _Calls(pages, limit_s)
        made += [_web_route(pages, route, calls) for route in pages.routes]
    return tuple(made)


def navigation(found: Iterable[PluginPages]) -> tuple[NavigationItem, ...]:
    """The pages of plugins that have a place in the navigation."""
    return tuple(
        NavigationItem(path=_address(pages, route.path), title=route.title, permission=_permission(route))
        for pages in found
        for route in pages.routes
        if route.title and route.method == "GET"
    )


def _web_route(pages: PluginPages, route: PluginRoute, calls: _Calls) -> WebRoute:
    async def answer(call: Call) -> Response:
        return await _answer(call, pages, route, calls)

    return WebRoute(
        method=route.method,
        path=_address(pages, route.path),
        permission=_permission(route),
        endpoint=answer,
        stepped_up=route.stepped_up,
    )


def _permission(route: PluginRoute) -> Permission:
    return Permission(route.permission.value)


def _address(pages: PluginPages, path: str = "") -> str:
    return f"/x/{pages.name}{path}"


def _failed_route(pages: PluginPages) -> WebRoute:
    # The page of a plugin that has no routes, because it failed.
    async def answer(call: Call) -> Response:
        return call.page("message.html", 503, title=f"{pages.name} failed", text=pages.fault)

    return WebRoute(method="GET", path=_address(pages), permission=Permission.READ, endpoint=answer)


class _Calls:
    # The calls of one plugin; one that hangs keeps its thread, so that there are never more than AT_ONCE.

    def __init__(self, pages: PluginPages, limit_s: float) -> None:
        self._name = pages.name
        self._limit_s = limit_s
        self._running = 0
        self._threads = DaemonThreads(AT_ONCE)

    async def answer(self, route: PluginRoute, request: PageRequest) -> Page | GoTo:
        if self._running >= AT_ONCE:
            raise PluginError(f"The extension {self._name} is still busy with earlier requests.", _REMEDY)
        self._running += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, _called, route, request)  # seam: no run waits for the page
        future.add_done_callback(self._done)
        try:
            outcome = await asyncio.wait_for(asyncio.shield(future), self._limit_s)
        except TimeoutError:
            words = f"The extension {self._name} did not answer within {self._limit_s:g} s."
            raise PluginError(words, _REMEDY) from None
        if isinstance(outcome, BaseException):
            raise _Failed from outcome
        return outcome

    def _done(self, _future: object) -> None:
        self._running -= 1


class _Failed(Exception):
    pass


def _called(route: PluginRoute, request: PageRequest) -> Page | GoTo | BaseException:
    # What it raises is a value: SystemExit must not end the loop.
    try:
        found: object = route.answer(request)
    except BaseException as fault:  # noqa: BLE001  -- the border of a plugin's call: it may raise anything
        return fault
    if isinstance(found, Page | GoTo):
        return found
    return TypeError(f"it returned {type(found).__name__}, neither Page nor GoTo")


async def _answer(call: Call, pages: PluginPages, route: PluginRoute, calls: _Calls) -> Response:
    request = PageRequest(
        method=route.method,
        path=route.path,
        query=dict(call.request.query_params),
        form=dict(call.form),
        user=call.user.user,
        role=call.user.role.value,
    )
    try:
        found = await calls.answer(route, request)
    except _Failed as failed:
        if isinstance(failed.__cause__, TbotError):
            raise failed.__cause__ from None
        number = random.entropy(4).hex()
        _log.error("web.plugin_failed", plugin=pages.name, path=route.path, id=number, exc_info=failed.__cause__)
        text = f"The page of the extension {pages.name} failed. The log of the page has the reason under {number}."
        return call.page("message.html", 500, title="Failed", text=text, remedy="The bot is not affected.")
    if isinstance(found, GoTo):
        return call.to(_address(pages, found.path))
    blocks = [_shown(pages, block) for block in found.blocks]
    return call.page("plugin_page.html", title=_text(found.title), blocks=blocks)


def _shown(pages: PluginPages, block: Block) -> dict[str, Any]:
    # A block as the template reads it.
    values: dict[str, Any] = {"kind": type(block).__name__.lower()}
    match block:
        case Link():
            query = f"?{urlencode(block.query, errors='replace')}" if block.query else ""
            return values | {"text": _text(block.text), "path": _address(pages, block.path) + query}
        case Table():
            columns = [(_text(column), column in block.numbers) for column in block.columns]
            return values | {"columns": columns, "rows": [[_text(cell) for cell in row] for row in block.rows]}
        case Form():
            fields = [_field(field) for field in block.fields]
            return values | {"path": _address(pages, block.path), "button": _text(block.button), "fields": fields}
        case _:
            return values | {"text": _text(block.text)}


def _field(field: Field) -> Field:
    choices = tuple(_text(choice) for choice in field.choices)
    return attrs.evolve(field, label=_text(field.label), value=_text(field.value), choices=choices)


def _text(text: str) -> str:
    # What can be sent: half of a surrogate pair cannot.
    return text.encode("utf-8", "replace").decode()
