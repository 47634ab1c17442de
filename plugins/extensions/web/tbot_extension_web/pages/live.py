"""What a monitoring system asks: whether the page answers, and the figures of the bot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from tbot_core.instance.loading import package_version
from tbot_core.status.metrics import CONTENT_TYPE, metrics_text
from tbot_extension_web.access.metrics_token import MetricsToken

if TYPE_CHECKING:
    from tbot_extension_web.call import Call


async def health(_call: Call) -> Response:
    """Answer that the page is there, without any detail."""
    return PlainTextResponse("ok\n")


async def metrics(call: Call) -> Response:
    """The figures for who has the token; without a token configured the page does not exist."""
    token = MetricsToken(call.site.home, call.site.logins.security)
    if not await call.work(lambda: token.exists):
        raise HTTPException(404)
    if not await call.work(token.admits, call.request.headers.get("authorization", "")):
        return PlainTextResponse("The token is wrong.\n", 401, {"WWW-Authenticate": "Bearer"})
    snapshot = await call.site.live.snapshot()
    if snapshot.fault:
        return PlainTextResponse("The bot's state cannot be read now.\n", 503)
    return Response(metrics_text(snapshot.status, package_version()), media_type=CONTENT_TYPE)
