"""The application: the routes of the table, each behind the checks of who asks, and the files of the page."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tbot_core.errors import TbotError
from tbot_core.reports.html import VENDOR
from tbot_core.system import log, random
from tbot_extension_web.access.denials import Denied
from tbot_extension_web.access.permissions import Permission, allows
from tbot_extension_web.call import Call
from tbot_extension_web.cookies import SESSION, VISIT, is_form_token
from tbot_extension_web.forms import TooLarge, read_form
from tbot_extension_web.headers import OwnOrigin
from tbot_extension_web.notices import AskedRequest
from tbot_extension_web.routes import ROUTES, Stage
from tbot_extension_web.server import RECEIVE_S, RECEIVE_WITHIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from tbot_core.actions.simulations import ReceivedFile
    from tbot_extension_web.access.logins import Session
    from tbot_extension_web.forms import LargeFile
    from tbot_extension_web.routes import WebRoute
    from tbot_extension_web.site import Site

    _Judge = Callable[[Mapping[str, str]], Awaitable[tuple[Call, Response | None]]]

FOLDER: Final = Path(__file__).parent
_WITHOUT_LOGIN: Final = frozenset({Permission.PUBLIC, Permission.FIRST_RUN, Permission.METRICS})
_log = log.logger(__name__)


def create_app(site: Site, routes: Iterable[WebRoute] = ROUTES) -> OwnOrigin:
    """The page as an ASGI application; what its headers say holds for its failures too."""
    return OwnOrigin(routed(site, routes), origin=site.origin, denials=site.denials)


def routed(site: Site, routes: Iterable[WebRoute] = ROUTES) -> Starlette:
    """The routes, each behind its guard, and the files of the page."""
    static = [
        Mount("/static/uplot", StaticFiles(directory=VENDOR), name="uplot"),
        Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"),
    ]
    table = tuple(routes)
    served = [route for one in table for route in _served(site, one, table)]

    async def refused(request: Request, fault: HTTPException) -> Response:
        return _failure(site, request, fault)

    async def broken(_request: Request, _fault: Exception) -> Response:
        # Not even a page of the failure can be made; the server logs why.
        return PlainTextResponse("The page failed. Its log has the reason; the bot is not affected.\n", 500)

    handlers: dict[Any, Any] = {HTTPException: refused, Exception: broken}
    return Starlette(routes=[*served, *static], exception_handlers=handlers)


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
    # The whole request first. Then who makes it, and whether they may, as of that moment; then the handler. A large
    # file is read for those alone who may send it.
    async def answer(request: Request) -> Response:
        judge = partial(_judged, site, route, page, request)
        try:
            with ExitStack() as held:
                sink = None if route.upload is None else _Arriving(route.upload, site, request, judge, held)
                form = await read_form(request, route.files, sink) if route.method == "POST" else {}
                call, refusal = await judge(form)
                if refusal is not None:
                    return refusal
                if call.session is not None and site.setup is None:
                    await site.live.snapshot()  # the mode on the page is that of now
                return await route.endpoint(call if sink is None else attrs.evolve(call, received=sink.received))
        except _RefusedFile as refused:
            return refused.answer
        except Exception as fault:  # noqa: BLE001  -- a page that fails ends neither the process nor what others look at
            return _failure(site, request, fault)

    return answer


async def _judged(
    site: Site, route: WebRoute, page: str, request: Request, form: Mapping[str, str]
) -> tuple[Call, Response | None]:
    # The call, and the answer to who may not make it.
    fields = {**form}
    given = fields.pop("csrf", "")
    call = Call(request=request, site=site, session=_session(site, request, route), form=fields)
    refusal = await _refusal(call, route, given)
    return call, _elsewhere(call, route, page) if refusal is None else refusal


class _RefusedFile(Exception):
    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


class _Arriving:
    # The large file of a form on its way to the disk, as long as its sender may send it.
    def __init__(self, file: LargeFile, site: Site, request: Request, judge: _Judge, held: ExitStack) -> None:
        self.file = file
        self.received: ReceivedFile | None = None
        self._site, self._request, self._judge, self._held = site, request, judge, held
        self._form: Mapping[str, str] = {}
        self._judged_s = 0.0
        self._write: Callable[[bytes], None] | None = None

    async def begin(self, form: Mapping[str, str], name: str, size: int) -> None:
        self._form = form
        await self._assert_allowed()
        self.received, self._write = self._held.enter_context(self.file.receive(self._site.home, name, size))
        self._give(self.file.within_s)
        self._held.callback(self._give, RECEIVE_S)  # for what is left of a form that is refused

    async def write(self, data: bytes) -> None:
        if asyncio.get_running_loop().time() > self._judged_s + _JUDGED_EVERY_S:
            await self._assert_allowed()
        if self._write is not None:
            await asyncio.to_thread(self._write, data)  # seam: no run waits for the page

    async def _assert_allowed(self) -> None:
        self._judged_s = asyncio.get_running_loop().time()
        call, refusal = await self._judge(self._form)
        if refusal is None:
            return
        if call.session is None:  # a browser that is still sending shows an error, and follows nothing
            refusal = call.page("message.html", 401, title="Not sent", text=_ENDED)
        raise _RefusedFile(refusal)

    def _give(self, seconds: float) -> None:
        # A test has no connection that ends.
        give = self._request.scope.get("state", {}).get(RECEIVE_WITHIN)
        if give is not None:
            give(seconds)


_JUDGED_EVERY_S: Final = 30.0


def _session(site: Site, request: Request, route: WebRoute) -> Session | None:
    # Where a route needs none, none is looked up.
    if route.permission in _WITHOUT_LOGIN:
        return None
    try:
        return _found_session(site, request)
    except TbotError as fault:
        _log.error("web.sessions_unread", reason=fault.message)
        raise HTTPException(503, _UNREAD) from fault


def _found_session(site: Site, request: Request) -> Session | None:
    token = request.cookies.get(SESSION[site.origin.secure], "")
    # A part that the page asks for by itself does not count as activity.
    active = request.headers.get("HX-Request") != "true"
    return site.logins.session(token, active=active) if token else None


_UNREAD: Final = "Users and sessions cannot be read now. The log of the page says why; the bot is not affected."


async def _refusal(call: Call, route: WebRoute, csrf: str) -> Response | None:
    # The answer to who is not logged in, or has a role without the permission, or a form that is not of our page.
    if route.permission not in _WITHOUT_LOGIN:
        if call.session is None:
            return _to_login(call, route)
        if not allows(call.session.role, route.permission):
            await _record(call, Denied.ROLE, route)
            return call.page("message.html", 403, title="Not allowed", text=_denied(route, call.session))
    if route.method == "POST" and not _is_ours(call, csrf):
        await _record(call, Denied.FORM, route)
        return call.page("message.html", 403, title="Not sent", text=_OUTDATED)
    return None


async def _record(call: Call, kind: Denied, route: WebRoute) -> None:
    # In the log of the page, and in the security log.
    user, role = ("", "") if call.session is None else (call.session.user, call.session.role.value)
    _log.warning("web.denied", user=user, route=route.name, role=role, reason=kind.value)
    await call.site.denials.record(kind, f"{role} {route.name}".strip(), call.source, user)


def _elsewhere(call: Call, route: WebRoute, page: str) -> Response | None:
    # During a set-up each page of an instance leads to it; afterwards there is none. A dangerous act to the step-up.
    if call.site.setup is not None and route.stage is Stage.MADE:
        return call.to("/setup")
    if call.site.setup is None and route.stage is Stage.SET_UP:
        return call.to("/") if route.method == "GET" else call.page("message.html", 404, title="404", text=_SET_UP)
    if not route.stepped_up or call.user.stepped_up or route.asks_first(call):
        return None
    if route.method == "GET" or route.unkept:
        return call.to(f"/step-up?next={quote(_filled(page, call.request))}")
    return call.to(f"/step-up?request={call.site.asked.keep(call.user, _with_password(call, route))}")


def _with_password(call: Call, route: WebRoute) -> AskedRequest:
    # The request as it was sent, for the session as it is once the password is there.
    async def make(confirmed: Call) -> Response:
        again = attrs.evolve(call, session=confirmed.user)
        refusal = await _refusal(again, route, again.user.csrf)
        return await route.endpoint(again) if refusal is None else refusal

    return AskedRequest(does=route.does or "What you asked for", make=make)


_SET_UP: Final = "The set-up is finished: there is nothing more to send."
_ENDED: Final = "Your session had ended: the file was not read. Open the page again, log in, and send it once more."
_OUTDATED: Final = "The form is out of date. Open the page again, and send it once more."


def _denied(route: WebRoute, session: Session) -> str:
    needed = _MAY.get(route.permission, route.permission.value)
    return (
        f"The role {session.role.value} has no permission to {needed}, which this needs. An admin can change the role."
    )


_MAY: Final[Mapping[Permission, str]] = {
    Permission.RESTRICT: "stop, kill and set defense",
    Permission.CONFIRM: "answer confirmations",
    Permission.RUN: "start runs and test alerts",
    Permission.CONTROL: "arm, clear and close positions",
    Permission.CONFIGURE: "change settings",
    Permission.SECRETS: "see secrets",
    Permission.USERS: "see users",
}


def _is_ours(call: Call, given: str) -> bool:
    if call.session is not None:
        return hmac.compare_digest(given.encode(), call.session.csrf.encode())
    return is_form_token(given, call.request.cookies.get(VISIT, ""))


def _to_login(call: Call, route: WebRoute) -> Response:
    # Who sent a form learns there that it was not done; a reload of what has ended a set-up was done.
    ended = route.stage is Stage.SET_UP and call.site.setup is None
    login = "/login?ended=unsent" if call.request.method == "POST" and not ended else "/login"
    if call.partial:  # a script's request cannot show a login in the middle of a page
        return PlainTextResponse("", status_code=401, headers={"HX-Redirect": login})
    return call.to(login)


def _failure(site: Site, request: Request, fault: Exception) -> Response:
    # Every failure as a page: what is not found or not taken, what the user can change, and what is wrong here.
    session = None
    with suppress(TbotError):
        session = _found_session(site, request)
    call = Call(request=request, site=site, session=session)
    if isinstance(fault, TooLarge):
        return call.page("message.html", 413, title="Too large", text=fault.detail, remedy=fault.remedy)
    if isinstance(fault, HTTPException):
        text = _TEXTS.get(fault.status_code, fault.detail)
        return call.page("message.html", fault.status_code, title=f"{fault.status_code}", text=text)
    if isinstance(fault, TbotError):
        return call.page("message.html", 400, title="Not done", text=fault.message, remedy=fault.remedy)
    number = random.entropy(4).hex()
    _log.error("web.failed", path=request.url.path[:200], id=number, exc_info=fault)
    text = f"The page failed. Its log has the reason under {number}; the bot is not affected."
    return call.page("message.html", 500, title="Failed", text=text)


_TEXTS: Final = {404: "This page does not exist.", 405: "This page does not take that."}
