"""The exchange's server on this machine: its file of the VIX, up to the day before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.contracts.series import VIX
from tbot_core.contracts.setting import NoSettings
from tbot_core.testing.scripted_server import ServerReply
from tbot_core.testing.series import SeriesVenue, drawn_days, series_venue
from tbot_extension_cboe import FILE, HEADER, NEEDS, create

if TYPE_CHECKING:
    import asyncio
    import datetime as dt
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from tbot_core.model.clock import Clock
    from tbot_core.testing.scripted_server import ServerRequest


def file_of(closes: Mapping[dt.date, float]) -> str:
    """The exchange's file with these closes, the oldest first."""
    rows = [f"{day:%m/%d/%Y},{value:.6f},{value:.6f},{value:.6f},{value:.6f}" for day, value in sorted(closes.items())]
    return "".join(f"{row}\n" for row in (",".join(HEADER), *rows))


def answer(request: ServerRequest, today: dt.date) -> ServerReply:
    """The file of a year up to the day before; anything else is refused."""
    if not request.path.endswith(FILE):
        return ServerReply(status=403, body=b"<html>Forbidden</html>", headers={"content-type": "text/html"})
    text = file_of(drawn_days(VIX, today))
    return ServerReply(body=text.encode(), headers={"content-type": "text/csv"})


def open_venue(runner: asyncio.Runner | None = None, clock: Clock | None = None) -> AbstractContextManager[SeriesVenue]:
    """A server with the file of about a year; a rehearsal brings its own event loop and clock."""

    def source(context: Any) -> Any:
        return create(NoSettings(), context)

    return series_venue(answer, source, NEEDS, names=(VIX,), place=(runner, clock))
