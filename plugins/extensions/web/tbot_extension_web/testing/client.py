"""A client of an ASGI application without a network: one request, one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
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
    """Make a request as a browser on the page makes it, unless `headers` say otherwise: "" leaves one out.

    Where the answer to a form is a page that was kept, that page, with the cookies that the answer set.
    """
    answer = ask_once(app, method, path, headers, form)
    place = answer.headers.get("location", "")
    if method != "POST" or not place.startswith("/answer/"):
        return answer
    given = {name.lower(): text for name, text in (headers or {}).items()}
    cookies = SimpleCookie(given.get("cookie", ""))
    for line in answer.cookies:
        cookies.load(line)
    sent = {"cookie": "; ".join(f"{name}={one.value}" for name, one in cookies.items())}
    return attrs.evolve(ask_once(app, "GET", place, sent), cookies=answer.cookies)


def ask_once(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | bytes | None = None,
) -> Answer:
    """Make a request as `ask` does; the answer as it is."""
    body = form if isinstance(form, bytes) else urlencode(form or {}).encode()
    return asyncio.run(_answer(app, _scope(method, path, headers or {}, len(body)), [lambda: body]))


def send_slowly(
    app: ASGIApp, path: str, headers: Mapping[str, str], form: Mapping[str, str], meanwhile: Callable[[], None]
) -> Answer:
    """Send a form without its last byte, call `meanwhile`, and send that byte."""
    body = urlencode(form).encode()

    def last() -> bytes:
        meanwhile()
        return body[-1:]

    return asyncio.run(_answer(app, _scope("POST", path, headers, len(body)), [lambda: body[:-1], last]))


def send_pieces(
    app: ASGIApp, path: str, headers: Mapping[str, str], pieces: list[Callable[[], bytes]], length: int | None = None
) -> Answer:
    """Send a body in pieces, each made when it is read; those that are not read stay in the list.

    `length` is the length that the request says; None for one that is not too long.
    """
    sent = _scope("POST", path, headers, 1_000_000 if length is None else length)
    return asyncio.run(_answer(app, sent, pieces))


def _scope(method: str, path: str, headers: Mapping[str, str], length: int) -> dict[str, Any]:
    sent = {"host": HOST, "user-agent": "test"}
    if method != "GET":
        sent |= {
            "origin": ORIGIN,
            "sec-fetch-site": "same-origin",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(length),
        }
    sent |= {name.lower(): text for name, text in headers.items()}
    place, _, query = path.partition("?")
    return {
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


def send(app: ASGIApp, path: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Answer:
    """Send a form, and open the page to which the answer leads, if it leads to one."""
    answer = ask(app, "POST", path, headers, form)
    return ask(app, "GET", answer.headers["location"], headers) if answer.status == 303 else answer


async def _answer(app: ASGIApp, scope: dict[str, Any], parts: list[Callable[[], bytes]]) -> Answer:
    got: list[Any] = []

    async def receive() -> Any:
        if parts:
            return {"type": "http.request", "body": parts.pop(0)(), "more_body": bool(parts)}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        got.append(message)

    try:
        await app(scope, receive, send)
    except Exception:
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
