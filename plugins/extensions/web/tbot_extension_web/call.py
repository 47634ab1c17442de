"""One request: who makes it, what it brings, and how it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from tbot_core.actions.simulations import ReceivedFile
from tbot_core.system import random
from tbot_extension_web.access.logins import Session
from tbot_extension_web.access.permissions import Permission, allows
from tbot_extension_web.cookies import SESSION
from tbot_extension_web.notices import KeptAnswer, answer_path
from tbot_extension_web.site import Site

if TYPE_CHECKING:
    from starlette.responses import Response


P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Call:
    """A request to the page; `session` is None without a login, `form` the fields of a POST.

    `keeps`: its page is kept, and the browser led to it, because it answers a form. `received`: the large file of the
    form; None without one.
    """

    request: Request
    site: Site
    session: Session | None
    form: Mapping[str, str] = attrs.field(factory=dict)
    keeps: bool = False
    received: ReceivedFile | None = None

    @property
    def user(self) -> Session:
        """The session; only where the route's permission needs one."""
        if self.session is None:
            raise LookupError(self.request.url.path)
        return self.session

    @property
    def token(self) -> str:
        """The session's token as the browser sent it."""
        return self.request.cookies.get(SESSION[self.site.origin.secure], "")

    @property
    def source(self) -> str:
        """The address from which the request comes."""
        return self.request.client.host if self.request.client is not None else ""

    @property
    def agent(self) -> str:
        """How the browser names itself."""
        return self.request.headers.get("user-agent", "")

    @property
    def partial(self) -> bool:
        """Whether a script of the page asks for a part of it."""
        return self.request.headers.get("HX-Request") == "true"

    @property
    def actor(self) -> str:
        """The user as logs and journals name them: no user of the machine has such a name."""
        return f"web/{self.user.user}"

    def may(self, permission: str) -> bool:
        """Whether the session's role has the permission."""
        return self.session is not None and allows(self.session.role, Permission(permission))

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what reads files or waits, in a thread."""
        return await asyncio.to_thread(partial(function, *args, **kwargs))  # seam: no run waits for the page

    async def compute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what computes for seconds, in a thread; few at once, so that other pages stay quick."""
        async with self.site.computing:
            return await self.work(function, *args, **kwargs)

    def page(self, template: str, code: int = 200, **values: Any) -> Response:
        """A page; `code` is its HTTP status."""
        if self.keeps:
            kept = KeptAnswer(path=self.request.url.path, template=template, code=code, values=values)
            return self.to(answer_path(self.site.answers.keep(self.user, kept), self.request.url.path))
        return HTMLResponse(self._rendered(template, values), status_code=code)

    def to(self, path: str, *sentences: str) -> Response:
        """Go on to another page, which says what was done."""
        if sentences:
            self.site.notices.put(self.user, sentences)
        return RedirectResponse(path, status_code=303)

    def _rendered(self, template: str, values: Mapping[str, Any]) -> str:
        # A page as HTML, with what every page shows.
        site, session = self.site, self.session
        shown = {
            "path": self.request.url.path,
            "session": session,
            "csrf": "" if session is None else session.csrf,
            "may": self.may,
            "badge": site.badge(),
            "login_rules": site.logins.rules,
            "session_left": lambda: site.session_left(session),
            "with_codes": lambda: site.has_codes(session),
            "once": lambda: random.entropy(16).hex(),
            "notices": lambda: site.notices.pop(session),
            "pages": [] if site.setup else [page for page in site.navigation if self.may(page.permission)],
        }
        return site.templates.get_template(template).render({**shown, **values})
