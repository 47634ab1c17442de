"""What every answer carries, and which requests are answered at all: the page's own host and its own origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from tbot_core.system import log
from tbot_extension_web.access.denials import Denied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tbot_extension_web.access.denials import Denials

SAFE: Final = frozenset({"GET", "HEAD"})
CHART_STYLE: Final = "'sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY='"
"""The one style that a script adds: lightweight-charts places the mark of its maker by it."""

POLICY: Final = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {CHART_STYLE}; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The content security policy: nothing from elsewhere, and nothing inline but CHART_STYLE."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NO_ORIGIN: Final = "null"
"""What a browser sends of a form's origin under `no-referrer`; it says in `Sec-Fetch-Site` where the form was."""

_FOREIGN_HOST: Final = 421
_FOREIGN_PAGE: Final = (403, "The request comes from another page.\n")
_STRICT_TRANSPORT: Final = "max-age=31536000"
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class Origin:
    """Where the page is: its scheme, and each host with port under which a browser may reach it."""

    scheme: str
    hosts: frozenset[str]

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.scheme == "https"

    def covers(self, origin: str) -> bool:
        """Whether an `Origin` header names this page."""
        scheme, _, host = origin.lower().partition("://")
        return scheme == self.scheme and host in self.hosts


_DENIED: Final = {_FOREIGN_HOST: (Denied.HOST, "host"), _FOREIGN_PAGE[0]: (Denied.ORIGIN, "origin")}
_MISREAD: Final = (400, "The request is not one of a browser: a path, and the length of what is sent.\n")


class OwnOrigin:
    """Refuses requests under a foreign host name (421) and from a foreign page (403), and adds the headers."""

    def __init__(self, app: ASGIApp, origin: Origin, denials: Denials) -> None:
        self._app = app
        self._origin = origin
        self._denials = denials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = _misread(scope, headers) or self._refusal(scope["method"], headers)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(MutableHeaders(scope=message), scope["path"])
            await send(message)

        if refusal is None:
            await self._app(scope, receive, with_headers)
            return
        status, text = refusal
        if status in _DENIED:
            kind, shown = _DENIED[status]
            source = (scope.get("client") or ("",))[0]
            await self._denials.record(kind, f"{scope['method']} from {headers.get(shown, '')}", source)
        _log.warning("web.refused", status=status, path=scope["path"][:200], reason=text)
        answer = PlainTextResponse(text, status_code=status, headers={"Connection": "close"})
        await answer(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        # A browser that was led here by a foreign name shows that name as host; a foreign page its own origin.
        if headers.get("host", "").lower() not in self._origin.hosts:
            return _FOREIGN_HOST, "This page is not served under that host name. Add it to `hosts` in network_config.\n"
        site, origin = headers.get("sec-fetch-site"), headers.get("origin", _NO_ORIGIN)
        if method in SAFE:
            # A page of another origin may lead here; what its scripts and pictures ask for is not answered.
            led = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            return _FOREIGN_PAGE if site in {"cross-site", "same-site"} and not led else None
        if site not in {None, "same-origin"} or (origin != _NO_ORIGIN and not self._origin.covers(origin)):
            return _FOREIGN_PAGE
        if site is None and origin == _NO_ORIGIN:
            return 403, "The request does not say that it comes from this page.\n"
        return None

    def _add(self, headers: MutableHeaders, path: str) -> None:
        for name, text in HEADERS.items():
            headers.setdefault(name, text)
        headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")
        if self._origin.secure:
            headers.setdefault("Strict-Transport-Security", _STRICT_TRANSPORT)


def _misread(scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
    # What a proxy before the page could read in another way than the page does.
    plain = scope["raw_path"].startswith(b"/") and "transfer-encoding" not in headers
    return None if plain else _MISREAD
