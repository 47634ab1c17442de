"""The application: the routes of the table, each behind the checks of who asks, and the files of the page."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tbot_core.errors import TbotError
from tbot_core.reports.html.scripts import VENDOR
from tbot_core.system import log, random
from tbot_extension_web.access.denials import Denied
from tbot_extension_web.call import Call
from tbot_extension_web.cookies import SESSION, VISIT, is_form_token
from tbot_extension_web.headers import OwnOrigin
from tbot_extension_web.permissions import Permission, allows
from tbot_extension_web.routes import ROUTES, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from tbot_extension_web.access.logins import Session
    from tbot_extension_web.routes import WebRoute
    from tbot_extension_web.site import Site

FOLDER: Final = Path(__file__).parent
MOST_FORM_BYTES: Final = 1_000_000
_WITHOUT_LOGIN: Final = frozenset({Permission.PUBLIC, Permission.FIRST_RUN, Permission.METRICS})
_log = log.logger(__name__)


def create_app(site: Site, routes: Iterable[WebRoute] = ROUTES) -> Starlette:
    """The page as an ASGI application."""
    static = [
        Mount("/static/uplot", StaticFiles(directory=VENDOR), name="uplot"),
        Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"),
    ]
    table = tuple(routes)
    served = [route for one in table for route in _served(site, one, table)]
    handlers: dict[Any, Any] = {HTTPException: _refused(site)}
    return Starlette(
        routes=[*served, *static],
        middleware=[Middleware(OwnOrigin, origin=site.origin, denials=site.denials)],
        exception_handlers=handlers,
    )


def _served(site: Site, route: WebRoute, table: Iterable[WebRoute]) -> Iterator[Route]:
    # The route; the address of a POST alone leads who opens it, by a reload for one, to the page with the form.
    pages = frozenset(one.path for one in table if one.method == "GET")
    page = route.page(pages)
    yield Route(route.path, _guarded(site, route, page), methods=[route.method], name=route.name)
    if route.method == "POST" and route.path not in pages:
        yield Route(route.path, _leading(site, page), name=f"GET {route.path}")


def _leading(site: Site, page: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Call(request=request, site=site, session=None).to(_filled(page, request))

    return answer


def _filled(page: str, request: Request) -> str:
    # The path of a page with the parts of the request's path.
    return page.format_map({name: quote(str(text), safe="") for name, text in request.path_params.items()})


def _guarded(site: Site, route: WebRoute, page: str) -> Callable[[Request], Awaitable[Response]]:
    # Who asks, may they, and does the form come from a page that we gave them; then the handler.
    async def answer(request: Request) -> Response:
        call = Call(request=request, site=site, session=_session(site, request))
        if (refusal := await _refusal(call, route)) is not None:
            return refusal
        if route.method == "POST":
            form = await _form(request)
            if not _is_ours(call, form):
                await _record(call, Denied.FORM, route)
                return call.page("message.html", 403, title="Not sent", text=_OUTDATED)
            call = attrs.evolve(call, form=form)
        if (elsewhere := _elsewhere(call, route)) is not None:
            return elsewhere
        if route.stepped_up and not call.user.stepped_up:
            return call.to(f"/step-up?next={quote(_filled(page, request))}")
        return await _handled(call, route)

    return answer


async def _refusal(call: Call, route: WebRoute) -> Response | None:
    # The answer to who is not logged in, or has a role without the permission.
    if route.permission in _WITHOUT_LOGIN:
        return None
    if call.session is None:
        return _to_login(call)
    if allows(call.session.role, route.permission):
        return None
    await _record(call, Denied.ROLE, route)
    return call.page("message.html", 403, title="Not allowed", text=_denied(route, call.session))


async def _record(call: Call, kind: Denied, route: WebRoute) -> None:
    # In the log of the page, and in the security log.
    user, role = ("", "") if call.session is None else (call.session.user, call.session.role.value)
    _log.warning("web.denied", user=user, route=route.name, role=role, reason=kind.value)
    await call.site.denials.record(kind, f"{role} {route.name}".strip(), call.source, user)


def _elsewhere(call: Call, route: WebRoute) -> Response | None:
    # During a set-up each page of an instance leads to it; afterwards there is none.
    if call.site.setup is not None and route.stage is Stage.MADE:
        return call.to("/setup")
    if call.site.setup is None and route.stage is Stage.SET_UP:
        return call.to("/") if route.method == "GET" else call.page("message.html", 404, title="404", text=_SET_UP)
    return None


_SET_UP: Final = "The set-up is finished: there is nothing more to send."


async def _handled(call: Call, route: WebRoute) -> Response:
    try:
        if call.session is not None and call.site.setup is None:
            await call.site.live.snapshot()  # the mode on the page is that of now
        return await route.endpoint(call)
    except TbotError as fault:
        return call.page("message.html", 400, title="Not done", text=fault.message, remedy=fault.remedy)
    except HTTPException:
        raise
    except Exception as fault:  # noqa: BLE001  -- a page that fails ends neither the process nor what others look at
        return _failed(call, fault)


_OUTDATED: Final = "The form is out of date. Open the page again, and send it once more."


def _denied(route: WebRoute, session: Session) -> str:
    return f"The role {session.role.value} has no permission `{route.permission.value}`. An admin can change the role."


def _session(site: Site, request: Request) -> Session | None:
    token = request.cookies.get(SESSION[site.origin.secure], "")
    # A part that the page asks for by itself does not count as activity.
    active = request.headers.get("HX-Request") != "true"
    return site.logins.session(token, active=active) if token else None


async def _form(request: Request) -> dict[str, str]:
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST_FORM_BYTES:
        raise HTTPException(413, f"A form has at most {MOST_FORM_BYTES:,} bytes, and says how many.")
    async with request.form(max_files=2, max_fields=1000) as form:
        found = {}
        for name, value in form.multi_items():
            found[name] = value if isinstance(value, str) else (await value.read()).decode(errors="surrogateescape")
        return found


def _is_ours(call: Call, form: dict[str, str]) -> bool:
    given = form.pop("csrf", "")
    if call.session is not None:
        return hmac.compare_digest(given.encode(), call.session.csrf.encode())
    return is_form_token(given, call.request.cookies.get(VISIT, ""))


def _to_login(call: Call) -> Response:
    if call.partial:  # a script's request cannot show a login in the middle of a page
        return PlainTextResponse("", status_code=401, headers={"HX-Redirect": "/login"})
    return call.to("/login")


def _refused(site: Site) -> Callable[[Request, HTTPException], Awaitable[Response]]:
    async def answer(request: Request, fault: HTTPException) -> Response:
        call = Call(request=request, site=site, session=_session(site, request))
        texts = {404: "This page does not exist.", 405: "This page does not take that."}
        text = texts.get(fault.status_code, fault.detail)
        return call.page("message.html", fault.status_code, title=f"{fault.status_code}", text=text)

    return answer


def _failed(call: Call, fault: Exception) -> Response:
    number = random.entropy(4).hex()
    _log.error("web.failed", path=call.request.url.path[:200], id=number, exc_info=fault)
    text = f"The page failed. Its log has the reason under {number}; the bot is not affected."
    return call.page("message.html", 500, title="Failed", text=text)
