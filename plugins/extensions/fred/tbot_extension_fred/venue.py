"""FRED's server on this machine: the files of its two series, up to the day before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.contracts.series import RATES, VIX
from tbot_core.contracts.setting import NoSettings
from tbot_core.testing.scripted_server import ServerReply
from tbot_core.testing.series import SeriesVenue, drawn_days, series_venue
from tbot_extension_fred import GRAPH, IDS, NEEDS, create

if TYPE_CHECKING:
    import asyncio
    import datetime as dt
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from tbot_core.model.clock import Clock
    from tbot_core.testing.scripted_server import ServerRequest

_PERCENT = 100


def file_of(series: str, values: Mapping[dt.date, float | None]) -> str:
    """FRED's file of a series, by FRED's name; None is a holiday."""
    rows = [f"{day},{'' if value is None else f'{value:.2f}'}" for day, value in sorted(values.items())]
    return "".join(f"{row}\n" for row in (f"observation_date,{series}", *rows))


def answer(request: ServerRequest, today: dt.date) -> ServerReply:
    """The file of a year, up to the day before, of the series that is asked for; anything else is not found."""
    asked = next((name for name, one in IDS.items() if one == request.query.get("id")), None)
    if asked is None or not request.path.endswith(GRAPH):
        return ServerReply(status=404, body=b"<html>Not found</html>", headers={"content-type": "text/html"})
    scale = _PERCENT if asked == RATES else 1
    values = {day: value * scale for day, value in drawn_days(asked, today).items()}
    return ServerReply(body=file_of(IDS[asked], values).encode(), headers={"content-type": "text/csv"})


def open_venue(runner: asyncio.Runner | None = None, clock: Clock | None = None) -> AbstractContextManager[SeriesVenue]:
    """A server with the files of about a year; a rehearsal brings its own event loop and clock."""

    def source(context: Any) -> Any:
        return create(NoSettings(), context)

    return series_venue(answer, source, NEEDS, names=(RATES, VIX), place=(runner, clock))
