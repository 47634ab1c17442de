"""The dashboard: the bot as it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.responses import Response

    from tbot_extension_web.call import Call

_AGAIN_MS: Final = 1000


async def show(call: Call) -> Response:
    """The page, with its parts as of now."""
    parts = await call.site.live.parts()
    return call.page("dashboard.html", parts=parts, now=call.site.live.latest.status.get("now"))


async def stream(call: Call) -> Response:
    """The parts of the dashboard as they change, as server-sent events, as long as the session lasts."""
    return StreamingResponse(_events(call), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(call: Call) -> AsyncIterator[str]:
    yield f"retry: {_AGAIN_MS}\n\n"
    async for parts in call.site.live.changes():
        if call.site.logins.session(call.token, active=False) is None:
            yield "event: ended\ndata: \n\n"
            return
        yield "event: heard\ndata: \n\n" if parts is None else _message(parts)


def _message(parts: Mapping[str, str]) -> str:
    html = "\n".join(
        f'<hx-partial hx-target="#part-{name}" hx-swap="innerMorph">{text}</hx-partial>' for name, text in parts.items()
    )
    return "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
