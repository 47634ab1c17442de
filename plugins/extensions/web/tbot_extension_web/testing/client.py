"""A client of an ASGI application without a network: one request, one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import attrs

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1:8443"
ORIGIN = f"http://{HOST}"


@attrs.frozen(kw_only=True)
class Answer:
    """An answer; names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    cookies: tuple[str, ...]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | bytes | None = None,
) -> Answer:
    """Make a request as a browser on the page makes it, unless `headers` say otherwise: "" leaves one out."""
    body = form if isinstance(form, bytes) else urlencode(form or {}).encode()
    sent = {"host": HOST, "user-agent": "test"}
    if method != "GET":
        sent |= {
            "origin": ORIGIN,
            "sec-fetch-site": "same-origin",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
        }
    sent |= {name.lower(): text for name, text in (headers or {}).items()}
    place, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": place,
        "raw_path": place.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), text.encode()) for name, text in sent.items() if text],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8443),
    }
    return asyncio.run(_answer(app, scope, body))


def send(app: ASGIApp, path: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Answer:
    """Send a form, and open the page to which the answer leads, if it leads to one."""
    answer = ask(app, "POST", path, headers, form)
    return ask(app, "GET", answer.headers["location"], headers) if answer.status == 303 else answer


async def _answer(app: ASGIApp, scope: dict[str, Any], body: bytes) -> Answer:
    given = [{"type": "http.request", "body": body, "more_body": False}]
    got: list[Any] = []

    async def receive() -> Any:
        if given:
            return given.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        got.append(message)

    try:
        await app(scope, receive, send)
    except RuntimeError:
        if not got:
            raise
    start = next(one for one in got if one["type"] == "http.response.start")
    pairs = [(name.decode().lower(), text.decode()) for name, text in start["headers"]]
    return Answer(
        status=start["status"],
        headers=dict(pairs),
        cookies=tuple(text for name, text in pairs if name == "set-cookie"),
        body=b"".join(one.get("body", b"") for one in got if one["type"] == "http.response.body"),
    )
