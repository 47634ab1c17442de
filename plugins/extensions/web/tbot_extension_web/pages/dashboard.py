"""The dashboard: the bot as it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from tbot_core.errors import TbotError
from tbot_extension_web.pages.service import control_values

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

    from tbot_extension_web.call import Call

MOST_OF_SESSION: Final = 6
"""How many streams a session has at once: a browser opens no more to one host."""

MOST_STREAMS: Final = 60
"""How many streams there are at once."""

_AGAIN_MS: Final = 1000
_SILENT_S: Final = 15.0
_KIND: Final = "text/event-stream"


async def show(call: Call) -> Response:
    """The page, with its parts as of now."""
    parts = await call.site.live.parts()
    status = call.site.live.latest.status
    values = await control_values(call)
    return call.page(
        "dashboard.html", parts=parts, now=status.get("now"), waiting=status.get("confirmations"), **values
    )


async def stream(call: Call) -> Response:
    """The parts of the dashboard as they change, as server-sent events, as long as the session lasts.

    With `part` in the query it is those of these names alone.
    """
    if call.request.method == "HEAD":
        return Response(media_type=_KIND)
    streams, session = call.site.streams, call.user.id
    if streams[session] >= MOST_OF_SESSION or streams.total() >= MOST_STREAMS:
        return PlainTextResponse("Too many pages with live figures are open. Close some.\n", 429)
    answer = _Stream(_events(call), media_type=_KIND, headers={"X-Accel-Buffering": "no"})
    answer.streams, answer.session = streams, session
    return answer


class _Stream(StreamingResponse):
    # It counts from before its first byte to its end.
    streams: Counter[int]
    session: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.streams[self.session] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.streams[self.session] -= 1
            if not self.streams[self.session]:
                del self.streams[self.session]


async def _events(call: Call) -> AsyncIterator[str]:
    yield f"retry: {_AGAIN_MS}\n\n"
    wanted, clock = call.request.query_params.getlist("part"), call.site.clock
    sent = clock.monotonic()
    async for parts in call.site.live.changes():
        if not _lasts(call):
            yield "event: ended\ndata: \n\n"
            return
        shown = {name: text for name, text in (parts or {}).items() if not wanted or name in wanted}
        if shown or parts or clock.monotonic() - sent >= _SILENT_S:
            sent = clock.monotonic()
            yield _message(shown) if shown else "event: heard\ndata: \n\n"


def _lasts(call: Call) -> bool:
    # Whether the session goes on with its role; who cannot be looked up sees nothing more.
    try:
        session = call.site.logins.session(call.token, active=False)
    except TbotError:
        return False
    return session is not None and session.role is call.user.role


def _message(parts: Mapping[str, str]) -> str:
    html = "\n".join(
        f'<hx-partial hx-target="#part-{name}" hx-swap="innerMorph">{text}</hx-partial>' for name, text in parts.items()
    )
    return "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
