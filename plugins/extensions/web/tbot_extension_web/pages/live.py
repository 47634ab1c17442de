"""What a monitoring system asks: whether the page answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call


async def health(_call: Call) -> Response:
    """Answer that the page is there, without any detail."""
    return PlainTextResponse("ok\n")
